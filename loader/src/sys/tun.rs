//! Attaching to network interfaces.

use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What `/dev/net/tun` is told by the address of what is meant, or by a number (linux/if_tun.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum TellTun {
    /// TUNSETOWNER, a number
    Owner = 0x4004_54cc,
    /// TUNSETGROUP, a number
    Group = 0x4004_54ce,
    /// TUNSETSNDBUF, a word
    SendBuffer = 0x4004_54d4,
    /// TUNSETVNETHDRSZ, a word
    Header = 0x4004_54d8,
}

/// TUNSETIFF
pub const ATTACH: u32 = 0x4004_54ca;
/// TUNSETQUEUE
pub const QUEUE: u32 = 0x4004_54d9;

/// Tells it the name of an interface and flags.
pub fn tell_interface(fd: BorrowedFd<'_>, request: u32, name: &[u8], flags: u32) -> nix::Result<()> {
    const NAME_BYTES: usize = 16;
    let mut asked = [0u8; size_of::<libc::ifreq>()];
    if name.len() >= NAME_BYTES {
        return Err(Errno::ENAMETOOLONG);
    }
    let flags = u16::try_from(flags & 0xffff).unwrap_or_default().to_ne_bytes();
    let bytes = name.iter().enumerate().chain((NAME_BYTES..).zip(&flags));
    for (at, byte) in bytes {
        if let Some(place) = asked.get_mut(at) {
            *place = *byte;
        }
    }
    // SAFETY: both requests have the kernel read and write one struct ifreq, which `asked` is.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), request.into(), asked.as_mut_ptr()) }).map(drop)
}

/// Tells it one thing.
pub fn tell_tun(fd: BorrowedFd<'_>, what: TellTun, value: u32) -> nix::Result<()> {
    let request = what as libc::c_ulong;
    let done = match what {
        // SAFETY: these requests take the number itself.
        TellTun::Owner | TellTun::Group => unsafe { libc::ioctl(fd.as_raw_fd(), request, u64::from(value)) },
        // SAFETY: these requests have the kernel read an int at `value`.
        TellTun::SendBuffer | TellTun::Header => unsafe {
            libc::ioctl(fd.as_raw_fd(), request, &raw const value)
        },
    };
    Errno::result(done).map(drop)
}
