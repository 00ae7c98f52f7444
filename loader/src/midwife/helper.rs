//! The midwife as a process of its own.
//!
//! She is never the process that others see as the job: whoever kills that one, at whatever time, ends everything before
//! the first task has run, or nothing. Until then she ends with it, and with her all whom she traces; from then on she
//! lets go of the rest whatever happens.

use super::{Kept, Midwife, Ward, first_control, first_pages, make_stage, trace_options};
use crate::apart::Announcement;
use crate::cli::Options;
use crate::control::{Patience, ProcessWord, Word};
use crate::error::{EXIT_CANNOT_RESUME, Error, Result};
use crate::keeper::Keeper;
use crate::plan::{Host, Plan, ROOT};
use crate::rebuild::unix;
use crate::stage::Stage;
use crate::sys;
use binfmt::image::Image;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

/// What a midwife for a tree does besides.
#[derive(Debug)]
pub struct Duties<B, P, A> {
    /// At first; says what she keeps of the shelf.
    pub prepare: P,
    /// When every task has its place in the tree.
    pub before: B,
    /// When all have been let go.
    pub after: A,
}

/// Has `fork` make the midwife of a tree.
pub fn spawn<'a>(
    midwife: &Midwife,
    image: &Image,
    plan: &Plan,
    fork: impl FnOnce() -> Result<i32>,
    duties: Duties<impl Fn(), impl FnOnce() -> Result<Kept<'a>>, impl FnOnce()>,
) -> Result<Pid> {
    let failed = |error| Error::step("tie the midwife to her supervisor", error);
    let supervisor = sys::open_process(nix::unistd::getpid().as_raw()).map_err(failed)?;
    let helper = fork()?;
    if helper != 0 {
        return Ok(Pid::from_raw(helper));
    }
    let status = tie_to(supervisor).and_then(|()| (duties.prepare)()).and_then(|kept| {
        midwife.control.set(Word::Midwife, std::process::id());
        let keeper = Keeper::spawn(image, plan, midwife.control)?;
        midwife.deliver(keeper.as_ref(), kept, duties.before)
    });
    if let Err(error) = status {
        midwife.control.set(Word::Failed, 1);
        tell(&error);
        sys::exit_now(EXIT_CANNOT_RESUME.into());
    }
    (duties.after)();
    sys::exit_now(0)
}

/// Ends with the process of this descriptor, which may be of another pid namespace.
fn tie_to(supervisor: OwnedFd) -> Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        .map_err(|error| Error::step("tie the midwife to her supervisor", error))?;
    // It may have ended before the kernel knew that this matters; then there is nobody to tell.
    if sys::has_ended_fd(supervisor.as_fd()) { Err(Error::Told) } else { Ok(()) }
}

/// What her supervisor knows of her.
#[derive(Debug)]
pub struct Hired<'a> {
    /// What she knows.
    pub midwife: &'a Midwife,
    /// Her process id.
    pub pid: Pid,
    /// If she is the init of the tree's own pid namespace: this process's list of children, by the ids that they have out
    /// here (`/proc/thread-self/children`, opened before there was another `/proc`).
    pub children: Option<File>,
}

impl Hired<'_> {
    /// Fails if she has ended, or anybody has failed.
    pub fn check(&self) -> Result<()> {
        let failed = self.midwife.control.get(Word::Failed) != 0;
        if failed || sys::has_ended(self.pid.as_raw()) { Err(Error::Told) } else { Ok(()) }
    }

    /// Waits until she has let the tree go; fails if she never will.
    pub fn await_delivery(&self) -> Result<()> {
        let control = self.midwife.control;
        let mut patience = Patience::of_midwife();
        while control.get(Word::Delivered) == 0 {
            // She may have delivered and ended since.
            let is_over = control.get(Word::Failed) != 0 || sys::has_ended(self.pid.as_raw());
            if is_over && control.get(Word::Delivered) == 0 {
                return Err(Error::Told);
            }
            control.wait(Word::Delivered, 0, &mut patience);
        }
        if self.children.is_none() {
            let _ = waitpid(self.pid, Some(WaitPidFlag::__WALL));
        }
        Ok(())
    }

    /// The root that a helper has made to be our child.
    pub fn adopted(&self) -> Result<Pid> {
        let missing = || Error::Internal("the founder has not got the root");
        let Some(mut children) = self.children.as_ref() else {
            let root = self.midwife.control.of(ROOT, ProcessWord::Pid).cast_signed();
            return if root == 0 { Err(missing()) } else { Ok(Pid::from_raw(root)) };
        };
        let mut ids = String::new();
        children.read_to_string(&mut ids).map_err(|error| Error::io("list the children", &error))?;
        let mut others = ids.split_whitespace().filter_map(|id| id.parse().ok()).map(Pid::from_raw);
        others.find(|child| *child != self.pid).ok_or_else(missing)
    }

    /// Ends her, and with her everybody, and takes the ends.
    pub fn give_up(&self, root: Option<Pid>) {
        const PATIENCE: Duration = Duration::from_secs(5);
        self.midwife.control.set(Word::Failed, 1);
        let mut left: BTreeSet<Pid> = [Some(self.pid), root].into_iter().flatten().collect();
        // She sees it, and tidies up. Where she is init she ends only after all of her namespace that are our children have
        // been waited for.
        let start = Instant::now();
        let mut patience = Patience::of_midwife();
        while left.contains(&self.pid) && start.elapsed() < PATIENCE {
            match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => self.midwife.control.wait(Word::Delivered, 0, &mut patience),
                Ok(status) => left.retain(|pid| status.pid() != Some(*pid)),
                Err(_) => left.clear(),
            }
        }
        for pid in &left {
            let _ = kill(*pid, Signal::SIGKILL);
        }
        // With init all others end, and from here their ids are others'.
        if self.children.is_none() {
            self.midwife.give_up();
        }
        while !left.is_empty() {
            match waitpid(None, Some(WaitPidFlag::__WALL)) {
                Ok(status) => left.retain(|pid| status.pid() != Some(*pid)),
                Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }
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
    let pages = first_pages(image, plan)?;
    let (stage, shelf) = make_stage(image, host, plan, options, &pages)?;
    drop(pages);
    let control = first_control(image, plan, &stage, &shelf)?;
    let task = nix::unistd::getpid();
    control.set_of(ROOT, ProcessWord::Pid, task.as_raw().unsigned_abs());
    let failed = |error| Error::step("fork the helper that finishes the resume", error);
    // Exit signal 0 and a second fork: the task gets no SIGCHLD and never has a child that it did not make.
    let middle = sys::fork(&[], 0, 0).map_err(failed)?;
    if middle == 0 {
        match sys::fork(&[], 0, 0) {
            Ok(0) => {
                let kept = Kept::of(image, &shelf, &host.holding);
                shelf.close();
                let wards =
                    plan.wards.iter().map(|ward| Ward { pid: task, tids: vec![task], ..ward.clone() });
                let wards = wards.collect();
                let midwife = Midwife { control, wards, hole: plan.hole, trace_options };
                let status = kept.and_then(|kept| {
                    let keeper = Keeper::spawn(image, plan, control)?;
                    midwife.deliver(keeper.as_ref(), kept, || {})
                });
                let status = status.inspect_err(|_| unix::remove_files(image));
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
            tell(error);
            // It may have ended by itself, having told why.
            let _ = kill(task, Signal::SIGKILL);
        }
    }
    sys::exit_now(if status.is_ok() { 0 } else { EXIT_CANNOT_RESUME.into() })
}

/// Says why all was given up, unless somebody has.
fn tell(error: &Error) {
    if !matches!(error, Error::Told) {
        // Nobody may be there to read it.
        let _ = writeln!(std::io::stderr(), "ckpt: {error}");
    }
}
