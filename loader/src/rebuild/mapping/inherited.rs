//! What a forked task's memory has in common with that of the task it was forked from.

use super::{has_flag, is_made, stored_ranges};
use crate::error::{Error, Result};
use crate::sys;
use binfmt::image::{Image, Owner, Segment};
use binfmt::note::mapping::{Backing, Mapping, Memory};
use std::collections::BTreeSet;

/// Ranges of addresses, ascending and apart.
type Ranges = Vec<(u64, u64)>;

/// What stays of inherited memory.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    /// Ranges whose mappings stay.
    kept: Ranges,
    /// Ranges of those whose pages the task does not have.
    foreign: Ranges,
    /// Segments that stand already: start, length, offset in the image.
    standing: BTreeSet<(u64, u64, u64)>,
}

impl Inherited {
    /// Compares the memory that stands with the one that is wanted.
    pub(super) fn between(image: &Image, old: &Memory, new: &Memory) -> Inherited {
        let kept = kept(old, new);
        let (before, wanted) = (stored_ranges(image, old), stored_ranges(image, new));
        let foreign = subtract(&intersect(&before, &kept), &wanted);
        let stands = |segment: &Segment| {
            let whole = [(segment.start, segment.start + segment.len_bytes)];
            intersect(&whole, &kept) == whole
        };
        let standing = image
            .segments_of(Owner::Memory(old.id))
            .filter(|(segment, _)| stands(segment))
            .map(|(segment, offset)| (segment.start, segment.len_bytes, *offset))
            .collect();
        Inherited { kept, foreign, standing }
    }

    /// Unmaps what the task does not have.
    pub(super) fn drop_rest(&self, old: &Memory) -> Result<()> {
        for (start, end) in subtract(&ranges(old), &self.kept) {
            sys::unmap(start, end - start).map_err(|error| Error::step("unmap inherited memory", error))?;
        }
        Ok(())
    }

    /// Drops the pages that the task does not have.
    pub(super) fn drop_pages(&self) -> Result<()> {
        for (start, end) in &self.foreign {
            sys::advise(*start, end - start, libc::MADV_DONTNEED)
                .map_err(|error| Error::step("drop inherited pages", error))?;
        }
        Ok(())
    }

    /// The parts of a mapping that must be made.
    pub(super) fn missing(&self, mapping: &Mapping) -> Ranges {
        subtract(&[(mapping.start, mapping.start + mapping.len_bytes)], &self.kept)
    }

    /// The parts of a mapping that stay.
    pub(super) fn kept(&self, mapping: &Mapping) -> Ranges {
        intersect(&[(mapping.start, mapping.start + mapping.len_bytes)], &self.kept)
    }

    /// Whether a segment, by its place in the image, stands already.
    pub(super) fn has(&self, (segment, offset): (&Segment, u64)) -> bool {
        self.standing.contains(&(segment.start, segment.len_bytes, offset))
    }
}

fn ranges(memory: &Memory) -> Ranges {
    let made = memory.mappings.iter().filter(|mapping| is_made(mapping));
    let mut ranges: Ranges =
        made.map(|mapping| (mapping.start, mapping.start.saturating_add(mapping.len_bytes))).collect();
    ranges.sort_unstable();
    ranges
}

/// Where a mapping of the old memory can serve as one of the new: it differs at most in what is set at the end.
fn kept(old: &Memory, new: &Memory) -> Ranges {
    let mut kept = Ranges::new();
    let mut olds: Vec<&Mapping> = old.mappings.iter().filter(|mapping| is_made(mapping)).collect();
    olds.sort_unstable_by_key(|mapping| mapping.start);
    let end = |mapping: &Mapping| mapping.start.saturating_add(mapping.len_bytes);
    for mapping in new.mappings.iter().filter(|mapping| is_made(mapping)) {
        let first = olds.partition_point(|old| end(old) <= mapping.start);
        for old in olds.iter().skip(first).take_while(|old| old.start < end(mapping)) {
            if serves(old, mapping) {
                kept.push((old.start.max(mapping.start), end(old).min(end(mapping))));
            }
        }
    }
    kept.sort_unstable();
    kept
}

fn serves(old: &Mapping, new: &Mapping) -> bool {
    let same_place = old.backing == Backing::Anonymous
        || old.object == new.object
            && old.offset.wrapping_sub(old.start) == new.offset.wrapping_sub(new.start);
    let same_flags =
        ["gd", "nr", "hg", "nh"].into_iter().all(|flag| has_flag(old, flag) == has_flag(new, flag));
    // What was opened for reading cannot be made writable later.
    let same_right = !old.shared || has_flag(old, "mw") == has_flag(new, "mw");
    let same_start = !has_flag(old, "gd") || old.start == new.start;
    old.backing == new.backing
        && old.shared == new.shared
        && old.page_bytes == new.page_bytes
        && same_place
        && same_flags
        && same_right
        && same_start
}

/// What is in both.
fn intersect(one: &[(u64, u64)], other: &[(u64, u64)]) -> Ranges {
    let mut both = Ranges::new();
    let mut others = other.iter().peekable();
    for (start, end) in one.iter().copied() {
        while let Some((other_start, other_end)) = others.peek().copied().copied() {
            if other_start >= end {
                break;
            }
            let (from, to) = (start.max(other_start), end.min(other_end));
            if from < to {
                push(&mut both, from, to);
            }
            if other_end > end {
                break;
            }
            others.next();
        }
    }
    both
}

/// What is in `one` and not in `other`.
fn subtract(one: &[(u64, u64)], other: &[(u64, u64)]) -> Ranges {
    let mut rest = Ranges::new();
    for (start, end) in one.iter().copied() {
        let mut at = start;
        let first = other.partition_point(|(_, other_end)| *other_end <= start);
        for (other_start, other_end) in other.iter().skip(first).take_while(|(from, _)| *from < end).copied()
        {
            if other_start > at {
                push(&mut rest, at, other_start);
            }
            at = at.max(other_end);
        }
        if at < end {
            push(&mut rest, at, end);
        }
    }
    rest
}

/// Appends a range, or makes the last one longer.
fn push(ranges: &mut Ranges, start: u64, end: u64) {
    match ranges.last_mut() {
        Some((_, last)) if *last == start => *last = end,
        _ => ranges.push((start, end)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mapping(start: u64, end: u64, vm_flags: &str) -> Mapping {
        Mapping { start, len_bytes: end - start, vm_flags: vm_flags.into(), ..Mapping::default() }
    }

    #[test]
    fn ranges_are_cut_and_joined() {
        assert_eq!(intersect(&[(0, 10), (20, 30)], &[(5, 25), (28, 40)]), [(5, 10), (20, 25), (28, 30)]);
        assert_eq!(subtract(&[(0, 10), (20, 30)], &[(5, 25), (28, 40)]), [(0, 5), (25, 28)]);
        assert_eq!(subtract(&[(0, 10)], &[]), [(0, 10)]);
        assert_eq!(intersect(&[(0, 10)], &[]), []);
    }

    #[test]
    fn only_like_mappings_are_kept() {
        let old = Memory {
            mappings: vec![mapping(0x1000, 0x5000, "rd wr"), mapping(0x8000, 0x9000, "rd nh")],
            ..Memory::default()
        };
        let new = Memory {
            mappings: vec![mapping(0x2000, 0x3000, "rd"), mapping(0x4000, 0x9000, "rd wr")],
            ..Memory::default()
        };
        assert_eq!(kept(&old, &new), [(0x2000, 0x3000), (0x4000, 0x5000)]);
        let inherited = Inherited { kept: kept(&old, &new), ..Inherited::default() };
        assert_eq!(inherited.missing(&new.mappings[1]), [(0x5000, 0x9000)]);
        assert_eq!(inherited.kept(&new.mappings[0]), [(0x2000, 0x3000)]);
    }
}
