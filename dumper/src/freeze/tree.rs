//! Finding the tasks of a tree and freezing them from the top down.
//!
//! Children are looked for when all threads of their parent stand still: none can be added then, but by CLONE_PARENT, or
//! by adoption, when a task between a child and a subreaper of the tree ends. So all tasks are looked at again until nothing new was
//! found twice: once may miss a child that was adopted by a task which had been looked at before its parent, but then
//! it has come to stay.

use super::{Became, Freezing, Frozen};
use crate::error::Error;
use crate::procdir::ProcDir;
use crate::underway;
use binfmt::address::{Pid, Tid};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// A task that has ended and waits to be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Zombie {
    /// Which.
    pub pid: Pid,
}

/// A task in the order of the tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Node {
    /// Index of a task that stands still.
    Member(usize),
    /// Index of one that has ended.
    Zombie(usize),
}

/// A tree of which every thread stands still. They go on when the value is dropped.
#[derive(Debug)]
pub struct Tree {
    members: Vec<Frozen>,
    zombies: Vec<Zombie>,
    order: Vec<Node>,
    parent_threads: BTreeMap<Pid, Tid>,
    since: Instant,
}

impl Tree {
    /// Freezes the tasks `roots` and all their descendants.
    pub fn freeze(roots: &[Pid], timeout: Duration) -> Result<Tree, Error> {
        let since = Instant::now();
        let roots = topmost(roots);
        let mut search = Search {
            frozen: BTreeMap::new(),
            ended: BTreeSet::new(),
            children: BTreeMap::new(),
            parents: BTreeMap::new(),
            seen_children: false,
            first: roots.first().copied().unwrap_or(Pid(0)),
            deadline: since + timeout,
        };
        search.run(&roots)?;
        Ok(search.into_tree(&roots, since))
    }

    /// The task that was named first.
    pub fn root(&self) -> Option<Pid> {
        self.members.first().map(Frozen::pid)
    }

    /// The tasks that stand still, parents before their children.
    pub fn members(&self) -> &[Frozen] {
        &self.members
    }

    /// The same, to run something in them.
    pub fn members_mut(&mut self) -> &mut [Frozen] {
        &mut self.members
    }

    /// Those that have ended.
    pub fn zombies(&self) -> &[Zombie] {
        &self.zombies
    }

    /// Which thread has a task as its child, if that is not the main thread of its parent.
    pub fn parent_thread(&self, pid: Pid) -> Option<Tid> {
        self.parent_threads.get(&pid).copied()
    }

    /// All of them, each followed by its descendants.
    pub fn order(&self) -> &[Node] {
        &self.order
    }

    /// How many threads stand still.
    pub fn thread_count(&self) -> usize {
        self.members.iter().map(|member| member.threads.len()).sum()
    }

    /// Lets every thread go and says how long they stood still.
    pub fn thaw(mut self) -> Result<Duration, Error> {
        let mut failed = None;
        for member in &mut self.members {
            for thread in &mut member.threads {
                let tid = thread.tid();
                if let Err(error) = thread.let_go() {
                    let error = Error::question(member.pid, format!("letting thread {tid} go"), error);
                    failed.get_or_insert(error);
                }
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(self.since.elapsed()),
        }
    }
}

/// These tasks and their descendants, as they are found at a glance while all of them run.
pub fn descendants(roots: &[Pid]) -> Vec<Pid> {
    // Where they come and go faster than they are found, so many tell enough.
    const ENOUGH: usize = 10_000;
    let mut found = roots.to_vec();
    let mut at = 0;
    while let Some(pid) = found.get(at).copied().filter(|_| at < ENOUGH) {
        at += 1;
        let proc = ProcDir::new(pid);
        let children = proc.threads().and_then(|threads| proc.children(&threads)).unwrap_or_default();
        found.extend(children.into_iter().filter(|child| !roots.contains(child)));
    }
    found
}

/// Those that do not descend from another one of them, each once.
fn topmost(roots: &[Pid]) -> Vec<Pid> {
    let mut kept: Vec<Pid> = Vec::new();
    for root in roots {
        if !kept.contains(root) && !ancestors(*root).iter().any(|ancestor| roots.contains(ancestor)) {
            kept.push(*root);
        }
    }
    kept
}

/// The parent of a task, its parent, and so on.
fn ancestors(pid: Pid) -> Vec<Pid> {
    let mut found = Vec::new();
    let mut at = pid;
    while let Some(parent) = ProcDir::new(at).parent().filter(|parent| !found.contains(parent)) {
        found.push(parent);
        at = parent;
    }
    found
}

struct Search {
    frozen: BTreeMap<Pid, Frozen>,
    ended: BTreeSet<Pid>,
    /// The children of each task, in the kernel's order.
    children: BTreeMap<Pid, Vec<Pid>>,
    /// The threads of each task that may yet get children: by CLONE_PARENT those that have some, by adoption the leader.
    parents: BTreeMap<Pid, Vec<Tid>>,
    /// Whether any task has had a child.
    seen_children: bool,
    /// The task that was named first, for messages.
    first: Pid,
    deadline: Instant,
}

impl Search {
    fn run(&mut self, roots: &[Pid]) -> Result<(), Error> {
        let mut fresh = self.stop(roots)?;
        if let Some(gone) = roots.iter().find(|root| !self.frozen.contains_key(root)) {
            return Err(Error::Died { pid: *gone });
        }
        loop {
            while !fresh.is_empty() {
                let mut found = Vec::new();
                for pid in std::mem::take(&mut fresh) {
                    found.extend(self.first_look(pid)?);
                }
                fresh = self.stop_in_time(&found)?;
            }
            // Where there never was a child, none can be added.
            if !self.seen_children || self.nothing_new(&mut fresh)? {
                return Ok(());
            }
        }
    }

    /// Looks at all tasks until nothing new was found twice in a row; what is found is stopped, and in `fresh`.
    fn nothing_new(&mut self, fresh: &mut Vec<Pid>) -> Result<bool, Error> {
        const TIMES: usize = 2;
        for _ in 0..TIMES {
            let mut found = Vec::new();
            for (pid, threads) in &self.parents {
                found.extend(
                    ProcDir::new(*pid).children(threads)?.into_iter().filter(|child| self.is_new(*child)),
                );
            }
            if !found.is_empty() {
                *fresh = self.stop_in_time(&found)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The children of a task that has just been frozen.
    fn first_look(&mut self, pid: Pid) -> Result<Vec<Pid>, Error> {
        let threads: Vec<Tid> = match self.frozen.get(&pid) {
            Some(frozen) => frozen.threads.iter().map(super::Stopped::tid).collect(),
            None => Vec::new(),
        };
        let (mut found, mut parents) = (Vec::new(), Vec::new());
        for tid in threads {
            let children = ProcDir::new(pid).children(&[tid])?;
            if !children.is_empty() || tid == pid.leader() {
                parents.push(tid);
            }
            found.extend(children);
        }
        self.seen_children |= !found.is_empty();
        self.children.entry(pid).or_default();
        self.parents.insert(pid, parents);
        found.retain(|child| self.is_new(*child));
        Ok(found)
    }

    fn is_new(&self, pid: Pid) -> bool {
        !self.frozen.contains_key(&pid) && !self.ended.contains(&pid)
    }

    /// Freezes `found` if there is time left.
    fn stop_in_time(&mut self, found: &[Pid]) -> Result<Vec<Pid>, Error> {
        if !found.is_empty() && Instant::now() > self.deadline {
            return Err(Error::target(
                self.first,
                "new processes appear below it faster than they can be stopped",
                "try again, or wait longer with --timeout",
            ));
        }
        self.stop(found)
    }

    /// Freezes `found`, which are not known yet. Returns those that stand still now.
    fn stop(&mut self, found: &[Pid]) -> Result<Vec<Pid>, Error> {
        let mut begun = Vec::with_capacity(found.len());
        for pid in found {
            self.object(*pid)?;
            begun.push(Freezing::begin(*pid)?);
        }
        let mut fresh = Vec::new();
        for freezing in begun {
            let pid = freezing.pid;
            match freezing.finish(self.deadline)? {
                Became::Frozen(frozen) => {
                    self.frozen.insert(pid, frozen);
                    fresh.push(pid);
                }
                Became::Zombie => {
                    self.ended.insert(pid);
                }
                Became::Gone => continue,
            }
            self.adopt(pid);
        }
        Ok(fresh)
    }

    /// Notes whose child `pid` is, now that it cannot be changed any more.
    fn adopt(&mut self, pid: Pid) {
        let parent = ProcDir::new(pid).parent().filter(|parent| self.frozen.contains_key(parent));
        if let Some(parent) = parent {
            self.children.entry(parent).or_default().push(pid);
        }
    }

    /// Refuses a task that must not be frozen.
    fn object(&self, pid: Pid) -> Result<(), Error> {
        if pid.0.cast_unsigned() == std::process::id() {
            return Err(Error::target(
                self.first,
                "ckpt-dump itself is one of its descendants",
                "start ckpt-dump somewhere else: from another terminal, or with `setsid --fork`",
            ));
        }
        match underway::objection(ProcDir::new(pid)) {
            Some((cause, advice)) => Err(Error::target(pid, cause, advice)),
            None => Ok(()),
        }
    }

    /// Which thread has each task as its child, where that is not a main thread.
    fn parent_threads(&self) -> BTreeMap<Pid, Tid> {
        let mut found = BTreeMap::new();
        for (pid, threads) in &self.parents {
            let children = |tid: Tid| ProcDir::new(*pid).children(&[tid]).unwrap_or_default();
            for tid in threads.iter().copied().filter(|tid| *tid != pid.leader()) {
                found.extend(children(tid).into_iter().map(|child| (child, tid)));
            }
            if !found.is_empty() {
                // Where the kernel does not tell, all are the main thread's.
                for child in children(pid.leader()) {
                    found.remove(&child);
                }
            }
        }
        found
    }

    fn into_tree(mut self, roots: &[Pid], since: Instant) -> Tree {
        let (members, zombies, order) = (Vec::new(), Vec::new(), Vec::new());
        let mut tree = Tree { members, zombies, order, parent_threads: self.parent_threads(), since };
        let mut waiting: Vec<Pid> = roots.iter().rev().copied().collect();
        while let Some(pid) = waiting.pop() {
            if let Some(frozen) = self.frozen.remove(&pid) {
                tree.order.push(Node::Member(tree.members.len()));
                tree.members.push(frozen);
            } else if self.ended.remove(&pid) {
                tree.order.push(Node::Zombie(tree.zombies.len()));
                tree.zombies.push(Zombie { pid });
            }
            waiting.extend(self.children.remove(&pid).unwrap_or_default().into_iter().rev());
        }
        tree
    }
}
