//! Asking the threads of a task, each in one stop: which questions there are, and where the stub stands.

use crate::Options;
use crate::collect::thread::Mitigations;
use crate::collect::{ThreadFacts, credential, mapping, schedule, seccomp, signal, task, thread, timer};
use crate::collected::Collected;
use crate::error::Error;
use crate::freeze::{Frozen, Stopped};
use crate::hatch::place::{self, Found, Place};
use crate::hatch::{self, Answers, Knock, Questions};
use crate::memory::TaskMemory;
use crate::procdir::ProcDir;
use mapping::smaps::Area;
use seccomp::Suspension;

/// The questions to one thread; the leader is asked for the process as well.
#[derive(Debug)]
pub struct Asked {
    /// Those of every thread.
    pub thread: thread::Asked,
    /// How it is scheduled.
    pub schedule: schedule::Asked,
    /// Who it is.
    pub credential: credential::Asked,
    /// Those of the process.
    pub process: Option<ProcessAsked>,
}

/// The questions to a leader.
#[derive(Debug)]
pub struct ProcessAsked {
    /// The process itself.
    pub task: task::Asked,
    /// Its dispositions.
    pub signal: signal::Asked,
    /// Its timers.
    pub timer: timer::Asked,
    /// Its memory.
    pub mapping: mapping::Asked,
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

/// All that is to be asked of one task.
#[derive(Debug)]
pub struct Interview {
    place: Place,
    threads: Vec<(Asked, Questions, Suspension)>,
}

/// Whether a task can be asked now.
#[derive(Debug)]
pub enum Readiness {
    /// It can.
    Ready(Interview),
    /// It cannot at all; why is among the findings.
    Never,
    /// A thread is still on its way home from an earlier dumper that was killed.
    Busy,
}

/// What all interviews of a dump have in common.
#[derive(Debug)]
pub struct Interviewer<'a> {
    options: &'a Options,
    mitigations: Mitigations,
}

impl<'a> Interviewer<'a> {
    /// One that keeps to `options`.
    pub fn new(options: &'a Options) -> Interviewer<'a> {
        Interviewer { options, mitigations: Mitigations::probe() }
    }

    /// Prepares the questions to the task with these `facts`; `threads` are all that live in its memory.
    pub fn prepare(
        &self,
        memory: &TaskMemory,
        areas: &[Area],
        threads: &[&Stopped],
        facts: &[ThreadFacts],
        out: &mut Collected,
    ) -> Result<Readiness, Error> {
        let pid = memory.pid();
        let found = place::find(areas, memory, threads)
            .map_err(|error| Error::question(pid, "looking for room for the stub", error))?;
        let place = match found {
            Found::Free(place) => place,
            Found::Busy => return Ok(Readiness::Busy),
            Found::Nowhere => {
                out.unsupported(
                    "no executable mapping has 512 unused bytes at its end",
                    "such a program cannot be asked about itself",
                );
                return Ok(Readiness::Never);
            }
        };
        let timers = ProcDir::new(pid).text_if_there("timers")?;
        let mitigations = &self.mitigations;
        let threads = facts.iter().map(|thread| {
            let mut questions = Questions::new();
            let asked = match thread.tid == pid.leader() {
                true => Asked::of_leader(&mut questions, mitigations, &thread.status, &timers),
                false => Asked::of_thread(&mut questions, mitigations, &thread.status),
            };
            questions.end_by(Knock::from_status(&thread.status));
            let suspension = seccomp::suspension(thread, &questions, place, self.options, out);
            (asked, questions, suspension)
        });
        let threads = threads.collect();
        Ok(if out.can_be_saved() { Readiness::Ready(Interview { place, threads }) } else { Readiness::Never })
    }
}

impl Interview {
    /// Asks every thread of `frozen`, one after the other.
    pub fn hold(
        self,
        frozen: &mut Frozen,
        memory: &TaskMemory,
        facts: &[ThreadFacts],
    ) -> Result<Vec<(Asked, Answers)>, Error> {
        let pid = frozen.pid();
        let mut answered = Vec::with_capacity(self.threads.len());
        let threads = frozen.threads_mut().iter_mut().zip(facts);
        for ((thread, facts), (asked, questions, suspension)) in threads.zip(self.threads) {
            let tid = facts.tid;
            let failed = |error| Error::question(pid, format!("suspending seccomp of thread {tid}"), error);
            suspension.begin(tid).map_err(failed)?;
            let answers = hatch::ask(pid, thread, memory, self.place, facts.signals, &questions)?;
            suspension.end(tid).map_err(failed)?;
            answered.push((asked, answers));
        }
        self.place.clear(memory).map_err(|error| Error::question(pid, "removing the stub", error))?;
        Ok(answered)
    }
}
