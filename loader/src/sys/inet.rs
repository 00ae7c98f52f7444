//! IP sockets.

use super::check;
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What waits in the queue of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// How much memory it takes.
    pub bytes: u32,
    /// How many datagrams found no room.
    pub dropped: u32,
}

/// What waits in the queue of a socket (SO_MEMINFO).
pub fn socket_queue(fd: BorrowedFd<'_>) -> Result<Queue, Errno> {
    // SK_MEMINFO_VARS words, of which these two are SK_MEMINFO_RMEM_ALLOC and SK_MEMINFO_DROPS.
    let mut words = [0u32; 9];
    let mut len = libc::socklen_t::try_from(size_of_val(&words)).map_err(|_| Errno::EINVAL)?;
    let (name, at, len_at) = (libc::SO_MEMINFO, words.as_mut_ptr().cast(), &raw mut len);
    // SAFETY: the kernel writes at most `len` bytes at `words`, which has so many, and the length at `len`.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, name, at, len_at) }.into())?;
    let [bytes, .., dropped] = words;
    Ok(Queue { bytes, dropped })
}

/// How many bytes can be read without waiting.
pub fn bytes_waiting(fd: BorrowedFd<'_>) -> Result<usize, Errno> {
    let mut count: libc::c_int = 0;
    // SAFETY: the kernel writes one int.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FIONREAD, &raw mut count) }.into())?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// The state of a TCP socket (linux/tcp_states.h): the first byte of what TCP_INFO says.
pub fn tcp_state(fd: BorrowedFd<'_>) -> Result<u8, Errno> {
    let (mut state, mut len) = (0u8, 1);
    let (at, len_at) = ((&raw mut state).cast(), &raw mut len);
    // SAFETY: the kernel writes at most one byte at `state`, and the length at `len`.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, at, len_at) }.into())?;
    Ok(state)
}
