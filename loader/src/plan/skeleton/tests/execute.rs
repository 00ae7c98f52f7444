//! Carries a skeleton out under the kernel's rules, in a random order, and looks at what comes of it.

use super::super::{CALLERS, Inside, Member, Role, Skeleton, Step};
use super::kernel::{Errno, INIT, Kernel};
use std::collections::{BTreeMap, BTreeSet};

/// A small generator of numbers (xorshift).
#[derive(Clone)]
pub(super) struct Dice(pub(super) u64);

impl Dice {
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 33).expect("31 bits") % bound
    }
}

/// What a process of the skeleton has come to.
#[derive(Clone, Debug, Default)]
struct Actor {
    pid: u32,
    /// How many steps it has done; None before its birth.
    done: Option<usize>,
    execs: usize,
    memories: usize,
    /// The tasks whose standing memory its own descends from, the nearest last.
    memory_of: Vec<u32>,
}

pub(super) struct Stage<'a> {
    skeleton: &'a Skeleton,
    members: BTreeMap<u32, &'a Member>,
    root: &'a Member,
    inside: &'a Inside,
    kernel: Kernel,
    actors: Vec<Actor>,
    /// How many come to each barrier, and who has.
    barriers: Vec<(usize, BTreeSet<usize>)>,
    /// Tasks whose parent has changed on the way.
    orphans: BTreeSet<u32>,
}

enum Turn {
    Done,
    Waits,
}

const SHELL: u32 = 1_000_000;
const FOUNDER: u32 = SHELL + 1;
const FIRST_UNNAMED: u32 = SHELL + 2;

impl<'a> Stage<'a> {
    pub(super) fn new(tasks: &'a [Member], skeleton: &'a Skeleton) -> Stage<'a> {
        const NONE: &Inside = &Inside { namespaces: BTreeMap::new(), homes: BTreeMap::new() };
        Stage::inside(tasks, NONE, skeleton)
    }

    /// The same with pid namespaces inside of the tree.
    pub(super) fn inside(tasks: &'a [Member], inside: &'a Inside, skeleton: &'a Skeleton) -> Stage<'a> {
        let mut kernel = Kernel::new();
        kernel.fork(INIT, SHELL, super::SIGCHLD).expect("the shell");
        kernel.setsid(SHELL).expect("its session");
        kernel.fork(SHELL, FOUNDER, super::SIGCHLD).expect("the founder");
        kernel.setpgid(SHELL, FOUNDER, FOUNDER).expect("its job");
        let mut barriers = vec![(0, BTreeSet::new()); skeleton.barriers as usize];
        for process in &skeleton.processes {
            for step in &process.steps {
                if let Step::Barrier(number) = step {
                    barriers[*number as usize].0 += 1;
                }
            }
        }
        let mut actors = vec![Actor::default(); skeleton.processes.len()];
        actors[0] = Actor { pid: FOUNDER, done: Some(0), ..Actor::default() };
        let members = tasks.iter().map(|task| (task.pid, task)).collect();
        let root = &tasks[0];
        Stage { skeleton, members, root, inside, kernel, actors, barriers, orphans: BTreeSet::new() }
    }

    /// Lets everybody act in the order of the dice until all is done.
    pub(super) fn play(mut self, dice: &mut Dice) -> Result<(), String> {
        let mut waiting: Vec<usize> = vec![0];
        let mut idle = 0;
        while !waiting.is_empty() {
            let place = dice.below(waiting.len());
            let who = waiting[place];
            match self.act(who, &mut waiting).map_err(|error| self.tell(who, &error))? {
                Turn::Done => idle = 0,
                Turn::Waits => {
                    idle += 1;
                    // Everybody in turn has had nothing to do.
                    if idle > 20 * waiting.len() + 20 {
                        let stuck: Vec<String> = waiting.iter().map(|who| self.tell(*who, "waits")).collect();
                        let all_wait = waiting.clone().into_iter().all(|who| {
                            let mut more = Vec::new();
                            matches!(self.act(who, &mut more), Ok(Turn::Waits))
                        });
                        if all_wait {
                            return Err(format!("deadlock: {stuck:?}"));
                        }
                        idle = 0;
                    }
                }
            }
            if self.actors[who].done.is_some_and(|done| done == self.steps(who).len()) {
                waiting.swap_remove(place);
            }
        }
        self.judge()
    }

    fn steps(&self, who: usize) -> &'a [Step] {
        &self.skeleton.processes[who].steps
    }

    fn tell(&self, who: usize, what: &str) -> String {
        let actor = &self.actors[who];
        let step = self.steps(who).get(actor.done.unwrap_or(0));
        format!("process {who} (pid {}) at step {:?} {step:?}: {what}", actor.pid, actor.done)
    }

    fn act(&mut self, who: usize, waiting: &mut Vec<usize>) -> Result<Turn, String> {
        let Actor { pid, done, .. } = self.actors[who];
        let done = done.ok_or("it is not born")?;
        let Some(step) = self.steps(who).get(done) else { return Ok(Turn::Waits) };
        let process = &self.skeleton.processes[who];
        let is_last = done + 1 == process.steps.len();
        let task = self.members.get(&pid).copied().filter(|_| process.role == Role::Task);
        let told = |errno: Errno| format!("{errno:?}");
        let expect = |right: bool, what: &str| if right { Ok(()) } else { Err(what.to_owned()) };
        match step {
            Step::Exec => {
                let is_helper = process.role == Role::Helper;
                expect(is_helper || task.is_some_and(|task| task.has_execed), "it has not exec'd")?;
                expect(self.actors[who].memories == 0, "memory is lost")?;
                self.kernel.exec(pid);
                self.actors[who].execs += 1;
                self.actors[who].memory_of.clear();
            }
            Step::Memory => {
                expect(task.is_some_and(|task| !task.zombie), "it has no memory")?;
                self.actors[who].memories += 1;
                self.actors[who].memory_of.push(pid);
            }
            Step::Fork(made) | Step::ForkSibling(made) => {
                if self.must_await_init(who, *made) {
                    return Ok(Turn::Waits);
                }
                self.fork(who, *made, matches!(step, Step::ForkSibling(_)))?;
                waiting.push(*made);
            }
            Step::BecomeSubreaper => self.kernel.set_subreaper(pid, true),
            Step::EndSubreaper => self.kernel.set_subreaper(pid, false),
            Step::Setsid => self.kernel.setsid(pid).map_err(told)?,
            Step::LeadGroup => self.kernel.setpgid(pid, pid, pid).map_err(told)?,
            Step::JoinGroup(group) => {
                expect(*group != pid, "that is its own group")?;
                self.kernel.setpgid(pid, pid, *group).map_err(told)?;
            }
            Step::JoinCallersGroup => {
                let group = self.kernel.get(FOUNDER).map_err(told)?.group;
                self.kernel.setpgid(pid, pid, group).map_err(told)?;
            }
            Step::Barrier(number) => {
                let (all, come) = &mut self.barriers[*number as usize];
                come.insert(who);
                if come.len() < *all {
                    return Ok(Turn::Waits);
                }
            }
            Step::Reap(child) => {
                expect(self.skeleton.processes[*child].role == Role::Helper, "only helpers are reaped")?;
                if !self.kernel.reap(pid, self.actors[*child].pid).map_err(told)? {
                    return Ok(Turn::Waits);
                }
            }
            Step::Await(child) => {
                let child = self.kernel.get(self.actors[*child].pid).map_err(told)?;
                expect(child.parent == pid, "not its child")?;
                if !child.zombie {
                    return Ok(Turn::Waits);
                }
            }
            Step::Exit => {
                expect(process.role == Role::Helper && is_last, "only helpers exit, at their ends")?;
                self.exit(pid)?;
            }
            Step::Die => {
                let task =
                    task.filter(|task| task.zombie && is_last).ok_or("only zombies die, at their ends")?;
                self.is_in_place(task)?;
                self.exit(pid)?;
            }
            Step::Finish => {
                expect(is_last && process.role != Role::Helper, "the last step of tasks")?;
                if let Some(task) = task {
                    expect(!task.zombie, "it is no zombie")?;
                    self.is_in_place(task)?;
                    self.kernel.set_subreaper(pid, task.child_subreaper);
                }
            }
        }
        self.actors[who].done = Some(done + 1);
        Ok(Turn::Done)
    }

    /// Whether a process is made in a pid namespace that is neither its maker's nor there yet.
    fn must_await_init(&self, who: usize, made: usize) -> bool {
        let process = &self.skeleton.processes[made];
        let namespace = process.namespace;
        namespace != self.kernel.inside.home(self.actors[who].pid)
            && !self.kernel.inside.namespaces.contains_key(&namespace)
            && !self.inside.is_init(process.pid)
    }

    fn fork(&mut self, who: usize, made: usize, is_sibling: bool) -> Result<(), String> {
        let process = &self.skeleton.processes[made];
        if self.actors[made].done.is_some() {
            return Err(format!("process {made} exists"));
        }
        let caller = self.actors[who].pid;
        let pid = match process.pid {
            0 => FIRST_UNNAMED + u32::try_from(made).expect("few"),
            pid => pid,
        };
        let home = self.kernel.inside.home(caller);
        let is_right = process.namespace == home || self.inside.can_make(home, pid, process.namespace);
        if !is_right || process.namespace == home && self.inside.is_init(pid) {
            return Err(format!("{caller} cannot make {pid} in pid namespace {}", process.namespace));
        }
        let forked = match is_sibling {
            true => self.kernel.fork_sibling(caller, pid),
            false if process.namespace != home => {
                self.kernel.fork_into(caller, pid, process.exit_signal, process.namespace)
            }
            false => self.kernel.fork(caller, pid, process.exit_signal),
        };
        if is_sibling && process.namespace != home {
            self.kernel.inside.namespaces.entry(process.namespace).or_insert((home, pid));
            self.kernel.inside.homes.insert(pid, process.namespace);
        }
        forked.map_err(|errno| format!("{errno:?} for {pid}"))?;
        let signal = self.kernel.processes[&pid].signal;
        if signal != process.exit_signal {
            return Err(format!("process {made} has the exit signal {signal}, not {}", process.exit_signal));
        }
        if process.shares_memory {
            if self.actors[who].memories == 0 {
                return Err("its memory is not there to be shared".to_owned());
            }
            self.kernel.share_memory(caller, pid);
        }
        let memory_of = self.actors[who].memory_of.clone();
        self.actors[made] = Actor { pid, done: Some(0), memory_of, ..Actor::default() };
        if self.members.get(&pid).is_some_and(|task| !task.has_execed && !task.zombie) {
            self.check_inheritance(who, made)?;
        }
        Ok(())
    }

    /// A task that has not exec'd is forked after `Memory` of one whose memory is its parent's, or descends from it.
    /// That of an orphan is its maker's, and so is that of one made by a living sibling.
    fn check_inheritance(&self, who: usize, made: usize) -> Result<(), String> {
        let Actor { pid, memory_of, .. } = &self.actors[made];
        let Some(parent) = self.members.get(&self.members[pid].parent) else { return Ok(()) };
        let is_childs = self.kernel.processes[pid].parent == parent.pid;
        let maker = self.members.get(&self.actors[who].pid);
        let parents = self.skeleton.processes.iter().find(|process| process.pid == parent.pid);
        // Exit signals can demand that one makes others before its exec.
        let exec_is_later =
            parents.is_some_and(|parent| parent.steps.iter().position(|step| *step == Step::Exec) > Some(0));
        let is_right = memory_of.contains(&parent.pid)
            || exec_is_later
            || !is_childs && !memory_of.is_empty()
            || maker.is_some_and(|maker| maker.pid != parent.pid && memory_of.last() == Some(&maker.pid));
        if is_right {
            Ok(())
        } else {
            Err(format!("{pid} does not inherit from {}: {memory_of:?}", parent.pid))
        }
    }

    fn exit(&mut self, pid: u32) -> Result<(), String> {
        let process = self.kernel.get(pid).expect("it exists").clone();
        if self.kernel.kills(process.parent, &process) {
            return Err("this kills its parent".to_owned());
        }
        self.orphans.extend(self.kernel.children(pid));
        self.kernel.exit(pid);
        Ok(())
    }

    /// Whether its relations are what they were.
    fn is_in_place(&self, task: &Member) -> Result<(), String> {
        let process = self.kernel.get(task.pid).map_err(|_| "it is gone".to_owned())?;
        let founder = self.kernel.get(FOUNDER).expect("the founder stays");
        let parent = match task.parent {
            0 if task.pid == self.root.pid => FOUNDER,
            0 => INIT,
            parent => parent,
        };
        let session = if task.session == CALLERS { founder.session } else { task.session };
        let group = if task.group == CALLERS { founder.group } else { task.group };
        let expected = (parent, session, group, task.exit_signal, task.has_execed);
        let found = (process.parent, process.session, process.group, process.signal, process.has_execed);
        if self.kernel.inside.home(task.pid) != self.inside.home(task.pid) {
            return Err(format!("{} is in another pid namespace", task.pid));
        }
        if expected == found {
            return Ok(());
        }
        Err(format!("{}: (parent, session, group, signal, exec'd) {expected:?}, but {found:?}", task.pid))
    }

    /// Everything is as wanted, and nobody else is there.
    fn judge(&mut self) -> Result<(), String> {
        let mut memories = BTreeMap::new();
        for task in self.members.values() {
            self.is_in_place(task)?;
            let process = self.kernel.get(task.pid).expect("it is in place");
            let who = self.actors.iter().position(|actor| actor.pid == task.pid).ok_or("it has no actor")?;
            let actor = &self.actors[who];
            let lives = usize::from(!task.zombie);
            let expected =
                (task.zombie, usize::from(task.has_execed), lives, lives == 1 && task.child_subreaper);
            if (process.zombie, actor.execs, actor.memories, process.is_subreaper) != expected {
                return Err(format!(
                    "{}: (zombie, execs, memories, subreaper) must be {expected:?}: {actor:?}",
                    task.pid
                ));
            }
            if !task.zombie && *memories.entry(task.memory).or_insert(process.memory) != process.memory {
                return Err(format!("{}: the memory is not shared", task.pid));
            }
        }
        let distinct: BTreeSet<u32> = memories.values().copied().collect();
        if distinct.len() != memories.len() {
            return Err("memory is shared that was not".to_owned());
        }
        let outside = BTreeSet::from([INIT, SHELL, FOUNDER]);
        let others: Vec<&u32> = self
            .kernel
            .processes
            .keys()
            .filter(|pid| !outside.contains(pid) && !self.members.contains_key(pid))
            .collect();
        let finished = self.actors.iter().all(|actor| actor.done.is_some());
        let unused = self.barriers.iter().any(|(all, _)| *all == 0);
        let founder_reaps = self.kernel.get(FOUNDER).expect("the founder stays").is_subreaper;
        match (others.is_empty(), finished, unused, founder_reaps) {
            (true, true, false, false) => Ok(()),
            all => Err(format!(
                "left: {others:?}; nobody else, all made, a barrier of nobody, subreaper: {all:?}"
            )),
        }
    }
}
