//! Epoll sets: the `tfd` lines of their fdinfo.
//!
//! A line tells a number and not what it led to when it was added: that may be closed there, or open elsewhere. Which
//! description of the tree it is tells kcmp(2), which also orders them, so that few have to be asked.

use super::Collected;
use super::descriptor::Group;
use crate::allow::Allow;
use crate::error::Error;
use crate::sys::{self, Watched};
use binfmt::note::epoll::{Epoll, EpollTarget};
use nix::errno::Errno;
use nix::poll::PollFlags;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// A line of fdinfo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Line {
    number: u32,
    events: u32,
    data: u64,
    inode: u64,
}

/// Collects the epoll sets of the tree, each given with a duplicate of it; `all` are the descriptions of the tree.
pub fn collect(sets: &[(&Group<'_>, OwnedFd)], all: &[Group<'_>], out: &mut Collected) -> Result<(), Error> {
    let by_number = all.iter().map(|group| ((group.first.place.metadata.ino(), group.first.number), group));
    let by_number = if sets.is_empty() { BTreeMap::new() } else { by_number.collect() };
    let mut finder = Finder { all, by_number, sorted: BTreeMap::new() };
    for (set, duplicate) in sets {
        let pid = set.first.subject.pid();
        out.look_at(pid);
        let found = watched(set, &mut finder, out).map_err(|error| {
            let number = set.first.number;
            Error::question(pid, format!("asking what its epoll set {number} watches (kcmp)"), error)
        })?;
        let busy = sys::busy_poll(duplicate.as_fd());
        out.note(Epoll {
            description: set.id,
            quiet: is_quiet(&found, duplicate),
            targets: found.into_iter().map(|(target, _)| target).collect(),
            busy_poll_us: busy.time_us,
            busy_poll_budget: busy.budget.into(),
            prefer_busy_poll: busy.prefer != 0,
        });
    }
    Ok(())
}

/// What a set watches, each with its description.
fn watched<'a>(
    set: &Group<'_>,
    finder: &mut Finder<'a>,
    out: &mut Collected,
) -> Result<Vec<(EpollTarget, &'a Group<'a>)>, Errno> {
    let (pid, own) = set.first.held();
    let mut found = Vec::new();
    let mut seen: BTreeMap<u32, u32> = BTreeMap::new();
    for line in set.first.info.lines().filter_map(|line| line.strip_prefix("tfd:")) {
        let line = parse(line).ok_or(Errno::EBADMSG)?;
        let Line { number, events, data, .. } = line;
        let count = seen.entry(number).or_default();
        let watched = Watched { pid, set: own, number, nth: *count };
        *count += 1;
        match finder.find(line.inode, &watched)? {
            Some(group) => found.push((EpollTarget { number, description: group.id, events, data }, group)),
            None if set.first.subject.options.allow.contains(&Allow::Epoll) => {}
            None => out.unsupported(
                format!(
                    "{} is an epoll set that watches what was its fd {number} and is open in no process of the tree",
                    set.first.name()
                ),
                format!(
                    "name the process that has it as well, or `--allow {}` leaves it out of the set",
                    Allow::Epoll.word()
                ),
            ),
        }
    }
    found.sort_by_key(|(target, _)| target.number);
    Ok(found)
}

/// Whether nothing in a set is ready, if that matters, which is for what tells of edges.
///
/// Asking drops from the kernel's list what is not ready for who asks. For nobody else but a signalfd that is another
/// thing, and a set in the set might hold one.
fn is_quiet(found: &[(EpollTarget, &Group<'_>)], duplicate: &OwnedFd) -> bool {
    let tells_edges =
        |target: &EpollTarget| target.events & libc::EPOLLET.cast_unsigned() != 0 && !target.is_disarmed();
    let depends_on_asker = |group: &Group<'_>| {
        matches!(group.first.place.label.as_slice(), b"anon_inode:[signalfd]" | b"anon_inode:[eventpoll]")
    };
    if !found.iter().any(|(target, _)| tells_edges(target))
        || found.iter().any(|(_, group)| depends_on_asker(group))
    {
        return false;
    }
    sys::events(duplicate.as_fd(), PollFlags::POLLIN) == Ok(PollFlags::empty())
}

/// Finds descriptions by the kernel's order of them.
struct Finder<'a> {
    all: &'a [Group<'a>],
    /// One with an inode that has a number still. The kernel looks at every target of a set to answer one question about it.
    by_number: BTreeMap<(u64, u32), &'a Group<'a>>,
    /// Those with an inode, or all, in that order.
    sorted: BTreeMap<Option<u64>, Vec<&'a Group<'a>>>,
}

impl<'a> Finder<'a> {
    /// The description that is watched. It should have this inode, but some filesystems tell stat(2) another one.
    fn find(&mut self, inode: u64, watched: &Watched) -> Result<Option<&'a Group<'a>>, Errno> {
        if let Some(group) = self.by_number.get(&(inode, watched.number)).copied()
            && sys::compare_watched(held(group), watched)? == Ordering::Equal
        {
            return Ok(Some(group));
        }
        match self.find_among(Some(inode), watched)? {
            None => self.find_among(None, watched),
            found => Ok(found),
        }
    }

    fn find_among(&mut self, inode: Option<u64>, watched: &Watched) -> Result<Option<&'a Group<'a>>, Errno> {
        if !self.sorted.contains_key(&inode) {
            let sorted = sorted(self.all, inode)?;
            self.sorted.insert(inode, sorted);
        }
        let sorted = self.sorted.get(&inode).map(Vec::as_slice).unwrap_or_default();
        let mut failed = Ok(());
        let order = |group: &&Group<'_>| {
            sys::compare_watched(held(group), watched).unwrap_or_else(|error| {
                failed = Err(error);
                Ordering::Equal
            })
        };
        let found = sorted.binary_search_by(order).ok();
        failed.map(|()| found.and_then(|index| sorted.get(index)).copied())
    }
}

/// The process id and the number of a descriptor of a description.
fn held(group: &Group<'_>) -> (i32, u32) {
    group.first.held()
}

/// The descriptions with an inode, or all, in the kernel's order.
fn sorted<'a>(all: &'a [Group<'a>], inode: Option<u64>) -> Result<Vec<&'a Group<'a>>, Errno> {
    let is_meant = |group: &&Group<'_>| inode.is_none_or(|inode| group.first.place.metadata.ino() == inode);
    let mut sorted: Vec<&Group<'_>> = all.iter().filter(is_meant).collect();
    let mut failed = Ok(());
    sorted.sort_by(|one, two| {
        sys::compare(sys::Kind::Description, held(one), held(two)).unwrap_or_else(|error| {
            failed = Err(error);
            Ordering::Equal
        })
    });
    failed.map(|()| sorted)
}

/// `N events: HEX data: HEX pos:N ino:HEX sdev:HEX` (Documentation/filesystems/proc.rst, 3.8; the kernel puts no space
/// after some of the colons).
fn parse(line: &str) -> Option<Line> {
    let after = |key: &str| line.split_once(key)?.1.split_whitespace().next();
    let hexadecimal = |key: &str| u64::from_str_radix(after(key)?, 16).ok();
    Some(Line {
        number: line.split_whitespace().next()?.parse().ok()?,
        events: u32::try_from(hexadecimal("events:")?).ok()?,
        data: hexadecimal("data:")?,
        inode: hexadecimal("ino:")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let line = "        5 events: 9000001c data: ffffffffffffffff  pos:0 ino:f8f156 sdev:f";
        let expected = Line { number: 5, events: 0x9000_001c, data: u64::MAX, inode: 0xf8_f156 };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse(" 6 events: 19 data: 7"), None, "Linux before 4.11 tells no inode");
        assert_eq!(parse(" 6 events: 100000000 data: 7 pos:0 ino:1 sdev:1"), None);
        assert_eq!(parse(""), None);
    }
}
