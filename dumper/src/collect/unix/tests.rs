use super::*;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use std::os::fd::OwnedFd;

fn pair(kind: SockType) -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_NONBLOCK).expect("a pair")
}

fn all(socket: &OwnedFd, kind: i32) -> Vec<Vec<u8>> {
    let mut queue = queue::look(socket.as_fd(), kind, -1).expect("a look");
    if queue.has_more() {
        let _guard = sys::PeekGuard::new(&[(socket.as_raw_fd(), -1)]).expect("a guard");
        queue.look_on(socket.as_fd(), kind).expect("another look");
    }
    queue.messages.into_iter().map(|message| message.bytes).collect()
}

#[test]
fn a_look_takes_nothing_and_keeps_messages_apart() {
    for (kind, number) in
        [(SockType::Datagram, libc::SOCK_DGRAM), (SockType::SeqPacket, libc::SOCK_SEQPACKET)]
    {
        let (reader, writer) = pair(kind);
        for message in [&b"one"[..], b"", b"three"] {
            send(writer.as_raw_fd(), message, MsgFlags::empty()).expect("room");
        }
        // An empty packet ends what can be told of packets.
        let expected: &[&[u8]] =
            if number == libc::SOCK_DGRAM { &[b"one", b"", b"three"] } else { &[b"one"] };
        assert_eq!(all(&reader, number), expected, "{kind:?}");
        let mut room = [0; 8];
        assert_eq!(recv(reader.as_raw_fd(), &mut room, MsgFlags::MSG_PEEK), Ok(3), "looks are as they were");
        assert_eq!(recv(reader.as_raw_fd(), &mut room, MsgFlags::empty()), Ok(3));
    }
}

#[test]
fn an_error_that_waits_to_be_told_waits_on() {
    let (reader, writer) = pair(SockType::Stream);
    send(reader.as_raw_fd(), b"unread", MsgFlags::empty()).expect("room");
    drop(writer);
    // A child that another test forks may have it for a moment.
    while !queue::look(reader.as_fd(), libc::SOCK_STREAM, -1).expect("a look").reset {
        std::thread::yield_now();
    }
    let queue = queue::look(reader.as_fd(), libc::SOCK_STREAM, -1).expect("a look");
    assert!(queue.reset && queue.messages.is_empty());
    assert_eq!(recv(reader.as_raw_fd(), &mut [0; 8], MsgFlags::empty()), Err(Errno::ECONNRESET));
}

#[test]
fn long_messages_are_seen_whole_behind_others() {
    let (reader, writer) = pair(SockType::Datagram);
    for len in [1, 100_000, 17_000, 2] {
        send(writer.as_raw_fd(), &vec![7; len], MsgFlags::empty()).expect("room");
    }
    let lens: Vec<usize> = all(&reader, libc::SOCK_DGRAM).iter().map(Vec::len).collect();
    assert_eq!(lens, [1, 100_000, 17_000, 2]);
}
