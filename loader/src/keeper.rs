//! The keeper: a process that makes the System V objects of a tree, and removes them if the tree never lives.
//!
//! Such an object belongs to no process: nothing takes it away when a resume is cut short. So they are made by somebody whom
//! that does not touch, a child of the midwife, who watches it: until the tree has been let go, its end is the end of what was
//! made. Meanwhile the tasks use what stands; when all have what they need, the objects get their owners.

pub mod files;

use crate::control::{Control, IpcState, Patience, ProcessWord, Word};
use crate::error::{EXIT_CANNOT_RESUME, Error, Result};
use crate::grow;
use crate::ipc::{Standing, ToMake, Whole};
use crate::plan::Plan;
use crate::plan::skeleton::{Process, Role};
use crate::rebuild::descriptor;
use crate::sys;
use binfmt::image::Image;
use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
use nix::unistd::Pid;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// The keeper, as the midwife knows it. Dropped before the tree was let go, it undoes everything, and is gone; if it was
/// killed, what it made is removed here.
#[derive(Debug)]
pub struct Keeper {
    pid: Pid,
    control: Control,
    to_make: ToMake,
}

impl Keeper {
    /// Forks it off, if there is anything for it to do.
    pub fn spawn(image: &Image, plan: &Plan, control: Control) -> Result<Option<Keeper>> {
        if plan.ipc.is_empty() {
            return Ok(None);
        }
        let failed = |error| Error::step("watch the process that finishes the resume", error);
        let midwife = sys::open_process(nix::unistd::getpid().as_raw()).map_err(failed)?;
        let helper = Process {
            pid: 0,
            role: Role::Helper,
            namespace: 0,
            exit_signal: 0,
            shares_memory: false,
            steps: Vec::new(),
        };
        let wanted = plan.ids_of(image);
        match grow::Maker::of(plan, &wanted).make(&helper, false, 0)? {
            0 => keep(image, plan, control, midwife.as_fd()),
            pid => {
                Ok(Some(Keeper { pid: Pid::from_raw(pid), control, to_make: ToMake::of(image, &plan.ipc) }))
            }
        }
    }

    /// Fails if it has, or was killed.
    pub fn check(&self) -> Result<()> {
        let has_failed = || self.control.get(Word::Failed) != 0;
        match has_failed() {
            false if !sys::has_ended(self.pid.as_raw()) => Ok(()),
            false if !has_failed() => {
                Err(Error::step("go on: the process that makes System V objects has ended", Errno::ESRCH))
            }
            _ => Err(Error::Told),
        }
    }

    /// Has the objects get their owners, now that all tasks have what they need of them.
    pub fn settle(&self) -> Result<()> {
        self.control.set_ipc_state(IpcState::Settle);
        let mut patience = Patience::of_midwife();
        while self.control.ipc_state() == IpcState::Settle {
            self.check()?;
            self.control.wait(Word::Ipc, IpcState::Settle.word(), &mut patience);
        }
        Ok(())
    }

    /// The tree is being let go: from now on only this process itself undoes anything.
    pub fn let_go(&self) {
        self.control.set_ipc_state(IpcState::LettingGo);
    }

    /// The tree lives, as [`Word::Delivered`] says: have it look.
    pub fn dismiss(&self) {
        self.control.set_ipc_state(IpcState::Delivered);
    }

    fn has_delivered(&self) -> bool {
        self.control.get(Word::Delivered) != 0
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if !self.has_delivered() {
            self.control.set_ipc_state(IpcState::Abandoned);
        }
        let ended =
            || waitid(Id::Pid(self.pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::__WALL);
        while ended() == Err(Errno::EINTR) {}
        if !self.has_delivered() {
            // As long as it was not waited for, its id is nobody else's.
            self.to_make.remove(self.pid.as_raw().unsigned_abs());
        }
        let _ = waitpid(self.pid, Some(WaitPidFlag::__WALL));
    }
}

/// All that the keeper does.
fn keep(image: &Image, plan: &Plan, control: Control, midwife: BorrowedFd<'_>) -> ! {
    let mut made = Vec::new();
    let result = work(image, plan, control, midwife, &mut made);
    if let Err(error) = &result {
        if !matches!(error, Error::Told) {
            // Nobody may be there to read it.
            let _ = writeln!(std::io::stderr(), "ckpt: {error}");
        }
        control.set(Word::Failed, 1);
        made.into_iter().for_each(Standing::remove);
    }
    sys::exit_now(if result.is_ok() { 0 } else { EXIT_CANNOT_RESUME.into() })
}

fn work<'a>(
    image: &'a Image,
    plan: &Plan,
    control: Control,
    midwife: BorrowedFd<'_>,
    made: &mut Vec<Standing<'a>>,
) -> Result<()> {
    SigSet::all().thread_set_mask().map_err(|error| Error::step("block signals", error))?;
    let mut stay = [2, image.file.as_raw_fd().unsigned_abs(), midwife.as_raw_fd().unsigned_abs()];
    stay.sort_unstable();
    // The tree's pipes and files must have no other holder.
    descriptor::close_others(&stay)?;
    let objects = || Whole::all(image).into_iter().zip(&plan.ipc).enumerate();
    // First those that give up their key at once, which another one may have.
    for first in [true, false] {
        for (index, (what, fate)) in objects().filter(|(_, (it, _))| it.gives_up_its_key() == first) {
            Standing::make(image, what, *fate, made)?;
            if let Some(standing) = made.last() {
                control.set_ipc(index, standing.word());
            }
        }
    }
    for remark in made.iter().filter_map(Standing::remark) {
        let _ = writeln!(std::io::stderr(), "ckpt: {remark}");
    }
    control.set_ipc_state(IpcState::Made);
    let mut patience = Patience::of_midwife();
    loop {
        let midwife_is_gone = sys::has_ended_fd(midwife);
        let state = control.ipc_state();
        match state {
            _ if control.get(Word::Delivered) != 0 => return Ok(()),
            IpcState::Settle => {
                made.iter_mut().try_for_each(|standing| standing.settle(plan.inner_ids.is_some()))?;
                control.set_ipc_state(IpcState::Settled);
                continue;
            }
            IpcState::LettingGo if midwife_is_gone => {
                return if somebody_lives(plan, control) { Ok(()) } else { Err(Error::Told) };
            }
            IpcState::Abandoned => return Err(Error::Told),
            _ if midwife_is_gone || control.get(Word::Failed) != 0 => return Err(Error::Told),
            _ => {}
        }
        control.wait(Word::Ipc, state.word(), &mut patience);
    }
}

/// Whether a task runs although the midwife was killed while it let them go: then the segments are in use. Those that it held
/// are being killed, and by a supervisor all others.
fn somebody_lives(plan: &Plan, control: Control) -> bool {
    const PATIENCE: Duration = Duration::from_secs(1);
    const PATIENCE_WITH_SUPERVISOR: Duration = Duration::from_secs(20);
    let begun = Instant::now();
    let patience = || if control.get(Word::Failed) == 0 { PATIENCE } else { PATIENCE_WITH_SUPERVISOR };
    while begun.elapsed() < patience() {
        let ids = plan.wards.iter().map(|ward| control.of(ward.process, ProcessWord::Pid).cast_signed());
        if ids.filter(|pid| *pid != 0).all(sys::has_ended) {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    true
}
