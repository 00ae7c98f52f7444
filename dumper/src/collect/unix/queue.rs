//! What waits to be read from a socket, looked at without taking (MSG_PEEK).
//!
//! A stream gives all its bytes at once, up to where credentials or descriptors change; of messages only the first is seen.
//! What comes after is seen by SO_PEEK_OFF, which belongs to the program: a process of its own puts it back, even if this one
//! is killed meanwhile.

use crate::sys;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrLike, UnixAddr, recvmsg};
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// A message, or bytes that can be read at once.
#[derive(Debug, Default)]
pub struct Message {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The name of who has sent it; empty for none.
    pub sender: Vec<u8>,
    /// Descriptors on their way with it: duplicates.
    pub rights: Vec<OwnedFd>,
    /// Process, user and group of who has sent it, if the socket asks for that.
    pub credentials: Option<(i32, u32, u32)>,
}

/// What can be said of a queue.
#[derive(Debug, Default)]
pub struct Queue {
    /// What is in it.
    pub messages: Vec<Message>,
    /// Whether ECONNRESET waits to be told before.
    pub reset: bool,
    /// Why it cannot be read, if so: "..., which ...".
    pub unreadable: Option<&'static str>,
    /// How far it has been read, if there may be more.
    more_at: Option<usize>,
}

/// Most messages have no more bytes; others take another look.
const ROOM_BYTES: usize = 16 << 10;
/// SCM_MAX_FD descriptors, credentials, a timestamp and more.
const CONTROL_BYTES: usize = 4 << 10;

/// Looks at what can be seen of a queue without changing anything.
pub fn look(socket: BorrowedFd<'_>, kind: i32, peek_offset: i32) -> Result<Queue, Errno> {
    let events = sys::events(socket, PollFlags::POLLIN | PollFlags::POLLPRI)?;
    let mut queue = Queue { reset: events.contains(PollFlags::POLLERR), ..Queue::default() };
    let waiting = sys::bytes_waiting(socket)?;
    let is_stream = kind == libc::SOCK_STREAM;
    if is_stream && events.contains(PollFlags::POLLPRI) {
        queue.unreadable = Some("with a byte out of band (MSG_OOB)");
        return Ok(queue);
    }
    if is_stream && waiting == 0 || !events.contains(PollFlags::POLLIN) {
        return Ok(queue);
    }
    if queue.reset && !is_stream {
        // Any look would take the error first.
        queue.unreadable = (waiting > 0).then_some("with messages after an error that waits to be told");
        return Ok(queue);
    }
    if peek_offset >= 0 {
        // The program's own looks go on from there.
        queue.more_at = Some(0);
        return Ok(queue);
    }
    let Some(message) = peek(socket, waiting.max(ROOM_BYTES), || Ok(()))? else { return Ok(queue) };
    let seen = message.bytes.len();
    // An empty packet cannot be told from the end.
    let has_more = if is_stream { seen < waiting } else { kind == libc::SOCK_DGRAM || seen > 0 };
    queue.more_at = has_more.then_some(seen);
    queue.messages.push(message);
    Ok(queue)
}

impl Queue {
    /// Whether there may be more in it than was seen.
    pub fn has_more(&self) -> bool {
        self.more_at.is_some()
    }

    /// Looks at the rest, by the help of SO_PEEK_OFF, which is to be put back.
    pub fn look_on(&mut self, socket: BorrowedFd<'_>, kind: i32) -> Result<(), Errno> {
        let is_stream = kind == libc::SOCK_STREAM;
        while let Some(at) = self.more_at.take() {
            if is_stream && at >= sys::bytes_waiting(socket)? {
                break;
            }
            let offset = i32::try_from(at).map_err(|_| Errno::EFBIG)?;
            let before = || sys::set_peek_offset(socket, offset);
            let Some(message) = peek(socket, ROOM_BYTES, before)? else { break };
            let seen = message.bytes.len();
            if seen == 0 && kind != libc::SOCK_DGRAM {
                break;
            }
            self.more_at = Some(at + seen);
            self.messages.push(message);
        }
        Ok(())
    }
}

/// The next message, if there is one. What `before` does precedes every look: each moves the offset.
fn peek(
    socket: BorrowedFd<'_>,
    mut room: usize,
    before: impl Fn() -> Result<(), Errno>,
) -> Result<Option<Message>, Errno> {
    loop {
        before()?;
        match peek_once(socket, room) {
            Err(Errno::EAGAIN) => return Ok(None),
            Ok((_, true)) => room = room.saturating_mul(8),
            found => return found.map(|(message, _)| Some(message)),
        }
    }
}

/// A message, and whether it is longer than the room for it.
fn peek_once(socket: BorrowedFd<'_>, room: usize) -> Result<(Message, bool), Errno> {
    let mut bytes = vec![0; room];
    let mut control = vec![0; CONTROL_BYTES];
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let mut message = Message::default();
    let (len, is_cut) = {
        let mut window = [IoSliceMut::new(&mut bytes)];
        let found = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut window, Some(&mut control), flags)?;
        for part in found.cmsgs()? {
            match part {
                ControlMessageOwned::ScmRights(numbers) => {
                    message.rights.extend(numbers.into_iter().map(sys::adopt));
                }
                ControlMessageOwned::ScmCredentials(who) => {
                    message.credentials = Some((who.pid(), who.uid(), who.gid()));
                }
                _ => {}
            }
        }
        message.sender = found.address.map_or_else(Vec::new, |address| name_of(&address));
        (found.bytes, found.flags.contains(MsgFlags::MSG_TRUNC))
    };
    bytes.truncate(len);
    message.bytes = bytes;
    Ok((message, is_cut))
}

/// A name as it stands in notes: a path, or one that begins with a zero byte.
pub fn name_of(address: &UnixAddr) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    if usize::try_from(address.len()).is_ok_and(|len| len <= size_of::<libc::sa_family_t>()) {
        return Vec::new();
    }
    match (address.path(), address.as_abstract()) {
        (Some(path), _) => path.as_os_str().as_bytes().to_vec(),
        (None, Some(name)) => [&[0], name].concat(),
        (None, None) => Vec::new(),
    }
}
