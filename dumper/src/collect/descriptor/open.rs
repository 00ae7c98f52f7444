//! A descriptor as the kernel shows it, in a table or on its way through a unix socket, and which of them have a description in
//! common.

use crate::allow::Allow;
use crate::collect::file::Place;
use crate::collect::io_uring;
use crate::collect::{Collected, Subject};
use crate::error::Error;
use crate::procdir::ProcDir;
use crate::{parse, sharing, sys};
use binfmt::address::Pid;
use binfmt::note::descriptor::DescriptionKind;
use binfmt::workers::each;
use nix::errno::Errno;
use std::cmp::Ordering;
use std::fs::Metadata;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// One descriptor.
#[derive(Debug)]
pub struct Open<'a> {
    /// The first task that has its table, or the socket through which it is on its way.
    pub subject: &'a Subject<'a>,
    /// The number of that socket, if it is on its way: then its own is that of a duplicate in this process.
    pub way: Option<u32>,
    /// What the kernel says of it.
    pub seen: &'a Seen,
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

    /// The process id and the number by which the kernel knows it.
    pub fn held(&self) -> (i32, u32) {
        let holder = if self.way.is_some() { std::process::id().cast_signed() } else { self.subject.pid().0 };
        (holder, self.number)
    }

    /// Which descriptor it is, for a person.
    pub fn name(&self) -> String {
        match self.way {
            Some(socket) => format!("a descriptor on its way through fd {socket}"),
            None => format!("fd {}", self.number),
        }
    }

    /// A duplicate of it, given the pidfd of its process.
    pub fn duplicate(&self, pidfd: BorrowedFd<'_>) -> Result<OwnedFd, Error> {
        let made = match self.way {
            Some(_) => sys::duplicate_own(self.number),
            None => sys::pidfd_getfd(pidfd, self.number),
        };
        made.map_err(|error| {
            Error::question(self.subject.pid(), format!("duplicating {}", self.name()), error)
        })
    }

    /// Whether it only names a file (O_PATH).
    pub fn is_path_only(&self) -> bool {
        self.flags & libc::O_PATH.cast_unsigned() != 0
    }

    /// What becomes of it if `what` it is cannot be saved: that is named, unless `allow` was given.
    pub fn not_saved(&self, allow: Allow, what: &str, out: &mut Collected) -> DescriptionKind {
        self.not_saved_but(allow, what, "", out)
    }

    /// The same, with what else can be done.
    pub fn not_saved_but(
        &self,
        allow: Allow,
        what: &str,
        advice: &str,
        out: &mut Collected,
    ) -> DescriptionKind {
        let advice = if advice.is_empty() { String::new() } else { format!("{advice}; ") };
        let named = format!("{} is {what}", self.name());
        if self.way.is_some() {
            out.passing(named, "wait until it has been received");
        } else if !self.subject.options.allow.contains(&allow) {
            out.unsupported(named, format!("{advice}`--allow {}` restores it closed", allow.word()));
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
    pub members: Vec<&'a Open<'a>>,
}

impl Group<'_> {
    /// The lowest number that any task has for it; beyond all others if none has.
    pub fn lowest(&self) -> u32 {
        let in_tables = self.members.iter().filter(|member| member.way.is_none());
        in_tables.map(|member| member.number).min().unwrap_or(u32::MAX)
    }
}

/// Looks at all descriptors of a process.
pub fn look(proc: ProcDir) -> Result<Vec<Seen>, Error> {
    each(&proc.numbers("fd")?, |number| read(proc, *number)).into_iter().collect()
}

/// Looks at one.
pub fn read(proc: ProcDir, number: u32) -> Result<Seen, Error> {
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
pub fn group<'a>(open: &'a [Open<'a>]) -> Result<Vec<Group<'a>>, Error> {
    // Not the position: somebody outside of the tree may move it while we look.
    let look = |open: &Open<'_>| {
        let flags = open.flags & !libc::O_CLOEXEC.cast_unsigned();
        (open.place.metadata.dev(), open.place.metadata.ino(), flags)
    };
    let shares = sharing::classes(open.len(), |first, second| {
        let (Some(first), Some(second)) = (open.get(first), open.get(second)) else {
            return Err(Errno::EINVAL);
        };
        match look(first).cmp(&look(second)) {
            Ordering::Equal => sys::compare(sys::Kind::Description, first.held(), second.held()),
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

/// What a descriptor leads to, at first sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looks {
    /// A file with a name, or that had one.
    File,
    /// A device.
    Device,
    /// A pipe or a FIFO.
    Pipe,
    /// A socket.
    Socket,
    /// A memfd.
    Memfd,
    /// An eventfd.
    Eventfd,
    /// A timerfd.
    Timerfd,
    /// A signalfd.
    Signalfd,
    /// A pidfd.
    Pidfd,
    /// An epoll set.
    Epoll,
    /// An inotify instance.
    Inotify,
    /// An io_uring instance.
    IoUring,
    /// A userfaultfd.
    Userfaultfd,
    /// Anything else.
    Other,
}

/// What a descriptor looks like.
pub fn kind_of(open: &Open<'_>) -> Looks {
    let kind = open.place.metadata.file_type();
    match open.place.label.as_slice() {
        b"anon_inode:[eventfd]" => Looks::Eventfd,
        b"anon_inode:[timerfd]" => Looks::Timerfd,
        b"anon_inode:[signalfd]" => Looks::Signalfd,
        b"anon_inode:[pidfd]" => Looks::Pidfd,
        b"anon_inode:[eventpoll]" => Looks::Epoll,
        b"anon_inode:inotify" => Looks::Inotify,
        io_uring::LABEL => Looks::IoUring,
        b"anon_inode:[userfaultfd]" => Looks::Userfaultfd,
        label if label.starts_with(b"anon_inode:") => Looks::Other,
        label if label.starts_with(b"/memfd:") && open.place.metadata.nlink() == 0 => Looks::Memfd,
        _ if kind.is_fifo() => Looks::Pipe,
        _ if kind.is_socket() => Looks::Socket,
        _ if kind.is_char_device() || kind.is_block_device() => Looks::Device,
        label if label.starts_with(b"/") => Looks::File,
        _ => Looks::Other,
    }
}

/// Whether descriptions of a device hold nothing but an offset: block devices, and `/dev/null`, `zero`, `full`, `random`,
/// `urandom`.
pub fn is_stateless(device: &Metadata) -> bool {
    const MEMORY_MAJOR: u32 = 1;
    let number = device.rdev();
    let is_simple = libc::major(number) == MEMORY_MAJOR && matches!(libc::minor(number), 3 | 5 | 7 | 8 | 9);
    device.file_type().is_block_device() || is_simple
}

/// What a descriptor is, for a person.
pub fn what(open: &Open<'_>) -> String {
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
