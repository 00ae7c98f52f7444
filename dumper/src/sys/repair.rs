//! What TCP connections tell only in repair mode (TCP_REPAIR).
//!
//! A connection in that mode is of no use to its program: it reads EPERM. So it is in it for a few microseconds, and by the
//! hand of a process that nobody else knows: whoever ends this one, and so lets the program run on, does not end that one, which
//! finishes the connection that it is at and looks at no other. Should that one be ended, this one ends the mode.

use super::urgent::waits_behind;
use super::{Result, share_memory};
use nix::errno::Errno;
use std::os::fd::RawFd;

const TCP_REPAIR: i32 = 19;
const TCP_REPAIR_QUEUE: i32 = 20;
const TCP_QUEUE_SEQ: i32 = 21;
const TCP_REPAIR_WINDOW: i32 = 29;
/// Values of TCP_REPAIR; the last one ends the mode without a word to the peer (since 4.19).
const ON: i32 = 1;
const OFF: i32 = 0;
const OFF_SILENTLY: i32 = -1;
/// Values of TCP_REPAIR_QUEUE.
const RECEIVED: i32 = 1;
const SENT: i32 = 2;

/// A connection to ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// A duplicate of its descriptor.
    pub(crate) fd: RawFd,
    /// Its SO_REUSEADDR, which the mode takes away.
    pub(crate) reuse: i32,
    /// Its SO_OOBINLINE, which is changed for a moment.
    pub(crate) inline: i32,
    /// The most that can wait in its send queue, in bytes.
    pub(crate) room: usize,
}

/// What it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The sequence number behind all that was written to it, the end included.
    pub(crate) written_to: u32,
    /// How much of that is not acknowledged, the end included.
    pub(crate) unacknowledged: u32,
    /// The longest segment that the peer takes.
    pub(crate) segment_bytes: u32,
    /// struct tcp_repair_window.
    pub(crate) window: [u32; 5],
    /// How many bytes wait behind urgent data, itself included.
    pub(crate) behind: u32,
    /// What was written and may have to be sent again.
    pub(crate) queue: Vec<u8>,
}

/// The words before the bytes of the queue: how it went (0: not begun, 1: done, else a negative error), `written_to`,
/// `unacknowledged`, `segment_bytes`, the window, `behind`, and how many bytes follow.
const HEAD_WORDS: usize = 11;
const HEAD_BYTES: usize = HEAD_WORDS * 4;

/// Asks connections, whose programs stand still.
pub(crate) fn ask_in_repair(asked: &[Asked]) -> Result<Vec<Result<Told>>> {
    let mut places = Vec::with_capacity(asked.len());
    let mut len = 0usize;
    for one in asked {
        places.push(len);
        len += HEAD_BYTES + one.room.next_multiple_of(4);
    }
    let memory = share_memory(len.max(1))?;
    let own = std::process::id();
    // SAFETY: the child only makes system calls (`ask_all`) and never returns, so it does not matter what other threads were doing.
    let process = unsafe { libc::fork() };
    if process == 0 {
        ask_all(asked, &places, memory.at(), own);
    }
    let process = nix::unistd::Pid::from_raw(Errno::result(process)?);
    let end = loop {
        match nix::sys::wait::waitpid(process, None) {
            Err(Errno::EINTR) => {}
            end => break end,
        }
    };
    if !matches!(end, Ok(nix::sys::wait::WaitStatus::Exited(_, 0))) {
        asked.iter().for_each(leave);
        return Err(Errno::EINTR);
    }
    let bytes = memory.bytes();
    Ok(places.iter().map(|at| told(bytes.get(*at..).unwrap_or_default())).collect())
}

fn told(bytes: &[u8]) -> Result<Told> {
    let word = |at: usize| bytes.get(at * 4..)?.first_chunk().map(|word| u32::from_ne_bytes(*word));
    let word = |at| word(at).unwrap_or(0);
    match word(0).cast_signed() {
        1 => {}
        0 => return Err(Errno::EINTR),
        error => return Err(Errno::from_raw(-error)),
    }
    let len = usize::try_from(word(10)).unwrap_or(0);
    Ok(Told {
        written_to: word(1),
        unacknowledged: word(2),
        segment_bytes: word(3),
        window: [word(4), word(5), word(6), word(7), word(8)],
        behind: word(9),
        queue: bytes.get(HEAD_BYTES..HEAD_BYTES + len).ok_or(Errno::EMSGSIZE)?.to_vec(),
    })
}

/// The child's part: asks one after the other as long as its parent lives, and ends.
fn ask_all(asked: &[Asked], places: &[usize], memory: *mut u8, parent: u32) -> ! {
    super::hand::stand_apart();
    for (one, place) in asked.iter().zip(places) {
        if std::os::unix::process::parent_id() != parent {
            break;
        }
        // SAFETY: the memory has room for the head and the bytes at each place.
        let at = unsafe { memory.add(*place) };
        let mut head = [0u32; HEAD_WORDS];
        let went = ask(one, &mut head, at.wrapping_add(HEAD_BYTES));
        leave(one);
        let went = went.and_then(|()| waits_behind(one.fd, one.inline)).map(|behind| head[9] = behind);
        head[0] = match went {
            Ok(()) => 1,
            Err(error) => (-(error as i32)).cast_unsigned(),
        };
        // SAFETY: as above; the places are multiples of four in a mapping, and nobody else writes there.
        unsafe { at.cast::<[u32; HEAD_WORDS]>().write(head) };
    }
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(0) }
}

/// Asks one connection, which is left in repair mode.
fn ask(one: &Asked, head: &mut [u32; HEAD_WORDS], queue: *mut u8) -> Result<()> {
    let [_, written_to, unacknowledged, segment_bytes, window @ .., _, queue_len] = head;
    set(one.fd, libc::IPPROTO_TCP, TCP_REPAIR, ON)?;
    set(one.fd, libc::IPPROTO_TCP, TCP_REPAIR_QUEUE, SENT)?;
    get(one.fd, TCP_QUEUE_SEQ, std::slice::from_mut(written_to))?;
    get(one.fd, libc::TCP_MAXSEG, std::slice::from_mut(segment_bytes))?;
    get(one.fd, TCP_REPAIR_WINDOW, window)?;
    // SAFETY: the kernel writes one int.
    Errno::result(unsafe { libc::ioctl(one.fd, libc::TIOCOUTQ, &raw mut *unacknowledged) })?;
    if one.room != 0 {
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        // SAFETY: there is room for so many bytes.
        let len = unsafe { libc::recv(one.fd, queue.cast(), one.room, flags) };
        *queue_len = u32::try_from(Errno::result(len)?).map_err(|_| Errno::EMSGSIZE)?;
    }
    // From now on TCP_QUEUE_SEQ tells of this queue, outside of the mode, too.
    set(one.fd, libc::IPPROTO_TCP, TCP_REPAIR_QUEUE, RECEIVED)
}

/// Ends the mode, if it is on.
fn leave(one: &Asked) {
    let end = |value| set(one.fd, libc::IPPROTO_TCP, TCP_REPAIR, value);
    let _ = end(OFF_SILENTLY).or_else(|_| end(OFF));
    let _ = set(one.fd, libc::SOL_SOCKET, libc::SO_REUSEADDR, one.reuse);
    let _ = set(one.fd, libc::SOL_SOCKET, libc::SO_OOBINLINE, one.inline);
}

/// Whether this process may use repair mode.
pub(crate) fn may_repair() -> bool {
    use std::os::fd::AsRawFd;
    let own = super::make_socket(libc::AF_INET, libc::SOCK_STREAM, 0);
    own.is_ok_and(|own| set(own.as_raw_fd(), libc::IPPROTO_TCP, TCP_REPAIR, ON).is_ok())
}

/// Has a connection end without a word to its peer when it is closed. Nobody can use it any more.
pub(crate) fn silence(fd: RawFd) -> Result<()> {
    set(fd, libc::IPPROTO_TCP, TCP_REPAIR, ON)
}

/// The sequence number behind what was received, the end included, of a connection that was asked.
pub(crate) fn received_to(fd: RawFd) -> Result<u32> {
    let mut value = 0;
    get(fd, TCP_QUEUE_SEQ, std::slice::from_mut(&mut value)).map(|()| value)
}

pub(super) fn set(fd: RawFd, level: i32, name: i32, value: i32) -> Result<()> {
    // SAFETY: the kernel reads four bytes at `value`.
    Errno::result(unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), 4) }).map(drop)
}

fn get(fd: RawFd, name: i32, words: &mut [u32]) -> Result<()> {
    let mut len = libc::socklen_t::try_from(size_of_val(words)).map_err(|_| Errno::EINVAL)?;
    let at = words.as_mut_ptr().cast();
    // SAFETY: the kernel writes at most `len` bytes at `words`, which has so many, and the length at `len`.
    Errno::result(unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, name, at, &raw mut len) }).map(drop)
}
