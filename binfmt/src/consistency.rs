//! Whether the notes of an image fit together: ids are given once, what is referred to is there, and stored bytes belong
//! to somebody.
//!
//! [`Image::open`] has checked each note by itself. A resume relies on what is checked here.

mod inet;
mod ipc;
mod namespace;
mod socket;

use crate::address::Span;
use crate::image::{Image, Owner, ROOT_MEMORY, Segment};
use crate::note::Note;
use crate::note::cgroup::Cgroup;
use crate::note::descriptor::{Description, DescriptionKind, DescriptorTable};
use crate::note::file::FileIdentity;
use crate::note::filesystem::Filesystem;
use crate::note::host::Host;
use crate::note::inotify::{Inotify, NUMBER_MAX};
use crate::note::mapping::{Backing, MappedObject, Memory};
use crate::note::pid_namespace::PidNamespace;
use crate::note::signal::SignalHandlers;
use crate::note::task::{RunState, Task};
use crate::note::terminal::PseudoTerminal;
use crate::note::thread::Thread;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

/// MAX_PID_NS_LEVEL.
const PID_NAMESPACES_MAX: usize = 32;

/// What does not fit together, a line each; empty if all does.
pub fn check(image: &Image) -> Vec<String> {
    let mut checker = Checker { wrong: Vec::new() };
    let known = Known::new(image, &mut checker);
    if image.all::<Host>().count() != 1 {
        checker.wrong.push("it does not say once where it was made".to_owned());
    }
    if known.tasks.is_empty() {
        checker.wrong.push("there is no task in it".to_owned());
    }
    image.notes.iter().for_each(|note| known.check_note(note, &mut checker));
    check_tree(image, &mut checker);
    known.check_descriptions(image, &mut checker);
    image.all::<Memory>().for_each(|memory| check_mappings(memory, &mut checker));
    known.check_segments(image, &mut checker);
    ipc::check(image, &mut checker);
    checker.once("pseudo-terminal", image.all::<PseudoTerminal>().map(|terminal| terminal.index));
    socket::check(image, &mut checker);
    inet::check(image, &mut checker);
    check_pid_namespaces(image, &known, &mut checker);
    namespace::check(image, &known.tasks, &mut checker);
    checker.wrong
}

struct Checker {
    wrong: Vec<String>,
}

impl Checker {
    fn refers(&mut self, who: &str, what: &str, id: u32, known: &BTreeSet<u32>) {
        if !known.contains(&id) {
            self.wrong.push(format!("{who} refers to {what} {id}, which is not there"));
        }
    }

    fn once(&mut self, what: &str, ids: impl Iterator<Item = u32>) -> BTreeSet<u32> {
        let mut seen = BTreeSet::new();
        for id in ids {
            if !seen.insert(id) {
                self.wrong.push(format!("{what} {id} is there twice"));
            }
        }
        seen
    }
}

/// Every id that is given.
struct Known {
    tasks: BTreeSet<u32>,
    threads: BTreeSet<u32>,
    memories: BTreeSet<u32>,
    objects: BTreeSet<u32>,
    tables: BTreeSet<u32>,
    descriptions: BTreeSet<u32>,
    filesystems: BTreeSet<u32>,
    handlers: BTreeSet<u32>,
}

impl Known {
    fn new(image: &Image, checker: &mut Checker) -> Known {
        Known {
            tasks: checker.once("task", image.all::<Task>().map(|task| task.pid)),
            threads: checker.once("thread", image.all::<Thread>().map(|thread| thread.tid)),
            memories: checker.once("memory", image.all::<Memory>().map(|memory| memory.id)),
            objects: checker.once("object", image.all::<MappedObject>().map(|object| object.id)),
            tables: checker.once("descriptor table", image.all::<DescriptorTable>().map(|table| table.id)),
            descriptions: checker.once("description", image.all::<Description>().map(|found| found.id)),
            filesystems: checker.once("filesystem", image.all::<Filesystem>().map(|found| found.id)),
            handlers: checker.once("signal handlers", image.all::<SignalHandlers>().map(|found| found.id)),
        }
    }

    /// The references of one note. A new kind of note with references has its row here.
    fn check_note(&self, note: &Note, checker: &mut Checker) {
        let who = note.word();
        match note {
            Note::Task(task) => self.check_task(task, checker),
            Note::Thread(thread) => {
                checker.refers(&format!("thread {}", thread.tid), "task", thread.pid, &self.tasks);
            }
            Note::ExtendedState(state) => checker.refers(who, "thread", state.tid, &self.threads),
            Note::Schedule(schedule) => checker.refers(who, "thread", schedule.tid, &self.threads),
            Note::Credential(credential) => checker.refers(who, "thread", credential.tid, &self.threads),
            Note::Seccomp(seccomp) => checker.refers(who, "thread", seccomp.tid, &self.threads),
            Note::Limit(limit) => checker.refers(who, "task", limit.pid, &self.tasks),
            Note::IntervalTimers(timers) => checker.refers(who, "task", timers.pid, &self.tasks),
            Note::PosixTimer(timer) => checker.refers(who, "task", timer.pid, &self.tasks),
            Note::PendingSignals(pending) => {
                checker.refers(who, "task", pending.pid, &self.tasks);
                if pending.tid != 0 {
                    checker.refers(who, "thread", pending.tid, &self.threads);
                }
            }
            Note::Memory(memory) => {
                let backed = memory.mappings.iter().filter(|mapping| mapping.backing == Backing::Object);
                backed.for_each(|mapping| {
                    let who = format!("the mapping at {:#x}", mapping.start);
                    checker.refers(&who, "object", mapping.object, &self.objects);
                });
            }
            Note::DescriptorTable(table) => table.descriptors.iter().for_each(|descriptor| {
                let who = format!("descriptor {}", descriptor.number);
                checker.refers(&who, "description", descriptor.description, &self.descriptions);
            }),
            Note::Epoll(set) => set.targets.iter().for_each(|target| {
                checker.refers(who, "description", target.description, &self.descriptions);
            }),
            Note::UnixSocket(socket) => {
                let peer = Some(&socket.peer).filter(|peer| **peer != 0);
                let rights = socket.messages.iter().flat_map(|message| &message.rights);
                for id in rights.chain(&socket.pending).chain(peer) {
                    checker.refers(who, "description", *id, &self.descriptions);
                }
            }
            Note::AioRing(ring) => checker.refers(who, "memory", ring.memory, &self.memories),
            Note::IoUring(ring) => ring.files.iter().for_each(|file| {
                checker.refers(who, "description", file.description, &self.descriptions);
            }),
            Note::OpenMemfd(memfd) => checker.refers(who, "object", memfd.object, &self.objects),
            Note::Inotify(inotify) => check_watches(inotify, checker),
            Note::Pidfd(pidfd) if !self.threads.contains(&pidfd.pid) => {
                checker.refers(who, "process", pidfd.pid, &self.tasks);
            }
            Note::SharedSegment(segment) => checker.refers(who, "object", segment.object, &self.objects),
            Note::Cgroup(cgroup) => {
                checker.refers(who, "process", cgroup.pid, &self.tasks);
                check_groups(cgroup, checker);
            }
            Note::SemaphoreUndo(undo) => checker.refers(who, "process", undo.pid, &self.tasks),
            Note::FileLock(lock) if lock.description != 0 => {
                checker.refers(who, "description", lock.description, &self.descriptions);
            }
            _ => {}
        }
    }

    fn check_task(&self, task: &Task, checker: &mut Checker) {
        let who = format!("task {}", task.pid);
        if task.parent != 0 {
            checker.refers(&who, "task", task.parent, &self.tasks);
        }
        if task.state != RunState::Zombie {
            checker.refers(&who, "memory", task.memory, &self.memories);
            checker.refers(&who, "descriptor table", task.descriptor_table, &self.tables);
            checker.refers(&who, "filesystem", task.filesystem, &self.filesystems);
            checker.refers(&who, "signal handlers", task.signal_handlers, &self.handlers);
        }
    }

    /// Every description is completed by one note, of the kind that it says.
    fn check_descriptions(&self, image: &Image, checker: &mut Checker) {
        let mut completed: BTreeMap<u32, Vec<DescriptionKind>> = BTreeMap::new();
        let mut complete = |id: u32, kind| completed.entry(id).or_default().push(kind);
        for note in image.notes.iter() {
            match note {
                Note::OpenFile(file) if file.process != 0 => {
                    complete(file.description, DescriptionKind::ProcessFile);
                }
                Note::OpenFile(file) => complete(file.description, DescriptionKind::File),
                Note::Tun(tun) => complete(tun.description, DescriptionKind::Tun),
                Note::OpenMemfd(memfd) => complete(memfd.description, DescriptionKind::Memfd),
                Note::OpenTerminal(terminal) => complete(terminal.description, DescriptionKind::Terminal),
                Note::Eventfd(eventfd) => complete(eventfd.description, DescriptionKind::Eventfd),
                Note::Timerfd(timerfd) => complete(timerfd.description, DescriptionKind::Timerfd),
                Note::Signalfd(signalfd) => complete(signalfd.description, DescriptionKind::Signalfd),
                Note::Pidfd(pidfd) => complete(pidfd.description, DescriptionKind::Pidfd),
                Note::Epoll(set) => complete(set.description, DescriptionKind::Epoll),
                Note::Inotify(inotify) => complete(inotify.description, DescriptionKind::Inotify),
                Note::IoUring(ring) => complete(ring.description, DescriptionKind::IoUring),
                Note::Userfaultfd(fd) => complete(fd.description, DescriptionKind::Userfaultfd),
                Note::MessageQueue(queue) => complete(queue.description, DescriptionKind::MessageQueue),
                Note::PseudoTerminal(terminal) => {
                    complete(terminal.master, DescriptionKind::PseudoTerminal);
                    let slaves = &terminal.slaves;
                    slaves.iter().for_each(|id| complete(*id, DescriptionKind::PseudoTerminal));
                }
                Note::Socket(socket) => complete(socket.description, DescriptionKind::Socket),
                Note::Pipe(pipe) => {
                    pipe.descriptions.iter().for_each(|id| complete(*id, DescriptionKind::Pipe));
                }
                _ => {}
            }
        }
        for description in image.all::<Description>() {
            let found = completed.remove(&description.id).unwrap_or_default();
            let wanted = match description.kind {
                DescriptionKind::Outside | DescriptionKind::Closed => Vec::new(),
                kind => vec![kind],
            };
            if found != wanted {
                let Description { id, kind, .. } = description;
                checker
                    .wrong
                    .push(format!("description {id} of the kind {kind:?} is completed by {found:?}"));
            }
        }
        completed.keys().for_each(|id| checker.refers("a note", "description", *id, &self.descriptions));
    }

    fn check_segments(&self, image: &Image, checker: &mut Checker) {
        let contents: BTreeSet<u32> = image.notes.iter().flat_map(contents).collect();
        let mut missing = BTreeSet::new();
        let mut stored: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
        for (segment, _) in &image.segments {
            let known = match segment.owner {
                Owner::Memory(id) => {
                    let end = segment.start + segment.len_bytes;
                    stored.entry(id).or_default().push((segment.start, end));
                    self.memories.contains(&id)
                }
                Owner::Object(id) => self.objects.contains(&id) || contents.contains(&id),
            };
            if !known && missing.insert(segment.owner) {
                checker.wrong.push(format!("bytes are stored for {:?}, which is not there", segment.owner));
            }
        }
        for memory in image.all::<Memory>() {
            check_stored(memory, stored.get(&memory.id).map_or(&[], Vec::as_slice), checker);
        }
        check_sharing(image, checker);
    }
}

/// The ids under which the content of files and pipes is stored; 0, which no segment can have, for none.
fn contents(note: &Note) -> Vec<u32> {
    let of = |file: &FileIdentity| file.content;
    match note {
        Note::Memory(memory) => vec![of(&memory.executable)],
        Note::MappedObject(object) => vec![of(&object.file)],
        Note::OpenFile(open) => vec![of(&open.file)],
        Note::IoUring(ring) => vec![ring.object],
        Note::Pipe(pipe) => vec![pipe.content, of(&pipe.fifo)],
        Note::Inotify(inotify) => inotify.watches.iter().map(|watch| of(&watch.file)).collect(),
        Note::UnixSocket(socket) => vec![socket.content, of(&socket.file)],
        Note::InetSocket(socket) => vec![socket.content],
        Note::Filesystem(filesystem) => vec![of(&filesystem.root), of(&filesystem.working_directory)],
        _ => Vec::new(),
    }
}

/// Watch descriptors are given in ascending order, from 1 on.
fn check_watches(inotify: &Inotify, checker: &mut Checker) {
    let mut last = 0;
    for watch in &inotify.watches {
        if watch.number <= last || watch.number > NUMBER_MAX || watch.mask == 0 {
            checker.wrong.push(format!("no inotify instance has watch {} after {last}", watch.number));
        }
        last = watch.number;
    }
}

/// The groups are below the roots of their hierarchies.
fn check_groups(cgroup: &Cgroup, checker: &mut Checker) {
    let is_below = |path: &Path| {
        let mut parts = path.components();
        parts.next() == Some(Component::RootDir) && parts.all(|part| matches!(part, Component::Normal(_)))
    };
    if let Some(wrong) = cgroup.memberships.iter().find(|membership| !is_below(membership.path.as_path())) {
        checker.wrong.push(format!("no control group is at {}", wrong.path));
    }
}

/// Pid namespaces lie in each other, each has its init, and an id is one thing's there; all threads of a task live in the
/// same one.
fn check_pid_namespaces(image: &Image, known: &Known, checker: &mut Checker) {
    // From the outermost to each.
    let mut ways: BTreeMap<u32, Vec<u32>> = BTreeMap::from([(0, Vec::new())]);
    let (mut homes, mut given) = (BTreeMap::new(), BTreeSet::new());
    for PidNamespace { id, parent, init, dwellers, .. } in image.all::<PidNamespace>() {
        let way = ways.get(parent).map(|way| [way.as_slice(), &[*id]].concat());
        let Some(way) = way.filter(|way| !ways.contains_key(id) && way.len() <= PID_NAMESPACES_MAX) else {
            checker.wrong.push(format!("pid namespace {id} is there twice, or in none"));
            continue;
        };
        checker.refers(&format!("pid namespace {id}"), "task", *init, &known.tasks);
        if !dwellers.iter().any(|ids| ids.id == *init && ids.inner.last() == Some(&1)) {
            checker.wrong.push(format!("process {init} is not the first of pid namespace {id}"));
        }
        for ids in dwellers {
            let is_new = |(level, inner): (&u32, &u32)| *inner != 0 && given.insert((*level, *inner));
            let new_len = way.iter().zip(&ids.inner).map(is_new).filter(|is_new| *is_new).count();
            if ids.inner.len() != way.len() || new_len != way.len() || homes.insert(ids.id, *id).is_some() {
                checker.wrong.push(format!("{} cannot have these ids in pid namespace {id}", ids.id));
            }
        }
        ways.insert(*id, way);
    }
    let home = |id: &u32| homes.get(id).copied().unwrap_or(0);
    for thread in image.all::<Thread>().filter(|_| ways.len() > 1) {
        if home(&thread.tid) != home(&thread.pid) {
            let Thread { tid, pid, .. } = thread;
            checker.wrong.push(format!("thread {tid} is not in the pid namespace of process {pid}"));
        }
    }
    let mut makers = BTreeSet::new();
    for PidNamespace { id, makers: of_this, .. } in image.all::<PidNamespace>() {
        for pid in of_this {
            checker.refers(&format!("pid namespace {id}"), "task", *pid, &known.tasks);
            let is_above = home(pid) == 0 || ways.get(id).is_some_and(|way| way.contains(&home(pid)));
            if !is_above || home(pid) == *id || !makers.insert(*pid) {
                checker.wrong.push(format!("process {pid} cannot have children in pid namespace {id}"));
            }
        }
    }
}

fn check_mappings(memory: &Memory, checker: &mut Checker) {
    let mut end = 0;
    for mapping in &memory.mappings {
        match Span::new(mapping.start, mapping.len_bytes) {
            Some(span) if span.start().0 >= end => end = span.end().0,
            Some(span) => checker.wrong.push(format!("the mapping {span} is not above the one before")),
            None => checker.wrong.push(format!("no task can have a mapping at {:#x}", mapping.start)),
        }
    }
}

/// Every page that is stored lies in a mapping.
fn check_stored(memory: &Memory, stored: &[(u64, u64)], checker: &mut Checker) {
    let mut mapped: Vec<(u64, u64)> = Vec::with_capacity(memory.mappings.len());
    for mapping in &memory.mappings {
        let end = mapping.start.saturating_add(mapping.len_bytes);
        match mapped.last_mut() {
            Some(last) if last.1 == mapping.start => last.1 = end,
            _ => mapped.push((mapping.start, end)),
        }
    }
    mapped.sort_unstable();
    for (start, end) in stored {
        let index = mapped.partition_point(|range| range.0 <= *start);
        if index.checked_sub(1).and_then(|at| mapped.get(at)).is_none_or(|range| *end > range.1) {
            checker.wrong.push(format!("the stored bytes at {start:#x} are not in a mapping"));
        }
    }
}

/// Segments that share bytes of the file are the same range of different memories.
fn check_sharing(image: &Image, checker: &mut Checker) {
    let mut placed: Vec<(u64, u64, &Segment)> = Vec::with_capacity(image.segments.len());
    for (segment, offset) in &image.segments {
        placed.push((*offset, offset.saturating_add(segment.len_bytes), segment));
    }
    placed.sort_by_key(|(offset, end, segment)| (*offset, *end, segment.owner));
    for pair in placed.windows(2) {
        let [(first_offset, first_end, first), (offset, _, second)] = pair else { continue };
        let apart = offset >= first_end;
        let same = (first_offset, first.start, first.len_bytes) == (offset, second.start, second.len_bytes);
        let memories = matches!((first.owner, second.owner), (Owner::Memory(_), Owner::Memory(_)));
        if !(apart || same && memories) {
            checker
                .wrong
                .push(format!("the bytes at {offset:#x} of the file are partly those of two segments"));
        }
    }
}

/// The tasks are a tree, the first one is its root, and each that has not ended has a main thread.
fn check_tree(image: &Image, checker: &mut Checker) {
    let mut wrong = |line: String| checker.wrong.push(line);
    let parents: BTreeMap<u32, u32> = image.all::<Task>().map(|task| (task.pid, task.parent)).collect();
    let main: BTreeSet<u32> =
        image.all::<Thread>().filter(|thread| thread.tid == thread.pid).map(|thread| thread.pid).collect();
    let threaded: BTreeSet<u32> = image.all::<Thread>().map(|thread| thread.pid).collect();
    if image.all::<Task>().next().is_some_and(|root| root.memory != ROOT_MEMORY || root.parent != 0) {
        wrong("the first task is not the root of the tree".to_owned());
    }
    // Whose ancestors were followed to the end.
    let mut rooted = BTreeSet::from([0]);
    for task in image.all::<Task>() {
        let pid = task.pid;
        match (task.state, main.contains(&pid), threaded.contains(&pid)) {
            (RunState::Zombie, _, true) => wrong(format!("task {pid} has ended and has threads")),
            (RunState::Running | RunState::Stopped, false, _) => {
                wrong(format!("task {pid} has no main thread"));
            }
            _ => {}
        }
        let (mut at, mut path) = (pid, BTreeSet::new());
        while !rooted.contains(&at) {
            if !path.insert(at) {
                wrong(format!("task {pid} descends from itself"));
                break;
            }
            at = parents.get(&at).copied().unwrap_or(0);
        }
        rooted.extend(path);
    }
}
