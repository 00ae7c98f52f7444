//! What std and nix do not do with files.

use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Gives a file an extended attribute.
pub fn set_attribute(fd: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> nix::Result<()> {
    let (at, len) = (value.as_ptr().cast(), value.len());
    // SAFETY: the name ends with a zero byte, and the kernel reads `len` bytes at `at`, which is borrowed for the call.
    Errno::result(unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), at, len, 0) }).map(drop)
}

/// Adds attributes of chattr(1).
pub fn add_change_attributes(fd: BorrowedFd<'_>, attributes: u32) -> nix::Result<()> {
    let mut flags: libc::c_long = 0;
    // SAFETY: the call writes an int at `flags`, which has room for more.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut flags) })?;
    flags |= libc::c_long::from(attributes);
    // SAFETY: the call reads an int at `flags`.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), libc::FS_IOC_SETFLAGS, &raw const flags) }).map(drop)
}
