//! Comparing pages by the frames they are in.
//!
//! A frame tells a page only as long as the page stays in it: the kernel may move pages at any time, also those of a
//! frozen process. So the frames of an owner are looked at again after those of all others: a page that was in the same
//! frame before and after was there in between, when another memory had it there too.

use super::{Member, SharedPage, entries};
use crate::error::Error;
use crate::parse::u64_at;
use binfmt::address::PAGE_BYTES;
use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::FileExt;

/// Bits 0 to 54 of an entry: the frame, or type and offset in the swap.
const FRAME: u64 = (1 << 55) - 1;
/// The page is mapped by this process alone.
const EXCLUSIVE: u64 = 1 << 56;
const SWAPPED: u64 = 1 << 62;
const PRESENT: u64 = 1 << 63;

/// What is remembered of an address: where the first memory has its page that has one there that can be shared.
#[derive(Clone, Copy, Debug, Default)]
struct Slot {
    place: u64,
    owner: usize,
    /// The page was there before and after all others were looked at.
    stayed: bool,
}

/// Where an entry of a page map says that a page is, if another memory may have it too; 0 if not.
fn place(entry: u64) -> u64 {
    let somewhere = entry & (PRESENT | SWAPPED) != 0 && entry & FRAME != 0;
    if somewhere && entry & EXCLUSIVE == 0 { entry & (FRAME | SWAPPED) } else { 0 }
}

/// Whether the kernel tells us frames at all: without CAP_SYS_ADMIN they read as 0.
pub(super) fn are_visible(members: &[Member<'_>]) -> bool {
    let pieces =
        members.iter().flat_map(|member| member.carried.pieces.iter().map(move |piece| (member, piece)));
    // A page may be swapped out, or be moved at this very moment.
    const TRIES: usize = 64;
    pieces.take(TRIES).any(|(member, piece)| {
        let mut entry = [0; 8];
        let read = member.carried.pagemap.read_exact_at(&mut entry, piece.start / PAGE_BYTES * 8);
        let entry = u64_at(&entry, 0);
        read.is_ok() && entry & PRESENT != 0 && entry & FRAME != 0
    })
}

/// Calls `look` with address and place of every page of `member` between `from` and `to` that may be shared.
fn each(
    member: &Member<'_>,
    from: u64,
    to: u64,
    buffer: &mut Vec<u8>,
    mut look: impl FnMut(u64, u64),
) -> Result<(), Error> {
    entries::each(member, from, to, buffer, |address, entry| match place(entry) {
        0 => {}
        place => look(address, place),
    })
}

/// The pages between `from` and `to` that a member has from an earlier one, for each member ascending.
pub(super) fn compare(members: &[Member<'_>], from: u64, to: u64) -> Result<Vec<SharedPage>, Error> {
    // As much of the window as anybody has pages in.
    let ends = |member: &Member<'_>| {
        let pieces = member.pieces_in(from, to);
        pieces.fold((to, from), |(start, end), piece| (start.min(piece.0), end.max(piece.1)))
    };
    let (from, to) =
        members.iter().map(ends).fold((to, from), |all, one| (all.0.min(one.0), all.1.max(one.1)));
    let mut buffer = Vec::new();
    let slots = usize::try_from(to.saturating_sub(from) / PAGE_BYTES).unwrap_or_default();
    let mut slots = vec![Slot::default(); slots];
    // Those at whose address an earlier memory has another page that can be shared: the first owner, and whether it stayed.
    let mut others: HashMap<(u64, u64), (usize, bool)> = HashMap::new();
    let mut shared: Vec<(SharedPage, u64)> = Vec::new();
    let mut owners = BTreeSet::new();
    let slot_of = |address: u64| usize::try_from((address - from) / PAGE_BYTES).unwrap_or(usize::MAX);
    for (index, member) in members.iter().enumerate() {
        each(member, from, to, &mut buffer, |address, place| {
            let Some(slot) = slots.get_mut(slot_of(address)) else { return };
            let owner = match slot.place {
                0 => {
                    *slot = Slot { place, owner: index, stayed: false };
                    index
                }
                known if known == place => slot.owner,
                _ => others.entry((address, place)).or_insert((index, false)).0,
            };
            if owner != index {
                owners.insert(owner);
                shared.push((SharedPage { address, member: index, owner }, place));
            }
        })?;
    }
    for owner in owners {
        let Some(member) = members.get(owner) else { continue };
        each(member, from, to, &mut buffer, |address, place| match slots.get_mut(slot_of(address)) {
            Some(slot) if slot.owner == owner => slot.stayed = slot.place == place,
            _ => {
                if let Some(other) = others.get_mut(&(address, place)).filter(|other| other.0 == owner) {
                    other.1 = true;
                }
            }
        })?;
    }
    let stayed = |(page, place): &(SharedPage, u64)| match slots.get(slot_of(page.address)) {
        Some(slot) if slot.owner == page.owner => slot.stayed,
        _ => others.get(&(page.address, *place)).is_some_and(|other| other.1),
    };
    Ok(shared.into_iter().filter(stayed).map(|(page, _)| page).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pages_of_several_have_a_place() {
        assert_eq!(place(PRESENT | 77), 77);
        assert_eq!(place(PRESENT | EXCLUSIVE | 77), 0, "nobody else has it");
        assert_eq!(place(PRESENT), 0, "frames are not told");
        assert_eq!(place(SWAPPED | 77), SWAPPED | 77, "another place than frame 77");
        assert_eq!(place(77), 0, "neither here nor there");
        assert_eq!(place(PRESENT | 1 << 55 | 77), 77, "soft-dirty is no matter");
    }
}
