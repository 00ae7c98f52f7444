//! TCP connections that go on, made in repair mode (TCP_REPAIR): with its numbers and its queues, without a word to the peer, and
//! closed without one if the resume fails. The midwife ends the mode when all tasks are whole ([`super::going_on`]).
//!
//! What was never sent is written while the mode is off for a moment, into a window of no bytes: so it waits behind what may
//! have to be sent again, which in the mode counts as sent.

use super::{Saved, objection, orphan, storage};
use crate::error::{Error, Result};
use crate::rebuild::{content, socket};
use crate::sys;
use binfmt::note::inet::{InetConnection, InetWindow};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, bind, connect, send};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

const TCP_REPAIR: i32 = 19;
const TCP_REPAIR_QUEUE: i32 = 20;
const TCP_QUEUE_SEQ: i32 = 21;
const TCP_REPAIR_OPTIONS: i32 = 22;
const TCP_REPAIR_WINDOW: i32 = 29;

/// Values of TCP_REPAIR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repair {
    /// Nothing is sent.
    On = 1,
    /// The mode ends, and the peer is asked for its window.
    Off = 0,
    /// The mode ends without a word.
    OffSilently = -1,
}

/// Values of TCP_REPAIR_QUEUE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Queue {
    None = 0,
    Received = 1,
    Sent = 2,
}

/// Turns the mode on or off.
pub(super) fn repair(fd: &impl AsFd, how: Repair) -> nix::Result<()> {
    match set(fd, TCP_REPAIR, (how as i32).cast_unsigned()) {
        // Linux before 4.19 does not know it.
        Err(Errno::EINVAL) if how == Repair::OffSilently => set(fd, TCP_REPAIR, 0),
        result => result,
    }
}

fn set(fd: &impl AsFd, name: i32, value: u32) -> nix::Result<()> {
    sys::set_socket_option(fd.as_fd(), libc::IPPROTO_TCP, name, &value.to_ne_bytes())
}

fn choose(fd: &impl AsFd, queue: Queue) -> nix::Result<()> {
    set(fd, TCP_REPAIR_QUEUE, queue as u32)
}

/// What becomes of what the program has left of its connection ([`orphan`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// It stays, and the socket is not connected, if it can be ended: a plan changes nothing.
    Stays,
    /// It ends.
    Ends,
}

/// Makes a connection, whose queues are empty.
pub(super) fn begin(saved: Saved<'_>, connection: &InetConnection, left: Left) -> Result<OwnedFd> {
    let fd = socket::make(saved.socket)?;
    repair(&fd, Repair::On).map_err(|error| objection::no_repair(&saved, error))?;
    let missing = || Error::Internal("a connection lacks an address");
    let own = storage(&saved.note.local).ok_or_else(missing)?;
    let peer = storage(&saved.note.peer).ok_or_else(missing)?;
    bind(fd.as_raw_fd(), &own).map_err(|error| objection::refused(&saved, error))?;
    let failed = |error| saved.failed("make the connection of", error);
    let numbers = [
        (Queue::Sent, connection.send_sequence),
        (Queue::Received, connection.receive_sequence.wrapping_sub(received_len(&saved))),
    ];
    for (queue, number) in numbers {
        choose(&fd, queue).and_then(|()| set(&fd, TCP_QUEUE_SEQ, number)).map_err(failed)?;
    }
    let connected = connect(fd.as_raw_fd(), &peer).or_else(|error| {
        // What cannot be ended stays in the way.
        match left {
            _ if error != Errno::EADDRNOTAVAIL => Err(error),
            Left::Ends if orphan::end(saved.note).unwrap_or(false) => connect(fd.as_raw_fd(), &peer),
            Left::Stays if orphan::can_be_ended(saved.note).unwrap_or(false) => Ok(()),
            _ => Err(error),
        }
    });
    connected.map_err(|error| objection::not_connected(&saved, error))?;
    Ok(fd)
}

fn received_len(saved: &Saved<'_>) -> u32 {
    saved.note.received.iter().map(|piece| piece.len_bytes).fold(0, u32::wrapping_add)
}

/// Makes a connection with all that it had, in repair mode.
pub(super) fn make(saved: Saved<'_>, connection: &InetConnection) -> Result<OwnedFd> {
    let fd = begin(saved, connection, Left::Ends)?;
    let failed = |error| saved.failed("make the connection of", error);
    // Segments are no longer than half of the peer's window. Nothing is received yet.
    let first = connection.receive_sequence.wrapping_sub(received_len(&saved));
    let empty = InetWindow { told_by: first, receive_from: first, ..connection.window.clone() };
    let agreed = agree(&fd, connection).and_then(|()| window(&fd, &empty));
    agreed.and_then(|()| measure(&saved, &fd)).map_err(failed)?;
    if connection.agreed.timestamps {
        set(&fd, libc::TCP_TIMESTAMP, connection.timestamp).map_err(failed)?;
    }
    let bytes = content(saved.image, saved.note.content)?;
    let received = usize::try_from(received_len(&saved)).unwrap_or(usize::MAX).min(bytes.len());
    let (received, to_send) = bytes.split_at(received);
    let sent = usize::try_from(connection.unacknowledged_bytes).unwrap_or(usize::MAX).min(to_send.len());
    let (sent, unsent) = to_send.split_at(sent);
    let filled = fill(&fd, connection, [received, sent, unsent]);
    filled.map_err(|error| saved.failed("fill the queues of", error))?;
    settle(&fd, connection).map_err(failed)?;
    Ok(fd)
}

/// Says what was agreed upon with the peer.
fn agree(fd: &OwnedFd, connection: &InetConnection) -> nix::Result<()> {
    const SEGMENT: u32 = 2;
    const SCALE: u32 = 3;
    const SELECTIVE: u32 = 4;
    const TIMESTAMPS: u32 = 8;
    let agreed = &connection.agreed;
    let shifts = u32::from(agreed.send_shift) | u32::from(agreed.receive_shift) << 16;
    let options = [
        (true, SEGMENT, agreed.segment_bytes),
        (agreed.scaled, SCALE, shifts),
        (agreed.selective, SELECTIVE, 0),
        (agreed.timestamps, TIMESTAMPS, 0),
    ];
    let words = options.iter().filter(|(is_on, ..)| *is_on).flat_map(|(_, code, value)| [*code, *value]);
    let bytes: Vec<u8> = words.flat_map(u32::to_ne_bytes).collect();
    sys::set_socket_option(fd.as_fd(), libc::IPPROTO_TCP, TCP_REPAIR_OPTIONS, &bytes)
}

/// Has the kernel see how long segments are now: it does when options of IP are set, if there are none, too. Else it goes on with
/// the length that it takes for a peer who has named none.
fn measure(saved: &Saved<'_>, fd: &OwnedFd) -> nix::Result<()> {
    let wanted = (libc::IPPROTO_IP.cast_unsigned(), libc::IP_OPTIONS.cast_unsigned());
    let mut options = saved.socket.options.iter();
    let own = options.find(|option| (option.level, option.name) == wanted);
    let own = own.map_or(&[][..], |option| &option.value.0);
    sys::set_socket_option(fd.as_fd(), libc::IPPROTO_IP, libc::IP_OPTIONS, own)
}

/// Fills the queues: what was received and not read, what was sent and not acknowledged, what was never sent.
fn fill(fd: &OwnedFd, connection: &InetConnection, queues: [&[u8]; 3]) -> nix::Result<()> {
    let [received, sent, unsent] = queues;
    // The kernel counts what it needs itself, too.
    let room =
        |bytes: usize| i32::try_from(bytes.saturating_mul(4).saturating_add(1 << 17)).unwrap_or(i32::MAX);
    buffer(fd, libc::SO_RCVBUFFORCE, room(received.len()))?;
    buffer(fd, libc::SO_SNDBUFFORCE, room(sent.len() + unsent.len()))?;
    if !received.is_empty() {
        choose(fd, Queue::Received)?;
        write(fd, received)?;
    }
    if !sent.is_empty() {
        choose(fd, Queue::Sent)?;
        write(fd, sent)?;
    }
    choose(fd, Queue::None)?;
    if !unsent.is_empty() {
        window(fd, &InetWindow { send_bytes: 0, ..connection.window.clone() })?;
        repair(fd, Repair::OffSilently)?;
        write(fd, unsent)?;
        repair(fd, Repair::On)?;
    }
    Ok(())
}

fn buffer(fd: &OwnedFd, name: i32, bytes: i32) -> nix::Result<()> {
    // The kernel doubles it.
    sys::set_socket_option(fd.as_fd(), libc::SOL_SOCKET, name, &(bytes / 2).to_ne_bytes())
}

fn write(fd: &OwnedFd, mut bytes: &[u8]) -> nix::Result<()> {
    const PIECE_BYTES: usize = 1 << 16;
    while !bytes.is_empty() {
        let piece = bytes.get(..PIECE_BYTES).unwrap_or(bytes);
        let len = send(fd.as_raw_fd(), piece, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?;
        bytes = bytes.get(len..).unwrap_or_default();
    }
    Ok(())
}

/// The windows, and the sizes of the buffers, as they were.
fn settle(fd: &OwnedFd, connection: &InetConnection) -> nix::Result<()> {
    window(fd, &connection.window)?;
    buffer(fd, libc::SO_RCVBUFFORCE, connection.receive_buffer_bytes.cast_signed())?;
    buffer(fd, libc::SO_SNDBUFFORCE, connection.send_buffer_bytes.cast_signed())?;
    // The kernel lets them grow, unless the program has said otherwise, which comes with its options. Linux before 5.14 does not
    // know it.
    let _ = sys::set_socket_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_BUF_LOCK, &0i32.to_ne_bytes());
    set(fd, libc::TCP_WINDOW_CLAMP, connection.window_clamp)
}

/// struct tcp_repair_window.
fn window(fd: &OwnedFd, window: &InetWindow) -> nix::Result<()> {
    let words =
        [window.told_by, window.send_bytes, window.send_max_bytes, window.receive_bytes, window.receive_from];
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
    sys::set_socket_option(fd.as_fd(), libc::IPPROTO_TCP, TCP_REPAIR_WINDOW, &bytes)
}
