//! Reading the page maps of kin.

use super::Member;
use crate::error::Error;
use crate::parse::u64_at;
use binfmt::address::PAGE_BYTES;
use std::os::unix::fs::FileExt;

/// A gap that is shorter is read over: a call costs more than so many entries.
const GAP_BYTES: u64 = 128 * PAGE_BYTES;

/// Calls `look` with address and entry (Documentation/admin-guide/mm/pagemap.rst) of every page that `member` has between
/// `from` and `to`, ascending.
pub(super) fn each(
    member: &Member<'_>,
    from: u64,
    to: u64,
    buffer: &mut Vec<u8>,
    mut look: impl FnMut(u64, u64),
) -> Result<(), Error> {
    let mut pieces = member.pieces_in(from, to).peekable();
    let mut together = Vec::new();
    while let Some((start, mut end)) = pieces.next() {
        together.clear();
        together.push((start, end));
        while let Some(next) = pieces.next_if(|next| next.0 - end < GAP_BYTES) {
            end = next.1;
            together.push(next);
        }
        buffer.resize(usize::try_from((end - start) / PAGE_BYTES * 8).unwrap_or_default(), 0);
        let read = member.carried.pagemap.read_exact_at(buffer, start / PAGE_BYTES * 8);
        read.map_err(|error| Error::question(member.memory.pid(), "reading its page map", error))?;
        for (first, last) in together.iter().copied() {
            let index =
                |address: u64| usize::try_from((address - start) / PAGE_BYTES * 8).unwrap_or(usize::MAX);
            let entries = buffer.get(index(first)..index(last)).unwrap_or_default();
            for (number, entry) in entries.chunks_exact(8).enumerate() {
                look(first + number as u64 * PAGE_BYTES, u64_at(entry, 0));
            }
        }
    }
    Ok(())
}
