//! Cutting the pages of memories at the borders of what they share, so that each part is shared as a whole or not at all.

use super::{Alias, Piece};
use std::collections::BTreeSet;

/// A part of a memory that becomes a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Which pages.
    pub(super) piece: Piece,
    /// The memory in which the same part is stored, if it is another one.
    pub(super) owner: Option<usize>,
}

/// Cuts the `pieces` of each memory, of which it has `aliases` from earlier ones; all ascending. A part that has an owner
/// is a part of that owner as well, from the first page to the last.
pub(super) fn cut(pieces: &[&[Piece]], aliases: &[Vec<Alias>]) -> Vec<Vec<Part>> {
    let mut borders: Vec<BTreeSet<u64>> = pieces.iter().map(|_| BTreeSet::new()).collect();
    let divided: Vec<Vec<Part>> =
        pieces.iter().zip(aliases).map(|(pieces, aliases)| divide(pieces, aliases)).collect();
    // Nothing is cut in a memory that shares nothing.
    for part in divided.iter().flatten() {
        if let Some(borders) = part.owner.and_then(|owner| borders.get_mut(owner)) {
            borders.extend([part.piece.start, part.piece.end]);
        }
    }
    for (index, parts) in divided.iter().enumerate() {
        if let Some(borders) = borders.get_mut(index).filter(|borders| !borders.is_empty()) {
            let own = parts.iter().filter(|part| part.owner.is_none());
            borders.extend(own.flat_map(|part| [part.piece.start, part.piece.end]));
        }
    }
    let whose = |index: usize, part: &Part| borders.get(part.owner.unwrap_or(index));
    let cut = |(index, parts): (usize, Vec<Part>)| {
        let mut all = Vec::with_capacity(parts.len());
        for part in parts {
            let Piece { mut start, end, .. } = part.piece;
            let inside = whose(index, &part).map(|borders| borders.range(start + 1..end));
            for border in inside.into_iter().flatten().copied() {
                all.push(Part { piece: Piece { start, end: border, ..part.piece }, ..part });
                start = border;
            }
            all.push(Part { piece: Piece { start, end, ..part.piece }, ..part });
        }
        all
    };
    divided.into_iter().enumerate().map(cut).collect()
}

/// The pieces of one memory, cut at the ends of its own aliases.
fn divide(pieces: &[Piece], aliases: &[Alias]) -> Vec<Part> {
    let mut parts = Vec::with_capacity(pieces.len());
    let mut aliases = aliases.iter().peekable();
    for piece in pieces {
        let Piece { mut start, end, .. } = *piece;
        while start < end {
            while aliases.next_if(|alias| alias.end <= start).is_some() {}
            let (until, owner) = match aliases.peek() {
                Some(alias) if alias.start <= start => (alias.end.min(end), Some(alias.owner)),
                Some(alias) => (alias.start.min(end), None),
                None => (end, None),
            };
            parts.push(Part { piece: Piece { start, end: until, ..*piece }, owner });
            start = until;
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Manner;
    use std::collections::BTreeMap;

    fn piece(start: u64, end: u64) -> Piece {
        Piece { start, end, flags: 6, manner: Manner::Fast }
    }

    fn alias(start: u64, end: u64, owner: usize) -> Alias {
        Alias { start, end, owner }
    }

    /// Start, end and owner of every part.
    fn shown(parts: &[Part]) -> Vec<(u64, u64, Option<usize>)> {
        parts.iter().map(|part| (part.piece.start, part.piece.end, part.owner)).collect()
    }

    #[test]
    fn what_is_not_shared_stays_whole() {
        let pieces = [piece(0, 10), piece(10, 20)];
        let cut = cut(&[&pieces, &pieces], &[vec![], vec![]]);
        assert_eq!(shown(&cut[0]), [(0, 10, None), (10, 20, None)]);
        assert_eq!(cut[0], cut[1]);
    }

    #[test]
    fn an_owner_is_cut_where_others_differ() {
        let parent = [piece(0, 100)];
        let (first, second) = ([piece(0, 50), piece(50, 100)], [piece(10, 100)]);
        let aliases = [
            vec![],
            vec![alias(0, 30, 0), alias(40, 100, 0)],
            vec![alias(10, 30, 0), alias(30, 40, 0), alias(40, 60, 0), alias(61, 100, 0)],
        ];
        let cut = cut(&[&parent, &first, &second], &aliases);
        let borders = [(0, 10), (10, 30), (30, 40), (40, 50), (50, 60), (60, 61), (61, 100)];
        assert_eq!(shown(&cut[0]), borders.map(|(start, end)| (start, end, None)));
        let mut expected = borders.map(|(start, end)| (start, end, Some(0)));
        expected[2].2 = None;
        assert_eq!(shown(&cut[1]), expected);
        expected[2].2 = Some(0);
        expected[5].2 = None;
        assert_eq!(shown(&cut[2]), expected[1..]);
    }

    #[test]
    fn every_shared_part_is_one_of_its_owner() {
        // Four memories of a thousand pages; who has what from whom is picked by a fixed sequence.
        let mut seed = 7u64;
        let mut next = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let pages = 1000;
        // For each page of each memory: absent, of its own, or that of an earlier memory which has one of its own.
        let mut table: Vec<Vec<Option<usize>>> = Vec::new();
        for index in 0..4 {
            let mut row: Vec<Option<usize>> = Vec::new();
            for page in 0..pages {
                let wanted = if next(5) > 0 && page > 0 {
                    row[page - 1]
                } else {
                    [None, Some(index), Some(0), Some(1)][usize::try_from(next(4)).expect("small")]
                };
                let owner = wanted.filter(|owner| *owner <= index);
                row.push(owner.map(|owner| {
                    if owner == index || table[owner][page] == Some(owner) { owner } else { index }
                }));
            }
            table.push(row);
        }
        let mut pieces: Vec<Vec<Piece>> = Vec::new();
        let mut aliases: Vec<Vec<Alias>> = Vec::new();
        for (index, row) in table.iter().enumerate() {
            let (mut mine, mut theirs): (Vec<Piece>, Vec<Alias>) = (Vec::new(), Vec::new());
            for (page, owner) in row.iter().enumerate() {
                let Some(owner) = *owner else { continue };
                let at = page as u64;
                match mine.last_mut() {
                    Some(last) if last.end == at && !at.is_multiple_of(97) => last.end += 1,
                    _ => mine.push(piece(at, at + 1)),
                }
                if owner != index {
                    match theirs.last_mut() {
                        Some(last) if last.end == at && last.owner == owner => last.end += 1,
                        _ => theirs.push(alias(at, at + 1, owner)),
                    }
                }
            }
            pieces.push(mine);
            aliases.push(theirs);
        }
        let slices: Vec<&[Piece]> = pieces.iter().map(Vec::as_slice).collect();
        let cut = cut(&slices, &aliases);
        let own: Vec<BTreeMap<u64, u64>> = cut
            .iter()
            .map(|parts| {
                let own = parts.iter().filter(|part| part.owner.is_none());
                own.map(|part| (part.piece.start, part.piece.end)).collect()
            })
            .collect();
        for (index, parts) in cut.iter().enumerate() {
            let mut pages_seen = 0;
            for part in parts {
                pages_seen += part.piece.end - part.piece.start;
                for page in part.piece.start..part.piece.end {
                    let owner = table[index][usize::try_from(page).expect("small")];
                    assert_eq!(owner, Some(part.owner.unwrap_or(index)));
                }
                if let Some(owner) = part.owner {
                    assert_eq!(own[owner].get(&part.piece.start), Some(&part.piece.end));
                }
            }
            assert_eq!(pages_seen, table[index].iter().flatten().count() as u64);
        }
    }
}
