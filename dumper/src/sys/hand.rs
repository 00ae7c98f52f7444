//! A process that nobody else knows: whoever ends this one does not end that one, which does its work to the end.

use super::Result;
use nix::errno::Errno;
use nix::sys::wait::{WaitStatus, waitpid};

/// Has `work` done by such a process, and returns what it has come to: a small number. `EINTR` if somebody has ended it all the
/// same.
pub(crate) fn by_another_hand(work: impl FnOnce() -> u8) -> Result<u8> {
    // SAFETY: the child has a copy of everything, and never returns. No other thread of this process lives that could hold a lock
    // which `work` wants (those of `parts` and `io_context` are joined where they are made), and glibc's allocator does not mind.
    let process = unsafe { libc::fork() };
    if process == 0 {
        stand_apart();
        let status = work();
        // SAFETY: _exit has no preconditions.
        unsafe { libc::_exit(status.into()) }
    }
    let process = nix::unistd::Pid::from_raw(Errno::result(process)?);
    loop {
        match waitpid(process, None) {
            Err(Errno::EINTR) => {}
            Ok(WaitStatus::Exited(_, status)) => return u8::try_from(status).map_err(|_| Errno::EINTR),
            _ => return Err(Errno::EINTR),
        }
    }
}

/// What ends the other one by its group or its terminal must not end this one.
pub(super) fn stand_apart() {
    // SAFETY: the calls take numbers, and a set that lives through them.
    unsafe {
        libc::setsid();
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
    }
}
