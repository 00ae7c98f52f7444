//! How a process of the skeleton is made: with its ids, in the pid namespace where it lives.

use crate::control::{Control, ProcessWord};
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::plan::skeleton::{Process, Skeleton};
use crate::rebuild::pid_namespace::{Levels, Manner, chosen, turn_to};
use crate::stage::Identity;
use crate::sys;
use crate::world::World;
use binfmt::note::task::Task;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpid};
use std::collections::BTreeSet;

/// Who makes processes, and what it knows.
#[derive(Clone, Copy, Debug)]
pub struct Maker<'a> {
    pub(super) identity: Identity,
    pub(super) levels: &'a Levels,
    /// In which pid namespace inside of the tree it lives.
    pub(super) home: u32,
    /// Ids that no helper may take.
    pub(super) wanted: &'a BTreeSet<u32>,
}

impl<'a> Maker<'a> {
    /// One outside of the tree.
    pub fn of(plan: &'a Plan, wanted: &'a BTreeSet<u32>) -> Maker<'a> {
        Maker { identity: plan.identity, levels: &plan.levels, home: 0, wanted }
    }

    /// Waits until the namespace exists in which a process shall be made.
    pub fn await_namespace(
        &self,
        process: &Process,
        control: Control,
        skeleton: &Skeleton,
        check: impl Fn() -> Result<()>,
    ) -> Result<()> {
        match self.levels.manner(process, self.home).turn {
            Some(namespace) => await_init(self.levels, namespace, control, skeleton, check).map(drop),
            None => Ok(()),
        }
    }

    /// clone3 with what the skeleton says of a process. A helper that takes an id that is wanted is made again.
    pub fn make(&self, process: &Process, sibling: bool, flags: u64) -> Result<i32> {
        let failed =
            |error| Error::step(format!("make process {} (clone3 with set_tid)", process.pid), error);
        let Manner { mut ids, flags: more_flags, turn } = self.levels.manner(process, self.home);
        if self.identity == Identity::Fresh {
            ids.clear();
        }
        let flags = flags | more_flags;
        loop {
            let made = self.turned(turn, || match sibling {
                true => sys::fork_sibling(&ids, flags).map_err(failed),
                false => sys::fork(&ids, process.exit_signal.cast_signed(), flags).map_err(failed),
            })?;
            if process.pid != 0 || self.identity == Identity::Fresh || self.may_stay(process, made)? {
                return Ok(made);
            }
            if made == 0 {
                sys::exit_now(0);
            }
            if !sibling {
                waitpid(Pid::from_raw(made), Some(WaitPidFlag::__WALL)).map_err(failed)?;
            }
        }
    }

    /// Whether a helper has no id that is wanted: both it and its maker ask.
    fn may_stay(&self, process: &Process, made: i32) -> Result<bool> {
        if process.namespace != 0 {
            return Ok(chosen(self.levels, process.namespace, made, self.wanted)?.is_some());
        }
        let id = if made == 0 { getpid().as_raw() } else { made };
        Ok(!self.wanted.contains(&id.unsigned_abs()))
    }

    /// Has a process made in another namespace, if it must be.
    pub fn turned(&self, turn: Option<u32>, make: impl FnOnce() -> Result<i32>) -> Result<i32> {
        let Some((_, init)) = turn.and_then(|namespace| self.levels.inside.namespaces.get(&namespace)) else {
            return make();
        };
        turn_to(self.levels.seen(*init, self.home).cast_signed())?;
        let made = make();
        if !matches!(made, Ok(0)) {
            turn_to(getpid().as_raw())?;
        }
        made
    }
}

/// Waits until the init of a namespace exists, and says who that is.
fn await_init(
    levels: &Levels,
    namespace: u32,
    control: Control,
    skeleton: &Skeleton,
    check: impl Fn() -> Result<()>,
) -> Result<u32> {
    let init = levels.inside.namespaces.get(&namespace).map_or(0, |(_, init)| *init);
    let place = skeleton.processes.iter().position(|process| process.pid == init);
    let place = place.ok_or(Error::Internal("a pid namespace has no init"))?;
    while control.of(place, ProcessWord::Pid) == 0 {
        check()?;
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Ok(init)
}

impl World<'_> {
    /// Says which id a process has that was made: here, and for the midwife, who sees it from outside.
    pub(super) fn tell_made(&self, child: usize, made: i32, wanted: &BTreeSet<u32>) -> Result<()> {
        let process = self.process(child)?;
        let seen = made.unsigned_abs();
        let outer = match (process.pid, process.namespace) {
            (_, 0) => seen,
            (0, namespace) => chosen(&self.levels, namespace, made, wanted)?.unwrap_or(seen),
            (pid, _) => pid,
        };
        self.control.set_of(child, ProcessWord::SeenPid, seen);
        self.control.set_of(child, ProcessWord::Pid, outer);
        Ok(())
    }

    /// Lets the children that a task will have live where they would have: no thread can be made any more.
    pub fn turn_at_last(&self, task: &Task) -> Result<()> {
        let Some(namespace) = self.levels.children_of(task.pid) else { return Ok(()) };
        let init = await_init(&self.levels, namespace, self.control, self.skeleton, || self.check_others())?;
        turn_to(self.levels.seen(init, self.levels.inside.home(task.pid)).cast_signed())
    }

    /// Which id a saved process, thread or group has for a task that is being built; 0 if it sees none.
    pub fn id_now(&self, task: &Task, saved: u32) -> u32 {
        match self.stage.identity {
            Identity::Fresh if saved == task.pid => std::process::id(),
            _ => self.levels.seen(saved, self.levels.inside.home(task.pid)),
        }
    }
}
