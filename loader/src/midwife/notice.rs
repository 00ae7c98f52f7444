//! What a parent knows of its children's stops.

use super::Ward;
use crate::control::Control;
use crate::error::{Error, Result};
use nix::errno::Errno;
use nix::unistd::Pid;

/// For how many milliseconds a stop is waited for.
const LOOKS_MAX: u32 = 5_000;

impl Ward {
    /// Makes the leader take notice of a child's stop, and then forget it, as far as it had when it was saved: the signal
    /// had come, and of the rest it may have been told by wait().
    pub(super) fn forget_stop(&self, child: &Ward, told: bool, control: Control) -> Result<()> {
        /// The kernel sends the signal a moment after the stop can be seen.
        const LOOKS_FOR_SIGNAL: u32 = 3;
        let failed = |error| Error::step(format!("have process {} wait for {}", self.pid, child.pid), error);
        let pid = i64::from(child.pid_as_child.as_raw()).cast_unsigned();
        let options = (libc::WUNTRACED | libc::WNOHANG).unsigned_abs() | libc::__WALL.unsigned_abs();
        await_stop(child.pid);
        for _ in 0..if told { LOOKS_MAX } else { 0 } {
            match self.call(libc::SYS_wait4, [pid, 0, options.into(), 0]) {
                Ok(0) => pause(),
                // It does not care for its children.
                Ok(_) | Err(Errno::ECHILD) => break,
                Err(error) => return Err(failed(error)),
            }
        }
        if self.awaits_child_signal {
            return Ok(());
        }
        for _ in 0..LOOKS_FOR_SIGNAL {
            let args = [control.child_signal_set(), 0, control.no_time(), 8];
            match self.call(libc::SYS_rt_sigtimedwait, args) {
                Ok(_) => break,
                Err(Errno::EAGAIN) => pause(),
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(())
    }
}

/// Waits until a signal has stopped a process that nobody traces.
pub(super) fn await_stop(pid: Pid) {
    let is_stopped = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, fields)| fields.starts_with(" T "))
    };
    for _ in 0..LOOKS_MAX {
        if is_stopped() {
            return;
        }
        pause();
    }
}

fn pause() {
    std::thread::sleep(std::time::Duration::from_millis(1));
}
