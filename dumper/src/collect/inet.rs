//! IP sockets: TCP in [`tcp`], UDP and UDP-Lite in [`udp`], raw ones and those for pings in [`raw`].
//!
//! All is asked through a duplicate, and nothing is taken: addresses by name, states by TCP_INFO, what has been received by
//! MSG_PEEK. SO_ERROR is never asked for, because the answer takes the error away.

mod established;
mod multicast;
mod raw;
mod tcp;
mod udp;

use super::Collected;
use super::socket::{Family, Fate, Held};
use crate::error::Error;
use binfmt::note::inet::{InetAddress, InetPiece, InetSocket};
use binfmt::wire::Bytes;
use nix::errno::Errno;
use nix::sys::socket::{SockaddrStorage, getpeername, getsockname};
use std::os::fd::AsRawFd;

pub use established::Hold;
pub use tcp::Tcp;

/// Adds the notes of IP sockets, or says why there is none, each with its description.
pub fn collect(sockets: &[&Held<'_>], out: &mut Collected) -> Result<Vec<(u32, Fate)>, Error> {
    let (full, _guard) = udp::guard(sockets)
        .map_err(|error| Error::question(out.pid(), "guarding what waits in its UDP sockets", error))?;
    let mut verdicts = established::collect(sockets, out)?;
    let mut common = Common::default();
    let fates = sockets.iter().map(|socket| {
        out.look_at(socket.open.subject.pid());
        let verdict = verdicts.remove(&socket.description);
        let is_full = full.contains(&socket.description);
        Ok((socket.description, collect_one(socket, is_full, &mut common, verdict, out)?))
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

/// What is asked for once.
#[derive(Debug, Default)]
struct Common {
    groups: Option<multicast::Groups>,
    raw: Option<raw::Table>,
    /// Where a datagram is looked at.
    room: Vec<u8>,
}

impl Common {
    /// The multicast groups of the network namespace, given one of its sockets.
    fn groups(&mut self, socket: &Held<'_>) -> &multicast::Groups {
        self.groups.get_or_insert_with(|| multicast::Groups::look(socket))
    }

    fn raw(&mut self, socket: &Held<'_>) -> Result<Found, Errno> {
        let table = self.raw.get_or_insert_with(raw::Table::look);
        let groups = self.groups.get_or_insert_with(|| multicast::Groups::look(socket));
        raw::collect(socket, table, groups)
    }
}

fn collect_one(
    socket: &Held<'_>,
    is_full: bool,
    common: &mut Common,
    verdict: Option<established::Verdict>,
    out: &mut Collected,
) -> Result<Fate, Error> {
    let family = socket.family;
    let transport = match (family.kind, family.protocol) {
        (libc::SOCK_STREAM, libc::IPPROTO_TCP) => tcp::collect(socket, verdict, out),
        _ if udp::is_one(family) => udp::collect(socket, is_full, common),
        _ if raw::is_one(family) => common.raw(socket),
        _ => return Ok(Fate::NotSaved(what(family))),
    };
    let (mut note, pieces) = match transport.map_err(|error| socket.failed("asking for the state", error))? {
        Found::Saved(note, pieces) => (*note, pieces),
        Found::NotSaved(what, advice) => return Ok(Fate::Advised(what, advice)),
        Found::NotYet(what, advice) => return Ok(Fate::NotYet(what, advice)),
    };
    note.description = socket.description;
    note.content =
        out.waiting(&socket.open.place.metadata, pieces.into_iter().flat_map(|piece| piece.1).collect());
    out.note(note);
    Ok(Fate::Saved)
}

/// What was found out about a socket.
enum Found {
    /// What its note says, and what was received, of which the note has the lengths.
    Saved(Box<InetSocket>, Vec<Piece>),
    /// What it is, and what to do about it.
    NotSaved(String, String),
    /// The same, and it may be otherwise in a moment.
    NotYet(String, String),
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

    /// Of a connection: what was received, and what comes behind it in the image.
    fn connection(note: InetSocket, received: Vec<u8>, to_send: Vec<u8>) -> Found {
        let of_nobody = |bytes| (InetAddress::default(), bytes);
        let received: Vec<Piece> =
            [received].into_iter().filter(|bytes| !bytes.is_empty()).map(of_nobody).collect();
        match Found::saved(note, received) {
            Found::Saved(note, mut pieces) => {
                pieces.push(of_nobody(to_send));
                Found::Saved(note, pieces)
            }
            other => other,
        }
    }
}

/// What a socket is that cannot be saved.
fn what(family: Family) -> String {
    const IPPROTO_SMC: i32 = 256;
    match (family.kind, family.protocol) {
        (_, libc::IPPROTO_MPTCP) => "a socket of MPTCP".to_owned(),
        (_, libc::IPPROTO_SCTP) => "a socket of SCTP".to_owned(),
        (_, IPPROTO_SMC) => "a socket of SMC".to_owned(),
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
