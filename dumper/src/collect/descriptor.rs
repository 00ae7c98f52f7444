//! The table of descriptors, and the open file descriptions behind it.
//!
//! Which descriptors share a description is told by kcmp(2); what a description is, by a duplicate of it
//! (pidfd_getfd), through which nothing is read, sought or changed.

use super::pipe::{self, End};
use super::{Collected, Subject, file, lock, memfd, terminal};
use crate::allow::Allow;
use crate::error::Error;
use crate::{parse, sys};
use binfmt::note::descriptor::{Description, DescriptionKind, Descriptor, DescriptorTable};
use file::Place;
use nix::errno::Errno;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;

/// The id of the only table.
pub const TABLE: u32 = 1;
/// Descriptors below this may lead anywhere: a resume gives the loader's own.
const STANDARD_STREAMS: u32 = 3;

/// One descriptor.
#[derive(Debug)]
pub struct Open {
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

/// Collects the table and the descriptions.
pub fn collect(subject: &Subject<'_>, out: &mut Collected) -> Result<(), Error> {
    let pid = subject.pid();
    let pidfd = sys::pidfd_open(pid.0).map_err(|error| Error::question(pid, "opening its pidfd", error))?;
    let mut open = Vec::new();
    for number in subject.proc.numbers("fd")? {
        open.push(read(subject, number)?);
    }
    let groups = group(subject, &open)?;
    let mut table = DescriptorTable { id: TABLE, descriptors: Vec::new() };
    let mut pipes: BTreeMap<(u64, u64), Vec<End<'_>>> = BTreeMap::new();
    for (index, members) in groups.iter().enumerate() {
        let id = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let Some(first) = members.first().copied() else { continue };
        let duplicate = sys::pidfd_getfd(pidfd.as_fd(), first.number).map_err(|error| {
            Error::question(pid, format!("duplicating its descriptor {}", first.number), error)
        })?;
        table.descriptors.extend(members.iter().map(|member| Descriptor {
            number: member.number,
            close_on_exec: member.flags & libc::O_CLOEXEC.cast_unsigned() != 0,
            description: id,
        }));
        lock::collect(subject, id, &first.info, out);
        if kind_of(first) == Looks::Pipe && !is_path_only(first) {
            let metadata = &first.place.metadata;
            let ends = pipes.entry((metadata.dev(), metadata.ino())).or_default();
            ends.push(End { description: id, open: first, duplicate });
        } else {
            let kind = complete(subject, id, first, duplicate.as_fd(), out)?;
            describe(subject, id, kind, first, duplicate.as_fd(), out)?;
        }
    }
    for ends in pipes.into_values() {
        let leads_out = pipe::leads_out(&ends);
        for end in &ends {
            let kind = if leads_out { outside(subject, end.open, out) } else { DescriptionKind::Pipe };
            describe(subject, end.description, kind, end.open, end.duplicate.as_fd(), out)?;
        }
        if !leads_out {
            pipe::collect(subject, &ends, out)?;
        }
    }
    table.descriptors.sort_by_key(|descriptor| descriptor.number);
    out.note(table);
    Ok(())
}

fn read(subject: &Subject<'_>, number: u32) -> Result<Open, Error> {
    let info = subject.proc.text(&format!("fdinfo/{number}"))?;
    let place = Place::magic_link(subject.proc.path(&format!("fd/{number}")))
        .map_err(|error| Error::question(subject.pid(), format!("reading its descriptor {number}"), error))?;
    let flags = parse::value(&info, "flags").and_then(|flags| u32::from_str_radix(flags, 8).ok());
    let (Some(flags), Some(position)) = (flags, parse::decimal(&info, "pos")) else {
        return Err(Error::question(
            subject.pid(),
            format!("reading its descriptor {number}"),
            "the kernel's answer makes no sense",
        ));
    };
    Ok(Open { number, flags, position, info, place })
}

/// Descriptors of the same description together, each group and the groups by lowest number. Only those that look
/// alike are compared, and the kernel's order makes that n log n.
fn group<'a>(subject: &Subject<'_>, open: &'a [Open]) -> Result<Vec<Vec<&'a Open>>, Error> {
    let look = |open: &Open| {
        let flags = open.flags & !libc::O_CLOEXEC.cast_unsigned();
        (open.place.metadata.dev(), open.place.metadata.ino(), flags, open.position)
    };
    let pid = subject.pid();
    let mut failed = None;
    let mut same = |first: &Open, second: &Open| {
        let order = sys::compare_descriptions(pid.0, first.number, second.number);
        order.unwrap_or_else(|error| {
            failed = Some(error);
            Ordering::Equal
        })
    };
    let mut sorted: Vec<&Open> = open.iter().collect();
    sorted.sort_by(|first, second| {
        let order = look(first).cmp(&look(second));
        order.then_with(|| same(first, second)).then_with(|| first.number.cmp(&second.number))
    });
    let mut groups: Vec<Vec<&Open>> = Vec::new();
    for descriptor in sorted {
        match groups.last_mut() {
            Some(members)
                if members.first().is_some_and(|first| {
                    look(first) == look(descriptor) && same(first, descriptor) == Ordering::Equal
                }) =>
            {
                members.push(descriptor);
            }
            _ => groups.push(vec![descriptor]),
        }
    }
    groups.sort_by_key(|members| members.first().map(|first| first.number));
    match failed {
        Some(error) => Err(Error::question(pid, "comparing its descriptors (kcmp)", error)),
        None => Ok(groups),
    }
}

fn is_path_only(open: &Open) -> bool {
    open.flags & libc::O_PATH.cast_unsigned() != 0
}

/// Adds the note that completes a description, and says which kind that is.
fn complete(
    subject: &Subject<'_>,
    id: u32,
    open: &Open,
    duplicate: BorrowedFd<'_>,
    out: &mut Collected,
) -> Result<DescriptionKind, Error> {
    let kind = match kind_of(open) {
        _ if is_path_only(open) => DescriptionKind::File,
        Looks::File => DescriptionKind::File,
        Looks::Memfd => DescriptionKind::Memfd,
        Looks::Device if terminal::collect(subject, id, &open.place, duplicate, out) => {
            DescriptionKind::Terminal
        }
        Looks::Device if is_simple_device(open.place.metadata.rdev()) => DescriptionKind::File,
        Looks::Device | Looks::Pipe | Looks::Socket | Looks::Other => outside(subject, open, out),
    };
    match kind {
        DescriptionKind::File => file::collect(subject, id, &open.place, open.flags, out)?,
        DescriptionKind::Memfd => memfd::collect(subject, id, &open.place, out)?,
        _ => {}
    }
    Ok(kind)
}

/// What becomes of a description that leads out of the process, or is of a kind that cannot be saved.
fn outside(subject: &Subject<'_>, open: &Open, out: &mut Collected) -> DescriptionKind {
    let looks = kind_of(open);
    if matches!(looks, Looks::Pipe | Looks::Socket) && open.number < STANDARD_STREAMS {
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
    if !subject.options.allow.contains(&allow) {
        let what = format!("fd {} is {}", open.number, what(open));
        out.unsupported(what, format!("`--allow {}` restores it closed", allow.word()));
    }
    DescriptionKind::Closed
}

/// Adds the note of a description.
fn describe(
    subject: &Subject<'_>,
    id: u32,
    kind: DescriptionKind,
    open: &Open,
    duplicate: BorrowedFd<'_>,
    out: &mut Collected,
) -> Result<(), Error> {
    let (owner_type, owner) = match sys::file_owner(duplicate) {
        // O_PATH
        Err(Errno::EBADF) => (0, 0),
        owner => owner.map_err(|error| Error::question(subject.pid(), "asking who gets SIGIO", error))?,
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
    Other,
}

fn kind_of(open: &Open) -> Looks {
    use std::os::unix::fs::FileTypeExt;
    let kind = open.place.metadata.file_type();
    match open.place.label.as_slice() {
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
fn what(open: &Open) -> String {
    let label = binfmt::wire::Text::from(open.place.label.as_slice()).to_string();
    match label.strip_prefix("anon_inode:") {
        Some(kind) => {
            let kind = match kind.trim_matches(['[', ']']) {
                "eventpoll" => "epoll",
                kind => kind,
            };
            let article = if kind.starts_with(['a', 'e', 'i', 'o']) { "an" } else { "a" };
            format!("{article} {kind} instance")
        }
        None => match kind_of(open) {
            Looks::Device => format!("the device {label}"),
            Looks::Pipe => format!("a pipe to another process ({label})"),
            Looks::Socket => format!("a socket ({label})"),
            _ => label,
        },
    }
}
