//! IP sockets: made in the loader's network namespace, all of them before any of them listens or has a peer, so that those that
//! have a port in common get it.
//!
//! A TCP socket is bound with SO_REUSEADDR, whatever the program had set: connections of the program that was killed wait for
//! their end at the same port (TIME_WAIT). Whoever listens there keeps it all the same. Connections that go on are made in
//! [`established`], those that are over in [`reset`]; what datagram sockets have received in [`datagrams`].

mod datagrams;
mod ending;
mod established;
mod going_on;
mod holding;
mod objection;
mod orphan;
mod reset;

pub use going_on::Connections;
pub use holding::Holding;
pub use objection::refusals;

use crate::error::{Error, Result};
use crate::rebuild::descriptor::{Opened, dup_above};
use crate::rebuild::socket;
use crate::sys;
use binfmt::image::Image;
use binfmt::note::inet::{InetAddress, InetConnection, InetMembership, InetSocket, InetState};
use binfmt::note::socket::Socket;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::PollFlags;
use nix::sys::socket::{Backlog, MsgFlags, SockaddrLike, SockaddrStorage, bind, connect, listen, recv};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// A socket, as the image has it.
#[derive(Clone, Copy, Debug)]
struct Saved<'a> {
    image: &'a Image,
    note: &'a InetSocket,
    socket: &'a Socket,
}

/// All IP sockets of an image.
fn all(image: &Image) -> impl Iterator<Item = Saved<'_>> {
    image.all::<InetSocket>().filter_map(move |note| {
        let socket = image.about::<Socket>(note.description).next()?;
        Some(Saved { image, note, socket })
    })
}

/// Makes all IP sockets of the image.
pub fn rebuild_all(image: &Image, opened: &mut Opened) -> Result<()> {
    let mut made = Vec::new();
    for saved in all(image) {
        let fd = match saved.connection() {
            Some(connection) => established::make(saved, connection)?,
            None if saved.is_over() => reset::make(saved)?,
            None => saved.make()?,
        };
        made.push((saved, fd));
    }
    for (saved, fd) in &made {
        saved.note.memberships.iter().try_for_each(|group| join(saved, fd, group))?;
    }
    datagrams::fill_all(&made)?;
    for (saved, fd) in &made {
        saved.go_on(fd)?;
    }
    for (saved, fd) in made {
        let id = saved.note.description;
        if saved.is_tcp() && saved.bound().is_some() && saved.connection().is_none() {
            saved.reuse_address(&fd, saved.has(libc::SO_REUSEADDR))?;
        }
        socket::finish(image, saved.socket, &fd)?;
        if saved.socket.kind.cast_signed() == libc::SOCK_RAW {
            // It may have heard what its filter keeps from it.
            const MANY: usize = 10_000;
            let is_one = |_: &usize| recv(fd.as_raw_fd(), &mut [], MsgFlags::MSG_DONTWAIT).is_ok();
            (0..MANY).take_while(is_one).for_each(drop);
        }
        opened.insert(id, fd);
    }
    Ok(())
}

impl<'a> Saved<'a> {
    /// What it is, for a person.
    fn name(&self) -> String {
        let protocol = match (self.socket.kind.cast_signed(), self.socket.protocol.cast_signed()) {
            (libc::SOCK_STREAM, _) => "TCP",
            (libc::SOCK_RAW, _) => "raw IP",
            (_, libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6) => "ping",
            (_, libc::IPPROTO_UDPLITE) => "UDP-Lite",
            _ => "UDP",
        };
        match self.note.local.port {
            _ if self.note.state == InetState::Established => {
                format!("a TCP connection of {} with {}", self.note.local, self.note.peer)
            }
            0 => format!("a {protocol} socket"),
            _ => format!("a {protocol} socket at {}", self.note.local),
        }
    }

    fn failed(&self, what: &str, error: Errno) -> Error {
        Error::step(format!("{what} {}", self.name()), error)
    }

    /// Its connection, if that goes on.
    fn connection(&self) -> Option<&'a InetConnection> {
        let notes = || self.image.about::<InetConnection>(self.note.description);
        (self.note.state == InetState::Established).then(|| notes().next()).flatten()
    }

    fn is_over(&self) -> bool {
        self.note.state == InetState::Reset
    }

    fn is_tcp(&self) -> bool {
        self.socket.kind.cast_signed() == libc::SOCK_STREAM
    }

    fn is_udp(&self) -> bool {
        let (kind, protocol) = (self.socket.kind.cast_signed(), self.socket.protocol.cast_signed());
        kind == libc::SOCK_DGRAM && matches!(protocol, libc::IPPROTO_UDP | libc::IPPROTO_UDPLITE)
    }

    /// What it is bound to, if it is.
    fn bound(&self) -> Option<SockaddrStorage> {
        let is_any = self.note.local.ip().is_none_or(|ip| ip.is_unspecified());
        if self.is_over() || self.note.local.port == 0 && is_any {
            return None;
        }
        storage(&self.note.local)
    }

    /// A socket with its options and its address.
    fn make(&self) -> Result<OwnedFd> {
        let fd = socket::make(self.socket)?;
        if let Some(address) = self.bound() {
            if self.is_tcp() {
                self.reuse_address(&fd, true)?;
            }
            bind(fd.as_raw_fd(), &address).map_err(|error| objection::refused(self, error))?;
        }
        Ok(fd)
    }

    fn reuse_address(&self, fd: &OwnedFd, reuse: bool) -> Result<()> {
        let value = i32::from(reuse).to_ne_bytes();
        sys::set_socket_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, &value)
            .map_err(|error| self.failed("set SO_REUSEADDR of", error))
    }

    /// Whether the program had set an option of the level SOL_SOCKET.
    fn has(&self, name: i32) -> bool {
        let wanted = (libc::SOL_SOCKET.cast_unsigned(), name.cast_unsigned());
        let mut options = self.socket.options.iter();
        let is_set = |value: &[u8]| value.first().is_some_and(|byte| *byte != 0);
        options.any(|option| (option.level, option.name) == wanted && is_set(&option.value.0))
    }

    /// Has it listen, or have its peer.
    fn go_on(&self, fd: &OwnedFd) -> Result<()> {
        match self.note.state {
            InetState::Idle | InetState::Reset | InetState::Established => Ok(()),
            InetState::Listening => {
                let backlog = i32::try_from(self.note.backlog).unwrap_or(i32::MAX);
                let backlog = Backlog::new(backlog).unwrap_or(Backlog::MAXCONN);
                listen(fd, backlog).map_err(|error| objection::refused(self, error))
            }
            InetState::Connected | InetState::Connecting => {
                let peer = storage(&self.note.peer).ok_or(Error::Internal("a socket has no peer"))?;
                let nonblocking = FcntlArg::F_SETFL(OFlag::O_NONBLOCK);
                fcntl(fd.as_fd(), nonblocking).map_err(|error| self.failed("set the flags of", error))?;
                match connect(fd.as_raw_fd(), &peer) {
                    Ok(()) | Err(Errno::EINPROGRESS) => Ok(()),
                    Err(error) => Err(objection::no_way(self, error)),
                }
            }
        }
    }
}

/// Makes a socket a member of a multicast group.
fn join(saved: &Saved<'_>, fd: &OwnedFd, group: &InetMembership) -> Result<()> {
    const MCAST_JOIN_GROUP: i32 = 42;
    const MCAST_BLOCK_SOURCE: i32 = 43;
    const MCAST_JOIN_SOURCE_GROUP: i32 = 46;
    let name = group.interface_name.as_path();
    let interface = nix::net::if_::if_nametoindex(name);
    let interface = interface.map_err(|error| objection::no_interface(saved, group, error))?;
    let level = if group.group.0.len() == 4 { libc::IPPROTO_IP } else { libc::IPPROTO_IPV6 };
    let set = |option: i32, source: &[u8]| {
        let value = group_request(interface, &group.group.0, source);
        sys::set_socket_option(fd.as_fd(), level, option, &value)
            .map_err(|error| saved.failed("put a multicast group on", error))
    };
    if group.include {
        return group.sources.iter().try_for_each(|source| set(MCAST_JOIN_SOURCE_GROUP, &source.0));
    }
    set(MCAST_JOIN_GROUP, &[])?;
    group.sources.iter().try_for_each(|source| set(MCAST_BLOCK_SOURCE, &source.0))
}

/// struct group_req, or with a source struct group_source_req: the interface, then at 8 the group, at 136 the source.
fn group_request(interface: u32, group: &[u8], source: &[u8]) -> Vec<u8> {
    const STORAGE_BYTES: usize = 128;
    let mut bytes = interface.to_ne_bytes().to_vec();
    bytes.resize(8, 0);
    for address in [group, source].into_iter().filter(|address| !address.is_empty()) {
        let end = bytes.len() + STORAGE_BYTES;
        let (family, gap) = if address.len() == 4 { (libc::AF_INET, 2) } else { (libc::AF_INET6, 6) };
        bytes.extend_from_slice(&u16::try_from(family).unwrap_or(0).to_ne_bytes());
        bytes.resize(bytes.len() + gap, 0);
        bytes.extend_from_slice(address);
        bytes.resize(end, 0);
    }
    bytes
}

/// An address as the kernel takes it.
fn storage(address: &InetAddress) -> Option<SockaddrStorage> {
    let address = match address.ip()? {
        IpAddr::V4(ip) => SocketAddr::V4(SocketAddrV4::new(ip, address.port)),
        IpAddr::V6(ip) => SocketAddr::V6(SocketAddrV6::new(ip, address.port, 0, address.scope)),
    };
    let storage = SockaddrStorage::from(address);
    (storage.len() > 0).then_some(storage)
}

/// Has a socket that listens be ready while `take` looks at it, by a connection that nobody else sees; whether it was taken. One of
/// a group may not be who gets the connection.
pub fn is_ready_once(
    image: &Image,
    description: u32,
    fd: BorrowedFd<'_>,
    above: RawFd,
    take: impl FnOnce() -> Result<bool>,
) -> Result<bool> {
    let listens =
        |saved: &Saved<'_>| saved.note.description == description && saved.note.state == InetState::Listening;
    let Some(saved) = all(image).find(listens).filter(|saved| !saved.has(libc::SO_REUSEPORT)) else {
        return Ok(false);
    };
    let Some(address) = storage(&saved.note.local) else { return Ok(false) };
    let failed = |error| saved.failed("make ready, which is watched,", error);
    let client = sys::make_socket(saved.socket.domain.cast_signed(), libc::SOCK_STREAM, 0).map_err(failed)?;
    let client = dup_above(client.as_raw_fd(), above).map_err(failed)?;
    fcntl(client.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(failed)?;
    // Its end leaves nothing at the port.
    reset::close_by_reset(&client).map_err(failed)?;
    let _ = connect(client.as_raw_fd(), &address);
    let is_there = reset::becomes(&client, PollFlags::POLLOUT) && {
        // It may have to say something first (TCP_DEFER_ACCEPT).
        nix::sys::socket::send(client.as_raw_fd(), &[0], MsgFlags::MSG_NOSIGNAL).is_ok()
            && reset::becomes(&fd, PollFlags::POLLIN)
    };
    if !is_there {
        return Ok(false);
    }
    let taken = take();
    nix::sys::socket::accept(fd.as_raw_fd()).map(sys::adopt).map_err(failed)?;
    taken
}

/// What `--plan` says of a socket.
pub fn step(image: &Image, description: u32) -> Option<String> {
    let saved = all(image).find(|saved| saved.note.description == description)?;
    let kind = match saved.socket.kind.cast_signed() {
        libc::SOCK_STREAM => "SOCK_STREAM",
        libc::SOCK_RAW => "SOCK_RAW",
        _ => "SOCK_DGRAM",
    };
    let local = saved.bound().map_or_else(String::new, |_| format!(" bind({})", saved.note.local));
    let rest = match saved.note.state {
        InetState::Idle => String::new(),
        InetState::Listening => format!(" listen({})", saved.note.backlog),
        InetState::Connected | InetState::Connecting => format!(" connect({})", saved.note.peer),
        InetState::Reset => " connect() and reset".to_owned(),
        InetState::Established => format!(" connect({}) under repair", saved.note.peer),
    };
    Some(format!("socket({kind}){local}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_for_groups_are_as_the_kernel_reads_them() {
        let request = group_request(3, &[239, 1, 2, 3], &[]);
        assert_eq!(
            (request.len(), &request[..16]),
            (136, &[3, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 239, 1, 2, 3][..])
        );
        let request = group_request(3, &[0xff; 16], &[1; 16]);
        assert_eq!(
            (request.len(), &request[136..139], &request[144..146]),
            (264, &[10, 0, 0][..], &[1, 1][..])
        );
    }
}
