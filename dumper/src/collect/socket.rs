//! Sockets: what those of all domains have in common, and which domain's file reads the rest.
//!
//! Everything is asked through a duplicate, which shares the description: what is changed there is changed for the program.

use super::descriptor::{Open, STANDARD_STREAMS};
use super::{Collected, inet, netlink, unix};
use crate::allow::Allow;
use crate::error::Error;
use crate::sys;
use binfmt::note::descriptor::DescriptionKind;
use binfmt::note::socket::{KnownOption, Setter, Socket, SocketOption, options_of};
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// A socket in the tree.
#[derive(Debug)]
pub struct Held<'a> {
    /// Its description's id.
    pub description: u32,
    /// One of its descriptors.
    pub open: &'a Open<'a>,
    /// The lowest number that any task has for it.
    pub lowest: u32,
    /// A duplicate of it.
    pub duplicate: OwnedFd,
    /// Which kind it is.
    pub family: Family,
}

/// Which kind of socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Family {
    /// AF_UNIX, ...
    pub domain: i32,
    /// SOCK_STREAM, ...
    pub kind: i32,
    /// IPPROTO_*
    pub protocol: i32,
}

/// What becomes of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The note of its domain is there.
    Saved,
    /// It leads out of the tree, or cannot be saved: as descriptor 0, 1 or 2 it may, else it is named; what it is.
    Outside(String),
    /// It is named and refused, or comes back closed; what it is: "a socket that ...".
    NotSaved(String),
    /// The same as `NotSaved`, and it may be otherwise in a moment; what to do about it.
    NotYet(String, String),
    /// The same as `Outside`, with advice of its own.
    Advised(String, String),
}

impl<'a> Held<'a> {
    /// Asks which kind of socket a description is.
    pub fn new(
        description: u32,
        open: &'a Open<'a>,
        lowest: u32,
        duplicate: OwnedFd,
    ) -> Result<Held<'a>, Error> {
        let number = |name| {
            number(duplicate.as_fd(), name).map_err(|error| failed(open, "asking which kind it is", error))
        };
        let family = Family {
            domain: number(libc::SO_DOMAIN)?,
            kind: number(libc::SO_TYPE)?,
            protocol: number(libc::SO_PROTOCOL)?,
        };
        Ok(Held { description, open, lowest, duplicate, family })
    }

    /// Its inode number: which socket it is. A socket has one description.
    pub fn inode(&self) -> u64 {
        self.open.place.metadata.ino()
    }

    /// A number that getsockopt(2) says on the level SOL_SOCKET.
    pub fn number(&self, name: i32) -> Result<i32, Errno> {
        number(self.duplicate.as_fd(), name)
    }

    /// The error for a question that was not answered: "asking ...".
    pub fn failed(&self, what: &str, error: Errno) -> Error {
        failed(self.open, what, error)
    }
}

/// A number that getsockopt(2) says on the level SOL_SOCKET.
pub fn number(fd: BorrowedFd<'_>, name: i32) -> Result<i32, Errno> {
    let value = sys::socket_option(fd, libc::SOL_SOCKET, name, size_of::<i32>())?;
    value.first_chunk().map(|word| i32::from_ne_bytes(*word)).ok_or(Errno::EINVAL)
}

fn failed(open: &Open<'_>, what: &str, error: Errno) -> Error {
    Error::question(
        open.subject.pid(),
        format!("{what} of the socket behind descriptor {}", open.number),
        error,
    )
}

/// Collects all sockets of the tree, and says which kind of description each is.
/// `queues` is what waits in those of AF_UNIX.
pub fn collect(
    sockets: &[Held<'_>],
    queues: &unix::rights::Queues,
    out: &mut Collected,
) -> Result<Vec<DescriptionKind>, Error> {
    let mut fresh = Fresh::new();
    let mut fates: BTreeMap<u32, Fate> = BTreeMap::new();
    let (ours, strange): (Vec<_>, Vec<_>) =
        sockets.iter().partition(|socket| fresh.is_at_home(socket.duplicate.as_fd()));
    for socket in strange {
        let what = "a socket of another network namespace".to_owned();
        fates.insert(socket.description, Fate::NotSaved(what));
    }
    let of = |domains: &[i32]| -> Vec<&Held<'_>> {
        ours.iter().copied().filter(|socket| domains.contains(&socket.family.domain)).collect()
    };
    // Each domain says what becomes of its own, by description; those of a domain that has no row here are named.
    fates.extend(inet::collect(&of(&[libc::AF_INET, libc::AF_INET6]), out)?);
    fates.extend(netlink::collect(&of(&[libc::AF_NETLINK]), out)?);
    fates.extend(unix::collect(&of(&[libc::AF_UNIX]), queues, out)?);
    let mut kinds = Vec::with_capacity(sockets.len());
    for socket in sockets {
        out.look_at(socket.open.subject.pid());
        let fate = fates.remove(&socket.description);
        let fate = fate.unwrap_or_else(|| Fate::Outside(what(socket)));
        kinds.push(match fate {
            Fate::Saved => {
                let note = note(socket, &mut fresh, out)?;
                out.note(note);
                DescriptionKind::Socket
            }
            // At the place of a standard stream another one will do, and a person may do without it.
            Fate::Outside(_) | Fate::Advised(..) if socket.lowest < STANDARD_STREAMS => {
                DescriptionKind::Outside
            }
            Fate::Outside(what) | Fate::NotSaved(what) => socket.open.not_saved(Allow::Socket, &what, out),
            Fate::NotYet(what, advice) => {
                if !socket.open.subject.options.allow.contains(&Allow::Socket) {
                    out.passing(format!("{} is {what}", socket.open.name()), advice);
                }
                DescriptionKind::Closed
            }
            Fate::Advised(what, advice) => {
                if !socket.open.subject.options.allow.contains(&Allow::Socket) {
                    out.unsupported(format!("{} is {what}", socket.open.name()), advice);
                }
                DescriptionKind::Closed
            }
        });
    }
    Ok(kinds)
}

/// What a socket is whose domain has no row.
fn what(socket: &Held<'_>) -> String {
    let name = match socket.family.domain {
        libc::AF_VSOCK => "vsock",
        libc::AF_ALG => "the kernel's ciphers (AF_ALG)",
        libc::AF_XDP => "XDP",
        libc::AF_CAN => "CAN",
        libc::AF_BLUETOOTH => "Bluetooth",
        libc::AF_TIPC => "TIPC",
        libc::AF_KEY => "IPsec's keys (AF_KEY)",
        domain => {
            let label = binfmt::wire::Text::from(socket.open.place.label.as_slice());
            return format!("a socket of domain {domain} ({label})");
        }
    };
    format!("a socket of {name}")
}

fn note(socket: &Held<'_>, fresh: &mut Fresh, out: &mut Collected) -> Result<Socket, Error> {
    let Family { domain, kind, protocol } = socket.family;
    let mut options = Vec::new();
    let left_out = inet::left_out(socket)?;
    for (known, usual) in options_of(domain.cast_unsigned()).zip(fresh.options(socket.family)) {
        if left_out.contains(&(known.level, known.name)) {
            continue;
        }
        let value = match read(socket.duplicate.as_fd(), known) {
            Ok(value) => value,
            Err(Errno::EACCES) if known.setter == Setter::Filter => {
                let what = format!("{} is a socket with an eBPF program attached", socket.open.name());
                out.unsupported(what, "detach it (SO_DETACH_FILTER): nobody can read which program it is");
                continue;
            }
            // Sockets of its kind have no such option.
            Err(Errno::ENOPROTOOPT | Errno::EOPNOTSUPP | Errno::EINVAL | Errno::EPERM) => continue,
            Err(error) => return Err(socket.failed(&format!("asking for {}", known.label), error)),
        };
        if Some(&value) != usual.as_ref() {
            let (level, name) = (known.level.cast_unsigned(), known.name.cast_unsigned());
            options.push(SocketOption { level, name, value: value.into() });
        }
    }
    Ok(Socket {
        description: socket.description,
        inode: socket.inode(),
        domain: domain.cast_unsigned(),
        kind: kind.cast_unsigned(),
        protocol: protocol.cast_unsigned(),
        options,
    })
}

/// What a socket has for an option.
fn read(fd: BorrowedFd<'_>, known: &KnownOption) -> Result<Vec<u8>, Errno> {
    /// The longest are the name of a device and a timeout.
    const ROOM: usize = 64;
    match known.setter {
        Setter::Same | Setter::Half(_) => sys::socket_option(fd, known.level, known.name, ROOM),
        Setter::Filter => sys::socket_filter(fd),
    }
}

/// What sockets have that were just made.
#[derive(Debug)]
struct Fresh {
    /// The network namespace of this program.
    home: Option<Vec<u8>>,
    options: BTreeMap<Family, Vec<Option<Vec<u8>>>>,
}

impl Fresh {
    fn new() -> Fresh {
        let family = Family { domain: libc::AF_UNIX, kind: libc::SOCK_STREAM, protocol: 0 };
        let home = make(family).ok().and_then(|own| namespace(own.as_fd()));
        Fresh { home, options: BTreeMap::new() }
    }

    /// Whether a socket is of the network namespace of this program. Linux before 5.14 does not tell.
    fn is_at_home(&self, socket: BorrowedFd<'_>) -> bool {
        namespace(socket) == self.home
    }

    /// The values of the options, in the order of their tables; none that a fresh one cannot be asked for.
    fn options(&mut self, family: Family) -> Vec<Option<Vec<u8>>> {
        let options = self.options.entry(family).or_insert_with(|| {
            let rows = options_of(family.domain.cast_unsigned());
            match make(family) {
                Ok(own) => rows.map(|known| read(own.as_fd(), known).ok()).collect(),
                Err(_) => rows.map(|_| None).collect(),
            }
        });
        options.clone()
    }
}

/// Which network namespace a socket is of.
fn namespace(socket: BorrowedFd<'_>) -> Option<Vec<u8>> {
    sys::socket_option(socket, libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, size_of::<u64>()).ok()
}

fn make(family: Family) -> Result<OwnedFd, Errno> {
    sys::make_socket(family.domain, family.kind, family.protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_socket_has_nothing_to_note() {
        let family = Family { domain: libc::AF_UNIX, kind: libc::SOCK_DGRAM, protocol: 0 };
        let own = make(family).expect("a socket");
        let known = options_of(libc::AF_UNIX.cast_unsigned());
        for (known, usual) in known.zip(Fresh::new().options(family)) {
            assert_eq!(read(own.as_fd(), known).ok(), usual, "{}", known.label);
        }
        assert!(Fresh::new().is_at_home(own.as_fd()));
    }
}
