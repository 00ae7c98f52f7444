//! What is read off a frozen process, one file per kind of kernel state.
//!
//! Each file may put questions (`Asked`), which are answered by the process itself in one stop, and turns the answers
//! and what the kernel tells from outside into notes. Nothing is written here; what an image cannot hold is gathered, so
//! that it can be told all at once.

pub mod credential;
pub mod descriptor;
pub mod file;
pub mod filesystem;
pub mod host;
pub mod limit;
pub mod lock;
pub mod mapping;
pub mod memfd;
pub mod pipe;
pub mod schedule;
pub mod seccomp;
pub mod signal;
pub mod task;
pub mod terminal;
pub mod thread;
pub mod timer;

use crate::Options;
use crate::error::{Error, Unsupported};
use crate::freeze::{Frozen, Stopped};
use crate::hatch::place::{self, Found};
use crate::hatch::{self, Answers, Knock, Questions};
use crate::memory::TaskMemory;
use crate::parse;
use crate::procdir::ProcDir;
use binfmt::address::{Pid, Tid};
use binfmt::image::{Owner, Segment, StandardNote};
use binfmt::note::Note;
use binfmt::restart::Signals;
use mapping::smaps::Area;
use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;
use thread::Mitigations;

/// Where the bytes of a segment come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// The process's memory at this address.
    Memory(u64),
    /// A file, from this offset.
    File(Arc<File>, u64),
    /// They are here.
    Bytes(Arc<Vec<u8>>),
}

/// Everything that goes into the image, and everything that should and cannot.
#[derive(Debug, Default)]
pub struct Collected {
    /// The notes that debuggers read.
    pub standard: Vec<StandardNote>,
    /// Our notes.
    pub notes: Vec<Note>,
    /// The segments, each with where its bytes come from.
    pub contents: Vec<(Segment, Source)>,
    /// What an image cannot hold.
    pub unsupported: Vec<Unsupported>,
    /// Ids of objects by device and inode.
    objects: BTreeMap<(u64, u64), u32>,
}

impl Collected {
    /// Adds a note.
    pub fn note(&mut self, note: impl Into<Note>) {
        self.notes.push(note.into());
    }

    /// Adds something that an image cannot hold, and what to do about it.
    pub fn unsupported(&mut self, what: impl Into<String>, advice: impl Into<String>) {
        self.unsupported.push(Unsupported { what: what.into(), advice: advice.into() });
    }

    /// Adds bytes.
    pub fn content(&mut self, owner: Owner, start: u64, len_bytes: u64, flags: u32, source: Source) {
        self.contents.push((Segment { owner, start, len_bytes, flags }, source));
    }

    /// The id of the object with this device and inode, and whether it is new.
    pub fn object(&mut self, device: u64, inode: u64) -> (u32, bool) {
        let next = u32::try_from(self.objects.len() + 1).unwrap_or(u32::MAX);
        let id = *self.objects.entry((device, inode)).or_insert(next);
        (id, id == next)
    }

    /// Whether bytes of object `id` are here already.
    pub fn carries(&self, id: u32) -> bool {
        self.contents.iter().any(|(segment, _)| segment.owner == Owner::Object(id))
    }
}

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
    /// `/proc/PID/status`
    pub status: String,
    /// Fields of `/proc/PID/stat`, numbered from 0.
    pub stat: Vec<String>,
    /// Its mappings.
    pub areas: Vec<Area>,
    /// Facts of each thread, in the order of `threads`.
    pub facts: Vec<ThreadFacts>,
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
        self.stat.get(number - 1).and_then(|field| field.parse().ok()).unwrap_or_default()
    }
}

/// The questions to one thread; the leader is asked for the process as well.
#[derive(Debug)]
pub struct Asked {
    thread: thread::Asked,
    schedule: schedule::Asked,
    credential: credential::Asked,
    process: Option<ProcessAsked>,
}

#[derive(Debug)]
struct ProcessAsked {
    task: task::Asked,
    signal: signal::Asked,
    timer: timer::Asked,
    mapping: mapping::Asked,
}

impl Asked {
    fn of_thread(questions: &mut Questions, mitigations: &Mitigations, status: &str) -> Asked {
        Asked {
            thread: thread::Asked::put(questions, mitigations, status),
            schedule: schedule::Asked::put(questions),
            credential: credential::Asked::put(questions),
            process: None,
        }
    }

    fn of_leader(questions: &mut Questions, mitigations: &Mitigations, status: &str, timers: &str) -> Asked {
        let process = ProcessAsked {
            task: task::Asked::put(questions),
            signal: signal::Asked::put(questions),
            timer: timer::Asked::put(questions, timers),
            mapping: mapping::Asked::put(questions),
        };
        Asked { process: Some(process), ..Asked::of_thread(questions, mitigations, status) }
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

/// Reads everything off a frozen process.
pub fn everything(frozen: &mut Frozen, options: &Options) -> Result<Outcome, Error> {
    let pid = frozen.pid();
    let proc = ProcDir::new(pid);
    let memory = TaskMemory::open(pid).map_err(|error| Error::question(pid, "opening its memory", error))?;
    let mut collected = Collected::default();
    let areas = mapping::smaps::parse(&proc.bytes("smaps")?)
        .ok_or_else(|| Error::question(pid, "reading its mappings", "the kernel's answer makes no sense"))?;
    let facts = thread_facts(frozen, proc)?;
    task::refuse(proc, frozen.threads(), &facts, options, &mut collected)?;
    if !collected.unsupported.is_empty() {
        return Ok(Outcome::Done(Box::new(collected)));
    }
    let vdso = host::vdso(&areas, &memory)?;
    let asked = match ask(frozen, &memory, &areas, &facts, options, &mut collected)? {
        Some(asked) => asked,
        None => return Ok(Outcome::Busy),
    };
    let text = proc.text("stat")?;
    let stat = parse::stat_fields(&text).unwrap_or_default().into_iter().map(str::to_owned).collect();
    let subject = Subject {
        proc,
        threads: frozen.threads(),
        memory: &memory,
        status: proc.text("status")?,
        stat,
        areas,
        facts,
        options,
    };
    if asked.len() == subject.threads.len() {
        notes(&subject, &asked, vdso, &mut collected)?;
    }
    Ok(Outcome::Done(Box::new(collected)))
}

/// Asks every thread; an empty list if no place for the stub was found, `None` if it is still in use.
fn ask(
    frozen: &mut Frozen,
    memory: &TaskMemory,
    areas: &[Area],
    facts: &[ThreadFacts],
    options: &Options,
    collected: &mut Collected,
) -> Result<Option<Vec<(Asked, Answers)>>, Error> {
    let pid = frozen.pid();
    let proc = ProcDir::new(pid);
    let found = place::find(areas, memory, frozen.threads())
        .map_err(|error| Error::question(pid, "looking for room for the stub", error))?;
    let place = match found {
        Found::Free(place) => place,
        Found::Busy => return Ok(None),
        Found::Nowhere => {
            collected.unsupported(
                "no executable mapping has 512 unused bytes at its end",
                "such a program cannot be asked about itself",
            );
            return Ok(Some(Vec::new()));
        }
    };
    let timers = proc.text_if_there("timers")?;
    let mitigations = Mitigations::probe();
    let all: Vec<(Asked, Questions)> = facts
        .iter()
        .map(|thread| {
            let mut questions = Questions::new();
            let asked = match thread.tid == pid.leader() {
                true => Asked::of_leader(&mut questions, &mitigations, &thread.status, &timers),
                false => Asked::of_thread(&mut questions, &mitigations, &thread.status),
            };
            questions.end_by(Knock::from_status(&thread.status));
            (asked, questions)
        })
        .collect();
    let mut suspend = Vec::new();
    for (facts, (_, questions)) in facts.iter().zip(&all) {
        suspend.push(seccomp::suspension(facts, questions, place, options, collected));
    }
    if !collected.unsupported.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let mut answered = Vec::new();
    let threads = frozen.threads_mut().iter_mut().zip(facts).zip(suspend);
    for (((thread, facts), suspension), (asked, questions)) in threads.zip(all) {
        let tid = facts.tid;
        let failed = |error| Error::question(pid, format!("suspending seccomp of thread {tid}"), error);
        suspension.begin(tid).map_err(failed)?;
        let answers = hatch::ask(pid, thread, memory, place, facts.signals, &questions)?;
        suspension.end(tid).map_err(failed)?;
        answered.push((asked, answers));
    }
    place.clear(memory).map_err(|error| Error::question(pid, "removing the stub", error))?;
    Ok(Some(answered))
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

/// Turns everything into notes. Debuggers read the standard ones in this order.
fn notes(
    subject: &Subject<'_>,
    asked: &[(Asked, Answers)],
    vdso: Vec<u8>,
    out: &mut Collected,
) -> Result<(), Error> {
    out.note(host::note(vdso));
    let Some((leader, answers)) = asked.first() else { return Ok(()) };
    let Some(process) = &leader.process else { return Ok(()) };
    let task = task::note(subject, &process.task, answers)?;
    task::standard(subject, &task, out);
    out.note(task.clone());
    for ((thread, facts), (asked, answers)) in subject.threads.iter().zip(&subject.facts).zip(asked) {
        thread::collect(subject, &task, thread, facts, &asked.thread, answers, out)?;
        schedule::collect(subject, thread.tid(), &asked.schedule, answers, out)?;
        seccomp::collect(subject, facts, out)?;
        credential::collect(facts, &asked.credential, answers, out);
    }
    thread::standard_end(subject, out)?;
    limit::collect(subject, out)?;
    signal::collect(subject, &process.signal, answers, out)?;
    timer::collect(subject, &process.timer, answers, out);
    filesystem::collect(subject, out)?;
    mapping::collect(subject, &process.mapping, answers, out)?;
    descriptor::collect(subject, out)
}
