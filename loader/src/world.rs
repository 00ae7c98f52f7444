//! What every process that is being built knows: the image, the skeleton of the tree, and where things stand.

use crate::arena::{Hole, STACK_BYTES};
use crate::aside::Parked;
use crate::control::{Control, IpcState, Patience, Progress, Shape, Word};
use crate::error::{Error, Result};
use crate::fill;
use crate::index::Threads;
use crate::plan::skeleton::{Process, Role, Skeleton, Step};
use crate::plan::{self, free_range};
use crate::rebuild::mapping;
use crate::rebuild::pid_namespace::Levels;
use crate::shelf::{self, Shelf};
use crate::stage::Stage;
use binfmt::image::Image;
use binfmt::ipc::{self, IpcKind};
use binfmt::note::mapping::{Backing, MappedObject, Memory};
use binfmt::note::task::Task;
use std::collections::{BTreeMap, BTreeSet};

/// What every process knows.
#[derive(Debug)]
pub struct World<'a> {
    /// The image.
    pub image: &'a Image,
    /// What it says of each thread.
    pub index: &'a Threads<'a>,
    /// Who makes whom.
    pub skeleton: &'a Skeleton,
    /// Where the loader stands, in every process.
    pub hole: Hole,
    /// Free ranges for what is needed while memory is made.
    pub places: Places,
    /// What was opened beforehand.
    pub shelf: &'a Shelf,
    /// The pages that all share.
    pub control: Control,
    /// The vdso, out of the way.
    pub parked: &'a Parked,
    /// What this start was told.
    pub stage: &'a Stage,
    /// The tasks, by their places in the skeleton.
    pub tasks: Vec<Option<&'a Task>>,
    /// What each of them has, maybe together with others.
    pub held: Vec<Option<Held>>,
    /// Who makes each process.
    pub makers: Vec<Option<usize>>,
    /// The ids in pid namespaces inside of the tree.
    pub levels: Levels,
}

/// A thing of the kernel's that tasks may share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shared {
    /// An address space.
    Memory,
    /// A table of descriptors.
    Table,
    /// Root, working directory and umask.
    Filesystem,
    /// Dispositions of signals.
    Handlers,
}

/// The ids of what a task has. They stand together, away from the tasks, since every task looks through all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    memory: u32,
    table: u32,
    filesystem: u32,
    handlers: u32,
}

impl Held {
    /// What a task has.
    pub fn by(task: &Task) -> Held {
        Held {
            memory: task.memory,
            table: task.descriptor_table,
            filesystem: task.filesystem,
            handlers: task.signal_handlers,
        }
    }

    fn id(self, what: Shared) -> u32 {
        match what {
            Shared::Memory => self.memory,
            Shared::Table => self.table,
            Shared::Filesystem => self.filesystem,
            Shared::Handlers => self.handlers,
        }
    }
}

/// The tasks of an image, by their places in the skeleton.
pub fn tasks_of<'a>(image: &'a Image, skeleton: &Skeleton) -> Vec<Option<&'a Task>> {
    let by_pid: BTreeMap<u32, &Task> = image.all::<Task>().map(|task| (task.pid, task)).collect();
    let task = |process: &Process| by_pid.get(&process.pid).copied().filter(|_| process.role == Role::Task);
    skeleton.processes.iter().map(task).collect()
}

/// Who makes each process.
pub fn makers_of(skeleton: &Skeleton) -> Vec<Option<usize>> {
    let mut makers = vec![None; skeleton.processes.len()];
    for (maker, process) in skeleton.processes.iter().enumerate() {
        for step in &process.steps {
            if let Step::Fork(made) | Step::ForkSibling(made) = step
                && let Some(place) = makers.get_mut(*made)
            {
                *place = Some(maker);
            }
        }
    }
    makers
}

impl<'a> World<'a> {
    /// A process of the skeleton.
    pub fn process(&self, index: usize) -> Result<&'a Process> {
        self.skeleton.processes.get(index).ok_or(Error::Internal("the skeleton lacks a process"))
    }

    /// The task that a process becomes.
    pub fn task(&self, process: usize) -> Result<&'a Task> {
        let task = self.tasks.get(process).copied().flatten();
        task.ok_or(Error::Internal("a process of the skeleton is no task of the image"))
    }

    /// A task's address space.
    pub fn memory(&self, task: &Task) -> Result<&'a Memory> {
        plan::memory(self.image, task)
    }

    /// Which process makes another one.
    pub fn maker(&self, child: usize) -> Option<usize> {
        self.makers.get(child).copied().flatten()
    }

    /// Who has the same as a process, and whether this process is the one that makes it: the first, from which the others
    /// got it when they were forked.
    pub fn sharing(&self, process: usize, what: Shared) -> Sharing {
        let id = |held: &Option<Held>| held.map(|held| held.id(what));
        let own = self.held.get(process).and_then(id);
        let same =
            |(other, held): (usize, &Option<Held>)| (other != process && id(held) == own).then_some(other);
        let others: Vec<usize> = self.held.iter().enumerate().filter_map(same).collect();
        let makes = self.maker(process).is_none_or(|maker| !others.contains(&maker));
        Sharing { makes, others }
    }

    /// Waits until these processes need nothing any more of what they share with this one.
    pub fn wait_for_sharers(&self, others: &[usize]) -> Result<()> {
        let mut patience = Patience::default();
        for other in others {
            while self.control.progress(*other) == Progress::Building {
                self.check_others()?;
                self.control.wait_progress(*other, Progress::Building, &mut patience);
            }
        }
        Ok(())
    }

    /// The id that the System V object has now which was `id`, once it stands, and whether others use it.
    pub fn ipc(&self, kind: IpcKind, id: u32) -> Result<(u32, bool)> {
        let mut patience = Patience::default();
        while self.control.ipc_state() == IpcState::Missing {
            self.check_others()?;
            self.control.wait(Word::Ipc, IpcState::Missing.word(), &mut patience);
        }
        self.check_others()?;
        let place = ipc::objects(self.image).position(|(of, object)| of == kind && object.id == id);
        place
            .map(|place| crate::ipc::of_word(self.control.ipc(place)))
            .ok_or(Error::Internal("a System V object is missing"))
    }

    /// The objects of shared memory that are mapped in `memory`, or in one that is forked from it without an exec.
    pub fn objects_of_family(&self, memory: u32) -> Vec<&'a MappedObject> {
        let memories = family(self.image, memory);
        let members = self.image.all::<Memory>().filter(|member| memories.contains(&member.id));
        let mappings = members.flat_map(|member| &member.mappings);
        let mapped: BTreeSet<u32> = mappings
            .filter(|mapping| mapping.backing == Backing::Object && mapping.shared)
            .map(|mapping| mapping.object)
            .collect();
        self.image.all::<MappedObject>().filter(|object| mapped.contains(&object.id)).collect()
    }
}

/// With whom a process shares something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sharing {
    /// Whether this process makes it for all.
    pub makes: bool,
    /// The other processes of the skeleton.
    pub others: Vec<usize>,
}

/// The ids of the memories of all tasks that descend from one with `memory` without an exec on the way.
fn family(image: &Image, memory: u32) -> BTreeSet<u32> {
    let tasks: BTreeMap<u32, &Task> = image.all::<Task>().map(|task| (task.pid, task)).collect();
    let descends = |task: &Task| {
        let mut at = task;
        // An image may be hostile: no more steps than there are tasks.
        for _ in 0..=tasks.len() {
            if at.memory == memory {
                return true;
            }
            match tasks.get(&at.parent) {
                Some(parent) if !at.has_execed => at = parent,
                _ => return false,
            }
        }
        false
    };
    image.all::<Task>().filter(|task| descends(task)).map(|task| task.memory).collect()
}

/// Free ranges, the same in every process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Where huge pages are read to before they are moved.
    pub staging: Option<u64>,
    /// Where whole objects of shared memory stand, by their id; see `mapping::viewed`.
    pub views: BTreeMap<u32, u64>,
}

impl Places {
    /// Finds room beside all mappings of all tasks and the hole.
    pub fn find(image: &Image, hole: Hole) -> Result<Places> {
        let mut busy = plan::busy_ranges(image);
        busy.push((hole.start, hole.end() + STACK_BYTES));
        let mut take = |len_bytes: u64| {
            let at = free_range(&mut busy, len_bytes)?;
            busy.push((at, at + len_bytes));
            Some(at)
        };
        let mut places = Places { staging: take(fill::staging_bytes()), views: BTreeMap::new() };
        for (object, len_bytes) in mapping::viewed(image) {
            let at = take(len_bytes).ok_or(Error::Internal("there is no room for shared memory"))?;
            places.views.insert(object, at);
        }
        Ok(places)
    }
}

/// How large the control pages must be.
pub fn shape(image: &Image, skeleton: &Skeleton) -> Shape {
    Shape {
        barriers: usize::try_from(skeleton.barriers).unwrap_or(0),
        processes: skeleton.processes.len(),
        shelf: shelf::items(image).len(),
        ipc: ipc::objects(image).count(),
    }
}
