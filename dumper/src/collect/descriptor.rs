//! The tables of descriptors, and the open file descriptions behind them, each once for the whole tree.
//!
//! Which descriptors share a description is told by kcmp(2); what a description is, by a duplicate of it
//! (pidfd_getfd), through which nothing is read, sought or changed. Some are in no table, but on their way through a unix
//! socket.

mod foreign;
pub mod open;

use super::mapping::Objects;
use super::pipe::{self, End};
use super::{
    Collected, Subject, epoll, eventfd, file, inotify, io_uring, lock, memfd, mqueue, pidfd, signalfd,
    socket, terminal, timerfd, tun, unix, userfaultfd,
};
use crate::allow::Allow;
use crate::error::Error;
use crate::sys;
use binfmt::note::Note;
use binfmt::note::descriptor::{Description, DescriptionKind, Descriptor, DescriptorTable};
use lock::Which;
use nix::errno::Errno;
pub use open::{Group, Open, Seen};
use open::{Looks, group, is_stateless, kind_of, what};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

/// Descriptors below this may lead anywhere: a resume gives the loader's own.
pub const STANDARD_STREAMS: u32 = 3;

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
        open.extend(subject.seen.descriptors.iter().map(|seen| Open { subject, way: None, seen }));
    }
    sys::raise_descriptor_limit();
    let unix::rights::Found { passed, mut duplicates, mut queues } = unix::rights::look(&open, &pidfds)?;
    open.extend(passed.iter().map(unix::rights::Passed::open));
    let mut pipes: BTreeMap<(u64, u64), Vec<End<'_>>> = BTreeMap::new();
    let (groups, mut sets) = (group(&open)?, Vec::new());
    unix::rights::tell_apart(&groups, &mut queues, &mut duplicates);
    let (mut instances, mut sockets) = (Vec::new(), Vec::new());
    let masters = terminal::pseudo::masters(&groups);
    let mut terminals: BTreeMap<u32, Vec<terminal::pseudo::End<'_>>> = BTreeMap::new();
    for group in &groups {
        let Group { id, first, .. } = *group;
        let pid = first.subject.pid();
        out.look_at(pid);
        let pidfd =
            pidfds.get(&pid).ok_or_else(|| Error::question(pid, "finding its pidfd", Errno::EBADF))?;
        let duplicate = first.duplicate(pidfd.as_fd())?;
        for member in group.members.iter().filter(|member| member.way.is_none()) {
            let table = tables.get_mut(&member.subject.shares.descriptors.id);
            table.into_iter().for_each(|table| table.descriptors.push(descriptor(member, id)));
        }
        locks(group, out);
        if kind_of(first) == Looks::Pipe && !first.is_path_only() {
            let metadata = &first.place.metadata;
            let ends = pipes.entry((metadata.dev(), metadata.ino())).or_default();
            ends.push(End { description: id, open: first, lowest: group.lowest(), duplicate });
        } else if let Some(index) = terminal_index(first, duplicate.as_fd(), &masters) {
            describe(id, DescriptionKind::PseudoTerminal, first, duplicate.as_fd(), out)?;
            let end = terminal::pseudo::End { description: id, open: first, duplicate };
            terminals.entry(index).or_default().push(end);
        } else if kind_of(first) == Looks::Socket && !first.is_path_only() {
            sockets.push(socket::Held::new(id, first, group.lowest(), duplicate)?);
        } else {
            let kind = complete(group, &groups, duplicate.as_fd(), objects, out)?;
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
    for (socket, kind) in sockets.iter().zip(socket::collect(&sockets, &queues, out)?) {
        describe(socket.description, kind, socket.open, socket.duplicate.as_fd(), out)?;
    }
    io_uring::refuse_mappings(subjects, &groups, out);
    refuse_on_their_way(&groups, out);
    for mut table in tables.into_values() {
        table.descriptors.sort_by_key(|descriptor| descriptor.number);
        out.note(table);
    }
    Ok(())
}

/// The number of the pseudo-terminal that a descriptor is an end of, if the tree has its master.
fn terminal_index(open: &Open<'_>, duplicate: BorrowedFd<'_>, masters: &BTreeSet<u32>) -> Option<u32> {
    let is_device = kind_of(open) == Looks::Device && !open.is_path_only();
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

/// The locks that were taken through a description: its own, and those of each table that has it.
fn locks(group: &Group<'_>, out: &mut Collected) {
    let mut seen = BTreeSet::new();
    for member in group.members.iter().filter(|member| member.way.is_none()) {
        if seen.insert(member.subject.shares.descriptors.id) {
            let which = if seen.len() == 1 { Which::All } else { Which::OfTable };
            lock::collect(member.subject, group.id, &member.info, which, out);
        }
    }
    if seen.is_empty() {
        // Of a table it can have none.
        lock::collect(group.first.subject, group.id, &group.first.info, Which::All, out);
    }
}

/// What is on its way arrives: it cannot be left closed. And pidfds come back only when the queues have been filled.
fn refuse_on_their_way(groups: &[Group<'_>], out: &mut Collected) {
    let kinds = out.notes.iter().filter_map(|note| match note {
        Note::Description(Description { id, kind, .. }) => Some((*id, *kind)),
        _ => None,
    });
    let kinds: BTreeMap<u32, DescriptionKind> = kinds.collect();
    for group in groups {
        let Some(open) = group.members.iter().find(|member| member.way.is_some()) else { continue };
        let what = match kinds.get(&group.id) {
            Some(DescriptionKind::Pidfd) => "a pidfd, which cannot be saved there yet".to_owned(),
            Some(DescriptionKind::ProcessFile) => {
                format!("{}, a process's, which cannot be saved there yet", what(open))
            }
            Some(DescriptionKind::Closed) if out.can_be_saved() => {
                format!("{}, which cannot be saved", what(open))
            }
            _ => continue,
        };
        out.look_at(open.subject.pid());
        out.passing(format!("{} is {what}", open.name()), "wait until it has been received");
    }
}

/// Adds the note that completes a description, and says which kind that is.
fn complete(
    group: &Group<'_>,
    all: &[Group<'_>],
    duplicate: BorrowedFd<'_>,
    objects: &mut Objects,
    out: &mut Collected,
) -> Result<DescriptionKind, Error> {
    let Group { id, first: open, .. } = *group;
    let kind = match kind_of(open) {
        _ if foreign::is_detached_mount(open) => open.not_saved_but(
            Allow::AnonInode,
            "a mount that is attached nowhere (open_tree, fsmount)",
            "have the program attach it first (move_mount)",
            out,
        ),
        _ if open.is_path_only() => DescriptionKind::File,
        Looks::File if mqueue::is_queue(open, duplicate) => mqueue::collect(id, open, duplicate, out)?,
        Looks::File if foreign::is_secret_memory(&open.place.label) => outside(open, group.lowest(), out),
        Looks::File => DescriptionKind::File,
        Looks::Memfd => DescriptionKind::Memfd,
        Looks::Eventfd => eventfd::collect(id, open, out),
        Looks::Pidfd => pidfd::collect(id, open, out)?,
        Looks::Timerfd => DescriptionKind::Timerfd,
        Looks::Signalfd => DescriptionKind::Signalfd,
        Looks::Epoll => DescriptionKind::Epoll,
        Looks::Inotify => DescriptionKind::Inotify,
        Looks::Userfaultfd => userfaultfd::collect(group, all, out),
        Looks::IoUring => io_uring::collect(id, open, duplicate, all, out),
        Looks::Device if terminal::is_master(open.place.metadata.rdev()) => {
            outside(open, group.lowest(), out)
        }
        Looks::Device if terminal::collect(id, open, &terminals(group), duplicate, out) => {
            DescriptionKind::Terminal
        }
        Looks::Device if tun::is_tun(open.place.metadata.rdev()) => tun::collect(id, open, duplicate, out)?,
        Looks::Device if is_stateless(&open.place.metadata) => DescriptionKind::File,
        Looks::Device | Looks::Pipe | Looks::Socket | Looks::Other => outside(open, group.lowest(), out),
    };
    match kind {
        DescriptionKind::File => return file::collect(id, open, out),
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
    match foreign::known(open) {
        Some((what, advice)) => open.not_saved_but(allow, what, advice, out),
        None => open.not_saved(allow, &what(open), out),
    }
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
