//! The kernel's rules for processes, as far as a tree goes (Linux 6.18: fork.c, exit.c, sys.c, exec.c).

use super::super::{Inside, SIGCHLD};
use std::collections::{BTreeMap, BTreeSet};

/// What the kernel refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errno {
    /// Of setsid and setpgid.
    Perm,
    /// Of setpgid for a child that has exec'd.
    Access,
    /// No such process.
    Search,
    /// The number of a process is taken.
    Exist,
    /// There is no such child.
    Child,
}

pub(super) type Result<T> = std::result::Result<T, Errno>;

#[derive(Clone, Debug)]
pub(super) struct Process {
    pub(super) parent: u32,
    pub(super) session: u32,
    pub(super) group: u32,
    leads_session: bool,
    pub(super) signal: u32,
    pub(super) has_execed: bool,
    pub(super) is_subreaper: bool,
    has_subreaper: bool,
    pub(super) zombie: bool,
    /// How often it has exec'd, and how often its parent had when it was made.
    execs: u32,
    parents_execs: u32,
    /// Its address space.
    pub(super) memory: u32,
}

/// All processes by their numbers.
#[derive(Clone, Debug)]
pub(super) struct Kernel {
    pub(super) processes: BTreeMap<u32, Process>,
    next_memory: u32,
    next_pid: u32,
    /// Pid namespaces below that of the first process.
    pub(super) inside: Inside,
}

/// The first process; whoever has no other reaper goes to it.
pub(super) const INIT: u32 = 1;

impl Kernel {
    pub(super) fn new() -> Kernel {
        let init = Process {
            parent: 0,
            session: INIT,
            group: INIT,
            leads_session: true,
            signal: SIGCHLD,
            has_execed: true,
            is_subreaper: false,
            has_subreaper: false,
            zombie: false,
            execs: 1,
            parents_execs: 0,
            memory: 1,
        };
        Kernel {
            processes: BTreeMap::from([(INIT, init)]),
            next_memory: 2,
            next_pid: 2,
            inside: Inside::default(),
        }
    }

    pub(super) fn get(&self, pid: u32) -> Result<&Process> {
        self.processes.get(&pid).ok_or(Errno::Search)
    }

    fn alive(&mut self, pid: u32) -> &mut Process {
        let process = self.processes.get_mut(&pid).expect("the caller exists");
        assert!(!process.zombie, "a zombie makes no calls");
        process
    }

    /// The number that the next process gets.
    pub(super) fn next_pid(&self) -> u32 {
        self.next_pid
    }

    /// A number that nothing has, and that has not been given before.
    pub(super) fn unused_pid(&mut self) -> u32 {
        let pid = self.next_pid;
        self.next_pid += 1;
        pid
    }

    pub(super) fn fork(&mut self, caller: u32, pid: u32, signal: u32) -> Result<()> {
        let execs = self.alive(caller).execs;
        self.clone(caller, pid, caller, signal, execs)
    }

    /// fork into another pid namespace: one that is new (CLONE_NEWPID), or one below (setns).
    pub(super) fn fork_into(&mut self, caller: u32, pid: u32, signal: u32, namespace: u32) -> Result<()> {
        let home = self.inside.home(caller);
        let is_new = namespace != 0 && !self.inside.namespaces.contains_key(&namespace);
        if !is_new && !self.inside.sees(home, namespace) {
            return Err(Errno::Perm);
        }
        self.fork(caller, pid, signal)?;
        self.inside.namespaces.entry(namespace).or_insert((home, pid));
        self.inside.homes.insert(pid, namespace);
        Ok(())
    }

    pub(super) fn fork_sibling(&mut self, caller: u32, pid: u32) -> Result<()> {
        if self.inside.is_init(caller) {
            return Err(Errno::Perm);
        }
        let own = self.alive(caller).clone();
        self.clone(caller, pid, own.parent, own.signal, own.parents_execs)
    }

    fn clone(&mut self, caller: u32, pid: u32, parent: u32, signal: u32, parents_execs: u32) -> Result<()> {
        let named = |(number, process): (&u32, &Process)| {
            *number == pid || process.group == pid || process.session == pid
        };
        if self.processes.iter().any(named) {
            return Err(Errno::Exist);
        }
        let own = self.alive(caller).clone();
        self.next_memory += 1;
        let child = Process {
            parent,
            leads_session: false,
            signal,
            has_execed: false,
            is_subreaper: false,
            has_subreaper: own.has_subreaper || own.is_subreaper,
            parents_execs,
            memory: self.next_memory,
            ..own
        };
        self.processes.insert(pid, child);
        let home = self.inside.home(caller);
        if home != 0 {
            self.inside.homes.insert(pid, home);
        }
        Ok(())
    }

    pub(super) fn exec(&mut self, caller: u32) {
        self.next_memory += 1;
        let memory = self.next_memory;
        let own = self.alive(caller);
        own.has_execed = true;
        own.signal = SIGCHLD;
        own.execs += 1;
        own.memory = memory;
    }

    pub(super) fn setsid(&mut self, caller: u32) -> Result<()> {
        let group_exists = self.processes.values().any(|process| process.group == caller);
        let own = self.alive(caller);
        if own.leads_session || group_exists {
            return Err(Errno::Perm);
        }
        (own.session, own.group, own.leads_session) = (caller, caller, true);
        Ok(())
    }

    pub(super) fn setpgid(&mut self, caller: u32, pid: u32, group: u32) -> Result<()> {
        let own = self.alive(caller).clone();
        let whose = self.get(pid)?.clone();
        if whose.parent == caller {
            if whose.session != own.session {
                return Err(Errno::Perm);
            }
            if whose.has_execed {
                return Err(Errno::Access);
            }
        } else if pid != caller {
            return Err(Errno::Search);
        }
        if whose.leads_session {
            return Err(Errno::Perm);
        }
        let is_there = |process: &Process| process.group == group && process.session == own.session;
        if group != pid && !self.processes.values().any(is_there) {
            return Err(Errno::Perm);
        }
        if !self.inside.sees(self.inside.home(caller), self.inside.home(group)) {
            return Err(Errno::Search);
        }
        if let Some(process) = self.processes.get_mut(&pid) {
            process.group = group;
        }
        Ok(())
    }

    pub(super) fn set_subreaper(&mut self, caller: u32, is_subreaper: bool) {
        self.alive(caller).is_subreaper = is_subreaper;
        let mut waiting = if is_subreaper { self.children(caller) } else { Vec::new() };
        while let Some(pid) = waiting.pop() {
            let Some(process) = self.processes.get_mut(&pid) else { continue };
            // Below one that knows, all know.
            if !process.has_subreaper {
                process.has_subreaper = true;
                waiting.extend(self.children(pid));
            }
        }
    }

    pub(super) fn children(&self, pid: u32) -> Vec<u32> {
        self.processes.iter().filter(|(_, process)| process.parent == pid).map(|(pid, _)| *pid).collect()
    }

    /// Who dies, by what its parent gets: those whom the exit signal kills, too.
    pub(super) fn exit(&mut self, pid: u32) {
        let own = self.alive(pid).clone();
        let home = self.inside.home(pid);
        let mut reaper = self.inside.namespaces.get(&home).map_or(INIT, |(_, init)| *init);
        let mut above = own.parent;
        // A subreaper of another pid namespace takes nobody.
        while own.has_subreaper && above != INIT && self.inside.home(above) == home {
            let process = &self.processes[&above];
            if process.is_subreaper && !process.zombie {
                reaper = above;
                break;
            }
            above = process.parent;
        }
        for child in self.children(pid) {
            if let Some(process) = self.processes.get_mut(&child) {
                process.parent = reaper;
                process.signal = SIGCHLD;
                if process.zombie && reaper == INIT {
                    self.processes.remove(&child);
                }
            }
        }
        self.alive(pid).zombie = true;
        if own.parent == INIT {
            self.processes.remove(&pid);
        } else if self.kills(own.parent, &own) {
            self.exit(own.parent);
        }
    }

    /// Ends and is waited for, when that one is the only subreaper.
    pub(super) fn exit_for(&mut self, pid: u32, heir: u32) {
        if heir != INIT {
            self.set_subreaper(heir, true);
        }
        self.exit(pid);
        if heir != INIT {
            self.set_subreaper(heir, false);
        }
        let parent = self.processes.get(&pid).map(|process| process.parent);
        assert!(parent.is_none_or(|parent| self.reap(parent, pid) == Ok(true)));
    }

    /// Whether the end of that child kills its parent.
    pub(super) fn kills(&self, parent: u32, child: &Process) -> bool {
        let parent = &self.processes[&parent];
        child.signal == 9 && child.parents_execs == parent.execs && !parent.zombie
    }

    pub(super) fn reap(&mut self, caller: u32, child: u32) -> Result<bool> {
        let process = self.processes.get(&child).filter(|process| process.parent == caller);
        let zombie = process.ok_or(Errno::Child)?.zombie;
        if zombie {
            self.processes.remove(&child);
        }
        Ok(zombie)
    }

    pub(super) fn share_memory(&mut self, one: u32, other: u32) {
        let memory = self.processes[&one].memory;
        if let Some(process) = self.processes.get_mut(&other) {
            process.memory = memory;
        }
    }

    /// Everybody below that one.
    pub(super) fn descendants(&self, pid: u32) -> BTreeSet<u32> {
        let mut all = BTreeSet::new();
        let mut waiting = self.children(pid);
        while let Some(pid) = waiting.pop() {
            all.insert(pid);
            waiting.extend(self.children(pid));
        }
        all
    }
}

/// Who could would be able to become its own ancestor.
#[test]
fn nobody_comes_out_of_a_pid_namespace() {
    let mut kernel = Kernel::new();
    assert_eq!(kernel.fork_into(INIT, 10, SIGCHLD, 1), Ok(()));
    assert_eq!(kernel.fork_into(10, 11, SIGCHLD, 2), Ok(()));
    assert_eq!(kernel.fork_into(11, 12, SIGCHLD, 1), Err(Errno::Perm));
    assert_eq!(kernel.fork_into(10, 12, SIGCHLD, 0), Err(Errno::Perm));
}
