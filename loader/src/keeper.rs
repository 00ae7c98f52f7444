//! The keeper: a process that makes the System V segments of a tree, and removes them if the tree never lives.
//!
//! A segment belongs to no process: nothing takes it away when a resume is cut short. So they are made by somebody whom
//! that does not touch, a child of the midwife, who watches it: until the tree has been let go, its end is the end of what was
//! made. Meanwhile the tasks attach what stands; when all have, the segments get their owners.

use crate::control::{Control, Patience, SegmentState, Word};
use crate::error::{EXIT_CANNOT_RESUME, Error, Result};
use crate::grow;
use crate::plan::Plan;
use crate::plan::skeleton::{Process, Role};
use crate::rebuild::descriptor;
use crate::rebuild::shm::Standing;
use crate::sys;
use binfmt::image::Image;
use binfmt::note::shm::SharedSegment;
use nix::sys::signal::SigSet;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The keeper, as the midwife knows it. Dropped before the tree was let go, it undoes everything, and is gone.
#[derive(Debug)]
pub struct Keeper {
    pid: Pid,
    control: Control,
}

impl Keeper {
    /// Forks it off, if there is anything for it to do.
    pub fn spawn(image: &Image, plan: &Plan, control: Control) -> Result<Option<Keeper>> {
        if image.all::<SharedSegment>().next().is_none() {
            return Ok(None);
        }
        let failed = |error| Error::step("watch the process that finishes the resume", error);
        let midwife = sys::open_process(nix::unistd::getpid().as_raw()).map_err(failed)?;
        let helper =
            Process { pid: 0, role: Role::Helper, exit_signal: 0, shares_memory: false, steps: Vec::new() };
        match grow::make_process(&helper, false, 0, plan.identity, image)? {
            0 => keep(image, plan, control, midwife.as_fd()),
            pid => Ok(Some(Keeper { pid: Pid::from_raw(pid), control })),
        }
    }

    /// Has the segments get their owners, now that all tasks have attached them.
    pub fn settle(&self) -> Result<()> {
        self.control.set_segments(SegmentState::Settle);
        let mut patience = Patience::of_midwife();
        while self.control.segments() == SegmentState::Settle {
            if self.control.get(Word::Failed) != 0 || sys::has_ended(self.pid.as_raw()) {
                return Err(Error::Told);
            }
            self.control.wait(Word::Segments, SegmentState::Settle.word(), &mut patience);
        }
        Ok(())
    }

    /// The tree is being let go: from now on only this process itself undoes anything.
    pub fn let_go(&self) {
        self.control.set_segments(SegmentState::LettingGo);
    }

    /// The tree lives.
    pub fn dismiss(&self) {
        self.control.set_segments(SegmentState::Delivered);
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        if self.control.segments() != SegmentState::Delivered {
            self.control.set_segments(SegmentState::Abandoned);
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
    let segments = || image.all::<SharedSegment>().zip(&plan.segments).enumerate();
    // First those that give up their key at once, which another one may have.
    for marked in [true, false] {
        for (index, (segment, fate)) in segments().filter(|(_, (it, _))| it.marked_for_removal == marked) {
            Standing::make(image, segment, *fate, made)?;
            if let Some(standing) = made.last() {
                control.set_segment(index, standing.id);
            }
        }
    }
    for remark in made.iter().filter_map(Standing::remark) {
        let _ = writeln!(std::io::stderr(), "ckpt: {remark}");
    }
    control.set_segments(SegmentState::Made);
    let mut patience = Patience::of_midwife();
    loop {
        let midwife_is_gone = sys::has_ended_fd(midwife);
        let state = control.segments();
        match state {
            SegmentState::Settle => {
                made.iter_mut().try_for_each(|standing| standing.settle(plan.inner_ids.is_some()))?;
                control.set_segments(SegmentState::Settled);
                continue;
            }
            SegmentState::Delivered => return Ok(()),
            // It was killed in the middle of it: the segments are those of the tasks that run.
            SegmentState::LettingGo if midwife_is_gone => return Ok(()),
            SegmentState::Abandoned => return Err(Error::Told),
            _ if midwife_is_gone || control.get(Word::Failed) != 0 => return Err(Error::Told),
            _ => {}
        }
        control.wait(Word::Segments, state.word(), &mut patience);
    }
}
