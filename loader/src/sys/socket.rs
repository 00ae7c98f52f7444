//! Sockets.

use super::{adopt, check};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// A new socket, of any domain.
pub fn make_socket(domain: i32, kind: i32, protocol: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: socket takes numbers.
    let fd = check(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) }.into())?;
    Ok(adopt(RawFd::try_from(fd).unwrap_or(-1)))
}

/// Sets an option of a socket to the bytes of `value`.
pub fn set_socket_option(fd: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> Result<(), Errno> {
    let len = libc::socklen_t::try_from(value.len()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel reads `len` bytes at `value`, which has so many. The options of the tables have no pointers in
    // them; that which has is set by `attach_filter`.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, value.as_ptr().cast(), len) }.into())
        .map(drop)
}

/// A number that a socket has for an option.
pub fn socket_number(fd: BorrowedFd<'_>, level: i32, name: i32) -> Result<i32, Errno> {
    let (mut value, mut len) = (0i32, 4);
    let (at, len_at) = ((&raw mut value).cast(), &raw mut len);
    // SAFETY: the kernel writes at most four bytes at `value`, and the length at `len`.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, at, len_at) }.into())?;
    Ok(value)
}

/// Attaches a classic BPF program of 8 bytes an instruction to a socket.
pub fn attach_filter(fd: BorrowedFd<'_>, program: &[u8]) -> Result<(), Errno> {
    let mut instructions = Vec::with_capacity(program.len() / 8);
    for bytes in program.chunks_exact(8) {
        let word: [u8; 8] = bytes.try_into().map_err(|_| Errno::EINVAL)?;
        instructions.push(u64::from_ne_bytes(word));
    }
    let len = libc::c_ushort::try_from(instructions.len()).map_err(|_| Errno::EINVAL)?;
    let program = libc::sock_fprog { len, filter: instructions.as_mut_ptr().cast() };
    let (value, bytes) = ((&raw const program).cast(), libc::socklen_t::try_from(size_of_val(&program)));
    let bytes = bytes.map_err(|_| Errno::EINVAL)?;
    let name = libc::SO_ATTACH_FILTER;
    // SAFETY: the kernel reads one sock_fprog, and at its pointer `len` instructions, which `instructions` has.
    check(unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, name, value, bytes) }.into()).map(drop)
}

/// Has a packet socket hear frames of a protocol, on one interface or, for 0, on all.
pub fn bind_packet(fd: BorrowedFd<'_>, protocol: u16, interface: u32) -> Result<(), Errno> {
    // SAFETY: sockaddr_ll is plain data for which all zeros is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::c_ushort::try_from(libc::AF_PACKET).map_err(|_| Errno::EINVAL)?;
    address.sll_protocol = protocol.to_be();
    address.sll_ifindex = interface.cast_signed();
    let len = libc::socklen_t::try_from(size_of_val(&address)).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel reads one sockaddr_ll.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) }.into()).map(drop)
}

/// Ends the association of a datagram socket with its peer (connect(2) with AF_UNSPEC).
pub fn disconnect(fd: BorrowedFd<'_>) -> Result<(), Errno> {
    let nowhere = libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
    let len = libc::socklen_t::try_from(size_of_val(&nowhere)).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel reads one sockaddr.
    check(unsafe { libc::connect(fd.as_raw_fd(), &raw const nowhere, len) }.into()).map(drop)
}
