//! The tables of descriptors, and the open file descriptions behind them, each once for the whole tree.
//!
//! Which descriptors share a description is told by kcmp(2); what a description is, by a duplicate of it
//! (pidfd_getfd), through which nothing is read, sought or changed.

use super::mapping::Objects;
use super::pipe::{self, End};
use super::{
    Collected, Subject, epoll, eventfd, file, inotify, lock, memfd, mqueue, pidfd, signalfd, socket,
    terminal, timerfd,
};
use crate::allow::Allow;
use crate::error::Error;
use crate::procdir::ProcDir;
use crate::{parse, sharing, sys};
use binfmt::address::Pid;
use binfmt::note::descriptor::{Description, DescriptionKind, Descriptor, DescriptorTable};
use file::Place;
use lock::Which;
use nix::errno::Errno;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

/// Descriptors below this may lead anywhere: a resume gives the loader's own.
pub const STANDARD_STREAMS: u32 = 3;

/// One descriptor.
#[derive(Debug)]
pub struct Open<'a> {
    /// The first task that has its table.
    pub subject: &'a Subject<'a>,
    seen: &'a Seen,
}

impl std::ops::Deref for Open<'_> {
    type Target = Seen;

    fn deref(&self) -> &Seen {
        self.seen
    }
}

impl Open<'_> {
    /// The error for what it says of itself that nobody understands.
    pub fn makes_no_sense(&self) -> Error {
        not_understood(self.subject.pid(), self.number)
    }

    /// What becomes of it if `what` it is cannot be saved: that is named, unless `allow` was given.
    pub fn not_saved(&self, allow: Allow, what: &str, out: &mut Collected) -> DescriptionKind {
        if !self.subject.options.allow.contains(&allow) {
            let what = format!("fd {} is {what}", self.number);
            out.unsupported(what, format!("`--allow {}` restores it closed", allow.word()));
        }
        DescriptionKind::Closed
    }
}

/// What the kernel says of a descriptor.
#[derive(Debug)]
pub struct Seen {
    /// Its number.
    pub number: u32,
    /// Flags of its description with O_CLOEXEC, which is the descriptor's.
    pub flags: u32,
    /// Offset of its description.
    pub position: u64,
    /// `/proc/PID/fdinfo/N`
    pub info: String,
    /// What it leads to.
    pub place: Place,
}

/// An open file description.
#[derive(Debug)]
pub struct Group<'a> {
    /// Its id.
    pub id: u32,
    /// A descriptor of it: the first of the first task that has one.
    pub first: &'a Open<'a>,
    /// All of them.
    members: Vec<&'a Open<'a>>,
}

/// Collects the tables and the descriptions of all tasks.
pub fn collect<'a>(
    subjects: &'a [Subject<'a>],
    objects: &mut Objects,
    out: &mut Collected,
) -> Result<(), Error> {
    let mut open = Vec::new();
    let mut tables: BTreeMap<u32, DescriptorTable> = BTreeMap::new();
    let mut pidfds = BTreeMap::new();
    for subject in subjects.iter().filter(|subject| subject.shares.descriptors.is_first) {
        let pid = subject.pid();
        let pidfd =
            sys::pidfd_open(pid.0).map_err(|error| Error::question(pid, "opening its pidfd", error))?;
        pidfds.insert(pid, pidfd);
        let id = subject.shares.descriptors.id;
        tables.insert(id, DescriptorTable { id, descriptors: Vec::new() });
        open.extend(subject.seen.descriptors.iter().map(|seen| Open { subject, seen }));
    }
    let mut pipes: BTreeMap<(u64, u64), Vec<End<'_>>> = BTreeMap::new();
    let (groups, mut sets) = (group(&open)?, Vec::new());
    let (mut instances, mut sockets) = (Vec::new(), Vec::new());
    let masters = terminal::pseudo::masters(&groups);
    let mut terminals: BTreeMap<u32, Vec<terminal::pseudo::End<'_>>> = BTreeMap::new();
    for group in &groups {
        let Group { id, first, .. } = *group;
        let (pid, number) = (first.subject.pid(), first.number);
        out.look_at(pid);
        let pidfd =
            pidfds.get(&pid).ok_or_else(|| Error::question(pid, "finding its pidfd", Errno::EBADF))?;
        let duplicate = sys::pidfd_getfd(pidfd.as_fd(), number)
            .map_err(|error| Error::question(pid, format!("duplicating its descriptor {number}"), error))?;
        for member in &group.members {
            let table = tables.get_mut(&member.subject.shares.descriptors.id);
            table.into_iter().for_each(|table| table.descriptors.push(descriptor(member, id)));
        }
        locks(group, out);
        if kind_of(first) == Looks::Pipe && !is_path_only(first) {
            let metadata = &first.place.metadata;
            let ends = pipes.entry((metadata.dev(), metadata.ino())).or_default();
            ends.push(End { description: id, open: first, lowest: lowest(group), duplicate });
        } else if let Some(index) = terminal_index(first, duplicate.as_fd(), &masters) {
            describe(id, DescriptionKind::PseudoTerminal, first, duplicate.as_fd(), out)?;
            let end = terminal::pseudo::End { description: id, open: first, duplicate };
            terminals.entry(index).or_default().push(end);
        } else if kind_of(first) == Looks::Socket && !is_path_only(first) {
            sockets.push(socket::Held::new(id, first, lowest(group), duplicate)?);
        } else {
            let kind = complete(group, duplicate.as_fd(), objects, out)?;
            describe(id, kind, first, duplicate.as_fd(), out)?;
            match kind {
                DescriptionKind::Epoll => sets.push((group, duplicate)),
                DescriptionKind::Inotify => instances.push((group, duplicate)),
                _ => {}
            }
        }
    }
    epoll::collect(&sets, &groups, out)?;
    inotify::collect(&instances, &groups, out)?;
    pipes.into_values().try_for_each(|ends| complete_pipe(&ends, out))?;
    terminals.into_iter().try_for_each(|(index, ends)| terminal::pseudo::collect(index, &ends, out))?;
    for (socket, kind) in sockets.iter().zip(socket::collect(&sockets, out)?) {
        describe(socket.description, kind, socket.open, socket.duplicate.as_fd(), out)?;
    }
    for mut table in tables.into_values() {
        table.descriptors.sort_by_key(|descriptor| descriptor.number);
        out.note(table);
    }
    Ok(())
}

/// The number of the pseudo-terminal that a descriptor is an end of, if the tree has its master.
fn terminal_index(open: &Open<'_>, duplicate: BorrowedFd<'_>, masters: &BTreeSet<u32>) -> Option<u32> {
    let is_device = kind_of(open) == Looks::Device && !is_path_only(open);
    if is_device { terminal::pseudo::index(open, duplicate, masters) } else { None }
}

/// Completes the descriptions of a pipe, which all its ends in the tree belong to.
fn complete_pipe(ends: &[End<'_>], out: &mut Collected) -> Result<(), Error> {
    let leads_out = pipe::leads_out(ends);
    for end in ends {
        out.look_at(end.open.subject.pid());
        let kind = match leads_out {
            true => outside(end.open, end.lowest, out),
            false => DescriptionKind::Pipe,
        };
        describe(end.description, kind, end.open, end.duplicate.as_fd(), out)?;
    }
    if leads_out { Ok(()) } else { pipe::collect(ends, out) }
}

fn descriptor(open: &Open<'_>, description: u32) -> Descriptor {
    let close_on_exec = open.flags & libc::O_CLOEXEC.cast_unsigned() != 0;
    Descriptor { number: open.number, close_on_exec, description }
}

/// The lowest number that any task has for it.
fn lowest(group: &Group<'_>) -> u32 {
    group.members.iter().map(|member| member.number).min().unwrap_or(group.first.number)
}

/// The locks that were taken through a description: its own, and those of each table that has it.
fn locks(group: &Group<'_>, out: &mut Collected) {
    let mut seen = BTreeSet::new();
    for member in &group.members {
        if seen.insert(member.subject.shares.descriptors.id) {
            let which = if seen.len() == 1 { Which::All } else { Which::OfTable };
            lock::collect(member.subject, group.id, &member.info, which, out);
        }
    }
}

/// Looks at all descriptors of a process.
pub fn look(proc: ProcDir) -> Result<Vec<Seen>, Error> {
    proc.numbers("fd")?.into_iter().map(|number| read(proc, number)).collect()
}

fn read(proc: ProcDir, number: u32) -> Result<Seen, Error> {
    let info = proc.text(&format!("fdinfo/{number}"))?;
    let place = Place::magic_link(proc.path(&format!("fd/{number}")))
        .map_err(|error| Error::question(proc.pid(), format!("reading its descriptor {number}"), error))?;
    let flags = parse::value(&info, "flags").and_then(|flags| u32::from_str_radix(flags, 8).ok());
    let (Some(flags), Some(position)) = (flags, parse::decimal(&info, "pos")) else {
        return Err(not_understood(proc.pid(), number));
    };
    Ok(Seen { number, flags, position, info, place })
}

fn not_understood(pid: Pid, number: u32) -> Error {
    Error::question(pid, format!("reading its descriptor {number}"), "the kernel's answer makes no sense")
}

/// Descriptors of the same description together, each group and the groups in the order of tasks and numbers. Only
/// those that look alike are compared, and the kernel's order makes that n log n.
fn group<'a>(open: &'a [Open<'a>]) -> Result<Vec<Group<'a>>, Error> {
    // Not the position: somebody outside of the tree may move it while we look.
    let look = |open: &Open<'_>| {
        let flags = open.flags & !libc::O_CLOEXEC.cast_unsigned();
        (open.place.metadata.dev(), open.place.metadata.ino(), flags)
    };
    let name = |open: &Open<'_>| (open.subject.pid().0, open.number);
    let shares = sharing::classes(open.len(), |first, second| {
        let (Some(first), Some(second)) = (open.get(first), open.get(second)) else {
            return Err(Errno::EINVAL);
        };
        match look(first).cmp(&look(second)) {
            Ordering::Equal => sys::compare(sys::Kind::Description, name(first), name(second)),
            order => Ok(order),
        }
    });
    let shares = shares.map_err(|error| {
        let pid = open.first().map_or(Pid(0), |first| first.subject.pid());
        Error::question(pid, "comparing its descriptors (kcmp)", error)
    })?;
    let mut groups: Vec<Group<'a>> = Vec::new();
    for (open, share) in open.iter().zip(shares) {
        if share.is_first {
            groups.push(Group { id: share.id, first: open, members: vec![open] });
        } else {
            let group = usize::try_from(share.id).ok().and_then(|id| groups.get_mut(id.wrapping_sub(1)));
            group.into_iter().for_each(|group| group.members.push(open));
        }
    }
    Ok(groups)
}

fn is_path_only(open: &Open<'_>) -> bool {
    open.flags & libc::O_PATH.cast_unsigned() != 0
}

/// Adds the note that completes a description, and says which kind that is.
fn complete(
    group: &Group<'_>,
    duplicate: BorrowedFd<'_>,
    objects: &mut Objects,
    out: &mut Collected,
) -> Result<DescriptionKind, Error> {
    let Group { id, first: open, .. } = *group;
    let kind = match kind_of(open) {
        _ if is_path_only(open) => DescriptionKind::File,
        Looks::File if mqueue::is_queue(open, duplicate) => mqueue::collect(id, open, duplicate, out)?,
        Looks::File => DescriptionKind::File,
        Looks::Memfd => DescriptionKind::Memfd,
        Looks::Eventfd => eventfd::collect(id, open, out),
        Looks::Pidfd => pidfd::collect(id, open, out)?,
        Looks::Timerfd => DescriptionKind::Timerfd,
        Looks::Signalfd => DescriptionKind::Signalfd,
        Looks::Epoll => DescriptionKind::Epoll,
        Looks::Inotify => DescriptionKind::Inotify,
        Looks::Device if terminal::is_master(open.place.metadata.rdev()) => outside(open, lowest(group), out),
        Looks::Device if terminal::collect(id, open, &terminals(group), duplicate, out) => {
            DescriptionKind::Terminal
        }
        Looks::Device if is_simple_device(open.place.metadata.rdev()) => DescriptionKind::File,
        Looks::Device | Looks::Pipe | Looks::Socket | Looks::Other => outside(open, lowest(group), out),
    };
    match kind {
        DescriptionKind::File => file::collect(open.subject, id, &open.place, open.flags, out)?,
        DescriptionKind::Memfd => memfd::collect(open.subject, id, &open.place, objects, out)?,
        DescriptionKind::Timerfd => timerfd::collect(id, open, duplicate, out)?,
        DescriptionKind::Signalfd => signalfd::collect(id, open, out)?,
        _ => {}
    }
    Ok(kind)
}

/// The controlling terminals of the tasks that have a description.
fn terminals(group: &Group<'_>) -> Vec<u64> {
    group.members.iter().map(|member| member.subject.stat(7)).collect()
}

/// What becomes of a description that leads out of the tree, or is of a kind that cannot be saved.
fn outside(open: &Open<'_>, lowest: u32, out: &mut Collected) -> DescriptionKind {
    let looks = kind_of(open);
    if looks == Looks::Pipe && lowest < STANDARD_STREAMS {
        return DescriptionKind::Outside;
    }
    let label = String::from_utf8_lossy(&open.place.label);
    let allow = match (looks, label.strip_prefix("anon_inode:")) {
        (_, Some(kind)) => Allow::of_anonymous(kind),
        (Looks::Pipe, _) => Allow::OutsidePipe,
        (Looks::Socket, _) => Allow::Socket,
        (Looks::Device, _) => Allow::Device,
        _ => Allow::AnonInode,
    };
    open.not_saved(allow, &what(open), out)
}

/// Adds the note of a description.
fn describe(
    id: u32,
    kind: DescriptionKind,
    open: &Open<'_>,
    duplicate: BorrowedFd<'_>,
    out: &mut Collected,
) -> Result<(), Error> {
    let (owner_type, owner) = match sys::file_owner(duplicate) {
        // O_PATH
        Err(Errno::EBADF) => (0, 0),
        owner => {
            owner.map_err(|error| Error::question(open.subject.pid(), "asking who gets SIGIO", error))?
        }
    };
    out.note(Description {
        id,
        kind,
        flags: open.flags & !libc::O_CLOEXEC.cast_unsigned(),
        position: open.position,
        owner_type: owner_type.cast_unsigned(),
        owner: owner.cast_unsigned(),
        owner_signal: sys::file_owner_signal(duplicate).unwrap_or(0).cast_unsigned(),
        label: binfmt::wire::Text::from(open.place.label.as_slice()),
    });
    Ok(())
}

/// What a descriptor leads to, at first sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looks {
    File,
    Device,
    Pipe,
    Socket,
    Memfd,
    Eventfd,
    Timerfd,
    Signalfd,
    Pidfd,
    Epoll,
    Inotify,
    Other,
}

fn kind_of(open: &Open<'_>) -> Looks {
    use std::os::unix::fs::FileTypeExt;
    let kind = open.place.metadata.file_type();
    match open.place.label.as_slice() {
        b"anon_inode:[eventfd]" => Looks::Eventfd,
        b"anon_inode:[timerfd]" => Looks::Timerfd,
        b"anon_inode:[signalfd]" => Looks::Signalfd,
        b"anon_inode:[pidfd]" => Looks::Pidfd,
        b"anon_inode:[eventpoll]" => Looks::Epoll,
        b"anon_inode:inotify" => Looks::Inotify,
        label if label.starts_with(b"anon_inode:") => Looks::Other,
        label if label.starts_with(b"/memfd:") && open.place.metadata.nlink() == 0 => Looks::Memfd,
        _ if kind.is_fifo() => Looks::Pipe,
        _ if kind.is_socket() => Looks::Socket,
        _ if kind.is_char_device() || kind.is_block_device() => Looks::Device,
        label if label.starts_with(b"/") => Looks::File,
        _ => Looks::Other,
    }
}

/// `/dev/null`, `zero`, `full`, `random`, `urandom`: devices whose descriptions hold nothing.
fn is_simple_device(device: u64) -> bool {
    const MEMORY_MAJOR: u32 = 1;
    libc::major(device) == MEMORY_MAJOR && matches!(libc::minor(device), 3 | 5 | 7 | 8 | 9)
}

/// What a descriptor is, for a person.
fn what(open: &Open<'_>) -> String {
    let label = binfmt::wire::Text::from(open.place.label.as_slice()).to_string();
    match label.strip_prefix("anon_inode:") {
        Some(kind) => {
            let kind = kind.trim_matches(['[', ']']);
            let article = if kind.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
            format!("{article} {kind} instance")
        }
        None => match kind_of(open) {
            Looks::Device => format!("the device {label}"),
            Looks::Pipe => format!("a pipe to a process outside of the tree ({label})"),
            Looks::Socket => format!("a socket ({label})"),
            _ => label,
        },
    }
}
