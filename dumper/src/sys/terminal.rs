//! Asking terminals.

use super::Result;
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// What a terminal tells in one word (ioctl_tty(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Ask {
    /// The number of its device, whatever name it was opened by (TIOCGDEV).
    Device = 0x8004_5432,
    /// Whether the master is told of what happens to the slave (TIOCGPKT).
    PacketMode = 0x8004_5438,
    /// Whether the slave cannot be opened (TIOCGPTLCK).
    Lock = 0x8004_5439,
    /// Whether it cannot be opened again (TIOCGEXCL).
    Exclusive = 0x8004_5440,
    /// Whose controlling terminal it is (TIOCGSID).
    Session = 0x5429,
    /// Its foreground group (TIOCGPGRP).
    Foreground = 0x540f,
}

/// What a terminal says. Of the two ends of a pseudo-terminal the master answers for the slave, but for `Exclusive`.
pub(crate) fn ask_terminal(fd: BorrowedFd<'_>, what: Ask) -> Result<u32> {
    let mut answer: u32 = 0;
    // SAFETY: each of these requests has the kernel write one 32-bit word at `answer`.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), what as libc::c_ulong, &raw mut answer) })?;
    Ok(answer)
}
