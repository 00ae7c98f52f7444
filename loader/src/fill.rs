//! Bringing stored bytes back into memory, each run compared with its digest on the way.
//!
//! Work is cut into units that two threads take in turn. Where a unit is whole huge pages of private anonymous memory, it
//! is read into a staging area of huge pages and moved into place (UFFDIO_MOVE): the pages arrive huge without any
//! advice left on the range, at several times the rate of reading into fresh 4 KiB pages. Everything else is populated
//! and read where it belongs.

use crate::error::{Error, Result};
use crate::rebuild::mismatch;
use crate::sys;
use binfmt::address::HUGE_PAGE_BYTES;
use binfmt::digest::{EMPTY, combine};
use binfmt::image::{Image, ImageError, Owner, Segment};
use binfmt::note::mapping::{Backing, Mapping, Memory};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Bytes that are populated and read at once: enough to keep the page cache busy, little enough to be digested while in
/// the processor's cache.
const PIECE_BYTES: u64 = 512 << 10;
/// Bytes of a unit that is read in place.
const UNIT_BYTES: u64 = 4 << 20;
/// Bytes of a unit that is staged and moved.
const STAGE_BYTES: u64 = 8 << 20;
/// Below this much memory a second thread and a staging area cost more than they bring.
const PARALLEL_MIN_BYTES: u64 = 16 << 20;

/// A part of a segment that one thread fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Unit {
    segment: Segment,
    /// Where the segment is in the image.
    offset: u64,
    /// Which part of it: first byte and length.
    from: u64,
    len_bytes: u64,
    movable: bool,
}

/// Fills the pages of `memory` at their addresses, as far as they are `wanted`. `staging` is a free range of
/// [`staging_bytes`] or `None`.
pub fn fill(
    image: &Image,
    memory: &Memory,
    staging: Option<u64>,
    wanted: impl Fn((&Segment, u64)) -> bool,
) -> Result<()> {
    let owner = Owner::Memory(memory.id);
    let segments: Vec<(&Segment, u64)> = image
        .segments_of(owner)
        .map(|(segment, offset)| (segment, *offset))
        .filter(|segment| wanted(*segment))
        .collect();
    let total: u64 = segments.iter().map(|(segment, _)| segment.len_bytes).sum();
    let mover = staging.filter(|_| total >= PARALLEL_MIN_BYTES).and_then(Mover::new);
    let units = |segment: &Segment, offset: u64| cut(segment, offset, mover.as_ref().map(|_| memory));
    let all: Vec<Unit> = segments.iter().flat_map(|(segment, offset)| units(segment, *offset)).collect();
    if total < PARALLEL_MIN_BYTES {
        return read_all(image, owner, &all, 0);
    }
    if let Some(mover) = &mover {
        mover.register(&all);
    }
    let digests: Vec<AtomicU64> = all.iter().map(|_| AtomicU64::new(EMPTY)).collect();
    let next = AtomicUsize::new(0);
    let work = |stage: Option<u64>| {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let (Some(unit), Some(place)) = (all.get(index), digests.get(index)) else { return Ok(()) };
            let digest = match (stage, &mover) {
                (Some(stage), Some(mover)) if unit.movable => mover.bring(image, unit, stage),
                _ => read_unit(image, unit, 0),
            };
            place.store(digest?, Ordering::Relaxed);
        }
    };
    let stages = [0, 1].map(|index| staging.map(|start| start + index * STAGE_BYTES));
    let [first, second] = stages;
    let results = std::thread::scope(|scope| {
        // A small stack: it is mapped outside of the hole and swept away afterwards.
        let helper = std::thread::Builder::new().stack_size(128 << 10).spawn_scoped(scope, || work(second));
        let own = work(first);
        let other =
            helper.map(|helper| helper.join().unwrap_or(Err(Error::Internal("a helper thread failed"))));
        [own, other.unwrap_or(Ok(()))]
    });
    results.into_iter().collect::<Result<()>>()?;
    if let (Some(_), Some(at)) = (mover, staging) {
        sys::unmap(at, staging_bytes())
            .map_err(|error| Error::step("unmap the loader's staging areas", error))?;
    }
    compare(image, owner, &all, &digests)
}

/// How much free address space [`fill`] wants for its staging areas.
pub fn staging_bytes() -> u64 {
    STAGE_BYTES * 2
}

/// Fills the segments of one owner, small or shared; its byte 0 is at address `base`.
pub fn fill_owner(image: &Image, owner: Owner, base: u64) -> Result<()> {
    let all: Vec<Unit> =
        image.segments_of(owner).flat_map(|(segment, offset)| cut(segment, *offset, None)).collect();
    read_all(image, owner, &all, base)
}

fn read_all(image: &Image, owner: Owner, all: &[Unit], base: u64) -> Result<()> {
    let digests = all
        .iter()
        .map(|unit| read_unit(image, unit, base).map(AtomicU64::new))
        .collect::<Result<Vec<_>>>()?;
    compare(image, owner, all, &digests)
}

/// Cuts a segment into units. With `memory`, whole huge pages of its private anonymous mappings are movable.
fn cut(segment: &Segment, offset: u64, memory: Option<&Memory>) -> Vec<Unit> {
    let end = segment.start + segment.len_bytes;
    let (mut huge_start, mut huge_end) = (end, end);
    if memory.is_some_and(|memory| takes_huge_pages(memory, segment)) {
        huge_start = segment.start.next_multiple_of(HUGE_PAGE_BYTES).min(end);
        huge_end = (end / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES).max(huge_start);
    }
    let mut units = Vec::new();
    for (start, end, movable) in
        [(segment.start, huge_start, false), (huge_start, huge_end, true), (huge_end, end, false)]
    {
        let unit_bytes = if movable { STAGE_BYTES } else { UNIT_BYTES };
        let mut at = start;
        while at < end {
            let len_bytes = unit_bytes.min(end - at);
            units.push(Unit { segment: *segment, offset, from: at - segment.start, len_bytes, movable });
            at += len_bytes;
        }
    }
    units
}

/// Whether a segment lies in one private anonymous mapping that may have huge pages.
fn takes_huge_pages(memory: &Memory, segment: &Segment) -> bool {
    let index = memory.mappings.partition_point(|mapping| mapping.start <= segment.start);
    let mapping = index.checked_sub(1).and_then(|index| memory.mappings.get(index));
    let contains = |mapping: &Mapping| mapping.start + mapping.len_bytes >= segment.start + segment.len_bytes;
    let no_huge =
        |mapping: &Mapping| mapping.vm_flags.0.split(|byte| *byte == b' ').any(|flag| flag == b"nh");
    mapping.is_some_and(|mapping| {
        mapping.backing == Backing::Anonymous && !mapping.shared && contains(mapping) && !no_huge(mapping)
    })
}

/// Reads a unit to its place and returns the digest of what came.
fn read_unit(image: &Image, unit: &Unit, base: u64) -> Result<u64> {
    let (mut at, mut found) = (0, EMPTY);
    while at < unit.len_bytes {
        let len = PIECE_BYTES.min(unit.len_bytes - at);
        let address = base + unit.segment.start + unit.from + at;
        if len == PIECE_BYTES {
            // Only quicker than page by page; where it cannot be done, the read does it.
            let _ = sys::advise(address, len, libc::MADV_POPULATE_WRITE);
        }
        let digest = read_piece(image, address, len, unit.offset + unit.from + at)?;
        found = combine(found, digest, len);
        at += len;
    }
    Ok(found)
}

/// Reads exactly `len_bytes` from `offset` in the image to `address`, and returns their digest.
fn read_piece(image: &Image, address: u64, len_bytes: u64, offset: u64) -> Result<u64> {
    let mut done = 0;
    while done < len_bytes {
        let came = sys::read_into(image.file.as_fd(), address + done, len_bytes - done, offset + done);
        match came.map_err(|error| {
            Error::step(format!("read memory for {address:#x} from byte {offset} of the image"), error)
        })? {
            0 => return Err(ImageError::Truncated { has: offset + done, needs: image.total_bytes }.into()),
            came => done += came,
        }
    }
    Ok(sys::digest_at(address, usize::try_from(len_bytes).unwrap_or(0)))
}

/// Compares every segment of `owner` that was read with its digest, from those of its units.
fn compare(image: &Image, owner: Owner, all: &[Unit], digests: &[AtomicU64]) -> Result<()> {
    let mut units = all.iter().zip(digests).peekable();
    for ((segment, offset), expected) in image.digests_of(owner)? {
        let mut found = EMPTY;
        let mut read = false;
        while let Some((unit, digest)) =
            units.next_if(|(unit, _)| unit.offset == *offset && unit.segment.start == segment.start)
        {
            found = combine(found, digest.load(Ordering::Relaxed), unit.len_bytes);
            read = true;
        }
        if read && found != expected {
            return Err(mismatch(segment, *offset).into());
        }
    }
    Ok(())
}

/// Moves staged huge pages into place by a userfaultfd.
#[derive(Debug)]
struct Mover {
    userfault: OwnedFd,
}

impl Mover {
    /// The mover, with the staging areas at `staging`; `None` where the kernel cannot move pages (before 6.8).
    fn new(staging: u64) -> Option<Mover> {
        let userfault = sys::userfault_mover().ok()?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let protection = (libc::PROT_READ | libc::PROT_WRITE).unsigned_abs();
        sys::map_fixed(staging, staging_bytes(), protection, flags, None).ok()?;
        sys::advise(staging, staging_bytes(), libc::MADV_HUGEPAGE).ok()?;
        Some(Mover { userfault })
    }

    /// Registers what will be moved to. A range that cannot be is read in place later, when its move fails.
    fn register(&self, units: &[Unit]) {
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for unit in units.iter().filter(|unit| unit.movable) {
            let start = unit.segment.start + unit.from;
            match ranges.last_mut() {
                Some((last, len)) if *last + *len == start => *len += unit.len_bytes,
                _ => ranges.push((start, unit.len_bytes)),
            }
        }
        for (start, len_bytes) in ranges {
            let _ = sys::userfault_register(self.userfault.as_fd(), start, len_bytes);
        }
    }

    /// Reads a unit into the staging area at `stage`, moves it to its place, and returns its digest.
    fn bring(&self, image: &Image, unit: &Unit, stage: u64) -> Result<u64> {
        let (mut at, mut found) = (0, EMPTY);
        while at < unit.len_bytes {
            let len = HUGE_PAGE_BYTES.min(unit.len_bytes - at);
            let digest = read_piece(image, stage + at, len, unit.offset + unit.from + at)?;
            found = combine(found, digest, len);
            at += len;
        }
        let to = unit.segment.start + unit.from;
        match sys::userfault_move(self.userfault.as_fd(), to, stage, unit.len_bytes) {
            Ok(()) => Ok(found),
            Err(_) => {
                // A page that is there already, or memory that cannot be charged: in place it is said which.
                sys::userfault_unregister(self.userfault.as_fd(), to, unit.len_bytes)
                    .map_err(|error| Error::step(format!("fill {to:#x}"), error))?;
                read_unit(image, unit, 0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(vm_flags: &str) -> Memory {
        let mapping = Mapping {
            start: 0x10_0000,
            len_bytes: 64 << 20,
            vm_flags: vm_flags.into(),
            ..Mapping::default()
        };
        Memory { mappings: vec![mapping], ..Memory::default() }
    }

    #[test]
    fn units_cover_a_segment_once_and_only_whole_huge_pages_move() {
        let segment =
            Segment { owner: Owner::Memory(1), start: 0x10_0000, len_bytes: (20 << 20) + 4096, flags: 0 };
        let units = cut(&segment, 7, Some(&memory("rd wr")));
        let mut at = 0;
        for unit in &units {
            assert_eq!(unit.from, at);
            at += unit.len_bytes;
            let whole =
                [segment.start + unit.from, unit.len_bytes].iter().all(|x| x.is_multiple_of(HUGE_PAGE_BYTES));
            assert!(!unit.movable || whole);
        }
        assert_eq!(at, segment.len_bytes);
        assert_eq!(
            units.iter().filter(|unit| unit.movable).map(|unit| unit.len_bytes).sum::<u64>(),
            18 << 20
        );
        assert!(
            cut(&segment, 7, Some(&memory("rd nh"))).iter().all(|unit| !unit.movable),
            "advice against it"
        );
    }
}
