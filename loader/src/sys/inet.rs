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

/// Brings up the loopback interface of this network namespace (netdevice(7)).
pub fn raise_loopback() -> Result<(), Errno> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?;
    // SAFETY: the structure is plain data, for which zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel reads one ifreq.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) }.into()).map(drop)
}

/// Of which kind the namespace is that a file leads to: the flag by which clone(2) knows it (ioctl_ns(2)).
pub fn namespace_kind(file: &std::fs::File) -> Result<i32, Errno> {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: the request takes no argument.
    let kind = check(unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) }.into())?;
    i32::try_from(kind).map_err(|_| Errno::EINVAL)
}
