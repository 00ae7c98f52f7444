//! Who is there: the tasks with their relations as rows, the dead leaders of their sessions, and what contradicts
//! itself.
//!
//! The kernel's rules that make a contradiction: a number names a session, a group and a process only if it is the
//! same process's; a group lies within one session; who leads a session leads the group of the same number; exec and
//! the death of the parent make the exit signal SIGCHLD; a zombie has no children, and init waits for its own at once.

use super::cast::is_deadly;
use super::table::{FOUNDER, Id, Table};
use super::{CALLERS, Inside, Member, SIGCHLD};
use std::collections::BTreeMap;

/// Who waits for a process in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parent {
    /// The founder or a task.
    Known(Id),
    /// Whoever takes the founder's orphans.
    Init,
    /// It is gone in the end.
    Nobody,
}

/// A process group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Group {
    /// That of the founder.
    Callers,
    /// That with this number.
    Numbered(u32),
}

/// The founder, a task, or the dead leader of a session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Node {
    pub(super) pid: u32,
    /// The pid namespace inside of the tree in which it lives.
    pub(super) namespace: u32,
    pub(super) parent: Parent,
    /// The leader of its session. The founder stands for that of the caller's session.
    pub(super) session: Id,
    /// Its group in the end; of a dead leader, the one of its own.
    pub(super) group: Group,
    /// Its exit signal in the end.
    pub(super) signal: u32,
    pub(super) has_execed: bool,
    pub(super) zombie: bool,
    pub(super) child_subreaper: bool,
    pub(super) memory: u32,
}

/// Who is there.
#[derive(Debug)]
pub(super) struct Census {
    /// The pid namespaces inside of the tree.
    pub(super) inside: Inside,
    /// The founder, the tasks in their order, the dead leaders of sessions.
    pub(super) nodes: Table<Node>,
    /// The session of every numbered group that has a member.
    pub(super) groups: BTreeMap<u32, Id>,
    /// Every row but the founder's, by process id.
    pub(super) by_pid: BTreeMap<u32, Id>,
}

impl Census {
    /// Takes it, or says all that contradicts itself.
    pub(super) fn take(tasks: &[Member], inside: &Inside) -> Result<Census, Vec<String>> {
        let mut taker = Taker {
            census: Census {
                inside: inside.clone(),
                nodes: Table::new(),
                groups: BTreeMap::new(),
                by_pid: BTreeMap::new(),
            },
            reasons: Vec::new(),
        };
        taker.enrol(tasks);
        // What follows needs every number to be one task's.
        if taker.reasons.is_empty() {
            taker.find_parents(tasks);
            taker.find_sessions(tasks);
            taker.find_groups(tasks);
            taker.find_circles();
        }
        if taker.reasons.is_empty() { Ok(taker.census) } else { Err(taker.reasons) }
    }

    /// Whether it leads its session (the founder does, as far as forks go).
    pub(super) fn leads(&self, id: Id) -> bool {
        self.nodes[id].session == id
    }

    /// Whether it is the dead leader of a session.
    pub(super) fn is_dead(&self, id: Id) -> bool {
        id != FOUNDER && self.nodes[id].parent == Parent::Nobody
    }

    /// Whether it must be made by its very parent, or by a sibling: being an orphan makes the exit signal SIGCHLD.
    pub(super) fn is_bound(&self, id: Id) -> bool {
        !self.is_dead(id) && self.nodes[id].signal != SIGCHLD
    }

    /// Whether `maker` lives where it can make that one.
    pub(super) fn can_make(&self, maker: Id, made: Id) -> bool {
        let (maker, made) = (&self.nodes[maker], &self.nodes[made]);
        self.inside.can_make(maker.namespace, made.pid, made.namespace)
    }

    /// Its parent, if that is known.
    pub(super) fn parent(&self, id: Id) -> Option<Id> {
        match self.nodes[id].parent {
            Parent::Known(parent) => Some(parent),
            Parent::Init | Parent::Nobody => None,
        }
    }
}

struct Taker {
    census: Census,
    reasons: Vec<String>,
}

impl Taker {
    fn enrol(&mut self, tasks: &[Member]) {
        let founder = Node {
            pid: 0,
            namespace: 0,
            parent: Parent::Nobody,
            session: FOUNDER,
            group: Group::Callers,
            signal: SIGCHLD,
            has_execed: false,
            zombie: false,
            child_subreaper: false,
            memory: 0,
        };
        self.census.nodes.push(founder);
        if tasks.is_empty() {
            self.reasons.push("the image has no process".to_owned());
        }
        for task in tasks {
            let node = Node {
                pid: task.pid,
                namespace: self.census.inside.home(task.pid),
                parent: Parent::Init,
                session: FOUNDER,
                group: Group::Callers,
                signal: task.exit_signal,
                has_execed: task.has_execed,
                zombie: task.zombie,
                child_subreaper: task.child_subreaper,
                memory: task.memory,
            };
            let id = self.census.nodes.push(node);
            if task.pid == 0 || self.census.by_pid.insert(task.pid, id).is_some() {
                self.reasons.push(format!("the process id {} is not one process's", task.pid));
            }
            if task.exit_signal > 64 {
                self.reasons.push(format!("process {}: there is no signal {}", task.pid, task.exit_signal));
            }
            if task.has_execed && task.exit_signal != SIGCHLD {
                self.reasons.push(format!(
                    "process {} has exec'd, which made its exit signal SIGCHLD, and not {}",
                    task.pid, task.exit_signal
                ));
            }
        }
    }

    fn find_parents(&mut self, tasks: &[Member]) {
        for (place, (task, id)) in tasks.iter().zip(self.task_ids()).enumerate() {
            let pid = task.pid;
            let parent = match (place, task.parent) {
                (0, 0) => Parent::Known(FOUNDER),
                (0, parent) => {
                    self.reasons.push(format!("the first process, {pid}, has a parent, {parent}"));
                    continue;
                }
                (_, 0) => Parent::Init,
                (_, parent) => match self.census.by_pid.get(&parent) {
                    Some(parent) => Parent::Known(*parent),
                    None => {
                        self.reasons
                            .push(format!("the parent of process {pid}, {parent}, is not in the image"));
                        continue;
                    }
                },
            };
            self.census.nodes[id].parent = parent;
            self.check_parent(id, parent);
        }
    }

    fn check_parent(&mut self, id: Id, parent: Parent) {
        let node = self.census.nodes[id];
        let pid = node.pid;
        match parent {
            Parent::Known(parent) if self.census.nodes[parent].zombie => {
                self.reasons.push(format!("the parent of process {pid} is a zombie, which has no children"));
            }
            Parent::Init if node.zombie => self.reasons.push(format!(
                "process {pid} is a zombie whose parent is not in the image, and init waits for its zombies"
            )),
            Parent::Init if node.signal != SIGCHLD => self.reasons.push(format!(
                "process {pid} has the exit signal {}, but init's adopted children have SIGCHLD",
                node.signal
            )),
            _ => {}
        }
        // An exec of the parent after the fork turns what it gets into SIGCHLD.
        let parent_execs = matches!(parent, Parent::Known(id) if self.census.nodes[id].has_execed);
        if node.zombie && !parent_execs && is_deadly(node.signal) {
            self.reasons.push(format!(
                "process {pid} is a zombie with the exit signal {}, which its parent would not survive or stop by",
                node.signal
            ));
        }
    }

    fn find_sessions(&mut self, tasks: &[Member]) {
        for (task, id) in tasks.iter().zip(self.task_ids()) {
            let session = match self.census.by_pid.get(&task.session).copied() {
                None if task.session == CALLERS => FOUNDER,
                None if task.session == 0 => {
                    self.reasons.push(format!("process {} has no session", task.pid));
                    continue;
                }
                None => self.dead_leader(task.session),
                Some(leader) => leader,
            };
            self.census.nodes[id].session = session;
        }
        for (task, id) in tasks.iter().zip(self.task_ids()) {
            let session = self.census.nodes[id].session;
            if session != FOUNDER && !self.census.leads(session) {
                self.reasons.push(format!(
                    "process {} is in session {}, but process {} leads none",
                    task.pid, task.session, task.session
                ));
            }
            if session == id && task.group != task.pid {
                self.reasons
                    .push(format!("process {} leads its session, but is in group {}", task.pid, task.group));
            }
        }
    }

    /// The row of a session's leader that is not in the image.
    fn dead_leader(&mut self, pid: u32) -> Id {
        let node = Node {
            pid,
            namespace: self.census.inside.home(pid),
            parent: Parent::Nobody,
            session: FOUNDER,
            group: Group::Numbered(pid),
            signal: 0,
            has_execed: false,
            zombie: false,
            child_subreaper: false,
            memory: 0,
        };
        let id = self.census.nodes.push(node);
        self.census.nodes[id].session = id;
        self.census.by_pid.insert(pid, id);
        id
    }

    fn find_groups(&mut self, tasks: &[Member]) {
        for (task, id) in tasks.iter().zip(self.task_ids()) {
            let session = self.census.nodes[id].session;
            if task.group == 0 {
                self.reasons.push(format!("process {} has no group", task.pid));
            }
            if task.group == CALLERS {
                if session != FOUNDER {
                    self.reasons.push(format!(
                        "process {} is in the caller's group, but not in its session",
                        task.pid
                    ));
                }
                continue;
            }
            self.census.nodes[id].group = Group::Numbered(task.group);
            let first = *self.census.groups.entry(task.group).or_insert(session);
            if first != session {
                self.reasons.push(format!("group {} lies in two sessions", task.group));
            }
            if let Some(leader) = self.census.by_pid.get(&task.group)
                && self.census.nodes[*leader].session != session
            {
                self.reasons.push(format!(
                    "process {} is in group {} of a session that process {} is not in",
                    task.pid, task.group, task.group
                ));
            }
        }
    }

    /// Parents that lead back to the child.
    fn find_circles(&mut self) {
        // Rows in the order in which they are known to come from the founder or init.
        let mut children = self.census.nodes.map(|_| Vec::new());
        let mut sound = vec![FOUNDER];
        for (id, node) in self.census.nodes.iter() {
            match node.parent {
                Parent::Known(parent) => children[parent].push(id),
                Parent::Init | Parent::Nobody if id != FOUNDER => sound.push(id),
                Parent::Init | Parent::Nobody => {}
            }
        }
        let mut reached = self.census.nodes.map(|_| false);
        while let Some(id) = sound.pop() {
            reached[id] = true;
            sound.append(&mut children[id]);
        }
        for (id, node) in self.census.nodes.iter() {
            if !reached[id] {
                self.reasons.push(format!("process {} is its own ancestor", node.pid));
            }
        }
    }

    /// The rows of the tasks, in their order.
    fn task_ids(&self) -> impl Iterator<Item = Id> + use<> {
        self.census.nodes.ids().skip(1)
    }
}
