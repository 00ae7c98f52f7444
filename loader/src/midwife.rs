//! The midwife: a process outside of the tree that lets all threads of all tasks go at once, when the last trace of the
//! loader is gone.
//!
//! It is the supervisor where process ids are kept, and otherwise a helper, forked off before the task has any
//! memory to copy, and reparented away so that the task never sees it. It traces all threads while they wait: if it is
//! killed then, the kernel kills them (PTRACE_O_EXITKILL), and a resume that was cut short leaves nothing. It opens the
//! gate, lets every thread run to the end of its rt_sigreturn, makes the leader unmap the hole through the vdso's own
//! `syscall` instruction, and lets go. No instruction of the program has run before that.

mod notice;

use crate::apart::Announcement;
use crate::arena::Hole;
use crate::cli::Options;
use crate::control::{Control, ProcessWord, Progress, Word};
use crate::error::{EXIT_CANNOT_RESUME, Error, Result};
use crate::keeper::Keeper;
use crate::plan::{Host, Plan, ROOT};
use crate::rebuild::descriptor::dup_above;
use crate::shelf::Shelf;
use crate::stage::{Identity, Point, Stage};
use crate::sys;
use crate::wish::Wishes;
use crate::world::shape;
use binfmt::image::Image;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// What a midwife knows.
#[derive(Clone, Debug)]
pub struct Midwife {
    /// The pages by which it speaks with the tasks.
    pub control: Control,
    /// The tasks, parents before their children.
    pub wards: Vec<Ward>,
    /// What is to be unmapped at the end.
    pub hole: Hole,
    /// How threads are traced: [`trace_options`].
    pub trace_options: ptrace::Options,
}

/// A task that is being made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ward {
    /// Which process of the skeleton it is.
    pub process: usize,
    /// Its process id.
    pub pid: Pid,
    /// Its threads, the leader first.
    pub tids: Vec<Pid>,
    /// Address of a `syscall` instruction in its vdso.
    pub syscall_at: u64,
    /// Whether it must be stopped when it is let go.
    pub stopped: bool,
    /// Whether its parent had learned of that by wait().
    pub stop_was_told: bool,
    /// Which ward is its parent, if one is.
    pub parent: Option<usize>,
    /// Whether its memory is not another one's.
    pub owns_memory: bool,
    /// Whether a SIGCHLD waited for it when it was saved, which must not be taken away.
    pub awaits_child_signal: bool,
}

/// How threads are traced. Their seccomp filters, which come with their last step, must not stop the unmapping of the
/// hole; that needs CAP_SYS_ADMIN, without which a filter that forbids munmap ends the resume.
pub fn trace_options(image: &Image, host: &Host) -> ptrace::Options {
    use binfmt::note::seccomp::{Seccomp, SeccompMode};
    const PTRACE_O_SUSPEND_SECCOMP: i32 = 1 << 21;
    let options = ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL;
    let restricted = image.all::<Seccomp>().any(|note| note.mode != SeccompMode::Disabled);
    match restricted && host.is_admin() {
        true => options | ptrace::Options::from_bits_retain(PTRACE_O_SUSPEND_SECCOMP),
        false => options,
    }
}

/// Makes what all starts share: the shelf, and descriptors out of the way of the tasks', which survive exec.
pub fn make_stage(image: &Image, plan: &Plan, options: &Options) -> Result<(Stage, Shelf)> {
    let above = RawFd::try_from(plan.first_own_descriptor).unwrap_or(RawFd::MAX);
    let keep = |fd: RawFd| {
        let failed = |error| Error::step("keep a descriptor out of the program's way", error);
        let fd = dup_above(fd, above).map_err(failed)?;
        nix::fcntl::fcntl(fd.as_fd(), nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))
            .map_err(failed)?;
        Ok::<_, Error>(sys::give_up(fd))
    };
    crate::rebuild::limit::raise_descriptors();
    let shelf = Shelf::fill(image, above)?;
    let pages: OwnedFd = Control::create(shape(image, &plan.skeleton))?;
    let stage = Stage {
        point: Point::Assemble,
        image: keep(image.file.as_raw_fd())?,
        control: keep(pages.as_raw_fd())?,
        report: keep(2).or_else(|_| keep(image.file.as_raw_fd()))?,
        hole: plan.hole,
        identity: plan.identity,
        foreground: !options.detach && crate::supervisor::foreground_terminal().is_some(),
        joins_session: plan.joins_session,
        user_namespace: plan.identity == Identity::Namespace && plan.inner_ids.is_some(),
        by_handler: plan.by_handler,
        callers_group: nix::unistd::getpgrp().as_raw().unsigned_abs(),
        process: ROOT,
        wishes: Wishes::of(options),
    };
    Ok((stage, shelf))
}

/// Maps the control pages for the first time, and writes what everybody reads there.
pub fn first_control(image: &Image, plan: &Plan, stage: &Stage, shelf: &Shelf) -> Result<Control> {
    let control = Control::map(stage.hole, shape(image, &plan.skeleton), sys::borrow(stage.control))?;
    control.write_constants();
    shelf.note(image, control);
    Ok(control)
}

/// Forks off the helper for a task that this process itself will become, and returns what its next start needs.
pub fn spawn_helper(
    image: &Image,
    host: &Host,
    plan: &Plan,
    options: &Options,
    announcement: Option<Announcement>,
) -> Result<Stage> {
    let trace_options = trace_options(image, host);
    let (stage, shelf) = make_stage(image, plan, options)?;
    let control = first_control(image, plan, &stage, &shelf)?;
    let task = nix::unistd::getpid();
    control.set_of(ROOT, ProcessWord::Pid, task.as_raw().unsigned_abs());
    let failed = |error| Error::step("fork the helper that finishes the resume", error);
    // Exit signal 0 and a second fork: the task gets no SIGCHLD and never has a child that it did not make.
    let middle = sys::fork(0, 0, 0).map_err(failed)?;
    if middle == 0 {
        match sys::fork(0, 0, 0) {
            Ok(0) => {
                shelf.close();
                let wards =
                    plan.wards.iter().map(|ward| Ward { pid: task, tids: vec![task], ..ward.clone() });
                let wards = wards.collect();
                let midwife = Midwife { control, wards, hole: plan.hole, trace_options };
                let status = Keeper::spawn(image, plan, control)
                    .and_then(|keeper| midwife.deliver(keeper.as_ref(), || {}));
                help_ended(task, status, announcement)
            }
            // Who it is stands in the page before the task looks.
            Ok(helper) => {
                control.set(Word::Midwife, helper.unsigned_abs());
                sys::exit_now(0)
            }
            Err(error) => sys::exit_now(error as i32),
        }
    }
    match waitpid(Pid::from_raw(middle), Some(WaitPidFlag::__WALL)).map_err(failed)? {
        WaitStatus::Exited(_, 0) => {}
        WaitStatus::Exited(_, error) => return Err(failed(Errno::from_raw(error))),
        _ => return Err(failed(Errno::EINTR)),
    }
    control.unmap()?;
    Ok(stage)
}

/// The end of the helper: tells what failed. Whatever was made of the task is killed then.
fn help_ended(task: Pid, status: Result<()>, announcement: Option<Announcement>) -> ! {
    match &status {
        Ok(()) => {
            if let Some(announcement) = announcement {
                // Nobody may be there to read it.
                let _ = writeln!(std::io::stdout(), "{task}");
                announcement.make();
            }
        }
        Err(error) => {
            if !matches!(error, Error::Told) {
                let _ = writeln!(std::io::stderr(), "ckpt: {error}");
            }
            // It may have ended by itself, having told why.
            let _ = kill(task, Signal::SIGKILL);
        }
    }
    sys::exit_now(if status.is_ok() { 0 } else { EXIT_CANNOT_RESUME.into() })
}

impl Midwife {
    /// Lets all tasks go when all are whole, having done `before` when every one has its place in the tree. If they never
    /// will be, they are killed when this returns.
    pub fn deliver(&self, keeper: Option<&Keeper>, before: impl Fn()) -> Result<()> {
        let result = self.try_deliver(keeper, before);
        if result.is_err() {
            self.control.set(Word::Failed, 1);
            for ward in self.wards.iter().filter(|ward| self.is_made(ward)) {
                // ESRCH: it is gone already.
                let _ = kill(ward.pid, Signal::SIGKILL);
            }
        } else if let Some(keeper) = keeper {
            keeper.dismiss();
        }
        result
    }

    /// Whether a task was made: until then its process id may be somebody else's.
    fn is_made(&self, ward: &Ward) -> bool {
        self.control.of(ward.process, ProcessWord::Pid) != 0
    }

    fn try_deliver(&self, keeper: Option<&Keeper>, before: impl Fn()) -> Result<()> {
        self.wait_for(Progress::ThreadsWait)?;
        before();
        for tid in self.threads() {
            ptrace::seize(tid, self.trace_options)
                .map_err(|error| Error::step(format!("trace thread {tid} while it is made"), error))?;
        }
        self.control.set(Word::Start, 1);
        self.wait_for(Progress::Ready)?;
        keeper.map_or(Ok(()), Keeper::settle)?;
        for ward in &self.wards {
            for tid in &ward.tids {
                ward.traced("stop", *tid, ptrace::interrupt(*tid))?;
                ward.stop_of(*tid)?;
            }
        }
        self.control.set(Word::Gate, 1);
        for ward in &self.wards {
            for tid in &ward.tids {
                ward.run_to_return(*tid)?;
            }
        }
        keeper.into_iter().for_each(Keeper::let_go);
        // Children before their parents, which must not notice.
        for ward in self.wards.iter().rev().filter(|ward| ward.stopped) {
            ward.unmap_hole(self.hole)?;
            ward.traced("stop", ward.pid, kill(ward.pid, Signal::SIGSTOP))?;
            ward.let_go()?;
            if let Some(parent) = ward.parent.and_then(|parent| self.wards.get(parent)) {
                parent.forget_stop(ward, self.control)?;
            }
        }
        let run_on = || self.wards.iter().rev().filter(|ward| !ward.stopped);
        for ward in run_on() {
            ward.unmap_hole(self.hole)?;
        }
        for ward in run_on() {
            ward.let_go()?;
        }
        Ok(())
    }

    fn threads(&self) -> impl Iterator<Item = Pid> + '_ {
        self.wards.iter().flat_map(|ward| ward.tids.iter().copied())
    }

    /// Takes the ends of all threads of tasks that were killed. A leader's is told only after those of the others, and
    /// those only to us who trace them.
    pub fn take_ends(&self) {
        for ward in &self.wards {
            for tid in ward.tids.iter().rev() {
                ward.take_end(*tid);
            }
        }
    }

    /// Waits until all tasks have come so far.
    fn wait_for(&self, wanted: Progress) -> Result<()> {
        for ward in &self.wards {
            loop {
                let progress = self.control.progress(ward.process);
                match progress {
                    Progress::Failed => return Err(ward.failure(self.control)),
                    _ if progress == wanted => break,
                    _ if self.control.get(Word::Failed) != 0 => return Err(self.somebody_failed()),
                    _ if self.wards.iter().any(|ward| self.is_made(ward) && ward.is_gone()) => {
                        return Err(Error::Told);
                    }
                    _ => self.control.wait_progress(ward.process, progress),
                }
            }
        }
        Ok(())
    }

    /// A task that failed in its program has not told it.
    fn somebody_failed(&self) -> Error {
        let failed = self.wards.iter().find(|ward| self.control.progress(ward.process) == Progress::Failed);
        failed.map_or(Error::Told, |ward| ward.failure(self.control))
    }
}

impl Ward {
    /// Lets go of all threads.
    fn let_go(&self) -> Result<()> {
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
    fn take_end(&self, tid: Pid) {
        if tid != self.pid {
            while !matches!(
                waitpid(tid, Some(WaitPidFlag::__WALL)),
                Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(Errno::ECHILD)
            ) {}
        }
    }

    fn traced<T>(&self, what: &str, tid: Pid, result: nix::Result<T>) -> Result<T> {
        result.map_err(|error| Error::step(format!("{what} thread {tid}"), error))
    }

    /// Whether the task has ended: it tells its errors itself.
    fn is_gone(&self) -> bool {
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
        for tid in self.tids.iter().filter(|tid| **tid != self.pid) {
            let _ = waitid(Id::Pid(*tid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::__WALL);
        }
    }

    /// What failed in the leader's program, read from the task.
    fn failure(&self, control: Control) -> Error {
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
    fn stop_of(&self, tid: Pid) -> Result<WaitStatus> {
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

    /// Runs a thread to the stop after its rt_sigreturn.
    fn run_to_return(&self, tid: Pid) -> Result<()> {
        let mut returning = false;
        loop {
            self.traced("run", tid, ptrace::syscall(tid, None))?;
            if !matches!(self.stop_of(tid)?, WaitStatus::PtraceSyscall(_)) {
                continue;
            }
            if returning {
                return Ok(());
            }
            let registers = self.traced("read the registers of", tid, ptrace::getregs(tid))?;
            returning = registers.orig_rax == libc::SYS_rt_sigreturn.cast_unsigned();
        }
    }

    /// Makes the leader unmap the hole.
    fn unmap_hole(&self, hole: Hole) -> Result<()> {
        if !self.owns_memory {
            return Ok(());
        }
        let call = libc::SYS_munmap;
        let result = self.call(call, [hole.start, hole.len_bytes(), 0, 0]);
        result.map(drop).map_err(|error| Error::step("unmap the loader from the program", error))
    }

    /// Makes the leader do a system call through the vdso's own code, with all signals blocked.
    fn call(&self, number: libc::c_long, args: [u64; 4]) -> nix::Result<u64> {
        let tid = self.pid;
        let mask = sys::traced_mask(tid.as_raw())?;
        let registers = ptrace::getregs(tid)?;
        sys::set_traced_mask(tid.as_raw(), u64::MAX)?;
        let [rdi, rsi, rdx, r10] = args;
        let rax = number.cast_unsigned();
        let orig_rax = u64::MAX;
        let call =
            libc::user_regs_struct { rip: self.syscall_at, rax, orig_rax, rdi, rsi, rdx, r10, ..registers };
        ptrace::setregs(tid, call)?;
        for _entry_then_exit in 0..2 {
            ptrace::syscall(tid, None)?;
            self.stop_of(tid).map_err(|_| Errno::ESRCH)?;
        }
        let result = ptrace::getregs(tid)?.rax.cast_signed();
        ptrace::setregs(tid, registers)?;
        sys::set_traced_mask(tid.as_raw(), mask)?;
        match i32::try_from(result) {
            Ok(error) if (-4095..0).contains(&error) => Err(Errno::from_raw(-error)),
            _ => Ok(result.cast_unsigned()),
        }
    }
}
