//! The midwife: a process outside of the tree that lets all threads of all tasks go at once, when the last trace of the
//! loader is gone.
//!
//! She traces all threads while they wait: if she is killed then, the kernel kills them (PTRACE_O_EXITKILL), and a resume
//! that was cut short leaves nothing. She opens the gate, lets every thread run to the end of its rt_sigreturn, makes the
//! leader unmap the hole through the vdso's own `syscall` instruction, and lets go. No instruction of the program has run
//! before that. Who she is, and what comes of her when somebody else is killed: see [`helper`].

pub mod helper;
mod notice;
mod ward;

pub use ward::{Stop, Ward};

use crate::arena::Hole;
use crate::cli::Options;
use crate::control::{Control, Patience, ProcessWord, Progress, Word};
use crate::error::{Error, Result};
use crate::keeper::{Keeper, files};
use crate::plan::{Host, Plan, ROOT};
use crate::rebuild::descriptor::{RESERVE, dup_above};
use crate::rebuild::inet::{Connections, Holding};
use crate::rebuild::inotify::Watching;
use crate::rebuild::limit::raise_descriptors;
use crate::rebuild::unix;
use crate::shelf::{self, Shelf};
use crate::stage::{Identity, Point, Stage};
use crate::sys;
use crate::wish::Wishes;
use crate::world::shape;
use binfmt::image::Image;
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

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

/// What she keeps of the shelf, and her hold on the peers of connections.
#[derive(Debug)]
pub struct Kept<'a> {
    watching: Watching<'a>,
    connections: Connections<'a>,
}

impl<'a> Kept<'a> {
    /// Takes it; the shelf is closed afterwards.
    pub fn of(image: &'a Image, shelf: &Shelf, holding: &'a Holding) -> Result<Kept<'a>> {
        let connections = Connections::of(image, shelf, holding)?;
        Ok(Kept { watching: Watching::of(image, shelf)?, connections })
    }
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

/// Makes the control pages, and the process that watches what a killed resume would leave behind, before anything of that is
/// made.
pub fn first_pages(image: &Image, plan: &Plan) -> Result<OwnedFd> {
    let pages: OwnedFd = Control::create(shape(image, &plan.skeleton))?;
    files::spawn(image, plan, pages.as_fd())?;
    Ok(pages)
}

/// Makes what all starts share: the shelf, and descriptors out of the way of the tasks', which survive exec.
pub fn make_stage(
    image: &Image,
    host: &Host,
    plan: &Plan,
    options: &Options,
    pages: &OwnedFd,
) -> Result<(Stage, Shelf)> {
    let above = RawFd::try_from(plan.first_own_descriptor).unwrap_or(RawFd::MAX);
    let keep = |fd: RawFd| {
        let failed = |error| Error::step("keep a descriptor out of the program's way", error);
        let fd = dup_above(fd, above).map_err(failed)?;
        nix::fcntl::fcntl(fd.as_fd(), nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty()))
            .map_err(failed)?;
        Ok::<_, Error>(sys::give_up(fd))
    };
    // What is on its way counts against the same limit.
    let on_shelf = (shelf::items(image).len() + unix::rights_count(image)) as u64;
    raise_descriptors(u64::from(plan.first_own_descriptor) + on_shelf + u64::from(RESERVE.unsigned_abs()));
    let shelf = Shelf::fill(image, &host.namespaces, plan.identity, above)?;
    let stage = Stage {
        point: Point::Assemble,
        image: keep(image.file.as_raw_fd())?,
        control: keep(pages.as_raw_fd())?,
        report: keep(2).or_else(|_| keep(image.file.as_raw_fd()))?,
        hole: plan.hole,
        identity: plan.identity,
        foreground: !options.detach && crate::supervisor::foreground_terminal().is_some(),
        joins_session: plan.joins_session,
        user_namespace: plan.identity == Identity::Namespace && plan.inner_ids.is_some()
            || host.namespaces.denies_groups,
        by_handler: plan.by_handler,
        verbose: options.verbose,
        callers_group: nix::unistd::getpgrp().as_raw().unsigned_abs(),
        process: ROOT,
        steps_done: 0,
        forks_many: plan.skeleton.forks_many(ROOT),
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

impl Midwife {
    /// Lets all tasks go when all are whole, having done `before` when every one has its place in the tree. If they never
    /// will be, they are killed when this returns.
    pub fn deliver(&self, keeper: Option<&Keeper>, kept: Kept<'_>, before: impl Fn()) -> Result<()> {
        let result = self.try_deliver(keeper, kept, before);
        if result.is_err() {
            self.give_up();
            self.take_ends();
        } else {
            // One word for all: the supervisor, if she is killed now, and the keeper believe the same.
            self.control.set(Word::Delivered, 1);
            keeper.into_iter().for_each(Keeper::dismiss);
        }
        result
    }

    /// Kills all tasks that are made, and lets nobody make more.
    fn give_up(&self) {
        self.control.set(Word::Failed, 1);
        for ward in self.wards.iter().filter(|ward| self.is_made(ward)) {
            // ESRCH: it is gone already.
            let _ = kill(ward.pid, Signal::SIGKILL);
        }
    }

    /// Whether a task was made: until then its process id may be somebody else's.
    fn is_made(&self, ward: &Ward) -> bool {
        self.control.of(ward.process, ProcessWord::Pid) != 0
    }

    fn try_deliver(&self, keeper: Option<&Keeper>, kept: Kept<'_>, before: impl Fn()) -> Result<()> {
        self.wait_for(Progress::ThreadsWait, keeper)?;
        before();
        for tid in self.threads() {
            ptrace::seize(tid, self.trace_options)
                .map_err(|error| Error::step(format!("trace thread {tid} while it is made"), error))?;
        }
        self.control.set(Word::Start, 1);
        self.wait_for(Progress::Ready, keeper)?;
        keeper.map_or(Ok(()), Keeper::settle)?;
        // Nobody opens or closes anything any more.
        kept.watching.begin()?;
        let threads = || self.wards.iter().flat_map(|ward| ward.tids.iter().map(move |tid| (ward, *tid)));
        for (ward, tid) in threads() {
            ward.traced("stop", tid, ptrace::interrupt(tid))?;
        }
        for (ward, tid) in threads() {
            ward.stop_of(tid)?;
        }
        self.control.set(Word::Gate, 1);
        ward::run_to_return(threads().collect())?;
        keeper.into_iter().for_each(Keeper::let_go);
        // All or nothing: from here on it is all, whoever else is killed.
        nix::sys::prctl::set_pdeathsig(None).map_err(|error| Error::step("outlive the supervisor", error))?;
        kept.connections.go_on()?;
        // Children before their parents, which must not notice.
        for ward in self.wards.iter().rev() {
            let Stop::Stands { told, again } = ward.stop else { continue };
            ward::unmap_hole(&[ward], self.hole)?;
            ward.send_stop()?;
            ward.let_go()?;
            if let Some(parent) = ward.parent.and_then(|parent| self.wards.get(parent)) {
                parent.forget_stop(ward, told, self.control)?;
            }
            if again {
                notice::await_stop(ward.pid);
                ward.send_stop()?;
            }
        }
        let runs_on = |ward: &&Ward| matches!(ward.stop, Stop::None | Stop::Due);
        let run_on: Vec<&Ward> = self.wards.iter().rev().filter(runs_on).collect();
        ward::unmap_hole(&run_on, self.hole)?;
        run_on.iter().filter(|ward| ward.stop == Stop::Due).try_for_each(|ward| ward.send_stop())?;
        run_on.iter().try_for_each(|ward| ward.let_go())
    }

    fn threads(&self) -> impl Iterator<Item = Pid> + '_ {
        self.wards.iter().flat_map(|ward| ward.tids.iter().copied())
    }

    /// Takes the ends of all threads of tasks that were killed. A leader's is told only after those of the others, and
    /// those only to us who trace them.
    fn take_ends(&self) {
        for ward in &self.wards {
            for tid in ward.tids.iter().rev() {
                ward.take_end(*tid);
            }
        }
    }

    /// Waits until all tasks have come so far.
    fn wait_for(&self, wanted: Progress, keeper: Option<&Keeper>) -> Result<()> {
        let (mut patience, mut rounds) = (Patience::of_midwife(), Rounds::default());
        for ward in &self.wards {
            loop {
                let progress = self.control.progress(ward.process);
                match progress {
                    Progress::Failed => return Err(ward.failure(self.control)),
                    _ if progress == wanted => break,
                    _ if self.control.get(Word::Failed) != 0 => return Err(self.somebody_failed()),
                    _ if rounds.are_due(|| self.somebody_is_gone()) => return Err(Error::Told),
                    _ => {
                        keeper.map_or(Ok(()), Keeper::check)?;
                        self.control.wait_progress(ward.process, progress, &mut patience);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether a task has ended that was made.
    fn somebody_is_gone(&self) -> bool {
        self.wards.iter().any(|ward| self.is_made(ward) && ward.is_gone())
    }

    /// A task that failed in its program has not told it.
    fn somebody_failed(&self) -> Error {
        let failed = self.wards.iter().find(|ward| self.control.progress(ward.process) == Progress::Failed);
        failed.map_or(Error::Told, |ward| ward.failure(self.control))
    }
}

/// When to look after all tasks: not whenever one of them comes a step further, and seldom where it takes long.
#[derive(Debug, Default)]
struct Rounds {
    next: Option<Instant>,
}

impl Rounds {
    /// What `look` finds, if it is time to look.
    fn are_due(&mut self, look: impl FnOnce() -> bool) -> bool {
        const BETWEEN: Duration = Duration::from_millis(20);
        const SHARE: u32 = 20;
        let begun = Instant::now();
        if self.next.is_some_and(|next| begun < next) {
            return false;
        }
        let found = look();
        self.next = Some(Instant::now() + BETWEEN.max(begun.elapsed() * SHARE));
        found
    }
}
