//! What waits to be read from a socket, looked at without taking (MSG_PEEK).
//!
//! A stream gives all its bytes at once, up to where credentials change or descriptors were sent; of messages only the first is
//! seen. What comes after is seen by SO_PEEK_OFF, and credentials by SO_PASSCRED, which belong to the program: a process of its
//! own puts them back, even if this one is killed meanwhile. Descriptors on their way are seen as duplicates.

use crate::sys;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{MsgFlags, SockaddrLike, UnixAddr, recvmsg};
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// A message, or bytes that can be read at once.
#[derive(Debug, Default)]
pub struct Message {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The name of who has sent it; empty for none.
    pub sender: Vec<u8>,
    /// Descriptors on their way with it: duplicates.
    pub rights: Vec<OwnedFd>,
    /// The same, when they have been taken from here: by the numbers of the duplicates, then by the ids of the descriptions.
    pub passed: Vec<u32>,
    /// Process, user and group of who has sent it, if that is said.
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
    /// Whether something is in it that has not been looked at.
    waits: bool,
}

/// Most messages have no more bytes; others take another look.
const ROOM_BYTES: usize = 16 << 10;
/// SCM_MAX_FD descriptors, credentials, a timestamp and more.
const CONTROL_BYTES: usize = 4 << 10;

/// Looks whether anything is in a queue, and whether it can be seen.
pub fn look(socket: BorrowedFd<'_>, kind: i32) -> Result<Queue, Errno> {
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
    queue.waits = true;
    Ok(queue)
}

impl Queue {
    /// Whether something is in it that has not been looked at.
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// Looks at what is in it, by the help of SO_PEEK_OFF and SO_PASSCRED, which are to be put back.
    pub fn look_on(&mut self, socket: BorrowedFd<'_>, kind: i32) -> Result<(), Errno> {
        let is_stream = kind == libc::SOCK_STREAM;
        sys::pass_credentials(socket)?;
        let mut at = 0;
        while std::mem::take(&mut self.waits) {
            let waiting = sys::bytes_waiting(socket)?;
            if is_stream && at >= waiting {
                break;
            }
            let offset = i32::try_from(at).map_err(|_| Errno::EFBIG)?;
            let room = if is_stream { waiting - at } else { ROOM_BYTES };
            let Some(message) = peek(socket, offset, room)? else { break };
            let seen = message.bytes.len();
            if seen == 0 && message.rights.is_empty() && is_end(socket, kind)? {
                // An empty packet cannot be told from the end.
                self.unreadable = (at < waiting).then_some("with messages behind an empty one, and an end");
                break;
            }
            at += seen;
            self.waits = seen > 0 || !is_stream;
            if is_stream && !message.rights.is_empty() {
                self.messages.extend(before_rights(socket, offset, message)?);
            } else {
                self.messages.push(message);
            }
        }
        Ok(())
    }
}

/// Whether nothing that was read may be the end of everything.
fn is_end(socket: BorrowedFd<'_>, kind: i32) -> Result<bool, Errno> {
    match kind {
        libc::SOCK_DGRAM => Ok(false),
        libc::SOCK_SEQPACKET => sys::has_read_end(socket),
        _ => Ok(true),
    }
}

/// The next message, if there is one.
fn peek(socket: BorrowedFd<'_>, offset: i32, mut room: usize) -> Result<Option<Message>, Errno> {
    loop {
        match peek_once(socket, offset, room) {
            Err(Errno::EAGAIN) => return Ok(None),
            Ok((_, true)) => room = room.saturating_mul(8),
            found => return found.map(|(message, _)| Some(message)),
        }
    }
}

/// What a stream gives ends with the bytes that descriptors were sent with, and may begin before: the two parts.
fn before_rights(socket: BorrowedFd<'_>, offset: i32, mut whole: Message) -> Result<Vec<Message>, Errno> {
    sys::set_peek_offset(socket, offset)?;
    // Asked for less, Linux shows the descriptors all the same. But it copies piece by piece, as they were sent.
    let without = match sys::peek_pieces(socket, whole.bytes.len().saturating_sub(1)) {
        Err(Errno::EFAULT) => 0,
        len => len?,
    };
    let bytes = whole.bytes.split_off(without);
    let rest = Message { bytes, sender: whole.sender.clone(), ..Message::default() };
    let rest = Message { rights: std::mem::take(&mut whole.rights), credentials: whole.credentials, ..rest };
    Ok(if without == 0 { vec![rest] } else { vec![whole, rest] })
}

/// A message, and whether there is more of it than the room for it. Each look moves the offset.
fn peek_once(socket: BorrowedFd<'_>, offset: i32, room: usize) -> Result<(Message, bool), Errno> {
    sys::set_peek_offset(socket, offset)?;
    let mut bytes = vec![0; room];
    let mut control = vec![0; CONTROL_BYTES];
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let (len, sender, came) = {
        let mut window = [IoSliceMut::new(&mut bytes)];
        let found = recvmsg::<UnixAddr>(socket.as_raw_fd(), &mut window, Some(&mut control), flags)?;
        let sender = found.address.map_or_else(Vec::new, |address| name_of(&address));
        (found.bytes, sender, found.flags)
    };
    bytes.truncate(len);
    let mut message = Message { bytes, sender, ..Message::default() };
    // First of all, so that all are closed whatever happens.
    take_control(&control, &mut message);
    if came.contains(MsgFlags::MSG_CTRUNC) {
        // That there are more than may be open is said in no other way.
        return Err(Errno::EMFILE);
    }
    Ok((message, came.contains(MsgFlags::MSG_TRUNC)))
}

/// Takes what came with a message (cmsg(3)). The rest of `control` is zeros.
fn take_control(mut control: &[u8], message: &mut Message) {
    /// struct cmsghdr: the length of all, level, type.
    const HEADER_BYTES: usize = 16;
    const SCM_PIDFD: i32 = 4;
    let word = |bytes: &[u8], at: usize| {
        let bytes = bytes.get(at..).and_then(|bytes| bytes.first_chunk().copied());
        bytes.map_or(0, i32::from_ne_bytes)
    };
    while let Some(len) = control.first_chunk().map(|len| usize::from_ne_bytes(*len)) {
        let Some(data) = control.get(HEADER_BYTES..len) else { break };
        let numbers = || data.chunks_exact(size_of::<RawFd>()).map(|number| sys::adopt(word(number, 0)));
        match (word(control, 8), word(control, 12)) {
            (libc::SOL_SOCKET, libc::SCM_RIGHTS) => message.rights.extend(numbers()),
            // Made for this look, it is closed.
            (libc::SOL_SOCKET, SCM_PIDFD) => numbers().for_each(drop),
            (libc::SOL_SOCKET, libc::SCM_CREDENTIALS) if word(data, 0) != 0 => {
                let ids = (word(data, 0), word(data, 4).cast_unsigned(), word(data, 8).cast_unsigned());
                message.credentials = Some(ids);
            }
            _ => {}
        }
        control = control.get(len.next_multiple_of(size_of::<usize>())..).unwrap_or_default();
    }
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
