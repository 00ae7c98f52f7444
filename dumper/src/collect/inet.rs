//! IP sockets: TCP in [`tcp`], UDP and UDP-Lite in [`udp`].
//!
//! All is asked through a duplicate, and nothing is taken: addresses by name, states by TCP_INFO, what has been received by
//! MSG_PEEK. SO_ERROR is never asked for, because the answer takes the error away.

mod multicast;
mod tcp;
mod udp;

use super::descriptor::STANDARD_STREAMS;
use super::socket::{Family, Fate, Held};
use super::{Collected, Source};
use crate::allow::Allow;
use crate::error::Error;
use binfmt::image::Owner;
use binfmt::note::inet::{InetAddress, InetPiece, InetSocket};
use binfmt::wire::Bytes;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{SockaddrStorage, getpeername, getsockname};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

pub use tcp::Tcp;

/// Adds the notes of IP sockets, or says why there is none, each with its description.
pub fn collect(sockets: &[&Held<'_>], out: &mut Collected) -> Result<Vec<(u32, Fate)>, Error> {
    let _guard = udp::guard(sockets)
        .map_err(|error| Error::question(out.pid(), "guarding what waits in its UDP sockets", error))?;
    let fates = sockets.iter().map(|socket| {
        out.look_at(socket.open.subject.pid());
        Ok((socket.description, collect_one(socket, out)?))
    });
    fates.collect()
}

/// The options of a socket, by level and name, that are no setting of the program's.
pub fn left_out(socket: &Held<'_>) -> Result<Vec<(i32, i32)>, Error> {
    match (socket.family.domain, socket.family.protocol) {
        (libc::AF_INET | libc::AF_INET6, libc::IPPROTO_TCP) => {
            tcp::left_out(socket).map_err(|error| socket.failed("asking for the state", error))
        }
        _ => Ok(Vec::new()),
    }
}

fn collect_one(socket: &Held<'_>, out: &mut Collected) -> Result<Fate, Error> {
    let family = socket.family;
    let transport = match (family.kind, family.protocol) {
        (libc::SOCK_STREAM, libc::IPPROTO_TCP) => tcp::collect(socket),
        _ if udp::is_one(family) => udp::collect(socket, family),
        _ => return Ok(Fate::NotSaved(what(family))),
    };
    let (mut note, pieces) = match transport.map_err(|error| socket.failed("asking for the state", error))? {
        Found::Saved(note, pieces) => (*note, pieces),
        // At the place of a standard stream another one will do, and a person may do without it.
        Found::NotSaved(what, _) if socket.lowest < STANDARD_STREAMS => return Ok(Fate::Outside(what)),
        Found::NotSaved(what, _) if socket.open.subject.options.allow.contains(&Allow::Socket) => {
            return Ok(Fate::NotSaved(what));
        }
        Found::NotSaved(what, advice) => {
            out.unsupported(format!("fd {} is {what}", socket.open.number), advice);
            return Ok(Fate::Saved);
        }
    };
    note.description = socket.description;
    let bytes: Vec<u8> = pieces.into_iter().flat_map(|piece| piece.1).collect();
    if !bytes.is_empty() {
        let metadata = &socket.open.place.metadata;
        note.content = out.object(metadata.dev(), metadata.ino());
        let len_bytes = bytes.len() as u64;
        out.content(Owner::Object(note.content), 0, len_bytes, 0, Source::Bytes(Arc::new(bytes)));
    }
    out.note(note);
    Ok(Fate::Saved)
}

/// What was found out about a socket.
enum Found {
    /// What its note says, and what was received, of which the note has the lengths.
    Saved(Box<InetSocket>, Vec<Piece>),
    /// What it is, and what to do about it.
    NotSaved(String, String),
}

/// Something that was received, and from whom.
type Piece = (InetAddress, Vec<u8>);

impl Found {
    fn saved(mut note: InetSocket, pieces: Vec<Piece>) -> Found {
        let piece = |(source, bytes): &Piece| InetPiece {
            source: source.clone(),
            len_bytes: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        };
        note.received = pieces.iter().map(piece).collect();
        Found::Saved(Box::new(note), pieces)
    }
}

/// What a socket is that cannot be saved.
fn what(family: Family) -> String {
    const IPPROTO_SMC: i32 = 256;
    match (family.kind, family.protocol) {
        (_, libc::IPPROTO_MPTCP) => "a socket of MPTCP".to_owned(),
        (_, libc::IPPROTO_SCTP) => "a socket of SCTP".to_owned(),
        (_, IPPROTO_SMC) => "a socket of SMC".to_owned(),
        (libc::SOCK_RAW, protocol) => format!("a raw socket of IP protocol {protocol}"),
        (libc::SOCK_DGRAM, libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6) => "a socket for pings".to_owned(),
        (_, protocol) => format!("a socket of IP protocol {protocol}"),
    }
}

/// Its own address.
fn local(socket: &Held<'_>) -> Result<InetAddress, Errno> {
    getsockname::<SockaddrStorage>(socket.duplicate.as_raw_fd()).map(|address| noted(&address))
}

/// That of its peer, if it has one.
fn peer(socket: &Held<'_>) -> Result<Option<InetAddress>, Errno> {
    match getpeername::<SockaddrStorage>(socket.duplicate.as_raw_fd()) {
        Ok(address) => Ok(Some(noted(&address))),
        Err(Errno::ENOTCONN) => Ok(None),
        Err(error) => Err(error),
    }
}

fn noted(address: &SockaddrStorage) -> InetAddress {
    if let Some(four) = address.as_sockaddr_in() {
        let address = Bytes(four.ip().octets().to_vec());
        return InetAddress { address, port: four.port(), scope: 0 };
    }
    address.as_sockaddr_in6().map_or_else(InetAddress::default, |six| InetAddress {
        address: Bytes(six.ip().octets().to_vec()),
        port: six.port(),
        scope: six.scope_id(),
    })
}

/// What poll(2) says of it now.
fn events(socket: &Held<'_>, asked: PollFlags) -> Result<PollFlags, Errno> {
    let mut fds = [PollFd::new(socket.duplicate.as_fd(), asked)];
    poll(&mut fds, PollTimeout::ZERO)?;
    let [fd] = fds;
    Ok(fd.revents().unwrap_or(PollFlags::empty()))
}
