//! Pages that memories share since a fork: each is stored once, for the first memory that has it.
//!
//! Memories are kin if they were laid out by the same execve: then one was forked from the other, or both from a third
//! one. At the same address they may have the same page. Whether they do is told by the page's frame in
//! `/proc/PID/pagemap`, or, without CAP_SYS_ADMIN, by comparing what is in pages that the kernel says are not mapped by one
//! process alone.

mod bytes;
mod cut;
mod entries;
mod frames;

use crate::collect::{Collected, Source};
use crate::error::Error;
use crate::memory::{Manner, TaskMemory};
use binfmt::address::PAGE_BYTES;
use binfmt::image::{Owner, Segment};
use binfmt::workers::together;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much of the address space is looked at in one go: what is remembered of it stays in the processor's cache, and a
/// page has little time to be moved between two looks.
const WINDOW_BYTES: u64 = 64 << 20;

/// A run of pages that a memory has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// PF_R, PF_W, PF_X.
    pub flags: u32,
    /// How they are to be read.
    pub manner: Manner,
}

/// The pages that are carried of one memory.
#[derive(Debug)]
pub struct Carried {
    /// The id of the memory.
    pub memory: u32,
    /// Where it is read.
    pub memory_index: usize,
    /// How execve laid it out: start of code, stack and heap. Memories that differ in it are no kin.
    pub layout: [u64; 3],
    /// Its page map.
    pub pagemap: Arc<File>,
    /// The pages, ascending.
    pub pieces: Vec<Piece>,
}

/// Pages that a memory has from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alias {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// The index, in its family, of the first memory that has them.
    pub owner: usize,
}

/// One memory of a family, with what is needed to compare it.
#[derive(Debug)]
struct Member<'a> {
    carried: &'a Carried,
    memory: &'a TaskMemory,
}

impl Member<'_> {
    /// Its pieces in a window, cut to it.
    fn pieces_in(&self, from: u64, to: u64) -> impl Iterator<Item = (u64, u64)> {
        let first = self.carried.pieces.partition_point(|piece| piece.end <= from);
        let pieces = self.carried.pieces.iter().skip(first);
        pieces.take_while(move |piece| piece.start < to).map(move |piece| {
            let (start, end) = (piece.start.max(from), piece.end.min(to));
            (start, end)
        })
    }
}

/// Turns the pages of all memories into segments, those that they share once.
pub fn place(
    all: Vec<Carried>,
    memories: &[TaskMemory],
    out: &mut Collected,
) -> Result<Vec<(Segment, Source)>, Error> {
    // What each memory has from which other one, by index.
    let mut aliases: Vec<Vec<Alias>> = all.iter().map(|_| Vec::new()).collect();
    let mut families: BTreeMap<[u64; 3], Vec<usize>> = BTreeMap::new();
    for (index, carried) in all.iter().enumerate() {
        families.entry(carried.layout).or_default().push(index);
    }
    for family in families.into_values().filter(|family| family.len() > 1) {
        let members: Vec<Member<'_>> = family
            .iter()
            .filter_map(|index| {
                let carried = all.get(*index)?;
                Some(Member { carried, memory: memories.get(carried.memory_index)? })
            })
            .collect();
        for (index, found) in family.iter().zip(shared_pages(&members)?) {
            let global = |alias: Alias| Some(Alias { owner: *family.get(alias.owner)?, ..alias });
            if let Some(place) = aliases.get_mut(*index) {
                *place = found.into_iter().filter_map(global).collect();
            }
        }
    }
    let pieces: Vec<&[Piece]> = all.iter().map(|carried| carried.pieces.as_slice()).collect();
    let cut = cut::cut(&pieces, &aliases);
    let mut contents = Vec::new();
    // Where the segment of a memory that begins at an address is among the contents.
    let mut stored: BTreeMap<(usize, u64), usize> = BTreeMap::new();
    for ((index, carried), parts) in all.iter().enumerate().zip(cut) {
        for part in parts {
            let Piece { start, end, flags, manner } = part.piece;
            let owner = Owner::Memory(carried.memory);
            let segment = Segment { owner, start, len_bytes: end - start, flags };
            let source = match part.owner {
                Some(owner) => match stored.get(&(owner, start)) {
                    Some(at) => Source::Same(*at),
                    None => {
                        return Err(Error::question(out.pid(), "placing shared pages", "one has no owner"));
                    }
                },
                None => {
                    stored.insert((index, start), contents.len());
                    Source::Memory(carried.memory_index, start, manner)
                }
            };
            contents.push((segment, source));
        }
    }
    Ok(contents)
}

/// The pages that each of these memories has from an earlier one. Windows are looked at by several threads.
fn shared_pages(members: &[Member<'_>]) -> Result<Vec<Vec<Alias>>, Error> {
    const THREADS: usize = 4;
    const FEW: usize = 8;
    const FEW_LOOKS: usize = 64;
    let visible = frames::are_visible(members);
    let windows = windows(members);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(window) = windows.get(index) else { return Ok(done) };
            let (from, to) = (window * WINDOW_BYTES, (window + 1) * WINDOW_BYTES);
            done.push((
                index,
                match visible {
                    true => frames::compare(members, from, to)?,
                    false => bytes::compare(members, from, to)?,
                },
            ));
        }
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let helpers = if windows.len() > FEW || windows.len() * members.len() > FEW_LOOKS {
        cores.min(THREADS) - 1
    } else {
        0
    };
    let (own, others) = together(helpers, work);
    // What was lost with a thread is stored for each memory.
    let results = others.into_iter().flatten().chain([own]);
    let mut compared = results.collect::<Result<Vec<_>, Error>>()?.concat();
    compared.sort_unstable_by_key(|(index, _)| *index);
    let mut found: Vec<Vec<Alias>> = members.iter().map(|_| Vec::new()).collect();
    for page in compared.into_iter().flat_map(|(_, pages)| pages) {
        if let Some(aliases) = found.get_mut(page.member) {
            push(aliases, page.address, page.owner);
        }
    }
    Ok(found)
}

/// A page that a memory has from an earlier one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SharedPage {
    address: u64,
    member: usize,
    owner: usize,
}

/// Appends a page to ascending aliases.
fn push(aliases: &mut Vec<Alias>, address: u64, owner: usize) {
    match aliases.last_mut() {
        Some(last) if last.end == address && last.owner == owner => last.end += PAGE_BYTES,
        _ => aliases.push(Alias { start: address, end: address + PAGE_BYTES, owner }),
    }
}

/// The windows in which at least two memories have pages, ascending.
fn windows(members: &[Member<'_>]) -> Vec<u64> {
    let (mut seen, mut shared) = (BTreeSet::new(), BTreeSet::new());
    for member in members {
        let mut last = None;
        for piece in &member.carried.pieces {
            let first = piece.start / WINDOW_BYTES;
            for window in first..=(piece.end - 1) / WINDOW_BYTES {
                if last != Some(window) && !seen.insert(window) {
                    shared.insert(window);
                }
                last = Some(window);
            }
        }
    }
    shared.into_iter().collect()
}
