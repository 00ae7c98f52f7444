//! Trees that the kernel can produce: random walks of its calls from one process.

use super::super::{Inside, Member, SIGCHLD};
use super::kernel::{INIT, Kernel};
use std::collections::{BTreeMap, BTreeSet};

/// One call of one process: which call, whose, and with what.
pub(super) type Call = (u8, u16, u16);

/// From where a walk starts, and what of its end is in the image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    /// What the root is at first: 0: a member of a shell's job, 1: its leader, 2: the leader of a session.
    pub(super) root_is: u8,
    pub(super) root_has_execed: bool,
    pub(super) root_signal: u8,
    /// Which process is named as the root of the image: mostly the first.
    pub(super) named: u16,
    /// Which of those that are init's are named too.
    pub(super) also_named: u16,
    /// Of what there is much.
    pub(super) habit: u8,
}

/// How often a call is made, of 100; how many processes there are at most, and the exit signals of children.
struct Habit {
    fork: u8,
    share: u8,
    sibling: u8,
    exec: u8,
    session: u8,
    group: u8,
    exit: u8,
    reap: u8,
    most: usize,
    signals: [u32; 8],
}

const ALL: [Habit; 4] = [
    // A bit of everything.
    Habit {
        fork: 30,
        share: 3,
        sibling: 9,
        exec: 8,
        session: 10,
        group: 12,
        exit: 14,
        reap: 6,
        most: 30,
        signals: [SIGCHLD, SIGCHLD, SIGCHLD, SIGCHLD, SIGCHLD, 10, 12, 9],
    },
    // Sessions and orphans.
    Habit {
        fork: 32,
        share: 0,
        sibling: 6,
        exec: 3,
        session: 24,
        group: 0,
        exit: 17,
        reap: 3,
        most: 14,
        signals: [SIGCHLD; 8],
    },
    // Children that are bound to their parents.
    Habit {
        fork: 26,
        share: 0,
        sibling: 22,
        exec: 8,
        session: 20,
        group: 0,
        exit: 12,
        reap: 4,
        most: 16,
        signals: [SIGCHLD, SIGCHLD, 10, 10, 10, 10, 10, 12],
    },
    // Groups.
    Habit {
        fork: 22,
        share: 0,
        sibling: 3,
        exec: 3,
        session: 4,
        group: 50,
        exit: 12,
        reap: 4,
        most: 12,
        signals: [SIGCHLD; 8],
    },
];

const SHELL: u32 = 2;
const JOB: u32 = 3;
const ROOT: u32 = 4;

/// A tree on its way.
pub(super) struct Walk {
    pub(super) kernel: Kernel,
    habit: &'static Habit,
    shares_memory: bool,
    /// How many of 16 forks make a pid namespace or enter one.
    enters: u16,
}

impl Walk {
    pub(super) fn new(start: Start) -> Walk {
        let mut kernel = Kernel::new();
        let habit = &ALL[usize::from(start.habit) % ALL.len()];
        for (maker, pid) in [(INIT, SHELL), (SHELL, JOB), (SHELL, ROOT)] {
            assert_eq!(kernel.unused_pid(), pid);
            let signal =
                if pid == ROOT { habit.signals[usize::from(start.root_signal) % 7] } else { SIGCHLD };
            kernel.fork(maker, pid, signal).expect("a new one");
            match pid {
                SHELL => kernel.setsid(pid).expect("its session"),
                JOB => kernel.setpgid(pid, pid, pid).expect("its group"),
                _ => kernel.setpgid(pid, pid, JOB).expect("the group of the job"),
            }
        }
        if start.root_has_execed {
            kernel.exec(ROOT);
        }
        match start.root_is % 3 {
            0 => {}
            1 => kernel.setpgid(ROOT, ROOT, ROOT).expect("its group"),
            _ => kernel.setsid(ROOT).expect("its session"),
        }
        Walk { kernel, habit, shares_memory: false, enters: 0 }
    }

    /// The same where some processes make pid namespaces, or enter those below them.
    pub(super) fn with_namespaces(start: Start) -> Walk {
        Walk { enters: 3, ..Walk::new(start) }
    }

    /// Into which namespace the next child of a process goes.
    fn namespace_of_child(&self, pid: u32, what: u16) -> u32 {
        let inside = &self.kernel.inside;
        let next = u32::try_from(inside.namespaces.len()).expect("few") + 1;
        match what / 8 % 16 {
            0 | 1 if self.enters > 0 => next,
            other if other < self.enters => u32::from(what / 256) % next,
            _ => inside.home(pid),
        }
    }

    /// The pid namespaces, and who lives in them, if the image can have them.
    pub(super) fn inside(&self, tasks: &[Member]) -> Option<Inside> {
        let all = &self.kernel.inside;
        let is_here = |pid: u32| tasks.iter().any(|task| task.pid == pid && !task.zombie);
        let mut inside = Inside { namespaces: BTreeMap::new(), homes: all.homes.clone() };
        for task in tasks {
            let mut namespace = all.home(task.pid);
            while namespace != 0 {
                let (parent, init) = all.namespaces[&namespace];
                if !is_here(init) {
                    return None;
                }
                inside.namespaces.insert(namespace, (parent, init));
                namespace = parent;
            }
        }
        Some(inside)
    }

    fn everybody(&self) -> impl Iterator<Item = u32> {
        self.kernel.processes.keys().copied().filter(|pid| *pid >= ROOT)
    }

    pub(super) fn call(&mut self, (call, who, what): Call) {
        let living: Vec<u32> = self.everybody().filter(|pid| !self.kernel.processes[pid].zombie).collect();
        let pid = living[usize::from(who) % living.len()];
        let namespace = self.namespace_of_child(pid, what);
        let what = usize::from(what);
        let has_room = self.everybody().count() < self.habit.most;
        let signal = self.habit.signals[what % 8];
        let Habit { fork, share, sibling, exec, session, group, exit, reap, .. } = self.habit;
        let odds = [fork, share, sibling, exec, session, group, exit, reap];
        let mut left = call % 100;
        let chosen = odds.iter().position(|odds| {
            let is_chosen = left < **odds;
            left = left.saturating_sub(**odds);
            is_chosen
        });
        match chosen {
            Some(0..3) if !has_room => {}
            Some(0) => {
                let child = self.kernel.unused_pid();
                _ = match namespace == self.kernel.inside.home(pid) {
                    true => self.kernel.fork(pid, child, signal),
                    false => self.kernel.fork_into(pid, child, signal, namespace),
                };
            }
            Some(1) => {
                let child = self.kernel.unused_pid();
                if self.kernel.fork(pid, child, signal).is_ok() {
                    self.kernel.share_memory(pid, child);
                    self.shares_memory = true;
                }
            }
            Some(2) if pid != ROOT => {
                let child = self.kernel.unused_pid();
                _ = self.kernel.fork_sibling(pid, child);
            }
            Some(3) => self.kernel.exec(pid),
            Some(4) => _ = self.kernel.setsid(pid),
            Some(5) => self.change_group(pid, what),
            Some(6) if pid != ROOT => self.exit(pid),
            Some(7) => {
                let children = self.kernel.children(pid);
                if let Some(child) = children.get(what % children.len().max(1)) {
                    _ = self.kernel.reap(pid, *child);
                }
            }
            None => {
                let is_subreaper = self.kernel.processes[&pid].is_subreaper;
                self.kernel.set_subreaper(pid, !is_subreaper);
            }
            Some(_) => {}
        }
    }

    fn change_group(&mut self, pid: u32, what: usize) {
        let children = self.kernel.children(pid);
        let whom = match children.get(what / 3 % children.len().max(1)) {
            Some(child) if what.is_multiple_of(3) => *child,
            _ => pid,
        };
        let groups: BTreeSet<u32> =
            self.kernel.processes.values().map(|process| process.group).chain([whom]).collect();
        let group = groups.iter().nth(what / 7 % groups.len()).expect("one of them");
        _ = self.kernel.setpgid(pid, whom, *group);
    }

    fn exit(&mut self, pid: u32) {
        // Whose end kills its parent: neither must be the root, nor an init, with which all of its namespace would end.
        let must_stay = |pid: u32| pid == ROOT || self.kernel.inside.is_init(pid);
        let mut above = pid;
        while !must_stay(above)
            && self.kernel.kills(self.kernel.processes[&above].parent, &self.kernel.processes[&above])
        {
            above = self.kernel.processes[&above].parent;
        }
        if !must_stay(above) {
            self.kernel.exit(pid);
        }
    }

    /// Whether two processes ever shared memory.
    pub(super) fn shares_memory(&self) -> bool {
        self.shares_memory
    }

    /// What the dumper would find, and the numbers of sessions and groups whose leaders live elsewhere.
    pub(super) fn image(&self, start: Start) -> (Vec<Member>, BTreeSet<u32>) {
        let alike = |pid: &u32| {
            let process = &self.kernel.processes[pid];
            !process.zombie && process.signal == SIGCHLD
        };
        let candidates: Vec<u32> = self.everybody().filter(alike).collect();
        let root = match start.named {
            0..50_000 => ROOT,
            other => candidates.get(usize::from(other) % candidates.len().max(1)).copied().unwrap_or(ROOT),
        };
        let mut order = vec![root];
        order.extend(self.kernel.descendants(root));
        let orphans = self.everybody().filter(|pid| self.kernel.processes[pid].parent == INIT);
        for (place, orphan) in orphans.enumerate() {
            let below = self.kernel.descendants(orphan);
            let is_named = start.also_named >> (place % 16) & 1 == 1;
            if is_named && orphan != root && !below.contains(&root) {
                order.push(orphan);
                order.extend(below);
            }
        }
        let image: BTreeSet<u32> = order.iter().copied().collect();
        let members: Vec<Member> = order.iter().map(|pid| self.member(*pid, root, &image)).collect();
        // A leader that is dead could as well live as a child of init: to the tree that makes no difference.
        let all_live = start.root_signal < 64;
        let named = members.iter().flat_map(|member| [member.session, member.group]);
        let is_elsewhere =
            |pid: &u32| !image.contains(pid) && (all_live || self.kernel.processes.contains_key(pid));
        let elsewhere = named.filter(is_elsewhere).collect();
        (members, elsewhere)
    }

    fn member(&self, pid: u32, root: u32, image: &BTreeSet<u32>) -> Member {
        let process = &self.kernel.processes[&pid];
        let has_parent = pid != root && image.contains(&process.parent);
        Member {
            pid,
            parent: if has_parent { process.parent } else { 0 },
            group: process.group,
            session: process.session,
            exit_signal: process.signal,
            has_execed: process.has_execed,
            zombie: process.zombie,
            child_subreaper: process.is_subreaper,
            memory: if process.zombie { 0 } else { process.memory },
        }
    }
}
