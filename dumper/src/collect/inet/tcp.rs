//! TCP sockets, by the state that TCP_INFO tells.
//!
//! A connection goes on after the resume ([`established`]). `--tcp=reset` gives it up: what has been received and not read is kept,
//! and then the program is told of a reset, as after a fault of the network. Connections that wait to be accepted are given up by
//! the same word: their clients are told so when the listener is gone, or when nobody knows them after the resume.

use super::super::socket::Held;
use super::established::{self, Connection, Verdict};
use super::{Found, local, peer};
use crate::collect::Collected;
use crate::sys;
use binfmt::note::inet::{InetAddress, InetAgreement, InetSocket, InetState};
use binfmt::wire::Bytes;
use clap::ValueEnum;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{MsgFlags, recv};
use std::os::fd::{AsFd, AsRawFd};

/// What becomes of TCP connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tcp {
    /// They are lost, as after a fault of the network: the program reads what it has received, then ECONNRESET
    Reset,
    /// They go on after the resume, or it is said why not; else one whose peer goes on with the original is saved as lost
    Keep,
}

/// The states of a connection (linux/tcp_states.h).
pub(super) mod state {
    use binfmt::note::inet::InetEnds;

    const ESTABLISHED: u8 = 1;
    pub(super) const SYN_SENT: u8 = 2;
    const FIN_WAIT1: u8 = 4;
    const FIN_WAIT2: u8 = 5;
    pub(super) const CLOSE: u8 = 7;
    const CLOSE_WAIT: u8 = 8;
    const LAST_ACK: u8 = 9;
    pub(super) const LISTEN: u8 = 10;
    const CLOSING: u8 = 11;

    /// Whether there is a connection that can go on.
    pub(crate) fn is_connected(state: u8) -> bool {
        matches!(state, ESTABLISHED | FIN_WAIT1 | FIN_WAIT2 | CLOSE_WAIT | LAST_ACK | CLOSING)
    }

    /// Who has said that nothing more will come.
    pub(crate) fn ends(state: u8) -> InetEnds {
        match state {
            FIN_WAIT1 | FIN_WAIT2 => InetEnds::Own,
            CLOSE_WAIT => InetEnds::Peer,
            CLOSING => InetEnds::OwnFirst,
            LAST_ACK => InetEnds::PeerFirst,
            _ => InetEnds::None,
        }
    }

    /// Whether the program has.
    pub(crate) fn has_ended(state: u8) -> bool {
        !matches!(ends(state), InetEnds::None | InetEnds::Peer)
    }

    /// Whether the peer has.
    pub(crate) fn peer_has_ended(state: u8) -> bool {
        !matches!(ends(state), InetEnds::None | InetEnds::Own)
    }
}

/// What TCP_INFO says.
pub(super) struct Info {
    pub(super) state: u8,
    /// What was agreed upon, but for the length of segments.
    pub(super) agreed: InetAgreement,
    /// Of a listener: how many connections wait to be accepted.
    waiting: u32,
    /// Of a listener: how many may.
    backlog: u32,
}

impl Info {
    /// struct tcp_info: the state is its first byte, tcpi_options the sixth, then both shifts in one; tcpi_unacked and tcpi_sacked
    /// stand at 24 and 28.
    pub(super) fn of(socket: &Held<'_>) -> Result<Info, Errno> {
        const TIMESTAMPS: u8 = 1;
        const SELECTIVE: u8 = 2;
        const SCALED: u8 = 4;
        let info = sys::socket_option(socket.duplicate.as_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, 32)?;
        let word = |at: usize| info.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word));
        let ([state, _, _, _, _, options, shifts, ..], Some(waiting), Some(backlog)) =
            (info.as_slice(), word(24), word(28))
        else {
            return Err(Errno::EBADMSG);
        };
        let agreed = InetAgreement {
            segment_bytes: 0,
            scaled: options & SCALED != 0,
            send_shift: shifts & 0xf,
            receive_shift: shifts >> 4,
            selective: options & SELECTIVE != 0,
            timestamps: options & TIMESTAMPS != 0,
        };
        Ok(Info { state: *state, agreed, waiting, backlog })
    }
}

/// What there is to say of a TCP socket; `verdict`: of its connection, if it has one.
pub(super) fn collect(
    socket: &Held<'_>,
    verdict: Option<Verdict>,
    out: &mut Collected,
) -> Result<Found, Errno> {
    let info = Info::of(socket)?;
    let may_reset = socket.open.subject.options.tcp == Some(Tcp::Reset);
    let mut note = InetSocket { local: local(socket)?, ..InetSocket::default() };
    match verdict {
        Some(Verdict::GoesOn(connection)) => {
            let Connection { note: connection, received, to_send } = *connection;
            note.state = InetState::Established;
            note.peer = peer(socket)?.unwrap_or_default();
            out.note(connection);
            return Ok(Found::connection(note, received, to_send));
        }
        Some(Verdict::Over) => {
            if !may_reset && let Some(remark) = established::remark(socket)? {
                out.remark(format!(
                    "fd {} is {remark}: in the image it is lost, unless --kill or --stop",
                    socket.open.number
                ));
            }
            return over(socket, note);
        }
        Some(Verdict::NotSaved(what, advice)) => return Ok(Found::NotSaved(what, advice)),
        None => {}
    }
    match info.state {
        state::LISTEN if info.waiting > 0 && !may_reset => {
            let many = binfmt::human::counted(
                usize::try_from(info.waiting).unwrap_or(usize::MAX),
                "connection",
                "connections",
            );
            return Ok(Found::NotYet(
                format!("a TCP socket at {} where {many} wait to be accepted", note.local),
                "try again when they have been; `--tcp=reset` gives them up".to_owned(),
            ));
        }
        state::LISTEN => (note.state, note.backlog) = (InetState::Listening, info.backlog),
        state::CLOSE if !is_over(socket)? => {}
        state::SYN_SENT => {
            note.peer = peer_on_the_way(socket)?;
            note.state = InetState::Connecting;
        }
        state::CLOSE => return over(socket, note),
        _ if may_reset => return over(socket, note),
        _ => {
            return Ok(Found::NotYet(
                format!("a TCP socket at {} that is being connected", note.local),
                "try again when it is; `--tcp=reset` gives it up".to_owned(),
            ));
        }
    }
    Ok(Found::saved(note, Vec::new()))
}

/// Options that accept(2) sets by what came from the client, and that nothing can be done with on a TCP socket.
const OF_NO_USE: [(i32, i32); 4] = [
    (libc::IPPROTO_IP, libc::IP_MULTICAST_IF),
    (libc::IPPROTO_IP, libc::IP_MULTICAST_TTL),
    (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF),
    (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS),
];

/// The options that a connection or the kernel sets, and not the program: what was agreed upon with the peer, and buffers that are
/// as large as the kernel thinks fit.
pub(super) fn left_out(socket: &Held<'_>) -> Result<Vec<(i32, i32)>, Errno> {
    const SNDBUF_LOCK: i32 = 1;
    const RCVBUF_LOCK: i32 = 2;
    let locked = socket.number(libc::SO_BUF_LOCK).unwrap_or(0);
    let mut left_out = OF_NO_USE.to_vec();
    if locked & SNDBUF_LOCK == 0 {
        left_out.push((libc::SOL_SOCKET, libc::SO_SNDBUF));
    }
    if locked & RCVBUF_LOCK == 0 {
        left_out.push((libc::SOL_SOCKET, libc::SO_RCVBUF));
    }
    let state = Info::of(socket)?.state;
    if state != state::LISTEN && (state != state::CLOSE || is_over(socket)?) {
        let of_connection = [libc::TCP_MAXSEG, libc::TCP_WINDOW_CLAMP, libc::TCP_QUICKACK];
        left_out.extend(of_connection.map(|name| (libc::IPPROTO_TCP, name)));
    }
    Ok(left_out)
}

/// Whether a closed socket had a connection that is over, unlike one that was never connected, in which there is nothing to
/// read, not even an end.
fn is_over(socket: &Held<'_>) -> Result<bool, Errno> {
    Ok(sys::events(socket.duplicate.as_fd(), PollFlags::POLLIN)?.contains(PollFlags::POLLIN))
}

/// A connection that is over, or is given up.
fn over(socket: &Held<'_>, mut note: InetSocket) -> Result<Found, Errno> {
    note.state = InetState::Reset;
    note.peer = peer(socket)?.unwrap_or_default();
    let received = received(socket)?;
    let pieces = if received.is_empty() { Vec::new() } else { vec![(InetAddress::default(), received)] };
    Ok(Found::saved(note, pieces))
}

/// What has been received and not read, up to urgent data.
pub(super) fn received(socket: &Held<'_>) -> Result<Vec<u8>, Errno> {
    let mut bytes = vec![0; sys::bytes_waiting(socket.duplicate.as_fd())?];
    if bytes.is_empty() {
        return Ok(bytes);
    }
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    match recv(socket.duplicate.as_raw_fd(), &mut bytes, flags) {
        Ok(len) => bytes.truncate(len),
        Err(Errno::EAGAIN) => bytes.clear(),
        Err(error) => return Err(error),
    }
    Ok(bytes)
}

/// The peer that is being asked for a connection: getpeername(2) tells it only when that stands, `/proc/PID/net/tcp` before.
fn peer_on_the_way(socket: &Held<'_>) -> Result<InetAddress, Errno> {
    let inode = socket.inode().to_string();
    let tables = ["net/tcp", "net/tcp6"].map(|name| socket.open.subject.proc.text(name).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines()).find_map(|line| remote(line, &inode)).ok_or(Errno::ENOTCONN)
}

/// The remote address in a line of `/proc/PID/net/tcp` or `tcp6`, if it is that of this inode. Addresses are words of 32 bits,
/// each as the processor writes it.
fn remote(line: &str, inode: &str) -> Option<InetAddress> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if fields.get(9) != Some(&inode) {
        return None;
    }
    let (words, port) = fields.get(2)?.split_once(':')?;
    let mut address = Vec::new();
    for at in (0..words.len()).step_by(8) {
        let word = u32::from_str_radix(words.get(at..at + 8)?, 16).ok()?;
        address.extend_from_slice(&word.to_ne_bytes());
    }
    Some(InetAddress { address: Bytes(address), port: u16::from_str_radix(port, 16).ok()?, scope: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remote_addresses_are_found_by_inode() {
        let line = "   3: 0100007F:B3A2 0200007F:0050 02 00000001:00000000 01:00000064 00000000     0        0 4711 2 0 7";
        let four = InetAddress { address: Bytes(vec![127, 0, 0, 2]), port: 80, scope: 0 };
        assert_eq!(remote(line, "4711"), Some(four));
        assert_eq!(remote(line, "471"), None);
        let six = line.replace("0200007F:", "00000000000000000000000001000000:");
        let mut loopback = vec![0; 16];
        loopback[15] = 1;
        let six_expected = InetAddress { address: Bytes(loopback), port: 80, scope: 0 };
        assert_eq!(remote(&six, "4711"), Some(six_expected));
        assert_eq!(remote("   3: x 02:zz 02 1 1 1 0 0 4711", "4711"), None);
    }
}
