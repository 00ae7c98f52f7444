//! Contexts of asynchronous I/O: made anew in the program's own memory, and their rings moved to where they were, by which the
//! kernel gives them their old ids.
//!
//! The kernel counts for itself at which slot of the ring the next event goes. Empty reads, which end at once, bring it
//! there; those whose events are to be found in the ring are not taken out of it, and then get the right content.

use super::mapping::{failed, finish_one};
use crate::error::{Error, Result};
use crate::sys;
use binfmt::image::Image;
use binfmt::note::aio::{AioRing, HEADER_BYTES, count, slot_at, slots};
use binfmt::note::mapping::{Backing, Mapping, Memory};
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::os::fd::{AsRawFd, OwnedFd};

/// struct io_event in words, and struct iocb.
const EVENT_WORDS: u64 = 4;
/// Where the head stands in a ring, and where the number of slots.
const HEAD_AT: u64 = 8;

/// What `--plan` says of a context.
pub fn steps(image: &Image, memory: &Memory) -> Vec<String> {
    let line =
        |ring: &AioRing| format!("io_setup()  # context {:#x}, {} events", ring.start, ring.events.len());
    image.about::<AioRing>(memory.id).map(line).collect()
}

/// Makes all contexts of an address space, and what stands for those that are not its own.
pub fn rebuild(image: &Image, memory: &Memory) -> Result<()> {
    let mut rings: Vec<&AioRing> = image.about::<AioRing>(memory.id).collect();
    rings.sort_by_key(|ring| ring.number);
    let of = |ring: &&AioRing, mapping: &Mapping| {
        (ring.start, ring.len_bytes) == (mapping.start, mapping.len_bytes)
    };
    let mappings = || memory.mappings.iter().filter(|mapping| mapping.backing == Backing::AioRing);
    for ring in &rings {
        let mapping = mappings().find(|mapping| of(ring, mapping));
        let mapping = mapping.ok_or(Error::Internal("an AIO context has no mapping"))?;
        make(ring)?;
        finish_one(mapping, &[], true)?;
    }
    for mapping in mappings().filter(|mapping| !rings.iter().any(|ring| of(ring, mapping))) {
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        sys::map_fixed(mapping.start, mapping.len_bytes, mapping.protection, flags, None)
            .map_err(|error| failed("map", mapping, error))?;
        finish_one(mapping, &[], true)?;
    }
    Ok(())
}

fn make(ring: &AioRing) -> Result<()> {
    let step = |error| Error::step(format!("make the AIO context {:x}", ring.start), error);
    let all = slots(ring.len_bytes);
    let waiting = count(ring.head, ring.tail, all);
    if ring.head >= all || ring.tail >= all || ring.events.len() != usize::try_from(waiting).unwrap_or(0) {
        return Err(Error::Internal("an AIO context makes no sense"));
    }
    let at = set_up(requests_for(ring.len_bytes)).map_err(|error| match error {
        Errno::EAGAIN => Error::step(
            format!("make the AIO context {:x} (more than /proc/sys/fs/aio-max-nr permits)", ring.start),
            error,
        ),
        error => step(error),
    })?;
    let word = |offset: u64| sys::load(at + offset);
    let len_bytes = HEADER_BYTES + u64::from(word(4)) * EVENT_WORDS * 8;
    if len_bytes.next_multiple_of(binfmt::address::PAGE_BYTES) != ring.len_bytes {
        let what = format!(
            "make the AIO context {:x}: with this machine's processors its ring is of another size",
            ring.start
        );
        return Err(Error::step(what, Errno::EINVAL));
    }
    let requests = Empty::new().map_err(step)?;
    // Every event but those that wait is taken.
    let mut position = 0;
    while position < ring.head {
        position += requests.submit(at, ring.head - position).map_err(step)?;
        sys::store(at + HEAD_AT, position);
    }
    let mut left = waiting;
    while left > 0 {
        left -= requests.submit(at, left).map_err(step)?;
    }
    for (index, event) in (0..).zip(&ring.events) {
        let words =
            [event.data, event.request, event.result.cast_unsigned(), event.second_result.cast_unsigned()];
        let bytes: Vec<u8> = words.into_iter().flat_map(u64::to_le_bytes).collect();
        sys::write_at(at + slot_at((ring.head + index) % all), &bytes);
    }
    sys::remap(at, ring.len_bytes, ring.len_bytes, ring.start).map_err(step)
}

/// The least number of requests for which the kernel makes a ring of so many bytes: it doubles it, and adds two.
fn requests_for(len_bytes: u64) -> u64 {
    let below = slots(len_bytes.saturating_sub(binfmt::address::PAGE_BYTES));
    u64::from(below.saturating_sub(2)) / 2 + 1
}

/// io_setup(2): the context's id, which is the address of its ring.
fn set_up(requests: u64) -> nix::Result<u64> {
    let mut context = [0u64];
    sys::call(libc::SYS_io_setup, [requests, context.as_mut_ptr().expose_provenance() as u64, 0, 0, 0, 0])?;
    let [context] = context;
    Ok(context)
}

/// Reads of nothing.
struct Empty {
    file: OwnedFd,
}

impl Empty {
    fn new() -> nix::Result<Empty> {
        Ok(Empty { file: memfd_create(c"ckpt", MFdFlags::MFD_CLOEXEC)? })
    }

    /// Has the context at `context` do some, `wanted` at most, and says how many: one or more.
    fn submit(&self, context: u64, wanted: u32) -> nix::Result<u32> {
        const AT_ONCE: u32 = 64;
        // struct iocb: what is no descriptor is 0, which is IOCB_CMD_PREAD of 0 bytes.
        let mut request = [0, 0, u64::from(self.file.as_raw_fd().unsigned_abs()) << 32, 0, 0, 0, 0, 0];
        let request = request.as_mut_ptr().expose_provenance() as u64;
        let count = wanted.min(AT_ONCE);
        let requests = vec![request; usize::try_from(count).unwrap_or(0)];
        let list = requests.as_ptr().expose_provenance() as u64;
        let done = sys::call(libc::SYS_io_submit, [context, count.into(), list, 0, 0, 0])?;
        u32::try_from(done).ok().filter(|done| (1..=count).contains(done)).ok_or(Errno::EAGAIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_would_make_a_ring_of_that_size() {
        for pages in 1..100 {
            let requests = requests_for(pages * 4096);
            let bytes =
                |requests: u64| (HEADER_BYTES + (2 * requests + 2) * EVENT_WORDS * 8).next_multiple_of(4096);
            assert_eq!(bytes(requests), pages * 4096);
            assert!(requests == 1 || bytes(requests - 1) < pages * 4096);
        }
    }
}
