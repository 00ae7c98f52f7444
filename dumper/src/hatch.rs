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

/// What is being done, in messages.
const MAPPING: &str = "mapping scratch memory";
const ASKING: &str = "asking";
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

/// A thread on its way through the stub. It is moved from stop to stop by [`Visit::advance`], so that many tasks can be on
/// their way at the same time. If that fails midway, the thread is let go where it is, and finds its own way back.
#[derive(Debug)]
pub struct Visit<'a> {
    pid: Pid,
    thread: &'a mut Stopped,
    memory: &'a TaskMemory,
    place: Place,
    signals: Signals,
    questions: Questions,
    stage: Stage,
}

/// Where a thread is, or is going to.
#[derive(Debug)]
enum Stage {
    /// It stands where it was found.
    Outside(Room),
    /// It goes to the entry to the mmap of the stub.
    Entering(Room),
    /// It goes to its exit.
    Mapping,
    /// It answers, and will knock when it has.
    Knocking(Asking),
    /// It has so many stops at system calls before it, up to the entry to munmap.
    Answering(Asking, usize),
    /// It goes to the exit of munmap, and has answered.
    Leaving(Box<Answers>),
    /// It is back, or nobody knows where.
    Away,
}

/// What runs in the stub, and where.
#[derive(Debug)]
struct Asking {
    scratch: u64,
    program: Program,
}

impl<'a> Visit<'a> {
    /// The visit of a thread that will be asked `questions`.
    pub fn new(
        pid: Pid,
        thread: &'a mut Stopped,
        memory: &'a TaskMemory,
        place: Place,
        signals: Signals,
        questions: Questions,
    ) -> Visit<'a> {
        Visit { pid, thread, memory, place, signals, questions, stage: Stage::Outside(Room::AsItIs) }
    }

    /// Waits until the thread is where it goes to, does there what is to be done, and lets it go to the next stop. Returns
    /// what it answered when it is back.
    pub fn advance(&mut self) -> Result<Option<Answers>, Error> {
        self.stage = match std::mem::replace(&mut self.stage, Stage::Away) {
            Stage::Outside(room) => {
                self.send_in()?;
                Stage::Entering(room)
            }
            Stage::Entering(Room::AsItIs) => {
                self.arrived(MAPPING)?;
                self.go(MAPPING)?;
                Stage::Mapping
            }
            Stage::Entering(Room::Made) => {
                self.arrived(MAPPING)?;
                self.map_with_room()?;
                self.mapped(Room::Made)?
            }
            Stage::Mapping => {
                self.arrived(MAPPING)?;
                self.mapped(Room::AsItIs)?
            }
            Stage::Knocking(asking) => {
                self.wait_for_knock()?;
                self.go(ASKING)?;
                Stage::Answering(asking, 1)
            }
            Stage::Answering(asking, stops) => {
                self.arrived(ASKING)?;
                let answers = if stops > 1 { None } else { Some(self.answers(&asking)?) };
                self.go(ASKING)?;
                match answers {
                    Some(answers) => Stage::Leaving(Box::new(answers)),
                    None => Stage::Answering(asking, stops - 1),
                }
            }
            Stage::Leaving(answers) => {
                self.arrived("unmapping scratch memory")?;
                self.leave()?;
                return Ok(Some(*answers));
            }
            Stage::Away => return Err(self.failed(ASKING, Errno::ESRCH)),
        };
        Ok(None)
    }

    /// Waits until the thread stands still, so that it can be let go, if it is on its way.
    pub fn settle(&self) {
        if !matches!(self.stage, Stage::Outside(_) | Stage::Away) {
            self.thread.settle();
        }
    }

    /// Sends the thread into the stub.
    fn send_in(&mut self) -> Result<(), Error> {
        let alone = restart::in_place(&outside_rseq(self.thread, self.memory), self.signals);
        let len_bytes = scratch_len_bytes(&self.questions);
        let filled = Stub::get().filled(len_bytes, self.thread.signal_mask(), &alone);
        let written = self.memory.write(self.place.address, &filled);
        written.map_err(|error| self.failed("writing the stub", error))?;
        let mask = self.questions.knock().map_or(u64::MAX, Knock::mask);
        let diverted = self.thread.divert(self.place.address + ENTRY, mask);
        diverted.map_err(|error| self.failed("entering the stub", error))?;
        self.go(MAPPING)
    }

    /// Lets it map the scratch memory with its limits raised, and waits for that: they must not stay so for long.
    fn map_with_room(&self) -> Result<(), Error> {
        let raised = raise_limits(self.pid);
        let mapped = self.go(MAPPING).and_then(|()| self.arrived(MAPPING));
        for (resource, old) in raised {
            sys::limit(self.pid.0, resource, Some(old))
                .map_err(|error| self.failed("putting a limit back", error))?;
        }
        mapped
    }

    /// At the exit of mmap: lets it answer, or puts it back if there was no room for the scratch memory.
    fn mapped(&mut self, room: Room) -> Result<Stage, Error> {
        let result = self.registers()?.rax;
        if let Ok(error @ -4095..=-1) = i32::try_from(result.cast_signed()) {
            self.leave()?;
            return match (Errno::from_raw(-error), room) {
                (Errno::ENOMEM, Room::AsItIs) => Ok(Stage::Outside(Room::Made)),
                (error, _) => Err(self.failed(MAPPING, error)),
            };
        }
        let asking = Asking { scratch: result, program: self.questions.program(result) };
        self.write(&asking)?;
        match self.questions.knock() {
            Some(_) => {
                self.thread.go_to_signal().map_err(|error| self.failed(ASKING, error))?;
                Ok(Stage::Knocking(asking))
            }
            None => {
                self.go(ASKING)?;
                // Every call stops twice. Then comes the entry to munmap.
                let stops = asking.program.ops().len() * 2 + 1;
                Ok(Stage::Answering(asking, stops))
            }
        }
    }

    /// Writes the program. What its calls read is written, then the operations after the first, then the rest of the first,
    /// then its kind: until that word stands, there is no program.
    fn write(&self, asking: &Asking) -> Result<(), Error> {
        let bytes = asking.program.encode(0);
        let (kind, rest) = bytes.split_at(KIND_BYTES.min(bytes.len()));
        let mut given = self.questions.given(asking.scratch);
        let written = given.try_for_each(|(address, bytes)| self.memory.write(address, bytes));
        let written = written.and_then(|()| self.memory.write(asking.scratch + KIND_BYTES as u64, rest));
        let written = written.and_then(|()| self.memory.write(asking.scratch, kind));
        written.map_err(|error| self.failed("writing the questions", error))
    }

    /// Waits until the thread is at the exit from the call by which it knocks. Somebody else may send it that signal as
    /// well.
    fn wait_for_knock(&self) -> Result<(), Error> {
        let signal = self.questions.knock().map_or(0, |knock| knock.signal);
        loop {
            match self.thread.at_signal(signal) {
                Ok(Moved::Died) => return Err(Error::Died { pid: self.pid }),
                Ok(_) => {}
                Err(error) => return Err(self.failed(ASKING, error)),
            }
            let registers = self.registers()?;
            let inside = registers.rip.wrapping_sub(self.place.address) < Stub::get().unmapped_offset;
            if inside && registers.orig_rax == libc::SYS_tgkill.cast_unsigned() {
                return Ok(());
            }
            self.thread.go_to_signal().map_err(|error| self.failed(ASKING, error))?;
        }
    }

    /// At the entry to munmap: what came out.
    fn answers(&mut self, asking: &Asking) -> Result<Answers, Error> {
        if self.registers()?.rip != self.place.address + Stub::get().unmapped_offset {
            let whom = format!("asking thread {}", self.thread.tid());
            return Err(Error::question(self.pid, whom, "it is not where it should be"));
        }
        let mut ran = vec![0; usize::try_from(self.questions.len_bytes()).unwrap_or(0)];
        let read = self.memory.read(asking.scratch, &mut ran);
        read.map_err(|error| self.failed("reading the answers", error))?;
        let untouched = asking.scratch + scratch_len_bytes(&self.questions) - PAGE_BYTES;
        let future_locks = match self.questions.found_locks(&asking.program, &ran) {
            true => future_locks(self.pid, untouched),
            false => 0,
        };
        Ok(std::mem::take(&mut self.questions).answers(&asking.program, ran, future_locks))
    }

    /// Puts the thread, which stands at the exit from a call of the stub, back to where it was found.
    fn leave(&mut self) -> Result<(), Error> {
        self.thread.put_back(self.signals).map_err(|error| self.failed("leaving the stub", error))
    }

    /// Lets the thread run to the next entry to or exit from a call.
    fn go(&self, what: &str) -> Result<(), Error> {
        self.thread.go_to_syscall().map_err(|error| self.failed(what, error))
    }

    /// Waits until it is there.
    fn arrived(&self, what: &str) -> Result<(), Error> {
        match self.thread.at_syscall() {
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

/// Leads the one of a stopped task's `threads` home that an earlier dumper, which was killed, has left in its stub: by
/// itself it would go only when the task is continued.
///
/// It runs to the end of the stub's munmap, and what is written behind the stub is put into its registers. Never step by
/// step: the kernel takes the trap flag away from a thread that is detached, and not from one whose tracer dies.
pub fn lead_home(memory: &TaskMemory, place: Place, threads: &[&Stopped]) -> Result<(), Error> {
    let stray = |thread: &&&Stopped| thread.group_stop() != 0 && place.holds(thread.registers().rip);
    let Some(thread) = threads.iter().find(stray) else { return Ok(()) };
    let pid = memory.pid();
    let failed = |error| {
        Error::question(pid, format!("leading thread {} out of an earlier stub", thread.tid()), error)
    };
    let unmapped = place.address + Stub::get().unmapped_offset;
    let mut registers = thread.registers().clone();
    while registers.rip < unmapped || (registers.rip == unmapped && registers.rax != 0) {
        thread.go_to_syscall().map_err(failed)?;
        if thread.at_syscall().map_err(failed)? == Moved::Died {
            return Err(Error::Died { pid });
        }
        registers = thread.read_registers().map_err(failed)?;
        if !place.holds(registers.rip) {
            return Ok(());
        }
    }
    let (mask, home) = place.home(memory, &registers).map_err(failed)?;
    thread.put_home(&home, mask).map_err(failed)
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
