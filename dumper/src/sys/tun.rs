//! Asking `/dev/net/tun`.

use super::{Result, owned};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// What it tells in one word (linux/if_tun.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum AskTun {
    /// TUNGETSNDBUF
    SendBuffer = 0x8004_54d3,
    /// TUNGETVNETHDRSZ
    Header = 0x8004_54d7,
}

/// The name and the flags of the interface that a description is attached to; EBADFD if it is to none.
pub(crate) fn tun_interface(fd: BorrowedFd<'_>) -> Result<(Vec<u8>, u32)> {
    const TUNGETIFF: libc::c_ulong = 0x8004_54d2;
    const NAME_BYTES: usize = 16;
    let mut answer = [0u8; size_of::<libc::ifreq>()];
    // SAFETY: the kernel writes one struct ifreq, for which there is room.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), TUNGETIFF, answer.as_mut_ptr()) })?;
    let (name, rest) = answer.split_at(NAME_BYTES);
    let name = name.iter().copied().take_while(|byte| *byte != 0).collect();
    let flags = rest.first_chunk().map_or(0, |flags| u16::from_ne_bytes(*flags));
    Ok((name, flags.into()))
}

/// One word.
pub(crate) fn ask_tun(fd: BorrowedFd<'_>, what: AskTun) -> Result<u32> {
    let mut answer: u32 = 0;
    // SAFETY: each of these requests has the kernel write one int at `answer`.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), what as libc::c_ulong, &raw mut answer) })?;
    Ok(answer)
}

/// The network namespace of an interface.
pub(crate) fn tun_namespace(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    const SIOCGSKNS: libc::c_ulong = 0x894c;
    // SAFETY: the request takes no argument and returns a descriptor that is nobody's yet.
    owned(unsafe { libc::ioctl(fd.as_raw_fd(), SIOCGSKNS, 0) }.into())
}
