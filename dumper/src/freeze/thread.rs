//! One thread: seized, stopped, moved on, let go.

use super::has_ended;
use super::refusal::{late, refused};
use crate::error::Error;
use crate::parse;
use crate::procdir::ProcDir;
use crate::sys::{self, Block, Take, WaitEvent};
use binfmt::address::{Pid, Tid};
use binfmt::note::thread::Registers;
use binfmt::restart::{self, Signals};
use nix::errno::Errno;
use std::time::{Duration, Instant};

/// PTRACE_EVENT_STOP, in the upper byte of a stop's status.
const EVENT_STOP: i32 = libc::PTRACE_EVENT_STOP;
/// The register set NT_PRSTATUS: the 27 words of `user_regs_struct`.
const NT_PRSTATUS: u32 = 1;
/// Offset of rip in `struct user`, for PTRACE_POKEUSER.
const RIP_OFFSET: u64 = 16 * 8;

/// A thread that is seized and runs.
#[derive(Debug)]
pub(super) struct Running {
    tid: Tid,
}

/// A thread that is seized and stands still. It goes on when the value is dropped.
#[derive(Debug)]
pub struct Stopped {
    pid: Pid,
    tid: Tid,
    /// The job-control signal in whose stop it was found, or 0.
    group_stop: i32,
    /// Its registers at the stop.
    registers: Registers,
    /// Its blocked signals at the stop.
    signal_mask: u64,
    held: bool,
}

/// What an interrupted thread has become.
#[derive(Debug)]
pub(super) enum Waited {
    /// It stands still.
    Stopped(Box<Stopped>),
    /// It is a worker of io_uring, and was let go.
    Worker,
    /// It has ended.
    Died,
}

/// What the kernel said when a stopped thread was moved on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// It is at the entry to or the exit from a system call.
    AtSyscall,
    /// A signal is about to be delivered to it.
    AtSignal,
    /// It has ended.
    Died,
}

/// What trying to seize a thread found.
#[derive(Debug)]
pub(super) enum Seized {
    /// It is seized, and runs.
    Running(Running),
    /// It has ended.
    Ended,
}

impl Running {
    /// Seizes `tid`.
    pub(super) fn seize(pid: Pid, tid: Tid) -> Result<Seized, Error> {
        match sys::seize(tid, libc::PTRACE_O_TRACESYSGOOD) {
            Ok(()) => Ok(Seized::Running(Running { tid })),
            Err(Errno::ESRCH) => Ok(Seized::Ended),
            // So the kernel answers for a thread that is ending as well.
            Err(Errno::EPERM) if has_ended(pid, tid) => Ok(Seized::Ended),
            Err(error) => Err(refused(pid, tid, error)),
        }
    }

    /// Which thread.
    pub(super) fn tid(&self) -> Tid {
        self.tid
    }

    /// Asks it to stop.
    pub(super) fn interrupt(&self) -> Result<(), Errno> {
        sys::interrupt(self.tid)
    }

    /// Waits until it stands still.
    pub(super) fn stopped(self, pid: Pid, deadline: Instant) -> Result<Waited, Error> {
        loop {
            match next_event(pid, self.tid, Some(deadline)) {
                Err(Errno::ECHILD | Errno::ESRCH) => return Ok(Waited::Died),
                Err(error) => return Err(late(pid, self.tid, error)),
                Ok(WaitEvent::None) => return Err(late(pid, self.tid, Errno::ETIMEDOUT)),
                Ok(WaitEvent::Ended) => return Ok(Waited::Died),
                Ok(WaitEvent::Stopped(status)) if status >> 8 == EVENT_STOP => {
                    let signal = status & 0xff;
                    let group_stop = if signal == libc::SIGTRAP { 0 } else { signal };
                    return Stopped::found(pid, self.tid, group_stop);
                }
                Ok(WaitEvent::Stopped(status)) => {
                    // A signal is being delivered. It goes its way, and eats our interrupt.
                    let moved = sys::cont(self.tid, status & 0x7f).and_then(|()| sys::interrupt(self.tid));
                    if !matches!(moved, Ok(()) | Err(Errno::ESRCH)) {
                        return Ok(Waited::Died);
                    }
                }
            }
        }
    }
}

/// Whether a thread is a worker of io_uring (PF_IO_WORKER in include/linux/sched.h).
fn is_io_worker(pid: Pid, tid: Tid) -> bool {
    const PF_IO_WORKER: u64 = 0x10;
    let stat = ProcDir::new(pid).thread_text(tid, "stat").unwrap_or_default();
    parse::stat_field::<u64>(&parse::owned_stat(&stat), 9) & PF_IO_WORKER != 0
}

/// The next event of `tid`, looked at and not taken; `WaitEvent::None` if none comes until `deadline`.
///
/// For a leader a plain blocking wait would not do: its end is not told before all its threads were waited for, and it is
/// us, their tracer, who would have to.
fn next_event(pid: Pid, tid: Tid, deadline: Option<Instant>) -> Result<WaitEvent, Errno> {
    const PATIENCE: Duration = Duration::from_millis(50);
    if deadline.is_none() && tid != pid.leader() {
        return sys::wait(tid, Take::Peek, Block::Yes);
    }
    loop {
        let event = sys::wait(tid, Take::Peek, Block::No)?;
        if event != WaitEvent::None {
            return Ok(event);
        }
        let left = deadline.map_or(PATIENCE, |deadline| deadline.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return Ok(WaitEvent::None);
        }
        let came = Instant::now();
        sys::wait_for_child_signal(left.min(PATIENCE));
        if came.elapsed() >= PATIENCE && has_ended(pid, tid) {
            return Ok(WaitEvent::Ended);
        }
    }
}

impl Stopped {
    fn found(pid: Pid, tid: Tid, group_stop: i32) -> Result<Waited, Error> {
        let mut stopped = Box::new(Stopped {
            pid,
            tid,
            group_stop,
            registers: Registers::default(),
            signal_mask: 0,
            held: true,
        });
        let read = stopped.read_registers().and_then(|registers| {
            stopped.registers = registers;
            stopped.signal_mask = sys::signal_mask(tid)?;
            Ok(())
        });
        match read {
            Ok(()) if stopped.is_nowhere() && is_io_worker(pid, tid) => Ok(Waited::Worker),
            Ok(()) => Ok(Waited::Stopped(stopped)),
            Err(Errno::ESRCH) => Ok(Waited::Died),
            Err(error) => Err(Error::question(pid, format!("reading the registers of thread {tid}"), error)),
        }
    }

    /// Whether it never was in the program.
    fn is_nowhere(&self) -> bool {
        (self.registers.rip, self.registers.rsp) == (0, 0)
    }

    /// Which thread.
    pub fn tid(&self) -> Tid {
        self.tid
    }

    /// The job-control signal in whose stop it was found, or 0.
    pub fn group_stop(&self) -> i32 {
        self.group_stop
    }

    /// Its registers as it was found.
    pub fn registers(&self) -> &Registers {
        &self.registers
    }

    /// The signals that it blocks, or will block when the call it is in has ended.
    pub fn signal_mask(&self) -> u64 {
        self.signal_mask
    }

    /// Its registers as they are now.
    pub fn read_registers(&self) -> Result<Registers, Errno> {
        let mut bytes = [0u8; 27 * 8];
        sys::regset(self.tid, NT_PRSTATUS, &mut bytes)?;
        let mut words = [0u64; 27];
        for (at, word) in words.iter_mut().enumerate() {
            *word = crate::parse::u64_at(&bytes, at * 8);
        }
        Ok(Registers::from_words(&words))
    }

    fn write_registers(&self, registers: &Registers) -> Result<(), Errno> {
        let bytes: Vec<u8> = registers.to_words().iter().flat_map(|word| word.to_le_bytes()).collect();
        sys::set_regset(self.tid, NT_PRSTATUS, &bytes)
    }

    /// Sends it to `rip` by one word, then blocks the signals of `mask`. Killed before, between or after, we leave a thread that
    /// finds its way back, if what stands at `rip` leads it there.
    pub fn divert(&mut self, rip: u64, mask: u64) -> Result<(), Errno> {
        sys::poke_user(self.tid, RIP_OFFSET, rip)?;
        sys::set_signal_mask(self.tid, mask)
    }

    /// Lets it run to the next entry to or exit from a system call; [`Stopped::at_syscall`] waits until it is there.
    pub fn go_to_syscall(&self) -> Result<(), Errno> {
        sys::run_to_syscall(self.tid, 0)
    }

    /// Waits until it is there. Signals that cannot be blocked are passed on.
    pub fn at_syscall(&self) -> Result<Moved, Errno> {
        const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;
        loop {
            let signal = match next_event(self.pid, self.tid, None)? {
                WaitEvent::Stopped(SYSCALL_STOP) => return Ok(Moved::AtSyscall),
                WaitEvent::Stopped(status) if status >> 8 == 0 => status & 0x7f,
                WaitEvent::Stopped(_) | WaitEvent::None => 0,
                WaitEvent::Ended => return Ok(Moved::Died),
            };
            sys::run_to_syscall(self.tid, signal)?;
        }
    }

    /// Lets it run until a signal is about to be delivered; [`Stopped::at_signal`] waits for that.
    pub fn go_to_signal(&self) -> Result<(), Errno> {
        sys::cont(self.tid, 0)
    }

    /// Waits until `signal` is about to be delivered. Signals that cannot be blocked are passed on.
    pub fn at_signal(&self, signal: u32) -> Result<Moved, Errno> {
        loop {
            let passed_on = match next_event(self.pid, self.tid, None)? {
                WaitEvent::Stopped(status) if status.cast_unsigned() == signal => return Ok(Moved::AtSignal),
                WaitEvent::Stopped(status) if status >> 8 == 0 => status & 0x7f,
                WaitEvent::Stopped(_) | WaitEvent::None => 0,
                WaitEvent::Ended => return Ok(Moved::Died),
            };
            sys::cont(self.tid, passed_on)?;
        }
    }

    /// Puts it to the place in the program that it had come from when an earlier dumper was killed: the mask first, as in
    /// [`Stopped::put_back`].
    pub fn put_home(&self, registers: &Registers, signal_mask: u64) -> Result<(), Errno> {
        sys::set_signal_mask(self.tid, signal_mask)?;
        self.write_registers(registers)
    }

    /// Waits until it stands still anywhere, so that it can be let go.
    pub fn settle(&self) {
        let _ = next_event(self.pid, self.tid, None);
    }

    /// Puts a diverted thread, which stands at the exit from a system call, back to where it was found. The mask comes
    /// first: killed between the two, we leave a thread that still finds its own way back.
    pub fn put_back(&mut self, signals: Signals) -> Result<(), Errno> {
        // With this pending the kernel looks for a call to restart when the thread goes on.
        sys::interrupt(self.tid)?;
        self.put_home(&self.going_on(signals), self.signal_mask)
    }

    /// The registers with which it goes on while we live: as it was found, since the kernel restarts its call, but for
    /// the calls that the kernel ends with EINTR on any stop.
    fn going_on(&self, signals: Signals) -> Registers {
        const EINTR: i64 = -4;
        let interrupted = self.registers.system_call().is_some() && self.registers.rax.cast_signed() == EINTR;
        if interrupted { restart::in_place(&self.registers, signals) } else { self.registers.clone() }
    }

    pub(super) fn let_go(&mut self) -> Result<(), Errno> {
        if !std::mem::take(&mut self.held) {
            return Ok(());
        }
        match sys::detach(self.tid) {
            // It was killed meanwhile.
            Err(Errno::ESRCH) => Ok(()),
            result => result,
        }
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        // Nobody is left to tell; the kernel detaches what we do not when this program ends.
        let _ = self.let_go();
    }
}
