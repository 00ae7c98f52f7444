//! Bringing stored bytes back into memory, each run compared with its digest on the way.

use crate::error::{Error, Result};
use crate::rebuild::mismatch;
use crate::sys;
use binfmt::digest::{EMPTY, combine};
use binfmt::image::{Image, ImageError, Owner, Segment};
use binfmt::note::mapping::Memory;
use std::os::fd::AsFd;

/// Bytes that are read at once: enough to keep the page cache busy, little enough to be digested while in cache.
const PIECE_BYTES: u64 = 1 << 20;

/// Fills the pages of `memory` at their addresses.
pub fn fill(image: &Image, memory: &Memory) -> Result<()> {
    fill_owner(image, Owner::Memory(memory.id), 0)
}

/// Fills the segments of one owner; its byte 0 is at address `base`.
pub fn fill_owner(image: &Image, owner: Owner, base: u64) -> Result<()> {
    let digests = image.digests()?;
    let owned = image.segments.iter().zip(&digests).filter(|((segment, _), _)| segment.owner == owner);
    for ((segment, offset), expected) in owned {
        if read_segment(image, segment, *offset, base)? != *expected {
            return Err(mismatch(segment, *offset).into());
        }
    }
    Ok(())
}

/// Reads a segment to its place and returns the digest of what came.
fn read_segment(image: &Image, segment: &Segment, offset: u64, base: u64) -> Result<u64> {
    let (mut at, mut found) = (0, EMPTY);
    while at < segment.len_bytes {
        let len = PIECE_BYTES.min(segment.len_bytes - at);
        let address = base + segment.start + at;
        let came = sys::read_into(image.file.as_fd(), address, len, offset + at).map_err(|error| {
            Error::step(
                format!("read {len} bytes of memory to {address:#x} from byte {}", offset + at),
                error,
            )
        })?;
        if came == 0 {
            return Err(ImageError::Truncated { has: offset + at, needs: image.total_bytes }.into());
        }
        let digest = sys::digest_at(address, usize::try_from(came).unwrap_or(0));
        found = combine(found, digest, came);
        at += came;
    }
    Ok(found)
}
