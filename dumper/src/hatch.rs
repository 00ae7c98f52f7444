//! The escape hatch: asking a frozen thread what only it can ask, so that it is never hurt.
//!
//! The stub (`binfmt::program::stub`) is written beside the thread's saved registers into a place that holds no live
//! code, the thread is sent there by one word, and the stub makes the calls of a program. Whenever this program is
//! killed, the thread finds an empty or unfinished program, runs out, and is back where it was.
//!
//! The order, each step for a failure that was seen without it:
//! 1. all threads stand still, and none of them is in the place (see [`place`]);
//! 2. stub, registers and mask are written; the registers are those with which the thread goes on by itself;
//! 3. one word sends it there, then all signals are blocked;
//! 4. it stops at the exit of its `mmap`; the program is written back to front, the first operation's kind last;
//! 5. it runs to the end of the program, where it knocks ([`Knock`]);
//! 6. it stops at the exit of its `munmap`; mask, then registers, are put back by us.

pub mod place;
mod questions;

pub use questions::{Answers, Arg, Knock, Question, Questions};

use crate::error::Error;
use crate::freeze::{Moved, Stopped};
use crate::memory::TaskMemory;
use crate::parse;
use crate::procdir::ProcDir;
use crate::sys;
use binfmt::address::{PAGE_BYTES, Pid};
use binfmt::note::thread::Registers;
use binfmt::program::stub::{ENTRY, Stub};
use binfmt::program::{Op, Program, SystemCall};
use binfmt::restart::{self, Signals};
use binfmt::system_call;
use nix::errno::Errno;
use place::Place;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The words of an operation that the stub reads first.
const KIND_BYTES: usize = 8;

/// Every call that asking makes: the stub's own and those of the questions, with their arguments; addresses that are not
/// known yet are 0.
pub fn calls(questions: &Questions, place: Place) -> Vec<(SystemCall, Vec<u64>)> {
    let len_bytes = scratch_len_bytes(questions);
    let mask_at = place.address + Stub::get().data_offset + 8;
    const SET_MASK: u64 = 2;
    let own = [
        (system_call!(SYS_mmap), vec![0, len_bytes, 3, 0x22, u64::MAX, 0]),
        (system_call!(SYS_munmap), vec![0, len_bytes]),
        (system_call!(SYS_rt_sigprocmask), vec![SET_MASK, mask_at, 0, 8]),
    ];
    let asked = questions.program(0);
    let asked = asked.ops().iter().filter_map(|(op, _)| match op {
        Op::Ask(call, args) | Op::Must(call, args) => Some((*call, args.to_vec())),
        _ => None,
    });
    own.into_iter().chain(asked).collect()
}

/// Program and answers, and a page that nothing touches.
fn scratch_len_bytes(questions: &Questions) -> u64 {
    questions.len_bytes().next_multiple_of(PAGE_BYTES) + PAGE_BYTES
}

/// How much of the process's memory is locked.
fn locked_kb(pid: Pid) -> u64 {
    let status = ProcDir::new(pid).text("status").unwrap_or_default();
    parse::decimal(&status, "VmLck").unwrap_or_default()
}

/// The bits of mlockall(2) by which a new mapping was locked. Without MCL_ONFAULT it was populated at once.
fn future_locks(pid: Pid, untouched_page: u64) -> u32 {
    const PRESENT: u64 = 1 << 63;
    let mut entry = [0; 8];
    let read = File::open(ProcDir::new(pid).path("pagemap"))
        .and_then(|pagemap| pagemap.read_exact_at(&mut entry, untouched_page / PAGE_BYTES * 8));
    let populated = read.is_ok() && u64::from_le_bytes(entry) & PRESENT != 0;
    let on_fault = if populated { 0 } else { libc::MCL_ONFAULT };
    (libc::MCL_FUTURE | on_fault).cast_unsigned()
}

/// Runs `questions` in `thread` and returns what came out. If this fails midway, the thread is let go where it is, and
/// finds its own way back.
pub fn ask(
    pid: Pid,
    thread: &mut Stopped,
    memory: &TaskMemory,
    place: Place,
    signals: Signals,
    questions: &Questions,
) -> Result<Answers, Error> {
    let locked_before_kb = if questions.asks_about_locks() { locked_kb(pid) } else { 0 };
    let mut visit = Visit { pid, thread, memory, place, signals, knock: questions.knock() };
    let len_bytes = scratch_len_bytes(questions);
    let scratch = match visit.enter(len_bytes, Room::AsItIs)? {
        Some(scratch) => Some(scratch),
        None => visit.enter(len_bytes, Room::Made)?,
    };
    let what = "mapping scratch memory";
    let scratch = scratch.ok_or_else(|| visit.failed(what, Errno::ENOMEM))?;
    let program = questions.program(scratch);
    visit.run(scratch, &program)?;
    let mut ran = vec![0; usize::try_from(questions.len_bytes()).unwrap_or(0)];
    memory.read(scratch, &mut ran).map_err(|error| visit.failed("reading the answers", error))?;
    let future_locks = match questions.asks_about_locks() && locked_kb(pid) > locked_before_kb {
        true => future_locks(pid, scratch + len_bytes - PAGE_BYTES),
        false => 0,
    };
    visit.step("unmapping scratch memory")?;
    visit.leave()?;
    Ok(questions.answers(program, ran, future_locks))
}

/// Whether room is made for the scratch memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// The process's limits stay as they are.
    AsItIs,
    /// For the one call that maps it, its soft limits on memory are its hard ones.
    Made,
}

/// Raises the soft limits that keep a process from mapping memory, and returns what they were. Between this and the exit
/// of mmap, some ten microseconds, our death would leave them raised; so this is done only if the call has failed.
fn raise_limits(pid: Pid) -> Vec<(u32, (u64, u64))> {
    let limits = [libc::RLIMIT_AS, libc::RLIMIT_DATA].into_iter();
    let raised = limits.filter_map(|resource| {
        let old = sys::limit(pid.0, resource, None).ok()?;
        sys::limit(pid.0, resource, Some((old.1, old.1))).ok().map(|old| (resource, old))
    });
    raised.collect()
}

/// A thread on its way through the stub.
struct Visit<'a> {
    pid: Pid,
    thread: &'a mut Stopped,
    memory: &'a TaskMemory,
    place: Place,
    signals: Signals,
    knock: Option<Knock>,
}

impl Visit<'_> {
    /// Sends the thread into the stub, up to the exit of its mmap. Returns the address of the scratch memory; `None`, and
    /// the thread is back, if there was no room for it.
    fn enter(&mut self, scratch_len_bytes: u64, room: Room) -> Result<Option<u64>, Error> {
        let alone = restart::in_place(&outside_rseq(self.thread, self.memory), self.signals);
        let filled = Stub::get().filled(scratch_len_bytes, self.thread.signal_mask(), &alone);
        let written = self.memory.write(self.place.address, &filled);
        written.map_err(|error| self.failed("writing the stub", error))?;
        let mask = self.knock.map_or(u64::MAX, Knock::mask);
        let diverted = self.thread.divert(self.place.address + ENTRY, mask);
        diverted.map_err(|error| self.failed("entering the stub", error))?;
        self.step("mapping scratch memory")?;
        let raised = if room == Room::Made { raise_limits(self.pid) } else { Vec::new() };
        let mapped = self.step("mapping scratch memory");
        for (resource, old) in raised {
            sys::limit(self.pid.0, resource, Some(old))
                .map_err(|error| self.failed("putting a limit back", error))?;
        }
        mapped?;
        let result = self.registers()?.rax;
        match i32::try_from(result.cast_signed()) {
            Ok(error @ -4095..=-1) => {
                self.leave()?;
                if Errno::from_raw(-error) == Errno::ENOMEM {
                    return Ok(None);
                }
                let what = format!("mapping {scratch_len_bytes} bytes of scratch memory");
                Err(self.failed(&what, Errno::from_raw(-error)))
            }
            _ => Ok(Some(result)),
        }
    }

    /// Lets the stub run `program`, up to the entry of its munmap. Operations after the first are written, then the rest
    /// of the first, then its kind: until that word stands, there is no program.
    fn run(&mut self, scratch: u64, program: &Program) -> Result<(), Error> {
        let bytes = program.encode(0);
        let (kind, rest) = bytes.split_at(KIND_BYTES.min(bytes.len()));
        let written = self.memory.write(scratch + KIND_BYTES as u64, rest);
        let written = written.and_then(|()| self.memory.write(scratch, kind));
        written.map_err(|error| self.failed("writing the questions", error))?;
        match self.knock {
            Some(knock) => self.wait_for_knock(knock)?,
            // Every call stops twice.
            None => (0..program.ops().len() * 2).try_for_each(|_| self.step("asking"))?,
        }
        // Then comes the entry to munmap.
        self.step("asking")?;
        if self.registers()?.rip == self.place.address + Stub::get().unmapped_offset {
            return Ok(());
        }
        let whom = format!("asking thread {}", self.thread.tid());
        Err(Error::question(self.pid, whom, "it is not where it should be"))
    }

    /// Lets the thread run to the exit from the call by which it knocks. Somebody else may send it that signal as well.
    fn wait_for_knock(&self, knock: Knock) -> Result<(), Error> {
        loop {
            match self.thread.run_to_signal(knock.signal) {
                Ok(Moved::Died) => return Err(Error::Died { pid: self.pid }),
                Ok(_) => {}
                Err(error) => return Err(self.failed("asking", error)),
            }
            let registers = self.registers()?;
            let inside = registers.rip.wrapping_sub(self.place.address) < Stub::get().unmapped_offset;
            if inside && registers.orig_rax == libc::SYS_tgkill.cast_unsigned() {
                return Ok(());
            }
        }
    }

    /// Puts the thread, which stands at the exit from a call of the stub, back to where it was found.
    fn leave(&mut self) -> Result<(), Error> {
        self.thread.put_back(self.signals).map_err(|error| self.failed("leaving the stub", error))
    }

    /// Lets the thread run to the next entry to or exit from a call.
    fn step(&self, what: &str) -> Result<(), Error> {
        match self.thread.run_to_syscall() {
            Ok(Moved::AtSyscall | Moved::AtSignal) => Ok(()),
            Ok(Moved::Died) => Err(Error::Died { pid: self.pid }),
            Err(error) => Err(self.failed(what, error)),
        }
    }

    fn registers(&self) -> Result<Registers, Error> {
        self.thread.read_registers().map_err(|error| self.failed("reading registers", error))
    }

    fn failed(&self, what: &str, error: Errno) -> Error {
        match error {
            Errno::ESRCH => Error::Died { pid: self.pid },
            error => Error::question(self.pid, format!("{what} in thread {}", self.thread.tid()), error),
        }
    }
}

/// The registers of `thread`, moved to the abort handler if it stands inside a restartable sequence: an interrupted
/// sequence must never commit.
pub fn outside_rseq(thread: &Stopped, memory: &TaskMemory) -> Registers {
    let registers = thread.registers().clone();
    match abort_address(thread, memory, registers.rip) {
        Some(abort) => Registers { rip: abort, orig_rax: u64::MAX, ..registers },
        None => registers,
    }
}

/// Where the sequence around `rip` is given up, if there is one (struct rseq_cs, include/uapi/linux/rseq.h).
fn abort_address(thread: &Stopped, memory: &TaskMemory, rip: u64) -> Option<u64> {
    const RSEQ_CS_OFFSET: u64 = 8;
    let (area, ..) = crate::sys::rseq_configuration(thread.tid()).ok().filter(|rseq| rseq.0 != 0)?;
    let mut pointer = [0; 8];
    memory.read(area + RSEQ_CS_OFFSET, &mut pointer).ok()?;
    let descriptor_at = u64::from_le_bytes(pointer);
    if descriptor_at == 0 {
        return None;
    }
    let mut descriptor = [0; 32];
    memory.read(descriptor_at, &mut descriptor).ok()?;
    let word = |at| parse::u64_at(&descriptor, at);
    let (start, len_bytes, abort) = (word(8), word(16), word(24));
    (rip.checked_sub(start)? < len_bytes).then_some(abort)
}
