//! Datagrams that were received and not read: sent once more, in order, in the name of who had sent them.
//!
//! Who is a socket of the tree sends by itself. In the name of anybody else a socket sends that is bound to the address: of this
//! host as long as nobody has it, any other with the right to IP_TRANSPARENT (CAP_NET_RAW). They come over the loopback, so that
//! what else is told of a datagram (its interface, the address it was sent to, when) is that of this second way.

use super::{Saved, objection, storage};
use crate::error::{Error, Result};
use crate::rebuild::content;
use crate::rebuild::socket::{Buffer, Room};
use crate::sys;
use binfmt::note::inet::InetAddress;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockaddrStorage, bind, sendto};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

/// How long one may take to come over the loopback.
const PATIENCE: Duration = Duration::from_secs(5);

/// The datagram sockets of the tree by their ports.
type Senders<'a> = BTreeMap<u16, Vec<(&'a Saved<'a>, RawFd)>>;

/// Fills the queues of all datagram sockets, none of which has its peer yet.
pub(super) fn fill_all(made: &[(Saved<'_>, OwnedFd)]) -> Result<()> {
    let mut senders: Senders<'_> = BTreeMap::new();
    for (saved, fd) in made.iter().filter(|(saved, _)| saved.is_udp()) {
        senders.entry(saved.note.local.port).or_default().push((saved, fd.as_raw_fd()));
    }
    for (saved, fd) in made.iter().filter(|(saved, _)| saved.is_udp()) {
        if !saved.note.received.is_empty() {
            fill(saved, fd, &senders)?;
        }
    }
    Ok(())
}

fn fill(saved: &Saved<'_>, fd: &OwnedFd, own: &Senders<'_>) -> Result<()> {
    let failed = |error| saved.failed("send what waited at", error);
    let bytes = content(saved.image, saved.note.content)?;
    let room =
        Room::make(fd.as_fd(), Buffer::Receive, bytes.len(), saved.note.received.len()).map_err(failed)?;
    let mut senders: BTreeMap<Vec<u8>, OwnedFd> = BTreeMap::new();
    let mut rest = bytes.as_slice();
    for piece in &saved.note.received {
        let len = usize::try_from(piece.len_bytes).unwrap_or(usize::MAX).min(rest.len());
        let (datagram, after) = rest.split_at(len);
        rest = after;
        let target = target(saved, &piece.source).ok_or(Error::Internal("a datagram has no address"))?;
        let sender = match own_sender(&piece.source, own) {
            Some(own) => own,
            None => {
                let key = format!("{}", piece.source).into_bytes();
                if !senders.contains_key(&key) {
                    let sender = sender(saved, &piece.source);
                    let refused = |error| objection::no_sender(saved, &piece.source.to_string(), error);
                    senders.insert(key.clone(), sender.map_err(refused)?);
                }
                senders.get(&key).map_or(-1, AsRawFd::as_raw_fd)
            }
        };
        send_one(fd, sender, &target, datagram).map_err(failed)?;
    }
    room.give_back().map_err(failed)
}

/// Sends a datagram, and waits until it is there: the next one comes behind it.
fn send_one(fd: &OwnedFd, sender: RawFd, target: &SockaddrStorage, datagram: &[u8]) -> nix::Result<()> {
    let before = sys::socket_queue(fd.as_fd())?;
    sendto(sender, datagram, target, MsgFlags::empty())?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let now = sys::socket_queue(fd.as_fd())?;
        if now.dropped != before.dropped {
            return Err(Errno::ENOBUFS);
        }
        if now.bytes > before.bytes {
            return Ok(());
        }
        if Instant::now() > deadline {
            return Err(Errno::ETIMEDOUT);
        }
        std::thread::sleep(Duration::from_micros(50));
    }
}

/// Where a datagram of this source reaches a socket.
fn target(saved: &Saved<'_>, source: &InetAddress) -> Option<SockaddrStorage> {
    let is_four = |ip: IpAddr| matches!(ip.to_canonical(), IpAddr::V4(_));
    let ip = match saved.note.local.ip()? {
        ip if !ip.is_unspecified() && !ip.is_multicast() => ip,
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(_) if source.ip().is_some_and(is_four) => IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped()),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    let address = match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let local = &saved.note.local;
    storage(&InetAddress { address: address.into(), port: local.port, scope: local.scope })
}

/// The socket of the tree that has sent from this address, if it is one.
fn own_sender(source: &InetAddress, own: &Senders<'_>) -> Option<RawFd> {
    let is_it = |saved: &Saved<'_>| {
        let local = &saved.note.local;
        let any = local.ip().is_some_and(|ip| ip.is_unspecified())
            && source.ip().is_some_and(|ip| ip.to_canonical().is_loopback())
            && local.address.0.len() == source.address.0.len();
        any || local.address == source.address
    };
    own.get(&source.port)?.iter().find(|(saved, _)| is_it(saved)).map(|(_, fd)| *fd)
}

/// A socket that sends in the name of somebody.
fn sender(saved: &Saved<'_>, source: &InetAddress) -> nix::Result<OwnedFd> {
    const IPV6_TRANSPARENT: i32 = 75;
    let (domain, protocol) = (saved.socket.domain.cast_signed(), saved.socket.protocol.cast_signed());
    let sender = sys::make_socket(domain, libc::SOCK_DGRAM, protocol)?;
    let on = 1i32.to_ne_bytes();
    // Without the right, an address of this host will still do.
    let _ = sys::set_socket_option(sender.as_fd(), libc::IPPROTO_IP, libc::IP_TRANSPARENT, &on);
    if domain == libc::AF_INET6 {
        let _ = sys::set_socket_option(sender.as_fd(), libc::IPPROTO_IPV6, IPV6_TRANSPARENT, &on);
    }
    sys::set_socket_option(sender.as_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, &on)?;
    bind(sender.as_raw_fd(), &storage(source).ok_or(Errno::EINVAL)?)?;
    Ok(sender)
}
