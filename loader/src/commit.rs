//! The end of Rust: every thread becomes a program, and all programs wait at one gate.
//!
//! A thread's program sets what only the thread itself can set, reports that it is ready, waits for the gate, takes on
//! its seccomp filters and returns from a signal frame into what it was. The leader's program also sets what Rust could
//! not live with: memory layout, limits, dispositions. If a call fails, a thread says so in its ready word and the
//! leader in the control page, and both then wait to be killed.

use crate::arena::Arena;
use crate::control::{Control, Patience, ProcessWord, Progress, Word};
use crate::error::{Error, Result};
use crate::index::Threads;
use crate::lodger::Lodgers;
use crate::rebuild::credential::Own;
use crate::rebuild::{
    credential, descriptor, limit, schedule, seccomp, signal, task, terminal, thread, timer, timerfd,
    userfaultfd,
};
use crate::sys;
use crate::world::{Shared, World};
use binfmt::note::mapping::Memory;
use binfmt::note::task::Task;
use binfmt::note::thread::Thread;
use binfmt::program::stub::Stub;
use binfmt::program::{Op, Program};
use binfmt::system_call;
use std::convert::Infallible;
use std::os::fd::{AsRawFd, OwnedFd};

const FUTEX_WAKE: u64 = 1;
const EVERYBODY: u64 = 0x7fff_ffff;
/// A ready word: the thread waits at the gate.
const READY: u32 = 1;
/// A ready word: a call of the thread's program failed.
const FAILED: u32 = 2;

/// The threads but the leader, started and waiting, and where the stub is.
#[derive(Debug)]
pub struct Started {
    run: u64,
    threads: Vec<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    program: Program,
    at: u64,
    ready: u64,
}

/// Starts every thread but the leader; the `lodgers` are there already. Each waits until the midwife holds it.
pub fn start_threads(
    world: &World<'_>,
    task: &Task,
    own: &Own,
    arena: &mut Arena,
    lodgers: &Lodgers<'_>,
) -> Result<Started> {
    let (image, index, control) = (world.image, world.index, world.control);
    let stub = Stub::get();
    let run = arena.put_code(stub.bytes)? + stub.run_offset;
    let mut threads = Vec::new();
    for saved in image.about::<Thread>(task.pid).filter(|thread| thread.tid != task.pid) {
        let ready = arena.reserve(4, 64)?;
        let mut program = Program::new();
        program.push(
            Op::WaitNonZero { address: control.address(Word::Start) },
            "until the midwife holds all threads",
        );
        thread::early_program(saved, arena, &mut program)?;
        let ids = (task.pid, saved.tid);
        let ids_now = (world.id_now(task, task.pid), world.id_now(task, saved.tid));
        signal::pending(image, index, ids, ids_now, arena, &mut program)?;
        schedule::program(index, saved.tid, arena, &mut program)?;
        credential::program(index, saved.tid, own, arena, &mut program)?;
        thread::late_program(saved, &mut program);
        program.push(Op::Store { address: ready, value: READY }, "ready");
        program.ask(system_call!(SYS_futex), &[ready, FUTEX_WAKE, EVERYBODY], "the leader");
        leave(index, saved, control, arena, &mut program)?;
        let exit = failure_exit(ready, FAILED, arena)?;
        let at = arena.put(&program.encode(exit))?;
        let ids = world.levels.set_tid(saved.tid);
        let shares_io = index.have_io_context(task.pid, saved.tid);
        let flags = if shares_io { u64::from(libc::CLONE_IO.unsigned_abs()) } else { 0 };
        if !lodgers.become_program(saved.tid, run, at)? {
            sys::start_thread(&ids, flags, run, at)
                .map_err(|error| Error::step(format!("make thread {}", saved.tid), error))?;
        }
        threads.push(Waiting { program, at, ready });
    }
    Ok(Started { run, threads })
}

/// Appends the end of every thread's program.
fn leave(
    index: &Threads<'_>,
    saved: &Thread,
    control: Control,
    arena: &mut Arena,
    program: &mut Program,
) -> Result<()> {
    program.push(Op::WaitNonZero { address: control.address(Word::Gate) }, "until all are ready");
    seccomp::program(index, saved.tid, arena, program)?;
    let frame = thread::frame(index, saved, arena)?;
    program.push(Op::Return { frame }, format!("into thread {}", saved.tid));
    Ok(())
}

/// A program that says that another has failed, and waits to be killed.
fn failure_exit(word: u64, value: u32, arena: &mut Arena) -> Result<u64> {
    let never = arena.reserve(4, 64)?;
    let mut program = Program::new();
    program.push(Op::Store { address: word, value }, "failed");
    program.ask(system_call!(SYS_futex), &[word, FUTEX_WAKE, EVERYBODY], "whoever waits");
    program.push(Op::WaitNonZero { address: never }, "until killed");
    arena.put(&program.encode(0))
}

/// What the leader needs for its last steps.
#[derive(Debug)]
pub struct Last<'a> {
    /// What every process knows.
    pub world: &'a World<'a>,
    /// Which process of the skeleton this is.
    pub process: usize,
    /// The process.
    pub task: &'a Task,
    /// Its address space.
    pub memory: &'a Memory,
    /// Who the loader is.
    pub own: &'a Own,
    /// The executable, if the exe link may be set.
    pub executable: Option<OwnedFd>,
    /// The other threads.
    pub threads: Started,
    /// Whether the table of descriptors is this task's to clean up.
    pub makes_table: bool,
    /// Whether the dispositions are this task's to set.
    pub makes_handlers: bool,
    /// Whether its memory is another task's to set up.
    pub shared_memory: bool,
}

/// Waits until every thread is at the gate, and becomes the leader's program.
pub fn become_task(last: &Last<'_>, mut arena: Arena) -> Result<Infallible> {
    let (control, process) = (last.world.control, last.process);
    control.set_of(process, ProcessWord::Progress, Progress::ThreadsWait.word());
    let mut patience = Patience::default();
    while control.get(Word::Start) == 0 {
        control.wait(Word::Start, 0, &mut patience);
        // From the start on the kernel ends us with the midwife.
        if control.get(Word::Start) == 0 {
            last.world.check_others()?;
        }
    }
    if last.makes_table {
        descriptor::late::rebuild(last.world, process, last.task)?;
        userfaultfd::rebuild(last.world, last.task)?;
    }
    terminal::pseudo::set_foreground(last.world, last.task)?;
    for waiting in &last.threads.threads {
        while sys::load(waiting.ready) == 0 {
            sys::futex_wait(waiting.ready, 0, 100);
        }
        if sys::load(waiting.ready) != READY {
            let ran = sys::read_at(waiting.at, waiting.program.len_bytes());
            return Err(waiting
                .program
                .failed(&ran)
                .map_or(Error::Internal("a thread failed"), Error::Program));
        }
    }
    let program = leader_program(last, &mut arena)?;
    let progress = control.process_address(process, ProcessWord::Progress);
    let exit = failure_exit(progress, Progress::Failed.word(), &mut arena)?;
    let text: Vec<u8> = program.to_string().into_bytes();
    let at = arena.put(&[program.encode(exit), text.clone()].concat())?;
    let word = |value: usize| u32::try_from(value).unwrap_or(0);
    control.set_of(process, ProcessWord::ProgramLow, u32::try_from(at & 0xffff_ffff).unwrap_or(0));
    control.set_of(process, ProcessWord::ProgramHigh, u32::try_from(at >> 32).unwrap_or(0));
    control.set_of(process, ProcessWord::ProgramBytes, word(program.len_bytes()));
    control.set_of(process, ProcessWord::TextBytes, word(text.len()));
    if !last.shared_memory {
        // Those who share it live in the heap that the program takes away.
        let sharing = last.world.sharing(process, Shared::Memory);
        for other in sharing.others {
            while control.progress(other) != Progress::Ready {
                last.world.check_others()?;
                control.wait_progress(other, control.progress(other), &mut patience);
            }
        }
    }
    sys::become_program(last.threads.run, at)
}

fn leader_program(last: &Last<'_>, arena: &mut Arena) -> Result<Program> {
    let (world, task, memory) = (last.world, last.task, last.memory);
    let (image, index) = (world.image, world.index);
    let leader = image.about::<Thread>(task.pid).find(|thread| thread.tid == task.pid);
    let leader = leader.ok_or(Error::Internal("the image has no leading thread"))?;
    let pid = world.id_now(task, task.pid);
    let mut program = Program::new();
    thread::early_program(leader, arena, &mut program)?;
    if last.makes_handlers {
        signal::dispositions(image, task, arena, &mut program)?;
    }
    signal::pending(image, index, (task.pid, task.pid), (pid, pid), arena, &mut program)?;
    schedule::program(index, task.pid, arena, &mut program)?;
    let executable = last.executable.as_ref().filter(|_| !last.shared_memory);
    if !last.shared_memory {
        // Nobody is in Rust any more, and the kernel takes no other executable while this one is mapped.
        let hole = world.stage.hole;
        program.must(
            system_call!(SYS_munmap),
            &[hole.start, hole.heap_bytes],
            "the loader's executable and heap",
        );
        task::memory_program(task, memory, executable, arena, &mut program)?;
    }
    task::early_program(task, &mut program);
    limit::program(image, task, arena, &mut program)?;
    if last.makes_table {
        // Some take a capability that the task may have dropped.
        timerfd::arm(image, task, arena, &mut program)?;
    }
    credential::program(index, task.pid, last.own, arena, &mut program)?;
    task::late_program(task, &mut program);
    thread::late_program(leader, &mut program);
    timer::arm(image, task, arena, &mut program)?;
    let ptracer = [u64::from(libc::PR_SET_PTRACER.unsigned_abs()), 0];
    program.ask(system_call!(SYS_prctl), &ptracer, "the midwife's permission");
    let own = [
        Some(world.stage.report).filter(|_| last.makes_table),
        Some(world.image.file.as_raw_fd()).filter(|_| last.makes_table),
        last.executable.as_ref().map(AsRawFd::as_raw_fd),
    ];
    for fd in own.into_iter().flatten() {
        let purpose = format!("a descriptor of the loader's in process {}", task.pid);
        program.must(system_call!(SYS_close), &[fd.unsigned_abs().into()], purpose);
    }
    let progress = world.control.process_address(last.process, ProcessWord::Progress);
    program.push(Op::Store { address: progress, value: Progress::Ready.word() }, "ready");
    program.ask(system_call!(SYS_futex), &[progress, FUTEX_WAKE, EVERYBODY], "the midwife");
    leave(index, leader, world.control, arena, &mut program)?;
    Ok(program)
}
