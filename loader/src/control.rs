//! The page by which the task that is being built and its midwife speak: a memfd that both map.
//!
//! The midwife is the supervisor where there is one, else a helper that nobody sees; see `midwife`.

use crate::arena::Hole;
use crate::error::{Error, Result};
use crate::sys;
use binfmt::address::PAGE_BYTES;
use binfmt::underway::CONTROL_PAGE;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// How far the task has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It is being built by Rust.
    Building,
    /// Its threads exist and wait for [`Word::Start`].
    ThreadsWait,
    /// Everything is ready; its threads wait for [`Word::Gate`].
    Ready,
    /// The leader's program failed.
    Failed,
}

/// The words of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// A [`Progress`], written by the task.
    Progress,
    /// Not zero once the midwife holds all threads: they may run their programs.
    Start,
    /// Not zero once everything is committed: they may leave.
    Gate,
    /// Low half of the address of the leader's program in the task, for the text of a failure.
    ProgramLow,
    /// High half.
    ProgramHigh,
    /// How many bytes the program has; its text follows it.
    ProgramBytes,
    /// Process id of the midwife.
    Midwife,
    /// How many bytes of text there are, one line for each operation.
    TextBytes,
}

impl Word {
    fn offset(self) -> u64 {
        match self {
            Word::Progress => 0,
            Word::Start => 4,
            Word::Gate => 8,
            Word::ProgramLow => 12,
            Word::ProgramHigh => 16,
            Word::ProgramBytes => 20,
            Word::TextBytes => 24,
            Word::Midwife => 28,
        }
    }
}

/// One side's view of the page.
#[derive(Clone, Copy, Debug)]
pub struct Control {
    at: u64,
}

impl Control {
    /// A new page, as a descriptor that survives exec.
    pub fn create() -> Result<OwnedFd> {
        let failed = |error| Error::step("create the loader's control page", error);
        let fd = nix::sys::memfd::memfd_create(CONTROL_PAGE, nix::sys::memfd::MFdFlags::empty())
            .map_err(failed)?;
        nix::unistd::ftruncate(fd.as_fd(), i64::try_from(PAGE_BYTES).unwrap_or(i64::MAX)).map_err(failed)?;
        Ok(fd)
    }

    /// Maps the page where `hole` has its place for it.
    pub fn map(hole: Hole, page: BorrowedFd<'_>) -> Result<Control> {
        let at = hole.control();
        let protection = (libc::PROT_READ | libc::PROT_WRITE).unsigned_abs();
        sys::map_fixed(at, PAGE_BYTES, protection, libc::MAP_SHARED, Some((page, 0)))
            .map_err(|error| Error::step("map the loader's control page", error))?;
        Ok(Control { at })
    }

    /// Address of a word, for a program.
    pub fn address(self, word: Word) -> u64 {
        self.at + word.offset()
    }

    /// Reads a word.
    pub fn get(self, word: Word) -> u32 {
        sys::load(self.address(word))
    }

    /// Writes a word and wakes whoever waits for it.
    pub fn set(self, word: Word, value: u32) {
        sys::store(self.address(word), value);
        sys::futex_wake(self.address(word));
    }

    /// Sleeps until a word is not `value` any more, or for a while: the caller looks again.
    pub fn wait(self, word: Word, value: u32) {
        sys::futex_wait(self.address(word), value, 20);
    }

    /// How far the task is.
    pub fn progress(self) -> Progress {
        match self.get(Word::Progress) {
            0 => Progress::Building,
            1 => Progress::ThreadsWait,
            2 => Progress::Ready,
            _ => Progress::Failed,
        }
    }
}

impl Progress {
    /// How it stands in its word.
    pub fn word(self) -> u32 {
        match self {
            Progress::Building => 0,
            Progress::ThreadsWait => 1,
            Progress::Ready => 2,
            Progress::Failed => 3,
        }
    }
}
