use super::*;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair};
use std::os::fd::OwnedFd;

fn pair(kind: SockType) -> (OwnedFd, OwnedFd) {
    socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_NONBLOCK).expect("a pair")
}

fn whole(socket: &OwnedFd, kind: i32) -> Vec<queue::Message> {
    let mut queue = queue::look(socket.as_fd(), kind).expect("a look");
    if queue.waits() {
        let number = socket.as_raw_fd();
        let wanted = [(number, libc::SO_PEEK_OFF, -1), (number, libc::SO_PASSCRED, 0)];
        let _guard = sys::LookGuard::new(&wanted).expect("a guard");
        queue.look_on(socket.as_fd(), kind).expect("another look");
    }
    queue.messages
}

fn all(socket: &OwnedFd, kind: i32) -> Vec<Vec<u8>> {
    whole(socket, kind).into_iter().map(|message| message.bytes).collect()
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
        assert_eq!(all(&reader, number), [&b"one"[..], b"", b"three"], "{kind:?}");
        let mut room = [0; 8];
        assert_eq!(recv(reader.as_raw_fd(), &mut room, MsgFlags::MSG_PEEK), Ok(3), "looks are as they were");
        assert_eq!(recv(reader.as_raw_fd(), &mut room, MsgFlags::empty()), Ok(3));
    }
}

#[test]
fn an_empty_packet_before_an_end_is_named() {
    let (reader, writer) = pair(SockType::SeqPacket);
    for message in [&b"one"[..], b"", b"three"] {
        send(writer.as_raw_fd(), message, MsgFlags::empty()).expect("room");
    }
    nix::sys::socket::shutdown(writer.as_raw_fd(), nix::sys::socket::Shutdown::Write).expect("an end");
    let mut queue = queue::look(reader.as_fd(), libc::SOCK_SEQPACKET).expect("a look");
    let wanted = [(reader.as_raw_fd(), libc::SO_PEEK_OFF, -1), (reader.as_raw_fd(), libc::SO_PASSCRED, 0)];
    let _guard = sys::LookGuard::new(&wanted).expect("a guard");
    queue.look_on(reader.as_fd(), libc::SOCK_SEQPACKET).expect("another look");
    assert!(queue.unreadable.is_some(), "the third cannot be seen");
}

#[test]
fn an_error_that_waits_to_be_told_waits_on() {
    let (reader, writer) = pair(SockType::Stream);
    send(reader.as_raw_fd(), b"unread", MsgFlags::empty()).expect("room");
    drop(writer);
    // A child that another test forks may have it for a moment.
    while !queue::look(reader.as_fd(), libc::SOCK_STREAM).expect("a look").reset {
        std::thread::yield_now();
    }
    let queue = queue::look(reader.as_fd(), libc::SOCK_STREAM).expect("a look");
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

#[test]
fn descriptors_are_seen_where_they_were_sent() {
    use nix::sys::socket::{ControlMessage, sendmsg};
    use std::io::IoSlice;
    let (reader, writer) = pair(SockType::Stream);
    let sent = std::fs::File::open("/dev/null").expect("a file");
    let (number, flags) = ([sent.as_raw_fd()], MsgFlags::empty());
    for (bytes, rights) in [(&b"before"[..], false), (b"with them", true), (b"x", true), (b"after", false)] {
        let control = [ControlMessage::ScmRights(&number)];
        let control = if rights { &control[..] } else { &[] };
        sendmsg::<()>(writer.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, None).expect("room");
    }
    for _ in 0..2 {
        let found = whole(&reader, libc::SOCK_STREAM);
        let found: Vec<_> =
            found.iter().map(|message| (message.bytes.as_slice(), message.rights.len())).collect();
        assert_eq!(found, [(&b"before"[..], 0), (b"with them", 1), (b"x", 1), (b"after", 0)]);
    }
}
