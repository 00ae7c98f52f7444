//! Sockets: what those of all domains have in common. Each domain makes its own, on the shelf, and sets their options by what
//! is here: some before a socket gets a name or a peer, the rest when all that stands.

use crate::error::{Error, Refusal, Result};
use crate::rebuild::descriptor::{Opened, OwnStdio, first_holders};
use crate::rebuild::{inet, netlink, packet, set_status, unix};
use crate::stage::Identity;
use crate::sys;
use binfmt::image::Image;
use binfmt::note::descriptor::Description;
use binfmt::note::socket::{KnownOption, Moment, Setter, Socket, SocketOption};
use binfmt::note::task::Task;
use binfmt::note::unix::UnixSocket;
use nix::errno::Errno;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Makes all sockets of the image, for a tree that gets these ids.
pub fn rebuild_all(image: &Image, identity: Identity, own: &OwnStdio, opened: &mut Opened) -> Result<()> {
    // Each domain makes its own. Those of others may be on their way through those of AF_UNIX.
    inet::rebuild_all(image, opened)?;
    netlink::rebuild_all(image, opened)?;
    packet::rebuild_all(image, opened)?;
    unix::rebuild_all(image, identity, own, opened)?;
    if image.all::<Socket>().any(|socket| !opened.contains_key(&socket.description)) {
        return Err(Error::Internal("a socket is of a domain that nobody makes"));
    }
    Ok(())
}

/// What stands against making those sockets on this host of which there is one of a name only.
pub fn refusals(image: &Image) -> Vec<Refusal> {
    let mut refusals = inet::refusals(image);
    refusals.extend(netlink::refusals(image));
    refusals.extend(packet::refusals(image));
    refusals
}

/// A socket, as `what` tells it, with who had it.
pub fn owned(image: &Image, description: u32, what: &str) -> String {
    let holders = first_holders(image);
    let Some((table, number)) = holders.get(&description) else { return what.to_owned() };
    let task = image.all::<Task>().find(|task| task.descriptor_table == *table);
    let whose = task.map_or_else(String::new, |task| format!(" of process {} ({})", task.pid, task.name));
    format!("descriptor {number}{whose} is {what}")
}

/// Which other process has one of the sockets with these inodes: name and process id.
pub fn holder(inodes: &[u64]) -> Option<String> {
    let links: Vec<String> = inodes.iter().map(|inode| format!("socket:[{inode}]")).collect();
    fs::read_dir("/proc").ok()?.filter_map(std::result::Result::ok).find_map(|entry| {
        let pid: u32 = entry.file_name().to_string_lossy().parse().ok()?;
        let mut open = fs::read_dir(entry.path().join("fd")).ok()?.filter_map(std::result::Result::ok);
        let is_it = |link: &fs::DirEntry| {
            let target = fs::read_link(link.path()).unwrap_or_default();
            links.iter().any(|link| target.as_os_str() == link.as_str())
        };
        // Our own are those that were bound before this one.
        (pid != std::process::id() && open.any(|link| is_it(&link))).then(|| {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            format!("{} (pid {pid})", name.trim())
        })
    })
}

/// Makes a socket that has no name and no peer yet, with the options that it has from the start.
pub fn make(note: &Socket) -> Result<OwnedFd> {
    let (domain, kind) = (note.domain.cast_signed(), note.kind.cast_signed());
    let made = sys::make_socket(domain, kind, note.protocol.cast_signed());
    let made = made.map_err(|error| not_made(note, error))?;
    set_options(made.as_fd(), note, Moment::First)?;
    Ok(made)
}

fn not_made(note: &Socket, error: Errno) -> Error {
    let what = format!("a socket of domain {}, type {}, protocol {}", note.domain, note.kind, note.protocol);
    let (cause, remedy) = match error {
        Errno::EPERM => ("needs CAP_NET_RAW", "resume it as root"),
        Errno::EACCES => (
            "is not for this group",
            "add the group to net.ipv4.ping_group_range, or resume as who may make such sockets",
        ),
        Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT => {
            ("is not known to this kernel", "load the module, or resume on the kernel it was dumped on")
        }
        error => return Error::step(format!("make the socket {}", note.inode), error),
    };
    let reason = format!("{what}, {cause}");
    Error::Refused(vec![Refusal { reason, remedy: remedy.to_owned() }])
}

/// What `--plan` says of a socket; `None` for what is none.
pub fn step(image: &Image, description: &Description) -> Option<String> {
    let unix = || image.about::<UnixSocket>(description.id).next();
    let unix = || Some(format!("socket({}{})", description.label, unix::what(unix()?)));
    let steps = [inet::step, netlink::step, packet::step];
    steps.into_iter().find_map(|step| step(image, description.id)).or_else(unix)
}

/// What a socket of any domain has.
pub fn of(image: &Image, description: u32) -> Result<&Socket> {
    image.about::<Socket>(description).next().ok_or(Error::Internal("a socket's note is missing"))
}

/// What is set when all that sockets are connected with stands.
pub fn finish(image: &Image, note: &Socket, fd: &OwnedFd) -> Result<()> {
    set_options(fd.as_fd(), note, Moment::Last)?;
    let Some(description) = image.about::<Description>(note.description).next() else { return Ok(()) };
    set_status(fd, description)
        .map_err(|error| Error::step(format!("set the flags of the socket {}", note.inode), error))
}

/// Sets those options of a socket that are set at this moment.
pub fn set_options(fd: BorrowedFd<'_>, note: &Socket, moment: Moment) -> Result<()> {
    for option in &note.options {
        let Some(known) = option.known(note.domain) else {
            return Err(Error::Internal("a socket has an option that nobody knows"));
        };
        if known.moment == moment {
            set(fd, known, option).map_err(|error| not_set(note, known, option, error))?;
        }
    }
    Ok(())
}

fn set(fd: BorrowedFd<'_>, known: &KnownOption, option: &SocketOption) -> std::result::Result<(), Errno> {
    let value = option.value.0.as_slice();
    match known.setter {
        Setter::Same => sys::set_socket_option(fd, known.level, known.name, value),
        Setter::Half(force) => set_size(fd, known, force, number(option)),
        Setter::Filter => sys::attach_filter(fd, value),
    }
}

fn number(option: &SocketOption) -> i32 {
    option.value.0.first_chunk().map_or(0, |word| i32::from_ne_bytes(*word))
}

/// Sets the size of a buffer, in bytes as the kernel tells it: twice what it is set to.
fn set_size(
    fd: BorrowedFd<'_>,
    known: &KnownOption,
    force: i32,
    size_bytes: i32,
) -> std::result::Result<(), Errno> {
    let half = (size_bytes / 2).to_ne_bytes();
    sys::set_socket_option(fd, known.level, known.name, &half)?;
    if sys::socket_number(fd, known.level, known.name)? < size_bytes {
        sys::set_socket_option(fd, known.level, force, &half)?;
    }
    Ok(())
}

fn not_set(note: &Socket, known: &KnownOption, option: &SocketOption, error: Errno) -> Error {
    let remedy = match (error, known.setter) {
        (Errno::EPERM, Setter::Half(_)) => {
            let limit = if known.name == libc::SO_SNDBUF { "wmem_max" } else { "rmem_max" };
            format!("set net.core.{limit} to {} at least, or resume with CAP_NET_ADMIN", number(option) / 2)
        }
        (Errno::EPERM, _) => "resume with CAP_NET_ADMIN".to_owned(),
        (Errno::ENODEV, _) => "make the network device first".to_owned(),
        _ => return Error::step(format!("set {} of the socket {}", known.label, note.inode), error),
    };
    let reason = format!("{} of the socket {} cannot be set: {error}", known.label, note.inode);
    Error::Refused(vec![Refusal { reason, remedy }])
}

/// A buffer of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// For what it sends.
    Send,
    /// For what it has received.
    Receive,
}

/// A buffer that is made larger for a while.
pub struct Room<'a> {
    /// Whose it is.
    pub socket: BorrowedFd<'a>,
    name: i32,
    /// Its size in bytes and what of the sizes is locked, as they were.
    before: Option<(i32, i32)>,
}

impl<'a> Room<'a> {
    /// Makes room for so many bytes in so many messages, each of which takes some more.
    pub fn make(
        socket: BorrowedFd<'a>,
        buffer: Buffer,
        bytes: usize,
        messages: usize,
    ) -> nix::Result<Room<'a>> {
        const EACH_BYTES: usize = 8 << 10;
        let (name, force) = match buffer {
            Buffer::Send => (libc::SO_SNDBUF, libc::SO_SNDBUFFORCE),
            Buffer::Receive => (libc::SO_RCVBUF, libc::SO_RCVBUFFORCE),
        };
        // The kernel counts what it needs itself, too.
        let needed = bytes.saturating_mul(4).saturating_add((messages + 16).saturating_mul(EACH_BYTES));
        let needed = i32::try_from(needed).unwrap_or(i32::MAX);
        let size = sys::socket_number(socket, libc::SOL_SOCKET, name)?;
        if size >= needed {
            return Ok(Room { socket, name, before: None });
        }
        let lock = sys::socket_number(socket, libc::SOL_SOCKET, libc::SO_BUF_LOCK).unwrap_or(0);
        let half = (needed / 2).to_ne_bytes();
        if sys::set_socket_option(socket, libc::SOL_SOCKET, force, &half).is_err() {
            // Up to net.core.wmem_max or rmem_max: what has once been there may still fit.
            sys::set_socket_option(socket, libc::SOL_SOCKET, name, &half)?;
        }
        Ok(Room { socket, name, before: Some((size, lock)) })
    }

    /// Makes the buffer for what is received as small as can be.
    pub fn least(socket: BorrowedFd<'a>) -> nix::Result<Room<'a>> {
        let name = libc::SO_RCVBUF;
        let size = sys::socket_number(socket, libc::SOL_SOCKET, name)?;
        let lock = sys::socket_number(socket, libc::SOL_SOCKET, libc::SO_BUF_LOCK).unwrap_or(0);
        sys::set_socket_option(socket, libc::SOL_SOCKET, name, &0i32.to_ne_bytes())?;
        Ok(Room { socket, name, before: Some((size, lock)) })
    }

    /// Gives the buffer the size that it had.
    pub fn give_back(self) -> nix::Result<()> {
        let Some((size, lock)) = self.before else { return Ok(()) };
        sys::set_socket_option(self.socket, libc::SOL_SOCKET, self.name, &(size / 2).to_ne_bytes())?;
        // Linux before 5.14 does not know it.
        let _ = sys::set_socket_option(self.socket, libc::SOL_SOCKET, libc::SO_BUF_LOCK, &lock.to_ne_bytes());
        Ok(())
    }
}
