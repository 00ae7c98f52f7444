//! Which pages there are: PAGEMAP_SCAN (6.7), or `/proc/PID/pagemap` read entry by entry.
//!
//! Only pages that are there are ever read: reading another one would make it.

use super::smaps::Area;
use crate::sys::{self, PageRegion};
use binfmt::address::{PAGE_BYTES, TASK_END};
use nix::errno::Errno;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

/// linux/fs.h
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;
const PAGE_IS_GUARD: u64 = 1 << 8;

/// What is known of a run of pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Memory that belongs to the mapping alone: anonymous, or the copy of a file's page.
    Own,
    /// The page of a file or of shared memory.
    Shared,
    /// A guard: any access is a fault (MADV_GUARD_INSTALL).
    Guard,
}

/// Pages of one kind that follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// What they are.
    pub kind: Kind,
}

/// All pages of the process that are there, ascending.
pub fn find(pagemap: &File, areas: &[Area]) -> io::Result<Vec<Run>> {
    match scan(pagemap, PAGE_IS_GUARD).or_else(|_| scan(pagemap, 0)) {
        Err(Errno::ENOTTY | Errno::EINVAL) => read(pagemap, areas),
        found => Ok(found?),
    }
}

/// The runs that lie in `start..end`, cut to it.
pub fn within(runs: &[Run], start: u64, end: u64) -> impl Iterator<Item = Run> {
    let first = runs.partition_point(|run| run.end <= start);
    let inside = runs.iter().skip(first).take_while(move |run| run.start < end);
    inside.map(move |run| Run { start: run.start.max(start), end: run.end.min(end), ..*run })
}

fn scan(pagemap: &File, guard: u64) -> Result<Vec<Run>, Errno> {
    const REGIONS: usize = 1024;
    let any_of = PAGE_IS_PRESENT | PAGE_IS_SWAPPED | guard;
    let report = any_of | PAGE_IS_FILE | PAGE_IS_PFNZERO;
    let mut regions = vec![PageRegion::default(); REGIONS];
    let (mut runs, mut at) = (Vec::new(), 0);
    while at < TASK_END {
        let (count, end) = sys::pagemap_scan(pagemap.as_fd(), at, TASK_END, any_of, report, &mut regions)?;
        for region in regions.iter().take(count) {
            push(&mut runs, region.start, region.end, from_categories(region.categories));
        }
        // A scan of more than 512 ranges that comes to its end reports the place of its last pause (Linux 6.7 to 6.18 at least,
        // fs/proc/task_mmu.c: `walk_end` is set only where it is 0). What was reported must not be looked at again.
        let reported = regions.get(..count).and_then(<[PageRegion]>::last).map_or(0, |last| last.end);
        let end = end.max(reported);
        if end <= at {
            return Err(Errno::EIO);
        }
        at = end;
    }
    Ok(runs)
}

/// The zero page is left out: not to store it comes to the same.
fn from_categories(categories: u64) -> Option<Kind> {
    match categories {
        set if set & PAGE_IS_GUARD != 0 => Some(Kind::Guard),
        set if set & PAGE_IS_PFNZERO != 0 => None,
        set if set & PAGE_IS_FILE != 0 => Some(Kind::Shared),
        _ => Some(Kind::Own),
    }
}

/// Appends a run, or makes the last one longer.
fn push(runs: &mut Vec<Run>, start: u64, end: u64, kind: Option<Kind>) {
    let Some(kind) = kind else { return };
    match runs.last_mut() {
        Some(last) if last.end == start && last.kind == kind => last.end = end,
        _ => runs.push(Run { start, end, kind }),
    }
}

/// Reads the entries of every mapping that has pages (Documentation/admin-guide/mm/pagemap.rst).
fn read(pagemap: &File, areas: &[Area]) -> io::Result<Vec<Run>> {
    const PIECE_PAGES: u64 = 64 << 10;
    let mut runs = Vec::new();
    for area in areas.iter().filter(|area| area.populated && area.end <= TASK_END) {
        let mut at = area.start;
        while at < area.end {
            let pages = PIECE_PAGES.min((area.end - at) / PAGE_BYTES);
            let mut entries = vec![0; usize::try_from(pages * 8).unwrap_or(0)];
            pagemap.read_exact_at(&mut entries, at / PAGE_BYTES * 8)?;
            for entry in entries.chunks_exact(8) {
                push(&mut runs, at, at + PAGE_BYTES, from_entry(crate::parse::u64_at(entry, 0)));
                at += PAGE_BYTES;
            }
        }
    }
    Ok(runs)
}

fn from_entry(entry: u64) -> Option<Kind> {
    const PRESENT: u64 = 1 << 63;
    const SWAPPED: u64 = 1 << 62;
    const FILE: u64 = 1 << 61;
    const GUARD: u64 = 1 << 58;
    match entry {
        set if set & GUARD != 0 => Some(Kind::Guard),
        set if set & (PRESENT | SWAPPED) == 0 => None,
        set if set & FILE != 0 => Some(Kind::Shared),
        _ => Some(Kind::Own),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_grow_only_by_their_own_kind() {
        let mut runs = Vec::new();
        push(&mut runs, 0x1000, 0x2000, from_categories(PAGE_IS_PRESENT));
        push(&mut runs, 0x2000, 0x4000, from_categories(PAGE_IS_SWAPPED));
        push(&mut runs, 0x4000, 0x5000, from_categories(PAGE_IS_PRESENT | PAGE_IS_PFNZERO));
        push(&mut runs, 0x5000, 0x6000, from_categories(PAGE_IS_PRESENT | PAGE_IS_FILE));
        push(&mut runs, 0x6000, 0x7000, from_categories(PAGE_IS_SWAPPED | PAGE_IS_GUARD));
        let run = |start, end, kind| Run { start, end, kind };
        assert_eq!(
            runs,
            [
                run(0x1000, 0x4000, Kind::Own),
                run(0x5000, 0x6000, Kind::Shared),
                run(0x6000, 0x7000, Kind::Guard)
            ]
        );
        let cut: Vec<Run> = within(&runs, 0x3000, 0x5800).collect();
        assert_eq!(cut, [run(0x3000, 0x4000, Kind::Own), run(0x5000, 0x5800, Kind::Shared)]);
        assert_eq!(within(&runs, 0x4000, 0x5000).count(), 0);
    }

    /// The first call of a scan holds 1,024 ranges, of which the kernel gathers 512 at a time.
    #[test]
    fn no_page_is_found_twice() {
        const PAGES: usize = 1400;
        const PAGE: usize = 4096;
        let mut memory = memmap2::MmapMut::map_anon(PAGES * PAGE).expect("memory");
        memory.advise(memmap2::Advice::NoHugePage).expect("advice");
        memory.iter_mut().step_by(2 * PAGE).for_each(|byte| *byte = 1);
        let runs = find(&File::open("/proc/self/pagemap").expect("/proc"), &[]).expect("PAGEMAP_SCAN");
        assert!(runs.len() > PAGES / 2);
        let mut pairs = runs.iter().zip(runs.iter().skip(1));
        assert_eq!(pairs.find(|(run, next)| run.end > next.start), None);
    }

    #[test]
    fn entries_and_categories_agree() {
        assert_eq!(from_entry(0), None);
        assert_eq!(from_entry(1 << 63), Some(Kind::Own));
        assert_eq!(from_entry(1 << 62 | 1 << 61), Some(Kind::Shared));
        assert_eq!(from_entry(1 << 62 | 1 << 58), Some(Kind::Guard));
    }
}
