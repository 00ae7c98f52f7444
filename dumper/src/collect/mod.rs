//! What is read off a frozen tree, one file per kind of kernel state.
//!
//! Each file may put questions (`Asked`), which are answered by the process itself in one stop, and turns the answers
//! and what the kernel tells from outside into notes. What several tasks have in common is read off the first of them. Nothing is written here; what an image cannot hold is gathered, so
//! that it can be told all at once.

pub mod aio;
pub mod cgroup;
pub mod credential;
pub mod descriptor;
pub mod epoll;
pub mod eventfd;
pub mod file;
pub mod filesystem;
pub mod host;
pub mod inet;
pub mod inotify;
pub mod io_uring;
pub mod limit;
pub mod lock;
pub mod mapping;
pub mod memfd;
pub mod mqueue;
pub mod msg;
pub mod namespace;
pub mod netlink;
pub mod packet;
pub mod pid_namespace;
pub mod pidfd;
pub mod pipe;
pub mod schedule;
pub mod seccomp;
pub mod sem;
pub mod shm;
pub mod signal;
pub mod signalfd;
pub mod socket;
pub mod task;
pub mod terminal;
pub mod thread;
pub mod timer;
pub mod timerfd;
pub mod tun;
pub mod unix;
pub mod userfaultfd;

use crate::Options;
use crate::asking::{self, Answered, Asked, Guest, Interview, Interviewer, Readiness};
pub use crate::collected::{Collected, Source};
use crate::error::Error;
use crate::freeze::{Frozen, Node, Stopped, Tree};
use crate::hatch::Answers;
use crate::hatch::place::Place;
use crate::io_context::{self, IoContexts};
use crate::ipc::Users;
use crate::memory::TaskMemory;
use crate::parse;
use crate::parts::in_parts;
use crate::procdir::ProcDir;
use crate::sharing::{self, Shares};
use binfmt::address::{Pid, Tid};
use binfmt::note::cgroup::CgroupMembership;
use binfmt::note::limit::ResourceLimit;
use binfmt::note::task::Task;
use binfmt::restart::Signals;
use mapping::pages::{self, Run};
use mapping::smaps::Area;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::sync::Arc;

/// What the kernel says of a thread from outside, and what the thread said itself.
#[derive(Debug)]
pub struct ThreadFacts {
    /// Which thread.
    pub tid: Tid,
    /// `/proc/PID/task/TID/status`
    pub status: String,
    /// Whether a signal that it does not block waits for it.
    pub signals: Signals,
}

/// A frozen process and what all parts of the collection need of it.
#[derive(Debug)]
pub struct Subject<'a> {
    /// Its directory in `/proc`.
    pub proc: ProcDir,
    /// Its threads, the leader first.
    pub threads: &'a [Stopped],
    /// Its memory.
    pub memory: &'a TaskMemory,
    /// The index of that memory.
    pub memory_index: usize,
    /// What it has, maybe together with others.
    pub shares: Shares,
    /// The process id of its parent, 0 if that is not in the tree.
    pub parent: u32,
    /// The thread that has it as a child; 0 for the main thread.
    pub parent_thread: u32,
    /// `/proc/PID/status`
    pub status: &'a str,
    /// What the kernel says of the parts of its state.
    pub seen: &'a Seen,
    /// Its mappings.
    pub areas: &'a [Area],
    /// Its page map.
    pub pagemap: &'a Arc<File>,
    /// Its pages.
    pub runs: &'a [Run],
    /// Facts of each thread, in the order of `threads`.
    pub facts: &'a [ThreadFacts],
    /// The I/O contexts that threads of the tree have in common.
    pub io_contexts: &'a IoContexts,
    /// What was asked for.
    pub options: &'a Options,
}

impl Subject<'_> {
    /// Which process.
    pub fn pid(&self) -> Pid {
        self.proc.pid()
    }

    /// Its process id as it stands in notes.
    pub fn pid_number(&self) -> u32 {
        self.pid().0.cast_unsigned()
    }

    /// Field `number` of `/proc/PID/stat`, counted from 1 as in proc(5).
    pub fn stat<T: std::str::FromStr + Default>(&self, number: usize) -> T {
        parse::stat_field(&self.seen.task.stat, number)
    }

    /// Whether it is the task that debuggers see.
    pub fn is_root(&self) -> bool {
        self.memory_index == 0
    }
}

/// Whether collecting came to an end.
#[derive(Debug)]
pub enum Outcome {
    /// Everything is here.
    Done(Box<Collected>),
    /// A thread is still on its way home from an earlier dumper that was killed: let go and come again.
    Busy,
}

/// What the kernel says of the parts of a process's state, each as its file has it.
#[derive(Debug)]
pub struct Seen {
    /// The process itself.
    pub task: task::Seen,
    /// Its control groups.
    pub cgroups: Vec<CgroupMembership>,
    /// Its resource limits.
    pub limits: Vec<ResourceLimit>,
    /// `/proc/PID/timers`
    pub timers: String,
    /// Its root and working directory, if it is the first that has them.
    pub filesystem: Option<filesystem::Seen>,
    /// Its address space, if it is the first that has it.
    pub mapping: Option<mapping::Seen>,
    /// Its descriptors, if it is the first that has their table.
    pub descriptors: Vec<descriptor::Seen>,
}

impl Seen {
    fn of(proc: ProcDir, shares: &Shares) -> Result<Seen, Error> {
        let (filesystem, memory) = (shares.filesystem.is_first, shares.memory.is_first);
        let descriptors =
            if shares.descriptors.is_first { descriptor::open::look(proc)? } else { Vec::new() };
        Ok(Seen {
            task: task::look(proc)?,
            cgroups: cgroup::look(proc)?,
            limits: limit::look(proc)?,
            timers: proc.text_if_there("timers")?,
            filesystem: filesystem.then(|| filesystem::look(proc)).transpose()?,
            mapping: memory.then(|| mapping::look(proc)).transpose()?,
            descriptors,
        })
    }
}

/// What one look at a task from outside gives.
struct Look {
    memory: TaskMemory,
    areas: Vec<Area>,
    pagemap: Arc<File>,
    runs: Vec<Run>,
    facts: Vec<ThreadFacts>,
    seen: Seen,
}

impl Look {
    fn at(frozen: &Frozen, shares: &Shares) -> Result<Look, Error> {
        let pid = frozen.pid();
        let proc = ProcDir::new(pid);
        let memory =
            TaskMemory::open(pid).map_err(|error| Error::question(pid, "opening its memory", error))?;
        let areas = mapping::smaps::parse(&proc.bytes("smaps")?).ok_or_else(|| {
            Error::question(pid, "reading its mappings", "the kernel's answer makes no sense")
        })?;
        let failed = |what, error| Error::question(pid, what, error);
        let pagemap =
            File::open(proc.path("pagemap")).map_err(|error| failed("opening its page map", error))?;
        let runs = pages::find(&pagemap, &areas).map_err(|error| failed("finding its pages", error))?;
        let (facts, seen) = (thread_facts(frozen, proc)?, Seen::of(proc, shares)?);
        Ok(Look { memory, areas, pagemap: Arc::new(pagemap), runs, facts, seen })
    }
}

/// Reads everything off a frozen tree.
pub fn everything(tree: &mut Tree, own: &namespace::Own, options: &Options) -> Result<Outcome, Error> {
    let mut out = Collected::default();
    out.findings.processes = tree.order().len();
    let pids: Vec<Pid> = tree.members().iter().map(Frozen::pid).collect();
    let shares = sharing::among(&pids)?;
    // From here on this program sees what the first task does.
    tree.members().iter().take(1).for_each(|root| own.go_home(ProcDir::new(root.pid())));
    let tasks: Vec<(&Frozen, &Shares)> = tree.members().iter().zip(&shares).collect();
    let looks = in_parts(&tasks, |(frozen, shares)| Look::at(frozen, shares));
    let looks = looks.into_iter().collect::<Result<Vec<_>, Error>>()?;
    for (frozen, look) in tree.members().iter().zip(&looks) {
        out.look_at(frozen.pid());
        task::refuse(frozen, &look.facts, &mut out);
    }
    let zombies = tree.zombies().iter().map(|zombie| {
        let task = task::zombie(*zombie, &mut out)?;
        Ok(Task { parent_thread: parent_thread(tree, zombie.pid), ..task })
    });
    let zombies: Vec<Task> = zombies.collect::<Result<_, Error>>()?;
    pid_namespaces(tree, &looks, &mut out)?;
    let dwellers = tree.members().iter().zip(&looks);
    let dwellers = dwellers
        .map(|(frozen, look)| namespace::Dweller { pid: frozen.pid(), seen: &look.seen.task.namespaces });
    namespace::collect(&dwellers.collect::<Vec<_>>(), own, &mut out)?;
    let processes = tree.members().iter().zip(looks.iter().map(|look| &look.seen.task.namespaces));
    namespace::refuse_threads(&processes.collect::<Vec<_>>(), &mut out);
    if !out.can_be_saved() {
        return Ok(Outcome::Done(Box::new(out)));
    }
    let io_contexts = io_context::among(tree, options, &mut out)?;
    let Some(interviews) = prepare(tree, &looks, &shares, options, &mut out)? else {
        return Ok(Outcome::Busy);
    };
    if !out.can_be_saved() {
        return Ok(Outcome::Done(Box::new(out)));
    }
    let vdso = match looks.first() {
        Some(root) => host::vdso(&root.areas, &root.memory)?,
        None => Vec::new(),
    };
    let places: Vec<Place> = interviews.iter().map(Interview::place).collect();
    let tasks = interviews.into_iter().zip(tree.members_mut()).zip(&looks).zip(&shares);
    let guests = tasks.map(|(((interview, frozen), look), shares)| Guest {
        interview,
        frozen,
        memory_id: shares.memory.id,
        memory: &look.memory,
        facts: &look.facts,
    });
    let answered = asking::hold(guests.collect())?;
    let memories: Vec<u32> = shares.iter().map(|shares| shares.memory.id).collect();
    let undone = sem::measure(tree, &looks, &memories, &places, options, &mut out)?;
    let subjects = subjects(tree, &looks, &shares, &io_contexts, options);
    out.note(host::note(vdso));
    notes(tree.order(), &subjects, &answered, zombies, &mut out)?;
    namespace::lead_ids_inside(&mut out);
    let users = Users::of(&subjects);
    msg::collect(&users, &mut out);
    sem::collect(&users, undone, &mut out);
    drop(subjects);
    let memories: Vec<TaskMemory> = looks.into_iter().map(|look| look.memory).collect();
    let pages = std::mem::take(&mut out.pages);
    let memory = mapping::kin::place(pages, &memories, &mut out)?;
    out.contents.splice(0..0, memory);
    out.memories = memories;
    Ok(Outcome::Done(Box::new(out)))
}

/// Collects the pid namespaces inside of the tree.
fn pid_namespaces(tree: &Tree, looks: &[Look], out: &mut Collected) -> Result<(), Error> {
    let ended = tree.zombies().iter().map(|zombie| ProcDir::new(zombie.pid));
    let ended: Vec<_> = ended.map(|proc| (proc, proc.text("status").unwrap_or_default())).collect();
    let living = tree.members().iter().zip(looks).map(|(frozen, look)| pid_namespace::Dweller {
        pid: frozen.pid(),
        seen: look.seen.task.pids,
        statuses: look.facts.iter().map(|facts| facts.status.as_str()).collect(),
        zombie: false,
    });
    let ended = ended.iter().map(|(proc, status)| pid_namespace::Dweller {
        pid: proc.pid(),
        seen: pid_namespace::look(*proc),
        statuses: vec![status],
        zombie: true,
    });
    pid_namespace::collect(&living.chain(ended).collect::<Vec<_>>(), out)
}

/// All tasks with what was found out about them.
fn subjects<'a>(
    tree: &'a Tree,
    looks: &'a [Look],
    shares: &[Shares],
    io_contexts: &'a IoContexts,
    options: &'a Options,
) -> Vec<Subject<'a>> {
    let pids: BTreeSet<Pid> = tree.members().iter().map(Frozen::pid).collect();
    let parts = tree.members().iter().zip(looks).zip(shares).enumerate();
    let subjects = parts.map(|(memory_index, ((frozen, look), shares))| {
        let proc = ProcDir::new(frozen.pid());
        let parent = Pid(parse::stat_field(&look.seen.task.stat, 4));
        Subject {
            proc,
            threads: frozen.threads(),
            memory: &look.memory,
            memory_index,
            shares: *shares,
            parent: if pids.contains(&parent) { parent.0.cast_unsigned() } else { 0 },
            parent_thread: parent_thread(tree, frozen.pid()),
            // That of the leader is that of the process.
            status: look.facts.first().map_or("", |leader| &leader.status),
            seen: &look.seen,
            areas: &look.areas,
            pagemap: &look.pagemap,
            runs: &look.runs,
            facts: &look.facts,
            io_contexts,
            options,
        }
    });
    subjects.collect()
}

/// The thread that has a task as its child, as it stands in notes.
fn parent_thread(tree: &Tree, pid: Pid) -> u32 {
    tree.parent_thread(pid).map_or(0, |tid| tid.0.cast_unsigned())
}

/// Prepares the questions to every task; `None` if one of them is still in the stub of an earlier dumper.
fn prepare(
    tree: &Tree,
    looks: &[Look],
    shares: &[Shares],
    options: &Options,
    out: &mut Collected,
) -> Result<Option<Vec<Interview<Asked>>>, Error> {
    let interviewer = Interviewer::new(options);
    let mut threads: BTreeMap<u32, Vec<&Stopped>> = BTreeMap::new();
    for (frozen, shares) in tree.members().iter().zip(shares) {
        threads.entry(shares.memory.id).or_default().extend(frozen.threads());
    }
    let mut interviews = Vec::with_capacity(looks.len());
    for ((frozen, look), own) in tree.members().iter().zip(looks).zip(shares) {
        out.look_at(frozen.pid());
        let threads = threads.get(&own.memory.id).map(Vec::as_slice).unwrap_or_default();
        match interviewer.prepare(&look.memory, &look.areas, threads, &look.facts, &look.seen.timers, out)? {
            Readiness::Ready(interview) => interviews.push(interview),
            Readiness::Never => {}
            Readiness::Busy => return Ok(None),
        }
    }
    Ok(Some(interviews))
}

fn thread_facts(frozen: &Frozen, proc: ProcDir) -> Result<Vec<ThreadFacts>, Error> {
    let facts = frozen.threads().iter().map(|thread| {
        let status = proc.thread_text(thread.tid(), "status")?;
        let word = |key| parse::hex(&status, key).unwrap_or_default();
        let waiting = (word("SigPnd") | word("ShdPnd")) & !thread.signal_mask() & !word("SigIgn");
        let signals = if waiting == 0 { Signals::Quiet } else { Signals::Waiting };
        Ok(ThreadFacts { tid: thread.tid(), status, signals })
    });
    facts.collect()
}

/// Turns everything into notes: tasks in the order of the tree, then what they may have in common.
fn notes(
    order: &[Node],
    subjects: &[Subject<'_>],
    answered: &[Answered<Asked>],
    zombies: Vec<Task>,
    out: &mut Collected,
) -> Result<(), Error> {
    let mut objects = mapping::Objects::default();
    let mut zombies: Vec<Option<Task>> = zombies.into_iter().map(Some).collect();
    for node in order {
        match node {
            Node::Zombie(index) => {
                let task = zombies.get_mut(*index).and_then(Option::take);
                task.into_iter().for_each(|task| out.note(task));
            }
            Node::Member(index) => {
                let (Some(subject), Some(answers)) = (subjects.get(*index), answered.get(*index)) else {
                    continue;
                };
                out.look_at(subject.pid());
                process(subject, answers, &mut objects, out)?;
            }
        }
    }
    descriptor::collect(subjects, &mut objects, out)?;
    objects.into_notes().into_iter().for_each(|note| out.note(note));
    Ok(())
}

/// The notes of one process. Debuggers read the standard ones in this order.
fn process(
    subject: &Subject<'_>,
    asked: &[(Asked, Answers)],
    objects: &mut mapping::Objects,
    out: &mut Collected,
) -> Result<(), Error> {
    let Some((leader, answers)) = asked.first() else { return Ok(()) };
    let Some(process) = &leader.process else { return Ok(()) };
    let task = task::note(subject, &process.task, answers);
    task::standard(subject, &task, out);
    out.note(task.clone());
    for ((thread, facts), (asked, answers)) in subject.threads.iter().zip(subject.facts).zip(asked) {
        thread::collect(subject, &task, thread, facts, &asked.thread, answers, out)?;
        schedule::collect(subject, thread.tid(), &asked.schedule, answers, out)?;
        asked.io_uring.refuse(subject, answers, out);
        seccomp::collect(subject, facts, out)?;
        credential::collect(facts, &asked.credential, answers, out);
    }
    thread::standard_end(subject, out)?;
    limit::collect(subject, out);
    cgroup::collect(subject, out);
    signal::collect(subject, &process.signal, answers, out)?;
    timer::collect(subject, &process.timer, answers, out);
    if let Some(seen) = &subject.seen.filesystem {
        filesystem::collect(subject, seen, out)?;
    }
    if let Some(seen) = &subject.seen.mapping {
        mapping::collect(subject, seen, &process.mapping, answers, objects, out)?;
        aio::collect(subject, &process.aio, answers, out)?;
    }
    Ok(())
}
