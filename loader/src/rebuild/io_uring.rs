//! io_uring instances: made anew, empty requests bring the kernel's own counters to where they were, and then the memory that
//! it has in common with the program gets its content.
//!
//! Some flags of an instance nobody can learn. It gets IORING_SETUP_SUBMIT_ALL, without which a program that has it would
//! have to submit again what stands behind a failed request; and neither IORING_SETUP_COOP_TASKRUN nor
//! IORING_SETUP_TASKRUN_FLAG, without which completions only come sooner. Where the program has no array of indices
//! (IORING_SETUP_NO_SQARRAY), there is one that says what the kernel would do without.

use crate::error::{Error, Result};
use crate::rebuild::mapping::{failed as failed_mapping, finish_one};
use crate::rebuild::{content, made, set_status};
use crate::shelf::Shelf;
use crate::sys;
use crate::world::World;
use binfmt::address::TASK_END;
use binfmt::image::Image;
use binfmt::note::descriptor::Description;
use binfmt::note::io_uring::{
    COMPLETIONS_AT, COMPLETIONS_MAX, IoUring, REQUEST_BYTES, REQUESTS_AT, REQUESTS_MAX, TAKEN_MAX, array_at,
};
use binfmt::note::mapping::{Backing, Mapping, Memory};
use binfmt::note::task::Task;
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// The words of the rings (struct io_rings in include/linux/io_uring_types.h), by their offset.
const REQUESTS_TAIL: u64 = 4;
const COMPLETIONS_HEAD: u64 = 8;
/// IOSQE_CQE_SKIP_SUCCESS, in the second byte of a request.
const NO_COMPLETION: u8 = 1 << 6;
/// IORING_REGISTER_BUFFERS
const BUFFERS: u64 = 0;
/// IORING_REGISTER_FILES
const FILES: u64 = 2;
/// Beyond it a table of files or buffers is nobody's (IORING_MAX_FIXED_FILES, IORING_MAX_REG_BUFFERS).
const SLOTS_MAX: u32 = 1 << 20;

fn failed(what: &'static str) -> impl Fn(Errno) -> Error {
    move |error| {
        let hint = if error == Errno::EPERM { " (see /proc/sys/kernel/io_uring_disabled)" } else { "" };
        Error::step(format!("{what} an io_uring instance{hint}"), error)
    }
}

/// Makes one with the content of its rings; nothing is registered yet.
pub fn make(image: &Image, note: &IoUring, description: &Description) -> Result<OwnedFd> {
    let bytes = content(image, note.object)?;
    let ring = set_up(note).map_err(failed("make"))?;
    set_status(&ring, description).map_err(failed("make"))?;
    let requests_bytes =
        (u64::from(note.requests) * REQUEST_BYTES).next_multiple_of(binfmt::address::PAGE_BYTES);
    let split = bytes.len().checked_sub(usize::try_from(requests_bytes).unwrap_or(usize::MAX));
    let (rings, requests) = split
        .and_then(|at| bytes.split_at_checked(at))
        .ok_or(Error::Internal("an io_uring has no content"))?;
    let view = View::of(&ring, note).map_err(failed("map"))?;
    let done = view.count(&ring, note, rings).map_err(failed("count the requests of"));
    done.map(|()| view.write(note, rings, requests))?;
    drop(view);
    Ok(ring)
}

/// io_uring_setup(2)
fn set_up(note: &IoUring) -> nix::Result<OwnedFd> {
    const CQSIZE: u32 = 1 << 3;
    const SUBMIT_ALL: u32 = 1 << 7;
    const FLAGS: usize = 2;
    if note.requests > REQUESTS_MAX
        || note.completions > COMPLETIONS_MAX
        || note.taken > TAKEN_MAX
        || note.taken < note.completed
    {
        return Err(Errno::EINVAL);
    }
    // struct io_uring_params
    let mut parameters = [0u32; 30];
    for (at, value) in [(1, note.completions), (FLAGS, CQSIZE | SUBMIT_ALL)] {
        if let Some(word) = parameters.get_mut(at) {
            *word = value;
        }
    }
    let address = parameters.as_mut_ptr().expose_provenance() as u64;
    let ring = made(libc::SYS_io_uring_setup, [note.requests.into(), address, 0, 0, 0, 0])?;
    // Where head, tail and entries of both rings, and the completions are: a program has learnt it once.
    let word = |at: usize| parameters.get(at).copied().map(u64::from);
    let entries = [(0, note.requests.into()), (1, note.completions.into())];
    let of_requests = [(10, 0), (11, REQUESTS_TAIL), (16, array_at(note.completions))];
    let of_completions = [(20, COMPLETIONS_HEAD), (21, 12), (25, COMPLETIONS_AT)];
    let mut known = entries.into_iter().chain(of_requests).chain(of_completions);
    known.all(|(at, value)| word(at) == Some(value)).then_some(ring).ok_or(Errno::ENOTSUP)
}

/// The memory of an instance, mapped for a moment.
struct View {
    rings: u64,
    rings_bytes: u64,
    requests: u64,
    requests_bytes: u64,
}

impl View {
    fn of(ring: &OwnedFd, note: &IoUring) -> nix::Result<View> {
        let rings_bytes = array_at(note.completions) + u64::from(note.requests) * 4;
        let requests_bytes = u64::from(note.requests) * REQUEST_BYTES;
        let rings = sys::map_from(rings_bytes, ring.as_fd(), 0)?;
        match sys::map_from(requests_bytes, ring.as_fd(), REQUESTS_AT) {
            Ok(requests) => Ok(View { rings, rings_bytes, requests, requests_bytes }),
            Err(error) => {
                // It is lost anyway.
                let _ = sys::unmap(rings, rings_bytes);
                Err(error)
            }
        }
    }

    /// Brings the kernel's own counters to where they were. It learns which completions were not taken by the head, which never
    /// goes back.
    fn count(&self, ring: &OwnedFd, note: &IoUring, rings: &[u8]) -> nix::Result<()> {
        let word = rings.get(8..12).and_then(|word| word.try_into().ok()).ok_or(Errno::EINVAL)?;
        let head = u32::from_le_bytes(word);
        if head > note.completed || note.completed - head > note.completions {
            return Err(Errno::EINVAL);
        }
        let silent = note.taken - note.completed;
        let mut done = 0;
        while done < note.taken {
            let (end, flags) = if done < silent { (silent, NO_COMPLETION) } else { (note.taken, 0) };
            sys::write_at(self.requests + 1, &[flags]);
            let count = (end - done).min(note.requests);
            sys::store(self.rings + REQUESTS_TAIL, done + count);
            let args = [ring.as_raw_fd().unsigned_abs().into(), count.into(), 0, 0, 0, 0];
            let taken = u32::try_from(sys::call(libc::SYS_io_uring_enter, args)?).unwrap_or(0);
            if taken == 0 {
                return Err(Errno::EAGAIN);
            }
            done += taken;
            sys::store(self.rings + COMPLETIONS_HEAD, done.saturating_sub(silent).min(head));
        }
        Ok(())
    }

    fn write(&self, note: &IoUring, rings: &[u8], requests: &[u8]) {
        let part = |bytes: &[u8], most: u64| -> Vec<u8> {
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            bytes.iter().take(most).copied().collect()
        };
        sys::write_at(self.requests, &part(requests, self.requests_bytes));
        sys::write_at(self.rings, &part(rings, self.rings_bytes));
        // Nobody has written there. Either there is no array, and then request after request is taken; or the program has
        // only ever used the first.
        let array = rings
            .get(usize::try_from(array_at(note.completions)).unwrap_or(usize::MAX)..)
            .unwrap_or_default();
        let others = requests.get(64..).unwrap_or_default();
        let is_zero = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
        if is_zero(array) && (note.taken < 2 || !is_zero(others)) {
            for index in 0..note.requests {
                sys::write_at(
                    self.rings + array_at(note.completions) + u64::from(index) * 4,
                    &index.to_le_bytes(),
                );
            }
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // What remains mapped is unmapped with all else.
        let _ = sys::unmap(self.rings, self.rings_bytes);
        let _ = sys::unmap(self.requests, self.requests_bytes);
    }
}

/// Maps the instances of an address space, all else of which stands.
///
/// The kernel maps one only where it likes (io_uring_get_unmapped_area). So there is one place where it can: all others are
/// filled for a moment.
pub fn map_all(world: &World<'_>, memory: &Memory) -> Result<()> {
    let rings: Vec<&Mapping> =
        memory.mappings.iter().filter(|mapping| mapping.backing == Backing::IoUring).collect();
    if rings.is_empty() {
        return Ok(());
    }
    let gaps = gaps().map_err(|error| Error::io("read what is mapped", &error))?;
    let all = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let (none, fill) = (libc::PROT_NONE.unsigned_abs(), "fill the gaps between mappings");
    for (start, end) in &gaps {
        sys::map_fixed(*start, end - start, none, all, None).map_err(|error| Error::step(fill, error))?;
    }
    let ends: Vec<(u64, u64)> = rings.iter().map(|ring| (ring.start, ring.start + ring.len_bytes)).collect();
    for (mapping, (start, end)) in rings.iter().zip(&ends) {
        let step = |error| failed_mapping("map", mapping, error);
        if !gaps.iter().any(|gap| gap.0 <= *start && *end <= gap.1) {
            return Err(step(Errno::EEXIST));
        }
        sys::unmap(*start, end - start).map_err(step)?;
        let note = world.image.all::<IoUring>().find(|note| note.object == mapping.object);
        match note.and_then(|note| world.shelf.description(note.description)) {
            Some(ring) => {
                let at = sys::map_from(mapping.len_bytes, ring, mapping.offset).map_err(step)?;
                if at != *start {
                    return Err(step(Errno::EADDRNOTAVAIL));
                }
            }
            // It comes back closed.
            None => {
                let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
                sys::map_fixed(*start, end - start, mapping.protection, flags, None).map_err(step)?;
            }
        }
        finish_one(mapping, &[], true)?;
    }
    for (start, end) in gaps.iter().flat_map(|gap| without(*gap, &ends)) {
        sys::unmap(start, end - start).map_err(|error| Error::step(fill, error))?;
    }
    Ok(())
}

/// What is not mapped, from the lowest address that may be on.
fn gaps() -> std::io::Result<Vec<(u64, u64)>> {
    const LOWEST: u64 = 1 << 16;
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let range = |line: &str| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        Some((hex(start)?, hex(end)?))
    };
    let mut taken: Vec<(u64, u64)> = maps.lines().filter_map(range).collect();
    taken.retain(|(start, _)| *start < TASK_END);
    Ok(without((LOWEST, TASK_END), &taken))
}

/// What remains of a range without others, which may be in any order and do not overlap.
fn without((mut start, end): (u64, u64), others: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut others = others.to_vec();
    others.sort_unstable();
    let mut rest = Vec::new();
    for (from, to) in others {
        if from > start && start < end {
            rest.push((start, from.min(end)));
        }
        start = start.max(to);
    }
    if start < end {
        rest.push((start, end));
    }
    rest
}

/// Registers the files of all instances, when all descriptions stand.
pub fn register_files(image: &Image, shelf: &Shelf) -> Result<()> {
    const NONE: i32 = -1;
    for note in image.all::<IoUring>().filter(|note| note.file_slots > 0) {
        let failed = failed("register the files of");
        let Some(ring) = shelf.description(note.description) else { continue };
        let mut files = vec![NONE; slots(note.file_slots).map_err(&failed)?];
        for file in &note.files {
            let place = usize::try_from(file.slot).ok().and_then(|slot| files.get_mut(slot));
            let fd = shelf.description(file.description).ok_or_else(|| failed(Errno::EBADF))?;
            *place.ok_or_else(|| failed(Errno::EINVAL))? = fd.as_raw_fd();
        }
        register(ring, FILES, files.as_ptr().expose_provenance() as u64, note.file_slots).map_err(failed)?;
    }
    Ok(())
}

/// Registers the buffers that are in a task's memory, which stands.
pub fn register_buffers(world: &World<'_>, task: &Task) -> Result<()> {
    let notes = world.image.all::<IoUring>().filter(|note| note.memory == task.memory);
    for note in notes.filter(|note| note.buffer_slots > 0) {
        let failed = failed("register the buffers of");
        let Some(ring) = world.shelf.description(note.description) else { continue };
        // struct iovec
        let mut buffers = vec![[0u64; 2]; slots(note.buffer_slots).map_err(&failed)?];
        for buffer in &note.buffers {
            let place = usize::try_from(buffer.slot).ok().and_then(|slot| buffers.get_mut(slot));
            *place.ok_or_else(|| failed(Errno::EINVAL))? = [buffer.start, buffer.len_bytes];
        }
        register(ring, BUFFERS, buffers.as_ptr().expose_provenance() as u64, note.buffer_slots)
            .map_err(failed)?;
    }
    Ok(())
}

fn slots(count: u32) -> nix::Result<usize> {
    usize::try_from(count.min(SLOTS_MAX)).ok().filter(|_| count <= SLOTS_MAX).ok_or(Errno::EINVAL)
}

/// io_uring_register(2)
fn register(ring: BorrowedFd<'_>, operation: u64, argument: u64, count: u32) -> nix::Result<()> {
    let args = [ring.as_raw_fd().unsigned_abs().into(), operation, argument, count.into(), 0, 0];
    sys::call(libc::SYS_io_uring_register, args).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_is_apart() {
        assert_eq!(without((1, 10), &[(8, 9), (3, 5)]), [(1, 3), (5, 8), (9, 10)]);
        assert_eq!(without((1, 10), &[(0, 3), (9, 12)]), [(3, 9)]);
        assert_eq!(without((1, 10), &[(20, 30)]), [(1, 10)]);
        assert_eq!(without((1, 10), &[(0, 30)]), []);
    }
}
