//! Sockets: what those of all domains have in common, and which domain's file reads the rest.
//!
//! Everything is asked through a duplicate, which shares the description: what is changed there is changed for the program.

use super::descriptor::{Open, STANDARD_STREAMS};
use super::{Collected, inet, netlink, packet, unix};
use crate::allow::Allow;
use crate::error::Error;
use crate::sys;
use binfmt::note::descriptor::DescriptionKind;
use binfmt::note::socket::{KnownOption, Setter, Socket, SocketOption, options_of};
use binfmt::workers::each;
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
    fates.extend(packet::collect(&of(&[libc::AF_PACKET]), out)?);
    fates.extend(netlink::collect(&of(&[libc::AF_NETLINK]), out)?);
    fates.extend(unix::collect(&of(&[libc::AF_UNIX]), queues, out)?);
    let is_saved = |socket: &&&Held<'_>| fates.get(&socket.description) == Some(&Fate::Saved);
    let saved: Vec<&Held<'_>> = ours.iter().filter(is_saved).copied().collect();
    let mut options = all_options(&saved, &mut fresh)?.into_iter();
    let mut kinds = Vec::with_capacity(sockets.len());
    for socket in sockets {
        out.look_at(socket.open.subject.pid());
        let fate = fates.remove(&socket.description);
        let fate = fate.unwrap_or_else(|| Fate::Outside(what(socket)));
        kinds.push(match fate {
            Fate::Saved => {
                // In the order of the sockets, as these are.
                let note = note(socket, options.next().unwrap_or_default(), out);
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

/// The options of a socket that are not as in a fresh one, and whether an eBPF program is attached to it, which nobody can read.
type Options = (Vec<SocketOption>, bool);

/// Those of all sockets, in their order. That is most of what there is to ask, so two threads do it.
fn all_options(sockets: &[&Held<'_>], fresh: &mut Fresh) -> Result<Vec<Options>, Error> {
    let left_out = sockets.iter().map(|socket| inet::left_out(socket)).collect::<Result<Vec<_>, _>>()?;
    sockets.iter().for_each(|socket| fresh.learn(socket.family));
    let fresh = &*fresh;
    let asked: Vec<_> = sockets
        .iter()
        .zip(&left_out)
        .map(|(socket, left_out)| (socket.duplicate.as_fd(), fresh.rows(socket.family), left_out))
        .collect();
    let answers = each(&asked, |(fd, rows, left_out)| options(*fd, rows, left_out));
    let in_order = sockets.iter().zip(answers).map(|(socket, answer)| {
        answer.map_err(|(label, error)| socket.failed(&format!("asking for {label}"), error))
    });
    in_order.collect()
}

/// Those of one socket; the error with the option's name.
fn options(
    fd: BorrowedFd<'_>,
    rows: &[(&KnownOption, Option<Vec<u8>>)],
    left_out: &[(i32, i32)],
) -> Result<Options, (&'static str, Errno)> {
    let (mut options, mut is_unreadable) = (Vec::new(), false);
    for (known, usual) in rows {
        if left_out.contains(&(known.level, known.name)) {
            continue;
        }
        match is_usual(fd, known, usual.as_deref()) {
            Ok(None) => {}
            Ok(Some(value)) => {
                let (level, name) = (known.level.cast_unsigned(), known.name.cast_unsigned());
                options.push(SocketOption { level, name, value: value.into() });
            }
            Err(Errno::EACCES) if known.setter == Setter::Filter => is_unreadable = true,
            // Sockets of its kind, or in its state, have no such option.
            Err(Errno::ENOPROTOOPT | Errno::EOPNOTSUPP | Errno::EINVAL | Errno::EPERM) => {}
            Err(error) => return Err((known.label, error)),
        }
    }
    Ok((options, is_unreadable))
}

/// What a socket has for an option, if it is not the usual.
fn is_usual(fd: BorrowedFd<'_>, known: &KnownOption, usual: Option<&[u8]>) -> Result<Option<Vec<u8>>, Errno> {
    let mut room = [0; ROOM_BYTES];
    let found = match known.setter {
        Setter::Same | Setter::Half(_) => {
            let len = sys::socket_option_into(fd, known.level, known.name, &mut room)?;
            room.get(..len.min(ROOM_BYTES)).unwrap_or_default()
        }
        Setter::Filter => &sys::socket_filter(fd)?,
    };
    Ok((Some(found) != usual).then(|| found.to_vec()))
}

/// The longest values are the name of a device and a timeout.
const ROOM_BYTES: usize = 64;

fn note(socket: &Held<'_>, (options, is_unreadable): Options, out: &mut Collected) -> Socket {
    if is_unreadable {
        let what = format!("{} is a socket with an eBPF program attached", socket.open.name());
        out.unsupported(what, "detach it (SO_DETACH_FILTER): nobody can read which program it is");
    }
    let Family { domain, kind, protocol } = socket.family;
    Socket {
        description: socket.description,
        inode: socket.inode(),
        domain: domain.cast_unsigned(),
        kind: kind.cast_unsigned(),
        protocol: protocol.cast_unsigned(),
        options,
    }
}

/// The options that sockets of a family may have, each with the value in one that was just made; none that cannot be asked for.
type Rows = Vec<(&'static KnownOption, Option<Vec<u8>>)>;

/// What sockets have that were just made.
#[derive(Debug)]
struct Fresh {
    /// The network namespace of this program.
    home: Option<Vec<u8>>,
    rows: BTreeMap<Family, Rows>,
}

impl Fresh {
    fn new() -> Fresh {
        let family = Family { domain: libc::AF_UNIX, kind: libc::SOCK_STREAM, protocol: 0 };
        let home = make(family).ok().and_then(|own| namespace(own.as_fd()));
        Fresh { home, rows: BTreeMap::new() }
    }

    /// Whether a socket is of the network namespace of this program. Linux before 5.14 does not tell.
    fn is_at_home(&self, socket: BorrowedFd<'_>) -> bool {
        namespace(socket) == self.home
    }

    /// Makes one of a family, and asks it for everything.
    fn learn(&mut self, family: Family) {
        if self.rows.contains_key(&family) {
            return;
        }
        let known = options_of(family.domain.cast_unsigned());
        let rows = match make(family) {
            Ok(own) => known.filter_map(|known| row(own.as_fd(), known)).collect(),
            Err(_) => known.map(|known| (known, None)).collect(),
        };
        self.rows.insert(family, rows);
    }

    /// What there is to ask sockets of a family.
    fn rows(&self, family: Family) -> &[(&'static KnownOption, Option<Vec<u8>>)] {
        self.rows.get(&family).map_or(&[], Vec::as_slice)
    }
}

/// Nothing for an option that sockets of this family do not have, whatever their state.
fn row(
    fresh: BorrowedFd<'_>,
    known: &'static KnownOption,
) -> Option<(&'static KnownOption, Option<Vec<u8>>)> {
    match is_usual(fresh, known, None) {
        Err(Errno::ENOPROTOOPT | Errno::EOPNOTSUPP) => None,
        value => Some((known, value.ok().flatten())),
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
        let mut fresh = Fresh::new();
        fresh.learn(family);
        assert_eq!(options(own.as_fd(), fresh.rows(family), &[]), Ok((Vec::new(), false)));
        assert!(fresh.is_at_home(own.as_fd()));
        let labels: Vec<&str> = fresh.rows(family).iter().map(|(known, _)| known.label).collect();
        assert!(labels.contains(&"SO_PASSCRED") && !labels.contains(&"IP_TTL"));
    }
}
