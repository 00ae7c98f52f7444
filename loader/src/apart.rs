//! `--detach` where a process becomes the program: a child does, so that the one that was started can return.

use crate::error::{EXIT_CANNOT_RESUME, Error, Result};
use crate::stage::Identity;
use crate::supervisor;
use crate::sys;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpid, pipe2, read, write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

/// Who goes on after [`fork`].
pub enum Side {
    /// Who was started, when all is over.
    Caller(ExitCode),
    /// The child, which is to become the program. Its helper says through the announcement that it has.
    Child(Announcement),
}

/// The end of a pipe on which the caller waits. When all of them are closed, nothing comes any more.
pub struct Announcement(OwnedFd);

impl Announcement {
    /// The program runs.
    pub fn make(self) {
        // The caller may have been killed.
        let _ = write(self.0.as_fd(), &[1]);
    }
}

/// Forks; the caller waits for what becomes of the child.
pub fn fork() -> Result<Side> {
    let failed = |error| Error::step("fork the process that becomes the program", error);
    let (theirs, ours) = pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
    let caller = getpid();
    let child = sys::fork(&[], libc::SIGCHLD, 0).map_err(failed)?;
    if child == 0 {
        supervisor::end_with(caller, Identity::Fresh, None)?;
        return Ok(Side::Child(Announcement(ours)));
    }
    drop(ours);
    let mut told = [0];
    let runs = loop {
        match read(theirs.as_fd(), &mut told) {
            Err(Errno::EINTR) => {}
            told => break told == Ok(1),
        }
    };
    if !runs {
        // Its helper has failed or was killed, maybe when the program ran already: nobody was told of it, and nothing is left.
        let _ = kill(Pid::from_raw(child), Signal::SIGKILL);
        let _ = waitpid(Pid::from_raw(child), Some(WaitPidFlag::__WALL));
        return Ok(Side::Caller(ExitCode::from(EXIT_CANNOT_RESUME)));
    }
    Ok(Side::Caller(ExitCode::SUCCESS))
}
