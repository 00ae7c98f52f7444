//! Descriptors on their way through sockets (SCM_RIGHTS).
//!
//! A look at a queue makes duplicates of them in this process: the very descriptions, which are then told apart like those that
//! tasks have, and collected through `/proc/self`. One may be a socket, through which others are on their way, or itself. So
//! sockets are looked at in rounds, those of tables first.

use super::queue::{self, Queue};
use crate::collect::descriptor::open::{self, Group, Looks, Open, Seen, kind_of};
use crate::collect::{Subject, socket};
use crate::error::Error;
use crate::procdir::ProcDir;
use crate::sys;
use binfmt::address::Pid;
use binfmt::workers::each;
use nix::errno::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// A descriptor on its way.
#[derive(Debug)]
pub struct Passed<'a> {
    /// A task that has the socket.
    pub subject: &'a Subject<'a>,
    /// By this number.
    pub way: u32,
    /// What is said of the duplicate.
    pub seen: Seen,
}

impl Passed<'_> {
    /// As all descriptors are collected.
    pub fn open(&self) -> Open<'_> {
        Open { subject: self.subject, way: Some(self.way), seen: &self.seen }
    }
}

/// What was found in the queues of all sockets.
#[derive(Debug, Default)]
pub struct Found<'a> {
    /// All descriptors on their way.
    pub passed: Vec<Passed<'a>>,
    /// The duplicates of them, by whose numbers [`queue::Message::passed`] tells them apart.
    pub duplicates: Vec<OwnedFd>,
    /// The queues by the inodes of their sockets.
    pub queues: Queues,
}

/// The queues by the inodes of their sockets.
pub type Queues = BTreeMap<u64, Queue>;

/// A socket that is looked at.
struct Looked<'a> {
    subject: &'a Subject<'a>,
    /// Its number there, or that of the socket through which it is on its way.
    number: u32,
    inode: u64,
    duplicate: OwnedFd,
    /// SOCK_STREAM, ...
    kind: i32,
}

impl<'a> Looked<'a> {
    /// Nothing if it is of another domain.
    fn of(
        subject: &'a Subject<'a>,
        number: u32,
        inode: u64,
        duplicate: OwnedFd,
    ) -> Result<Option<Self>, Error> {
        let mut looked = Looked { subject, number, inode, duplicate, kind: 0 };
        let asked = |error| looked.failed("asking which kind it is", error);
        if looked.option(libc::SO_DOMAIN).map_err(asked)? != libc::AF_UNIX {
            return Ok(None);
        }
        looked.kind = looked.option(libc::SO_TYPE).map_err(asked)?;
        Ok(Some(looked))
    }

    fn option(&self, name: i32) -> Result<i32, Errno> {
        socket::number(self.duplicate.as_fd(), name)
    }

    fn failed(&self, what: &str, error: Errno) -> Error {
        let what = format!("{what} of the socket behind descriptor {}", self.number);
        Error::question(self.subject.pid(), what, error)
    }

    fn not_seen(&self, error: Errno) -> Error {
        let what = "looking at what waits to be read";
        match error {
            Errno::EMFILE => {
                let cause =
                    "more descriptors are on their way than this program may have open (RLIMIT_NOFILE)";
                Error::question(self.subject.pid(), what, cause)
            }
            error => self.failed(what, error),
        }
    }
}

/// Looks at what waits in all sockets of this domain, given the descriptors of all tables.
pub fn look<'a>(open: &[Open<'a>], pidfds: &BTreeMap<Pid, OwnedFd>) -> Result<Found<'a>, Error> {
    let mut found = Found::default();
    let (mut round, mut known) = (Vec::new(), BTreeSet::new());
    for open in open.iter().filter(|open| is_socket(open)) {
        let (pid, inode) = (open.subject.pid(), open.place.metadata.ino());
        if known.insert(inode) {
            let missing = || Error::question(pid, "finding its pidfd", Errno::EBADF);
            let duplicate = open.duplicate(pidfds.get(&pid).ok_or_else(missing)?.as_fd())?;
            round.extend(Looked::of(open.subject, open.number, inode, duplicate)?);
        }
    }
    let proc = ProcDir::new(Pid(std::process::id().cast_signed()));
    while !round.is_empty() {
        let mut next = Vec::new();
        for (looked, mut queue) in round.iter().zip(queues(&round)?) {
            let Looked { subject, number: way, inode, .. } = *looked;
            for message in &mut queue.messages {
                for duplicate in std::mem::take(&mut message.rights) {
                    let number = duplicate.as_raw_fd().unsigned_abs();
                    let seen = open::read(proc, number)?;
                    let open = Open { subject, way: Some(way), seen: &seen };
                    let inode = seen.place.metadata.ino();
                    if is_socket(&open) && known.insert(inode) {
                        let another = open.duplicate(duplicate.as_fd())?;
                        next.extend(Looked::of(subject, way, inode, another)?);
                    }
                    message.passed.push(number);
                    found.passed.push(Passed { subject, way, seen });
                    found.duplicates.push(duplicate);
                }
            }
            found.queues.insert(inode, queue);
        }
        round = next;
    }
    Ok(found)
}

/// Takes what was found to be the same description: messages tell it by its id, and one duplicate is enough.
pub fn tell_apart(groups: &[Group<'_>], queues: &mut Queues, duplicates: &mut Vec<OwnedFd>) {
    let members = groups.iter().flat_map(|group| group.members.iter().map(|member| (group.id, member)));
    let ids = members.filter(|(_, member)| member.way.is_some()).map(|(id, member)| (member.number, id));
    let ids: BTreeMap<u32, u32> = ids.collect();
    for message in queues.values_mut().flat_map(|queue| &mut queue.messages) {
        message.passed.iter_mut().for_each(|number| *number = ids.get(number).copied().unwrap_or(0));
    }
    let firsts = groups.iter().map(|group| group.first).filter(|first| first.way.is_some());
    let needed: BTreeSet<u32> = firsts.map(|first| first.number).collect();
    duplicates.retain(|duplicate| needed.contains(&duplicate.as_raw_fd().unsigned_abs()));
}

fn is_socket(open: &Open<'_>) -> bool {
    kind_of(open) == Looks::Socket && !open.is_path_only()
}

/// What waits to be read from each.
fn queues(sockets: &[Looked<'_>]) -> Result<Vec<Queue>, Error> {
    let (mut queues, mut wanted) = (Vec::new(), Vec::new());
    let asked: Vec<_> = sockets.iter().map(|socket| (socket.duplicate.as_fd(), socket.kind)).collect();
    let looks = each(&asked, |(fd, kind)| match socket::number(*fd, libc::SO_ACCEPTCONN)? {
        0 => queue::look(*fd, *kind),
        _ => Ok(Queue::default()),
    });
    for (socket, queue) in sockets.iter().zip(looks) {
        let option = |name| socket.option(name).map_err(|error| socket.not_seen(error));
        let queue = queue.map_err(|error| socket.not_seen(error))?;
        if queue.waits() {
            for name in [libc::SO_PEEK_OFF, libc::SO_PASSCRED] {
                wanted.push((socket.duplicate.as_raw_fd(), name, option(name)?));
            }
        }
        queues.push(queue);
    }
    if let Some(first) = sockets.first() {
        let _guard = sys::LookGuard::new(&wanted).map_err(|error| first.not_seen(error))?;
        for (socket, queue) in sockets.iter().zip(&mut queues).filter(|(_, queue)| queue.waits()) {
            queue.look_on(socket.duplicate.as_fd(), socket.kind).map_err(|error| socket.not_seen(error))?;
        }
    }
    Ok(queues)
}
