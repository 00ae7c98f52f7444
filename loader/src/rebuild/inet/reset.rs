//! TCP connections that are over: a connection within the host, through which comes what was received, and which is then
//! reset. So the socket says the same as after a fault of the network; only its addresses are those of the loopback.

use super::Saved;
use crate::error::Result;
use crate::rebuild::socket::{Buffer, Room};
use crate::rebuild::{content, socket};
use crate::sys;
use binfmt::note::socket::Moment;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, SockaddrStorage, accept, bind, connect,
    getsockname, listen, send, socket as make_socket,
};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long the host may take for it, in which no wire has a part.
const PATIENCE: Duration = Duration::from_secs(5);

/// Makes the socket of a connection that is over.
pub(super) fn make(saved: Saved<'_>) -> Result<OwnedFd> {
    let failed = |error| saved.failed("make the reset connection of", error);
    let mut bytes = content(saved.image, saved.note.content)?;
    // Behind it stands what a connection had yet to send, which shall be given up.
    let received: u64 = saved.note.received.iter().map(|piece| u64::from(piece.len_bytes)).sum();
    bytes.truncate(usize::try_from(received).unwrap_or(usize::MAX));
    let domain = saved.socket.domain.cast_signed();
    let fd = sys::make_socket(domain, libc::SOCK_STREAM, libc::IPPROTO_TCP).map_err(failed)?;
    // What does not fit is lost, as is what a fault of the network takes.
    let room = Room::make(fd.as_fd(), Buffer::Receive, bytes.len(), 1).map_err(failed)?;
    let peer = join(&fd, domain).map_err(failed)?;
    hand_over(&fd, &peer, &bytes).map_err(failed)?;
    close_by_reset(&peer).map_err(failed)?;
    drop(peer);
    wait_for(&fd, is_told).map_err(failed)?;
    room.give_back().map_err(failed)?;
    socket::set_options(fd.as_fd(), saved.socket, Moment::First)?;
    Ok(fd)
}

/// Connects `fd` with a socket that is returned.
fn join(fd: &OwnedFd, domain: i32) -> nix::Result<OwnedFd> {
    let listener = make_socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    bind(listener.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))))?;
    listen(&listener, Backlog::new(1)?)?;
    let at: SockaddrStorage = getsockname(listener.as_raw_fd())?;
    let port = at.as_sockaddr_in().map_or(0, |address| address.port());
    let address = if domain == libc::AF_INET6 {
        SocketAddr::V6(SocketAddrV6::new(Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port, 0, 0))
    } else {
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    };
    connect(fd.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(sys::adopt(accept(listener.as_raw_fd())?))
}

/// Has `fd` receive `bytes`, as far as it has room.
fn hand_over(fd: &OwnedFd, peer: &OwnedFd, bytes: &[u8]) -> nix::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match send(peer.as_raw_fd(), rest, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
            Ok(len) => rest = rest.get(len..).unwrap_or_default(),
            Err(Errno::EAGAIN) => break,
            Err(error) => return Err(error),
        }
    }
    let mut seen = (0, Instant::now());
    const STILL: Duration = Duration::from_millis(200);
    wait_for(fd, |fd| {
        let waiting = sys::bytes_waiting(fd.as_fd()).unwrap_or(0);
        if waiting != seen.0 {
            seen = (waiting, Instant::now());
        }
        waiting >= bytes.len() || seen.1.elapsed() > STILL
    })
}

/// Has a socket end its connection by a reset when it is closed.
pub(super) fn close_by_reset(fd: &OwnedFd) -> nix::Result<()> {
    // struct linger: on, without a time.
    let linger = [1i32.to_ne_bytes(), 0i32.to_ne_bytes()].concat();
    sys::set_socket_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_LINGER, &linger)
}

/// Whether a socket comes to what poll(2) is asked for, soon.
pub(super) fn becomes(fd: &impl AsFd, events: PollFlags) -> bool {
    const SOON_MS: u16 = 500;
    let mut fds = [PollFd::new(fd.as_fd(), events)];
    let answered = poll(&mut fds, PollTimeout::from(SOON_MS));
    let [fd] = fds;
    let bad = PollFlags::POLLERR | PollFlags::POLLHUP;
    answered.is_ok() && fd.revents().is_some_and(|found| found.contains(events) && !found.intersects(bad))
}

/// Whether the reset has come.
fn is_told(fd: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::empty())];
    let answered = poll(&mut fds, PollTimeout::ZERO);
    let [fd] = fds;
    answered.is_ok() && fd.revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
}

fn wait_for(fd: &OwnedFd, mut done: impl FnMut(&OwnedFd) -> bool) -> nix::Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !done(fd) {
        if Instant::now() > deadline {
            return Err(Errno::ETIMEDOUT);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::recv;

    #[test]
    fn what_was_received_is_read_before_the_reset() {
        for (domain, len) in [(libc::AF_INET, 0), (libc::AF_INET6, 5), (libc::AF_INET, 300_000)] {
            let fd = sys::make_socket(domain, libc::SOCK_STREAM, 0).expect("a socket");
            let bytes = vec![7; len];
            let _room = Room::make(fd.as_fd(), Buffer::Receive, len, 1).expect("room");
            let peer = join(&fd, domain).expect("connected");
            hand_over(&fd, &peer, &bytes).expect("handed over");
            close_by_reset(&peer).expect("told how");
            drop(peer);
            wait_for(&fd, is_told).expect("told");
            let (mut read, mut piece) = (Vec::new(), vec![0; 1 << 20]);
            let end = loop {
                match recv(fd.as_raw_fd(), &mut piece, MsgFlags::MSG_DONTWAIT) {
                    Ok(len) if len > 0 => read.extend_from_slice(&piece[..len]),
                    end => break end,
                }
            };
            assert_eq!((read.len(), end), (len, Err(Errno::ECONNRESET)));
        }
    }
}
