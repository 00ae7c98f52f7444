//! A task that is being made, as the midwife sees it: traced thread by thread.

use crate::arena::Hole;
use crate::control::{Control, ProcessWord};
use crate::error::{Error, Result};
use crate::sys;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

/// A task that is being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ward {
    /// Which process of the skeleton it is.
    pub process: usize,
    /// Its process id.
    pub pid: Pid,
    /// The same as its parent sees it.
    pub pid_as_child: Pid,
    /// Its threads, the leader first.
    pub tids: Vec<Pid>,
    /// Address of a `syscall` instruction in its vdso.
    pub syscall_at: u64,
    /// Whether it must be stopped when it is let go.
    pub stop: Stop,
    /// Which ward is its parent, if one is.
    pub parent: Option<usize>,
    /// Whether its memory is not another one's.
    pub owns_memory: bool,
    /// Whether a SIGCHLD waited for it when it was saved, which must not be taken away.
    pub awaits_child_signal: bool,
}

/// How a task is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It is not.
    None,
    /// It is; its parent may have been `told` by wait(), and a SIGSTOP may wait for it `again`.
    Stands {
        /// Whether its parent has learned of it by wait().
        told: bool,
        /// Whether a SIGSTOP waits that came after the one that stopped it.
        again: bool,
    },
    /// A SIGSTOP waits for it and will stop it.
    Due,
}

impl Ward {
    /// Sends it a SIGSTOP.
    pub(super) fn send_stop(&self) -> Result<()> {
        self.traced("stop", self.pid, kill(self.pid, Signal::SIGSTOP))
    }

    /// Lets go of all threads.
    pub(super) fn let_go(&self) -> Result<()> {
        // The leader last: as long as it is held, the process is not waited for by anybody.
        for tid in self.tids.iter().rev() {
            match ptrace::detach(*tid, None) {
                // The threads that went before have ended the program already.
                Err(Errno::ESRCH) => self.take_end(*tid),
                result => self.traced("let go of", *tid, result)?,
            }
        }
        Ok(())
    }

    /// Waits for the end of a thread; that of the leader is left to those who watch the process.
    pub(super) fn take_end(&self, tid: Pid) {
        if tid != self.pid {
            while !matches!(
                waitpid(tid, Some(WaitPidFlag::__WALL)),
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(Errno::ECHILD)
            ) {}
        }
    }

    pub(super) fn traced<T>(&self, what: &str, tid: Pid, result: nix::Result<T>) -> Result<T> {
        result.map_err(|error| Error::step(format!("{what} thread {tid}"), error))
    }

    /// Whether the task has ended: it tells its errors itself.
    pub(super) fn is_gone(&self) -> bool {
        self.take_ended();
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT | WaitPidFlag::__WALL;
        match waitid(Id::Pid(self.pid), flags) {
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => true,
            // It is no child of ours, and nobody else's zombie for long.
            Err(Errno::ECHILD) => sys::has_ended(self.pid.as_raw()),
            _ => false,
        }
    }

    /// Takes the ends of the other threads: the leader's end is told only after them, and they only to us.
    fn take_ended(&self) {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::__WALL;
        for tid in self.tids.iter().filter(|tid| **tid != self.pid) {
            // A stop of one that is traced is told as well, whatever is asked for, and is not to be taken here.
            if let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) =
                waitid(Id::Pid(*tid), look | WaitPidFlag::WNOWAIT)
            {
                let _ = waitid(Id::Pid(*tid), look);
            }
        }
    }

    /// What failed in the leader's program, read from the task.
    pub(super) fn failure(&self, control: Control) -> Error {
        let word = |word| usize::try_from(control.of(self.process, word)).unwrap_or(0);
        let at = word(ProcessWord::ProgramHigh) << 32 | word(ProcessWord::ProgramLow);
        let (program_len, text_len) = (word(ProcessWord::ProgramBytes), word(ProcessWord::TextBytes));
        let mut bytes = vec![0; program_len + text_len];
        let remote = [nix::sys::uio::RemoteIoVec { base: at, len: bytes.len() }];
        let mut local = [std::io::IoSliceMut::new(&mut bytes)];
        if nix::sys::uio::process_vm_readv(self.pid, &mut local, &remote).is_err() {
            return Error::Internal("the last steps failed and cannot be read");
        }
        let (program, text) = bytes.split_at(program_len);
        let text = String::from_utf8_lossy(text);
        match binfmt::program::failed_line(program, &text) {
            Some(failed) => Error::Program(failed),
            None => Error::Internal("the last steps failed"),
        }
    }

    /// Waits for the next stop of a traced thread.
    pub(super) fn stop_of(&self, tid: Pid) -> Result<WaitStatus> {
        let waited = match tid == self.pid && self.tids.len() > 1 {
            true => self.wait_for_leader(),
            false => waitpid(tid, Some(WaitPidFlag::__WALL)),
        };
        match waited {
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => {
                Err(Error::Step { what: format!("let thread {tid} go: it ended"), error: Errno::ESRCH })
            }
            Ok(status) => Ok(status),
            Err(error) => Err(Error::step(format!("wait for thread {tid}"), error)),
        }
    }

    /// Waits for the next stop, or the end, of a leader whose other threads may end before it.
    fn wait_for_leader(&self) -> nix::Result<WaitStatus> {
        const LOOKS_BEFORE_SLEEP: u32 = 200;
        let mut looks = 0;
        loop {
            match waitpid(self.pid, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG))? {
                WaitStatus::StillAlive if looks < LOOKS_BEFORE_SLEEP => std::thread::yield_now(),
                WaitStatus::StillAlive => {
                    self.take_ended();
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
                status => return Ok(status),
            }
            looks += 1;
        }
    }

    /// Makes the leader do a system call through the vdso's own code, with all signals blocked.
    pub(super) fn call(&self, number: libc::c_long, args: [u64; 4]) -> nix::Result<u64> {
        let call = Call::prepare(self, number, args)?;
        for _entry_then_exit in 0..2 {
            call.go_on()?;
            call.arrived()?;
        }
        call.end()
    }
}

/// A system call of a leader's.
struct Call<'a> {
    ward: &'a Ward,
    registers: libc::user_regs_struct,
    mask: u64,
}

impl<'a> Call<'a> {
    fn prepare(ward: &'a Ward, number: libc::c_long, args: [u64; 4]) -> nix::Result<Call<'a>> {
        let tid = ward.pid;
        let mask = sys::traced_mask(tid.as_raw())?;
        let registers = ptrace::getregs(tid)?;
        sys::set_traced_mask(tid.as_raw(), u64::MAX)?;
        let [rdi, rsi, rdx, r10] = args;
        let rax = number.cast_unsigned();
        let orig_rax = u64::MAX;
        let call =
            libc::user_regs_struct { rip: ward.syscall_at, rax, orig_rax, rdi, rsi, rdx, r10, ..registers };
        ptrace::setregs(tid, call)?;
        Ok(Call { ward, registers, mask })
    }

    /// Lets it run to the entry to the call, or from there to the exit.
    fn go_on(&self) -> nix::Result<()> {
        ptrace::syscall(self.ward.pid, None)
    }

    /// Waits until it is there.
    fn arrived(&self) -> nix::Result<()> {
        self.ward.stop_of(self.ward.pid).map(drop).map_err(|_| Errno::ESRCH)
    }

    /// Puts the leader back to where it was, and says what came out.
    fn end(self) -> nix::Result<u64> {
        let tid = self.ward.pid;
        let result = ptrace::getregs(tid)?.rax.cast_signed();
        ptrace::setregs(tid, self.registers)?;
        sys::set_traced_mask(tid.as_raw(), self.mask)?;
        match i32::try_from(result) {
            Ok(error) if (-4095..0).contains(&error) => Err(Errno::from_raw(-error)),
            _ => Ok(result.cast_unsigned()),
        }
    }
}

/// Runs threads to the stop after their rt_sigreturn, all of them at the same time.
pub(super) fn run_to_return(threads: Vec<(&Ward, Pid)>) -> Result<()> {
    let mut underway: Vec<(&Ward, Pid, bool)> =
        threads.into_iter().map(|(ward, tid)| (ward, tid, false)).collect();
    while !underway.is_empty() {
        for (ward, tid, _) in &underway {
            ward.traced("run", *tid, ptrace::syscall(*tid, None))?;
        }
        let mut left = Vec::new();
        for (ward, tid, returning) in underway {
            if !matches!(ward.stop_of(tid)?, WaitStatus::PtraceSyscall(_)) {
                left.push((ward, tid, returning));
            } else if !returning {
                let registers = ward.traced("read the registers of", tid, ptrace::getregs(tid))?;
                left.push((ward, tid, registers.orig_rax == libc::SYS_rt_sigreturn.cast_unsigned()));
            }
        }
        underway = left;
    }
    Ok(())
}

/// Makes leaders unmap the hole, all of them at the same time.
pub(super) fn unmap_hole(wards: &[&Ward], hole: Hole) -> Result<()> {
    let failed = |error| Error::step("unmap the loader from the program", error);
    let owners = wards.iter().filter(|ward| ward.owns_memory);
    let calls =
        owners.map(|ward| Call::prepare(ward, libc::SYS_munmap, [hole.start, hole.len_bytes(), 0, 0]));
    let calls = calls.collect::<nix::Result<Vec<_>>>().map_err(failed)?;
    for _entry_then_exit in 0..2 {
        calls.iter().try_for_each(Call::go_on).map_err(failed)?;
        calls.iter().try_for_each(Call::arrived).map_err(failed)?;
    }
    calls.into_iter().try_for_each(|call| call.end().map(drop)).map_err(failed)
}
