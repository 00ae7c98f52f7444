//! The system calls that no crate offers in a safe form.
#![allow(unsafe_code, reason = "the home of unsafe code in this crate")]

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, Signal};
use nix::sys::stat::Mode;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// Gets rid of what a test runner passes on and is no part of a guest's state: every descriptor from 3 on, which would also make
/// its table of descriptors larger than its own are; signals that a job in the background ignores; a mask for new files that
/// keeps other users out. To be called before anything of ours is open.
pub fn leave_runner() -> nix::Result<()> {
    // SAFETY: the call takes no pointers, and at the start of a program nobody owns a descriptor from 3 on.
    let result = unsafe { libc::close_range(3, libc::c_uint::MAX, 0) };
    Errno::result(result)?;
    for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: the default disposition runs no code of ours.
        unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) }?;
    }
    nix::sys::stat::umask(Mode::from_bits_retain(0o022));
    Ok(())
}

/// What two processes may have in common (linux/kcmp.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Common {
    /// An open file description, under these two descriptor numbers.
    Description(u32, u32),
    /// The address space.
    Memory,
    /// The descriptor table.
    Descriptors,
    /// Root, working directory and umask.
    Filesystem,
    /// Signal dispositions.
    Handlers,
}

/// Whether two processes share it: kcmp(2).
pub fn have_in_common(one: u32, two: u32, what: Common) -> nix::Result<bool> {
    let (kind, first, second) = match what {
        Common::Description(first, second) => (0, first, second),
        Common::Memory => (1, 0, 0),
        Common::Descriptors => (2, 0, 0),
        Common::Filesystem => (3, 0, 0),
        Common::Handlers => (4, 0, 0),
    };
    // SAFETY: for these kinds all arguments are numbers.
    let result = unsafe { libc::syscall(libc::SYS_kcmp, one, two, kind, first, second) };
    Errno::result(result).map(|order| order == 0)
}

/// A descriptor of a process: pidfd_open(2).
pub fn open_process(pid: u32) -> nix::Result<OwnedFd> {
    // SAFETY: pidfd_open takes numbers.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    // SAFETY: the kernel has just made it, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).map_err(|_| Errno::EBADF)?) })
}
