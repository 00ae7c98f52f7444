//! The pages by which the processes that are being built and their midwife speak: a memfd that all of them map.
//!
//! The midwife is the supervisor where there is one, else a helper that nobody sees; see `midwife`.

use crate::arena::Hole;
use crate::error::{Error, Result};
use crate::sys;
use binfmt::address::PAGE_BYTES;
use binfmt::underway::CONTROL_PAGE;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How far a task has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is being built by Rust.
    Building,
    /// Its threads exist and wait for [`Word::Start`].
    ThreadsWait,
    /// Its pidfds and files of processes are open, if there are any in the image.
    LateOpen,
    /// Everything is ready; its threads wait for [`Word::Gate`].
    Ready,
    /// The leader's program failed.
    Failed,
}

/// Words of the whole resume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// Not zero once the midwife holds all threads: they may run their programs.
    Start,
    /// Not zero once everything is committed: they may leave.
    Gate,
    /// Not zero once a process has failed, and told why: all others end.
    Failed,
    /// Process id of the midwife.
    Midwife,
    /// Not zero once the tree has been let go.
    Delivered,
    /// A [`IpcState`].
    Ipc,
}

/// How far the System V objects are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IpcState {
    /// They are being made.
    Missing,
    /// They stand, and can be attached.
    Made,
    /// All tasks have attached them: the keeper gives them to their owners.
    Settle,
    /// It has.
    Settled,
    /// The tasks begin to run.
    LettingGo,
    /// They run, see [`Word::Delivered`].
    Delivered,
    /// They never will.
    Abandoned,
}

/// Words of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProcessWord {
    /// A [`Progress`], written by the task.
    Progress,
    /// Its process id as the midwife sees it, written by whoever made it.
    Pid,
    /// Low half of the address of the leader's program in the task, for the text of a failure.
    ProgramLow,
    /// High half.
    ProgramHigh,
    /// How many bytes the program has; its text follows it.
    ProgramBytes,
    /// How many bytes of text there are, one line for each operation.
    TextBytes,
    /// Its process id as its maker sees it, where that is another one.
    SeenPid,
}

/// How much there is to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape {
    /// How many barriers.
    pub barriers: usize,
    /// How many processes, the founder included.
    pub processes: usize,
    /// How many places the shelf has.
    pub shelf: usize,
    /// How many System V objects there are.
    pub ipc: usize,
}

/// Offset of what calls need that the midwife makes in a task: see [`Control::child_signal_set`].
const CONSTANTS: u64 = 16;
const BARRIERS: u64 = 64;
const PROCESS_BYTES: u64 = 32;

impl Shape {
    fn processes_at(self) -> u64 {
        (BARRIERS + self.barriers as u64 * 4).next_multiple_of(PROCESS_BYTES)
    }

    fn shelf_at(self) -> u64 {
        self.processes_at() + self.processes as u64 * PROCESS_BYTES
    }

    fn ipc_at(self) -> u64 {
        self.shelf_at() + self.shelf as u64 * 4
    }

    /// Length in bytes, whole pages.
    pub fn len_bytes(self) -> u64 {
        (self.ipc_at() + self.ipc as u64 * 4).next_multiple_of(PAGE_BYTES)
    }
}

/// One side's view of the pages.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    at: u64,
    shape: Shape,
}

impl Control {
    /// New pages, as a descriptor that survives exec.
    pub fn create(shape: Shape) -> Result<OwnedFd> {
        let failed = |error| Error::step("create the loader's control pages", error);
        let fd = nix::sys::memfd::memfd_create(CONTROL_PAGE, nix::sys::memfd::MFdFlags::empty())
            .map_err(failed)?;
        let len = i64::try_from(shape.len_bytes()).unwrap_or(i64::MAX);
        nix::unistd::ftruncate(fd.as_fd(), len).map_err(failed)?;
        Ok(fd)
    }

    /// Maps the pages where `hole` has its place for them.
    pub fn map(hole: Hole, shape: Shape, pages: BorrowedFd<'_>) -> Result<Control> {
        let at = hole.control();
        let protection = (libc::PROT_READ | libc::PROT_WRITE).unsigned_abs();
        sys::map_fixed(at, shape.len_bytes(), protection, libc::MAP_SHARED, Some((pages, 0)))
            .map_err(|error| Error::step("map the loader's control pages", error))?;
        Ok(Control { at, shape })
    }

    /// Unmaps them.
    pub fn unmap(self) -> Result<()> {
        sys::unmap(self.at, self.shape.len_bytes())
            .map_err(|error| Error::step("leave the loader's control pages", error))
    }

    /// Address of a word, for a program.
    pub fn address(self, word: Word) -> u64 {
        self.at
            + match word {
                Word::Start => 0,
                Word::Gate => 4,
                Word::Failed => 8,
                Word::Midwife => 12,
                Word::Delivered => 40,
                Word::Ipc => 44,
            }
    }

    /// Address of a word of a process, for a program.
    pub fn process_address(self, process: usize, word: ProcessWord) -> u64 {
        let offset = match word {
            ProcessWord::Progress => 0,
            ProcessWord::Pid => 4,
            ProcessWord::ProgramLow => 8,
            ProcessWord::ProgramHigh => 12,
            ProcessWord::ProgramBytes => 16,
            ProcessWord::TextBytes => 20,
            ProcessWord::SeenPid => 24,
        };
        self.at + self.shape.processes_at() + process as u64 * PROCESS_BYTES + offset
    }

    fn barrier_address(self, barrier: u32) -> u64 {
        self.at + BARRIERS + u64::from(barrier) * 4
    }

    fn shelf_address(self, index: usize) -> u64 {
        self.at + self.shape.shelf_at() + index as u64 * 4
    }

    /// Reads a word.
    pub fn get(self, word: Word) -> u32 {
        sys::load(self.address(word))
    }

    /// Writes a word and wakes whoever waits for it.
    pub fn set(self, word: Word, value: u32) {
        put(self.address(word), value);
    }

    /// Sleeps until a word is not `value` any more, or for a while: the caller looks again.
    pub fn wait(self, word: Word, value: u32, patience: &mut Patience) {
        sys::futex_wait(self.address(word), value, patience.next_ms());
    }

    /// Reads a word of a process.
    pub fn of(self, process: usize, word: ProcessWord) -> u32 {
        sys::load(self.process_address(process, word))
    }

    /// Writes a word of a process and wakes whoever waits for it.
    pub fn set_of(self, process: usize, word: ProcessWord, value: u32) {
        put(self.process_address(process, word), value);
    }

    /// How far a task is.
    pub fn progress(self, process: usize) -> Progress {
        match self.of(process, ProcessWord::Progress) {
            0 => Progress::Building,
            1 => Progress::ThreadsWait,
            2 => Progress::LateOpen,
            3 => Progress::Ready,
            _ => Progress::Failed,
        }
    }

    /// Sleeps until a task is further, or for a while.
    pub fn wait_progress(self, process: usize, progress: Progress, patience: &mut Patience) {
        let at = self.process_address(process, ProcessWord::Progress);
        sys::futex_wait(at, progress.word(), patience.next_ms());
    }

    /// Comes to a barrier, to which so many are `expected`: the last one wakes all others.
    pub fn arrive(self, barrier: u32, expected: u32) {
        let at = self.barrier_address(barrier);
        if sys::add(at, 1) >= expected {
            sys::futex_wake(at);
        }
    }

    /// How many have come to a barrier.
    pub fn arrived(self, barrier: u32) -> u32 {
        sys::load(self.barrier_address(barrier))
    }

    /// Sleeps until another one has come to a barrier, or for a while.
    pub fn wait_arrival(self, barrier: u32, arrived: u32, patience: &mut Patience) {
        sys::futex_wait(self.barrier_address(barrier), arrived, patience.next_ms());
    }

    /// Reads a place of the shelf.
    pub fn shelf(self, index: usize) -> u32 {
        sys::load(self.shelf_address(index))
    }

    /// Writes a place of the shelf.
    pub fn set_shelf(self, index: usize, value: u32) {
        sys::store(self.shelf_address(index), value);
    }

    /// How far the System V objects are.
    pub fn ipc_state(self) -> IpcState {
        let word = self.get(Word::Ipc);
        let states = IPC_STATES.into_iter().find(|state| state.word() == word);
        states.unwrap_or(IpcState::Abandoned)
    }

    /// Says how far the System V objects are.
    pub fn set_ipc_state(self, state: IpcState) {
        self.set(Word::Ipc, state.word());
    }

    /// The id that a System V object has now, by its place in the image.
    pub fn ipc(self, index: usize) -> u32 {
        sys::load(self.at + self.shape.ipc_at() + index as u64 * 4)
    }

    /// Says which id a System V object has now.
    pub fn set_ipc(self, index: usize, id: u32) {
        sys::store(self.at + self.shape.ipc_at() + index as u64 * 4, id);
    }

    /// Writes what [`Control::child_signal_set`] and [`Control::no_time`] point to.
    pub fn write_constants(self) {
        let set: u64 = 1 << (libc::SIGCHLD - 1);
        sys::write_at(self.at + CONSTANTS, &set.to_le_bytes());
    }

    /// Address of a signal set with SIGCHLD alone.
    pub fn child_signal_set(self) -> u64 {
        self.at + CONSTANTS
    }

    /// Address of a timespec of no time.
    pub fn no_time(self) -> u64 {
        self.at + CONSTANTS + 8
    }
}

/// How long to sleep before looking whether others are still there: longer from time to time, since a thousand that look
/// fifty times a second leave no time for the work that they wait for.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    next_ms: u64,
    max_ms: u64,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { next_ms: LOOK_MS, max_ms: LOOK_MAX_MS }
    }
}

impl Patience {
    /// That of who looks after all others: it does not grow.
    pub fn of_midwife() -> Patience {
        Patience { next_ms: LOOK_MS, max_ms: LOOK_MS }
    }

    fn next_ms(&mut self) -> u64 {
        let next_ms = self.next_ms;
        self.next_ms = (next_ms * 2).min(self.max_ms);
        next_ms
    }
}

const LOOK_MS: u64 = 20;
const LOOK_MAX_MS: u64 = 640;

fn put(at: u64, value: u32) {
    sys::store(at, value);
    sys::futex_wake(at);
}

const IPC_STATES: [IpcState; 7] = [
    IpcState::Missing,
    IpcState::Made,
    IpcState::Settle,
    IpcState::Settled,
    IpcState::LettingGo,
    IpcState::Delivered,
    IpcState::Abandoned,
];

impl IpcState {
    /// How it stands in its word.
    pub fn word(self) -> u32 {
        match self {
            IpcState::Missing => 0,
            IpcState::Made => 1,
            IpcState::Settle => 2,
            IpcState::Settled => 3,
            IpcState::LettingGo => 4,
            IpcState::Delivered => 5,
            IpcState::Abandoned => 6,
        }
    }
}

impl Progress {
    /// How it stands in its word.
    pub fn word(self) -> u32 {
        match self {
            Progress::Building => 0,
            Progress::ThreadsWait => 1,
            Progress::LateOpen => 2,
            Progress::Ready => 3,
            Progress::Failed => 4,
        }
    }
}
