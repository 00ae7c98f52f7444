//! UDP and UDP-Lite sockets. The datagrams that wait are peeked at, one behind the other by SO_PEEK_OFF.

use super::super::socket::{Family, Held};
use super::{Common, Found, Piece, local, multicast, noted, peer};
use crate::sys::{self, LookGuard};
use binfmt::note::inet::{InetSocket, InetState};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, SockaddrStorage, recvmsg};
use std::collections::BTreeSet;
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// No datagram is longer.
const DATAGRAM_BYTES: usize = 1 << 16;
/// So many datagrams of one byte fill the largest queue that anybody has set up.
const DATAGRAMS_MAX: usize = 1 << 20;
/// How long what has been sent may take to leave.
const LEAVES_WITHIN: Duration = Duration::from_millis(50);

/// Whether it is a socket of UDP or UDP-Lite.
pub(super) fn is_one(family: Family) -> bool {
    family.kind == libc::SOCK_DGRAM && matches!(family.protocol, libc::IPPROTO_UDP | libc::IPPROTO_UDPLITE)
}

/// What there is to say of a UDP socket; `is_full`: something waits in it, and it is guarded.
pub(super) fn collect(socket: &Held<'_>, is_full: bool, common: &mut Common) -> Result<Found, Errno> {
    if is_corked(socket)? {
        return Ok(Found::NotSaved(
            "a UDP socket with a datagram that waits for more (UDP_CORK, MSG_MORE)".to_owned(),
            "nobody can read that but its receiver; try again when it has been sent".to_owned(),
        ));
    }
    let mut note = InetSocket { local: local(socket)?, ..InetSocket::default() };
    if let Some(peer) = peer(socket)? {
        (note.state, note.peer) = (InetState::Connected, peer);
    }
    note.memberships = multicast::memberships(socket, socket.family, common.groups(socket))?;
    Ok(Found::saved(note, if is_full { waiting(socket, &mut common.room)? } else { Vec::new() }))
}

/// Whether a datagram is being put together. Its bytes count as sent and not gone, as do those on their way to the wire.
fn is_corked(socket: &Held<'_>) -> Result<bool, Errno> {
    let deadline = Instant::now() + LEAVES_WITHIN;
    while sys::bytes_unsent(socket.duplicate.as_fd())? > 0 {
        if Instant::now() > deadline {
            return Ok(true);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(false)
}

/// The descriptions of those sockets of which something can be peeked at. Their offsets are put back when the guard is dropped, or
/// this process is killed: what comes to others from now on stays where it is.
pub(super) fn guard(sockets: &[&Held<'_>]) -> Result<(BTreeSet<u32>, Option<LookGuard>), Errno> {
    let (mut full, mut guarded, mut room) = (BTreeSet::new(), Vec::new(), Vec::new());
    for socket in sockets.iter().filter(|socket| is_one(socket.family)) {
        let offset = socket.number(libc::SO_PEEK_OFF)?;
        // What the program itself has peeked at is seen only from an offset of ours.
        if offset >= 0 || peek(socket, &mut room)?.is_some() {
            full.insert(socket.description);
            guarded.push((socket.duplicate.as_raw_fd(), libc::SO_PEEK_OFF, offset));
        }
    }
    Ok((full, LookGuard::new(&guarded)?))
}

/// The datagrams that wait to be read in a guarded socket, and stay where they are. An empty one that was looked at before is not
/// told once more by Linux, unless it is the first.
fn waiting(socket: &Held<'_>, room: &mut Vec<u8>) -> Result<Vec<Piece>, Errno> {
    let mut pieces = Vec::new();
    sys::set_peek_offset(socket.duplicate.as_fd(), 0)?;
    while let Some(piece) = peek(socket, room)? {
        if pieces.len() == DATAGRAMS_MAX {
            return Err(Errno::EMSGSIZE);
        }
        pieces.push(piece);
    }
    Ok(pieces)
}

/// The next datagram.
fn peek(socket: &Held<'_>, room: &mut Vec<u8>) -> Result<Option<Piece>, Errno> {
    room.resize(DATAGRAM_BYTES, 0);
    let (len, source) = {
        let mut slices = [IoSliceMut::new(room)];
        let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        match recvmsg::<SockaddrStorage>(socket.duplicate.as_raw_fd(), &mut slices, None, flags) {
            Ok(got) => (got.bytes, got.address),
            Err(Errno::EAGAIN) => return Ok(None),
            Err(error) => return Err(error),
        }
    };
    let bytes = room.get(..len).unwrap_or_default().to_vec();
    Ok(Some((source.as_ref().map(noted).unwrap_or_default(), bytes)))
}
