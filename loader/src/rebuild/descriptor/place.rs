//! Descriptions at the numbers of a table.
//!
//! Most stand on the shelf above all of the image's numbers, but some may stand among these, where the limit leaves no other
//! room: so what stands at a number is moved on before something else comes there.

use super::{dup_above, put, source};
use crate::error::{Error, Result};
use crate::shelf::Shelf;
use crate::sys;
use binfmt::image::Image;
use binfmt::note::descriptor::{Description, DescriptionKind, DescriptorTable};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// Puts descriptions, which stand on the shelf, at the numbers of `table`. Every other descriptor but those in `keep` is
/// closed, and with them the shelf. Numbers from `first_own` on are not the image's.
pub fn place(
    image: &Image,
    table: &DescriptorTable,
    shelf: &Shelf,
    first_own: u32,
    keep: &[RawFd],
) -> Result<()> {
    let mut stay = put_all(image, table, shelf, first_own)?;
    stay.extend(keep.iter().map(|fd| fd.unsigned_abs()));
    stay.sort_unstable();
    close_others(&stay)
}

/// The same for a table that tasks share: what others still need, from `first_own` on, stays open but for the shelf and
/// `own`.
pub fn place_shared(
    image: &Image,
    table: &DescriptorTable,
    shelf: &Shelf,
    first_own: u32,
    own: &[RawFd],
) -> Result<()> {
    let mut stay = put_all(image, table, shelf, first_own)?;
    stay.sort_unstable();
    close_others_below(first_own, &stay)?;
    let above = shelf.numbers().filter(|number| number.unsigned_abs() >= first_own);
    for number in above.chain(own.iter().copied()) {
        drop(sys::adopt(number));
    }
    Ok(())
}

/// Returns the numbers.
fn put_all(image: &Image, table: &DescriptorTable, shelf: &Shelf, first_own: u32) -> Result<Vec<u32>> {
    let mut moves = BTreeMap::new();
    let mut closes_on_exec = BTreeMap::new();
    for entry in &table.descriptors {
        let description = image.about::<Description>(entry.description).next();
        if matches!(
            description.map(|description| description.kind),
            Some(
                DescriptionKind::Closed
                    | DescriptionKind::Pidfd
                    | DescriptionKind::ProcessFile
                    | DescriptionKind::Userfaultfd
            )
        ) {
            continue;
        }
        let from = source(image, shelf, entry.description, entry.number);
        let from = from.ok_or(Error::Internal("a description was not opened"))?;
        moves.insert(entry.number, from.as_raw_fd().unsigned_abs());
        closes_on_exec.insert(entry.number, entry.close_on_exec);
    }
    let above = RawFd::try_from(first_own).unwrap_or(RawFd::MAX);
    let mut aside: BTreeMap<u32, OwnedFd> = BTreeMap::new();
    for step in order(&moves) {
        match step {
            Step::Aside(number) => {
                let kept = dup_above(number.cast_signed(), above).map_err(|error| {
                    Error::step(format!("keep what stands at descriptor {number}"), error)
                })?;
                aside.insert(number, kept);
            }
            Step::Put { number, from } => {
                let from = aside.get(&from).map_or(sys::borrow(from.cast_signed()), AsFd::as_fd);
                put(from, number, closes_on_exec.get(&number).copied().unwrap_or_default())?;
            }
        }
    }
    Ok(moves.into_keys().collect())
}

/// A step towards a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// What stands at `from` comes to `number`.
    Put { number: u32, from: u32 },
    /// What stands there is put aside; who comes from there comes from aside.
    Aside(u32),
}

/// The steps of moves, each of a number and where what comes there stands now, such that nothing is lost. Only of moves in
/// a circle something is put aside.
fn order(moves: &BTreeMap<u32, u32>) -> Vec<Step> {
    let mut steps = Vec::new();
    // How many are still to come from a number.
    let mut wanted: BTreeMap<u32, u32> = BTreeMap::new();
    for (_, from) in moves.iter().filter(|(number, from)| number != from) {
        *wanted.entry(*from).or_default() += 1;
    }
    let mut waiting = moves.clone();
    let mut free: Vec<u32> = moves.keys().copied().filter(|number| !wanted.contains_key(number)).collect();
    loop {
        while let Some(number) = free.pop() {
            let Some(from) = waiting.remove(&number) else { continue };
            steps.push(Step::Put { number, from });
            if let Some(count) = wanted.get_mut(&from).filter(|_| number != from) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    free.push(from);
                }
            }
        }
        // One that others come from and that stays where it is, waits for nobody; of a circle, any will do.
        let Some((number, from)) = waiting.first_key_value().map(|(number, from)| (*number, *from)) else {
            return steps;
        };
        if number != from {
            steps.push(Step::Aside(number));
        }
        free.push(number);
    }
}

/// Closes every descriptor that is not in the ascending list `stay`.
pub fn close_others(stay: &[u32]) -> Result<()> {
    close_others_below(u32::MAX, stay)
}

fn close_others_below(end: u32, stay: &[u32]) -> Result<()> {
    let mut from = 0u32;
    for number in stay.iter().copied().take_while(|number| *number < end).chain([end]) {
        if number > from {
            let args = [from.into(), u64::from(number - 1), 0, 0, 0, 0];
            crate::sys::call(libc::SYS_close_range, args)
                .map_err(|error| Error::step("close the loader's own descriptors", error))?;
        }
        from = number.saturating_add(1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does the steps to a table of names; every number must end with what stood where it comes from.
    fn check(moves: &[(u32, u32)]) -> usize {
        let moves: BTreeMap<u32, u32> = moves.iter().copied().collect();
        let before = |number: u32| format!("what stood at {number}");
        let mut now: BTreeMap<u32, String> = BTreeMap::new();
        let mut aside: BTreeMap<u32, String> = BTreeMap::new();
        let steps = order(&moves);
        let at =
            |now: &BTreeMap<u32, String>, number: u32| now.get(&number).cloned().unwrap_or(before(number));
        for step in &steps {
            match *step {
                Step::Aside(number) => drop(aside.insert(number, at(&now, number))),
                Step::Put { number, from } => {
                    let text = aside.get(&from).cloned().unwrap_or_else(|| at(&now, from));
                    now.insert(number, text);
                }
            }
        }
        for (number, from) in &moves {
            assert_eq!(at(&now, *number), before(*from), "{moves:?}: {steps:?}");
        }
        steps.len() - moves.len()
    }

    #[test]
    fn nothing_is_lost() {
        assert_eq!(check(&[(0, 100), (1, 101), (2, 100)]), 0, "a shelf above");
        assert_eq!(check(&[(3, 4), (4, 5), (5, 6)]), 0, "a chain");
        assert_eq!(check(&[(5, 4), (4, 3), (6, 5)]), 0, "the other way");
        assert_eq!(check(&[(3, 4), (4, 3)]), 1, "a circle");
        assert_eq!(check(&[(3, 4), (4, 5), (5, 3), (6, 5), (7, 7)]), 1, "a circle that another comes from");
        assert_eq!(check(&[(3, 3), (4, 3), (5, 3)]), 0, "one stays and others come from it");
        assert_eq!(check(&[(3, 4), (4, 3), (8, 9), (9, 8), (5, 5)]), 2, "two circles");
    }

    #[test]
    fn nor_of_any_moves() {
        let mut state = 1_u64;
        let mut below = |end: u32| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            u32::try_from(state >> 33).unwrap_or(0) % end
        };
        for _ in 0..3_000 {
            let moves: Vec<(u32, u32)> = (0..8).map(|_| (below(10), below(12))).collect();
            check(&moves);
        }
    }
}
