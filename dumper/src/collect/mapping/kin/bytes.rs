//! Comparing pages by what is in them, where the kernel does not tell their frames.
//!
//! Only pages that it does not call mapped by one process alone are compared. Two with the same bytes may never have been
//! the same page; to store them once is right all the same.

use super::{Member, SharedPage, WINDOW_BYTES, entries};
use crate::error::Error;
use binfmt::address::PAGE_BYTES;
use std::collections::BTreeMap;

/// The page is mapped by this process alone.
const EXCLUSIVE: u64 = 1 << 56;
/// How much of two memories is compared at once.
const PIECE_BYTES: u64 = 256 << 10;

/// The ranges of `member` between `from` and `to` that others may share.
fn candidates(member: &Member<'_>, from: u64, to: u64) -> Result<Vec<(u64, u64)>, Error> {
    let mut found: Vec<(u64, u64)> = Vec::new();
    entries::each(member, from, to, &mut Vec::new(), |address, entry| match found.last_mut() {
        _ if entry & EXCLUSIVE != 0 => {}
        Some(last) if last.1 == address => last.1 += PAGE_BYTES,
        _ => found.push((address, address + PAGE_BYTES)),
    })?;
    Ok(found)
}

fn read(member: &Member<'_>, start: u64, buffer: &mut [u8]) -> Result<(), Error> {
    member
        .memory
        .read(start, buffer)
        .map_err(|error| Error::question(member.memory.pid(), "reading its memory", error))
}

/// The pages between `from` and `to` that a member has as an earlier one has them, for each member ascending.
pub(super) fn compare(members: &[Member<'_>], from: u64, to: u64) -> Result<Vec<SharedPage>, Error> {
    // The members that have a page of their own at each address, in their order.
    let mut owners: Vec<Vec<usize>> =
        vec![Vec::new(); usize::try_from(WINDOW_BYTES / PAGE_BYTES).unwrap_or_default()];
    let mut shared = Vec::new();
    let room = usize::try_from(PIECE_BYTES).unwrap_or_default();
    let mut mine = vec![0; room];
    // What other members have in the same piece, read when it is asked for.
    let mut theirs: BTreeMap<usize, Vec<u8>> = BTreeMap::new();
    for (index, member) in members.iter().enumerate() {
        for (start, end) in candidates(member, from, to)? {
            let mut at = start;
            while at < end {
                let len_bytes = PIECE_BYTES.min(end - at);
                let len = usize::try_from(len_bytes).unwrap_or_default();
                let mine = mine.get_mut(..len).unwrap_or_default();
                theirs.clear();
                let mut is_read = false;
                for (number, page) in (0..len_bytes / PAGE_BYTES).map(|page| (page, at + page * PAGE_BYTES)) {
                    let slot = usize::try_from((page - from) / PAGE_BYTES).unwrap_or(usize::MAX);
                    let Some(known) = owners.get_mut(slot) else { continue };
                    if !known.is_empty() && !is_read {
                        read(member, at, mine)?;
                        is_read = true;
                    }
                    let bytes = page_of(mine, number);
                    let mut same = None;
                    for other in known.iter().copied() {
                        if page_of(content(members, other, at, len, &mut theirs)?, number) == bytes {
                            same = Some(other);
                            break;
                        }
                    }
                    match same {
                        Some(owner) => shared.push(SharedPage { address: page, member: index, owner }),
                        None => known.push(index),
                    }
                }
                at += len_bytes;
            }
        }
    }
    Ok(shared)
}

/// What member `other` has in the piece at `at`; only the pages that it has are looked at.
fn content<'a>(
    members: &[Member<'_>],
    other: usize,
    at: u64,
    len: usize,
    read_before: &'a mut BTreeMap<usize, Vec<u8>>,
) -> Result<&'a [u8], Error> {
    use std::collections::btree_map::Entry;
    Ok(match read_before.entry(other) {
        Entry::Occupied(known) => known.into_mut(),
        Entry::Vacant(vacant) => {
            let mut bytes = vec![0; len];
            if let Some(member) = members.get(other) {
                let end = at + len as u64;
                for (start, end) in member.pieces_in(at, end) {
                    let offset = |address: u64| usize::try_from(address - at).unwrap_or(usize::MAX);
                    read(member, start, bytes.get_mut(offset(start)..offset(end)).unwrap_or_default())?;
                }
            }
            vacant.insert(bytes)
        }
    })
}

fn page_of(bytes: &[u8], number: u64) -> &[u8] {
    let start = usize::try_from(number * PAGE_BYTES).unwrap_or(usize::MAX);
    let end = start.saturating_add(usize::try_from(PAGE_BYTES).unwrap_or_default());
    bytes.get(start..end).unwrap_or_default()
}
