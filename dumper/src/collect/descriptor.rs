//! The table of descriptors, and the open file descriptions behind it.
//!
//! Which descriptors share a description is told by kcmp(2); what a description is, by a duplicate of it
//! (pidfd_getfd), through which nothing is read, sought or changed.

use super::{Collected, Subject, file, terminal};
use crate::error::Error;
use crate::{parse, sys};
use binfmt::note::descriptor::{Description, DescriptionKind, Descriptor, DescriptorTable};
use file::Place;
use nix::errno::Errno;
use std::cmp::Ordering;
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
    for (index, members) in groups.iter().enumerate() {
        let id = u32::try_from(index + 1).unwrap_or(u32::MAX);
        let Some(first) = members.first() else { continue };
        let duplicate = sys::pidfd_getfd(pidfd.as_fd(), first.number).map_err(|error| {
            Error::question(pid, format!("duplicating its descriptor {}", first.number), error)
        })?;
        describe(subject, id, first, duplicate.as_fd(), out)?;
        table.descriptors.extend(members.iter().map(|member| Descriptor {
            number: member.number,
            close_on_exec: member.flags & libc::O_CLOEXEC.cast_unsigned() != 0,
            description: id,
        }));
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

/// Adds the note of a description and the one that completes it.
fn describe(
    subject: &Subject<'_>,
    id: u32,
    open: &Open,
    duplicate: BorrowedFd<'_>,
    out: &mut Collected,
) -> Result<(), Error> {
    let path_only = open.flags & libc::O_PATH.cast_unsigned() != 0;
    let kind = match kind_of(open) {
        _ if path_only => Some(DescriptionKind::File),
        Looks::File => Some(DescriptionKind::File),
        Looks::Device if terminal::collect(subject, id, &open.place, duplicate, out) => {
            Some(DescriptionKind::Terminal)
        }
        Looks::Device if is_simple_device(open.place.metadata.rdev()) => Some(DescriptionKind::File),
        Looks::Device => None,
        Looks::Pipe | Looks::Socket if open.number < STANDARD_STREAMS => Some(DescriptionKind::Outside),
        _ => None,
    };
    let label = binfmt::wire::Text::from(open.place.label.as_slice());
    let kind = kind.unwrap_or_else(|| {
        let what = format!("descriptor {} is {}", open.number, what(open));
        out.unsupported(what, "close it");
        DescriptionKind::Closed
    });
    if kind == DescriptionKind::File {
        file::collect(subject, id, &open.place, open.flags, out)?;
    }
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
        label,
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
        Some(kind) => format!("an instance of {}", kind.trim_matches(['[', ']'])),
        None => match kind_of(open) {
            Looks::Device => format!("the device {label}"),
            Looks::Pipe => format!("a pipe to another process ({label})"),
            Looks::Socket => format!("a socket ({label})"),
            _ => label,
        },
    }
}
