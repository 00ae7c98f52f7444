//! The midwife: a process outside of the task that lets all its threads go at once, when the last trace of the loader
//! is gone.
//!
//! It is the supervisor where the task keeps its process id, and otherwise a helper, forked off before the task has any
//! memory to copy, and reparented away so that the task never sees it. It traces all threads while they wait: if it is
//! killed then, the kernel kills them (PTRACE_O_EXITKILL), and a resume that was cut short leaves nothing. It opens the
//! gate, lets every thread run to the end of its rt_sigreturn, makes the leader unmap the hole through the vdso's own
//! `syscall` instruction, and lets go. No instruction of the program has run before that.

use crate::arena::Hole;
use crate::cli::Options;
use crate::control::{Control, Progress, Word};
use crate::error::{EXIT_CANNOT_RESUME, Error, Result};
use crate::plan::{Host, Plan};
use crate::rebuild::descriptor::dup_above;
use crate::stage::{Point, Stage};
use crate::sys;
use binfmt::image::Image;
use nix::errno::Errno;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, RawFd};

/// What a midwife knows of its task.
#[derive(Debug)]
pub struct Midwife {
    /// The page by which they speak.
    pub control: Control,
    /// The process.
    pub pid: Pid,
    /// Its threads, the leader first.
    pub tids: Vec<Pid>,
    /// What is to be unmapped at the end.
    pub hole: Hole,
    /// Address of a `syscall` instruction in the task's vdso.
    pub syscall_at: u64,
    /// Whether it must be stopped when it is let go.
    pub stopped: bool,
    /// How its threads are traced: [`trace_options`].
    pub trace_options: ptrace::Options,
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

/// Where a `syscall` instruction will stand in the task.
pub fn syscall_address(image: &Image, host: &Host) -> Result<u64> {
    use binfmt::note::mapping::{Backing, Memory};
    let mappings = image.all::<Memory>().flat_map(|memory| &memory.mappings);
    let vdso =
        mappings.filter(|mapping| mapping.backing == Backing::Vdso).map(|mapping| mapping.start).next();
    let offset = host.vdso.windows(2).position(|bytes| bytes == [0x0f, 0x05]);
    match (vdso, offset) {
        (Some(start), Some(offset)) => Ok(start + offset as u64),
        _ => Err(Error::Internal("the program has no vdso through which the loader could leave it")),
    }
}

/// Makes what both starts share: descriptors out of the way of the task's, which survive exec.
pub fn make_stage(image: Image, plan: &Plan, options: &Options, point: Point) -> Result<Stage> {
    let above = RawFd::try_from(plan.first_own_descriptor).unwrap_or(RawFd::MAX);
    let keep = |fd: RawFd| {
        let failed = |error| Error::step("keep a descriptor out of the program's way", error);
        let fd = dup_above(fd, above).map_err(failed)?;
        nix::fcntl::fcntl(fd.as_fd(), nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))
            .map_err(failed)?;
        Ok::<_, Error>(fd)
    };
    crate::rebuild::limit::raise_descriptors();
    Ok(Stage {
        point,
        image: keep(image.file.as_raw_fd())?,
        control: keep(Control::create()?.as_raw_fd())?,
        report: keep(2).or_else(|_| keep(image.file.as_raw_fd()))?,
        hole: plan.hole,
        identity: plan.identity,
        foreground: !options.detach && crate::supervisor::foreground_terminal().is_some(),
    })
}

/// Forks off the helper for a task that this process itself will become, and returns what its next start needs.
pub fn spawn_helper(image: Image, host: &Host, plan: &Plan, options: &Options) -> Result<Stage> {
    let syscall_at = syscall_address(&image, host)?;
    let trace_options = trace_options(&image, host);
    let stage = make_stage(image, plan, options, Point::Assemble)?;
    let task = nix::unistd::getpid();
    let failed = |error| Error::step("fork the helper that finishes the resume", error);
    // Exit signal 0 and a second fork: the task gets no SIGCHLD and never has a child that it did not make.
    let middle = sys::fork(0, 0).map_err(failed)?;
    if middle == 0 {
        match sys::fork(0, 0) {
            Ok(0) => {
                let (hole, stopped) = (plan.hole, plan.stopped);
                let status = Control::map(hole, stage.control.as_fd()).and_then(|control| {
                    let tids = vec![task];
                    Midwife { control, pid: task, tids, hole, syscall_at, stopped, trace_options }.deliver()
                });
                help_ended(task, status, options)
            }
            // Who it is stands in the page before the task looks.
            Ok(helper) => match Control::map(plan.hole, stage.control.as_fd()) {
                Ok(control) => {
                    control.set(Word::Midwife, helper.unsigned_abs());
                    sys::exit_now(0)
                }
                Err(_) => sys::exit_now(Errno::ENOMEM as i32),
            },
            Err(error) => sys::exit_now(error as i32),
        }
    }
    match waitpid(Pid::from_raw(middle), Some(WaitPidFlag::__WALL)).map_err(failed)? {
        WaitStatus::Exited(_, 0) => Ok(stage),
        WaitStatus::Exited(_, error) => Err(failed(Errno::from_raw(error))),
        _ => Err(failed(Errno::EINTR)),
    }
}

/// The end of the helper: tells what failed. Whatever was made of the task is killed then.
fn help_ended(task: Pid, status: Result<()>, options: &Options) -> ! {
    match &status {
        // Nobody may be there to read it.
        Ok(()) if options.detach => drop(writeln!(std::io::stdout(), "{task}")),
        Ok(()) => {}
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
    /// Lets the task go when it is whole. If it never will be, it is gone when this returns.
    pub fn deliver(&self) -> Result<()> {
        let result = self.try_deliver();
        if result.is_err() {
            // ESRCH: it is gone already.
            let _ = kill(self.pid, Signal::SIGKILL);
        }
        result
    }

    fn try_deliver(&self) -> Result<()> {
        self.wait_for(Progress::ThreadsWait)?;
        for tid in &self.tids {
            ptrace::seize(*tid, self.trace_options)
                .map_err(|error| Error::step(format!("trace thread {tid} while it is made"), error))?;
        }
        self.control.set(Word::Start, 1);
        self.wait_for(Progress::Ready)?;
        for tid in &self.tids {
            self.traced("stop", *tid, ptrace::interrupt(*tid))?;
            self.stop_of(*tid)?;
        }
        self.control.set(Word::Gate, 1);
        for tid in &self.tids {
            self.run_to_return(*tid)?;
        }
        self.unmap_hole()?;
        if self.stopped {
            self.traced("stop", self.pid, kill(self.pid, Signal::SIGSTOP))?;
        }
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

    /// Takes the ends of all threads of a task that was killed. The leader's is told only after those of the others, and
    /// those only to us who trace them.
    pub fn take_ends(&self) {
        for tid in self.tids.iter().rev() {
            self.take_end(*tid);
        }
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

    /// Waits until the task has come so far.
    fn wait_for(&self, wanted: Progress) -> Result<()> {
        loop {
            let progress = self.control.progress();
            match progress {
                Progress::Failed => return Err(self.failure()),
                _ if progress == wanted => return Ok(()),
                _ if self.is_gone() => return Err(Error::Told),
                _ => self.control.wait(Word::Progress, progress.word()),
            }
        }
    }

    /// Whether the task has ended: it tells its errors itself.
    fn is_gone(&self) -> bool {
        self.take_ended();
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT | WaitPidFlag::__WALL;
        match waitid(Id::Pid(self.pid), flags) {
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => true,
            // It is no child of a helper's, and nobody else's zombie for long.
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
    fn failure(&self) -> Error {
        let word = |word: Word| usize::try_from(self.control.get(word)).unwrap_or(0);
        let at = word(Word::ProgramHigh) << 32 | word(Word::ProgramLow);
        let (program_len, text_len) = (word(Word::ProgramBytes), word(Word::TextBytes));
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

    /// Makes the leader unmap the hole, through the vdso's own code, with all signals blocked.
    fn unmap_hole(&self) -> Result<()> {
        let failed = |error| Error::step("unmap the loader from the program", error);
        let tid = self.pid;
        let mask = sys::traced_mask(tid.as_raw()).map_err(failed)?;
        let registers = ptrace::getregs(tid).map_err(failed)?;
        sys::set_traced_mask(tid.as_raw(), u64::MAX).map_err(failed)?;
        let mut call = registers;
        call.rip = self.syscall_at;
        call.rax = libc::SYS_munmap.cast_unsigned();
        call.orig_rax = u64::MAX;
        call.rdi = self.hole.start;
        call.rsi = self.hole.len_bytes();
        ptrace::setregs(tid, call).map_err(failed)?;
        for _entry_then_exit in 0..2 {
            ptrace::syscall(tid, None).map_err(failed)?;
            self.stop_of(tid)?;
        }
        let result = ptrace::getregs(tid).map_err(failed)?.rax.cast_signed();
        if result != 0 {
            return Err(failed(Errno::from_raw(i32::try_from(-result).unwrap_or(libc::EINVAL))));
        }
        ptrace::setregs(tid, registers).map_err(failed)?;
        sys::set_traced_mask(tid.as_raw(), mask).map_err(failed)
    }
}
