//! Asking the threads of a task, each in one stop: which questions there are, and where the stub stands.

use crate::Options;
use crate::collect::thread::Mitigations;
use crate::collect::{
    ThreadFacts, aio, credential, io_uring, mapping, schedule, seccomp, signal, task, thread, timer,
};
use crate::collected::Collected;
use crate::error::Error;
use crate::freeze::{Frozen, Stopped};
use crate::hatch::place::{self, Found, Place};
use crate::hatch::{self, Answers, Knock, Questions, Visit};
use crate::memory::TaskMemory;
use binfmt::address::{Pid, Tid};
use mapping::smaps::Area;
use seccomp::Suspension;
use std::collections::{BTreeMap, VecDeque};

/// The questions to one thread; the leader is asked for the process as well.
#[derive(Debug)]
pub struct Asked {
    /// Those of every thread.
    pub thread: thread::Asked,
    /// How it is scheduled.
    pub schedule: schedule::Asked,
    /// Who it is.
    pub credential: credential::Asked,
    /// Its io_uring instances.
    pub io_uring: io_uring::Asked,
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
    /// Its contexts of asynchronous I/O.
    pub aio: aio::Asked,
}

impl Asked {
    fn of_thread(
        questions: &mut Questions,
        mitigations: &Mitigations,
        status: &str,
        areas: &[Area],
    ) -> Asked {
        Asked {
            thread: thread::Asked::put(questions, mitigations, status),
            schedule: schedule::Asked::put(questions),
            credential: credential::Asked::put(questions),
            io_uring: io_uring::Asked::put(questions, areas),
            process: None,
        }
    }

    fn of_leader(
        questions: &mut Questions,
        mitigations: &Mitigations,
        status: &str,
        timers: &str,
        areas: &[Area],
    ) -> Asked {
        let process = ProcessAsked {
            task: task::Asked::put(questions),
            signal: signal::Asked::put(questions),
            timer: timer::Asked::put(questions, timers),
            mapping: mapping::Asked::put(questions),
            aio: aio::Asked::put(questions, areas),
        };
        Asked { process: Some(process), ..Asked::of_thread(questions, mitigations, status, areas) }
    }
}

/// All that is to be asked of one task; an `A` knows which question is which.
#[derive(Debug)]
pub struct Interview<A> {
    place: Place,
    threads: Vec<(A, Questions, Suspension)>,
}

impl<A> Interview<A> {
    /// Where the stub stands.
    pub fn place(&self) -> Place {
        self.place
    }

    /// One of the leader alone, with these `facts`, where it was asked before.
    pub fn of_leader(
        place: Place,
        facts: &ThreadFacts,
        (asked, mut questions): (A, Questions),
        options: &Options,
        out: &mut Collected,
    ) -> Interview<A> {
        questions.end_by(Knock::from_status(&facts.status));
        let suspension = seccomp::suspension(facts, &questions, place, options, out);
        Interview { place, threads: vec![(asked, questions, suspension)] }
    }
}

/// Whether a task can be asked now.
#[derive(Debug)]
pub enum Readiness {
    /// It can.
    Ready(Interview<Asked>),
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

    /// Prepares the questions to the task with these `facts`; `threads` are all that live in its memory, `timers` is its
    /// `/proc/PID/timers`.
    pub fn prepare(
        &self,
        memory: &TaskMemory,
        areas: &[Area],
        threads: &[&Stopped],
        facts: &[ThreadFacts],
        timers: &str,
        out: &mut Collected,
    ) -> Result<Readiness, Error> {
        let pid = memory.pid();
        let found = place::find(areas, memory, threads)
            .map_err(|error| Error::question(pid, "looking for room for the stub", error))?;
        let place = match found {
            Found::Free(place) => place,
            Found::Busy(place) => {
                hatch::lead_home(memory, place, threads)?;
                return Ok(Readiness::Busy);
            }
            Found::Nowhere => {
                out.unsupported(
                    "no executable mapping has 512 unused bytes at its end",
                    "such a program cannot be asked about itself",
                );
                return Ok(Readiness::Never);
            }
        };
        let mitigations = &self.mitigations;
        let threads = facts.iter().map(|thread| {
            let mut questions = Questions::new();
            let asked = match thread.tid == pid.leader() {
                true => Asked::of_leader(&mut questions, mitigations, &thread.status, timers, areas),
                false => Asked::of_thread(&mut questions, mitigations, &thread.status, areas),
            };
            questions.end_by(Knock::from_status(&thread.status));
            let suspension = seccomp::suspension(thread, &questions, place, self.options, out);
            (asked, questions, suspension)
        });
        let threads = threads.collect();
        Ok(if out.can_be_saved() { Readiness::Ready(Interview { place, threads }) } else { Readiness::Never })
    }
}

/// A task that is to be asked, with what is known of it.
#[derive(Debug)]
pub struct Guest<'a, A> {
    /// What is to be asked.
    pub interview: Interview<A>,
    /// The task.
    pub frozen: &'a mut Frozen,
    /// The id of its memory. In one memory there is one stub, so its threads are asked one after the other.
    pub memory_id: u32,
    /// Its memory.
    pub memory: &'a TaskMemory,
    /// Facts of each thread, in their order.
    pub facts: &'a [ThreadFacts],
}

/// One thread's turn in the stub of its memory.
#[derive(Debug)]
struct Turn<'a, A> {
    /// Index of the task.
    task: usize,
    asked: A,
    visit: Visit<'a>,
    suspension: Suspension,
    pid: Pid,
    tid: Tid,
    /// For the last one of a task: where the stub is to be removed.
    clear: Option<(Place, &'a TaskMemory)>,
}

impl<A> Turn<'_, A> {
    fn begin(&self) -> Result<(), Error> {
        self.suspension.begin(self.tid).map_err(|error| self.suspending(error))
    }

    fn end(&self) -> Result<(), Error> {
        self.suspension.end(self.tid).map_err(|error| self.suspending(error))?;
        match self.clear {
            Some((place, memory)) => {
                place.clear(memory).map_err(|error| Error::question(self.pid, "removing the stub", error))
            }
            None => Ok(()),
        }
    }

    fn suspending(&self, error: nix::errno::Errno) -> Error {
        Error::question(self.pid, format!("suspending seccomp of thread {}", self.tid), error)
    }
}

/// What the threads of a task have answered, each with what it was asked.
pub type Answered<A> = Vec<(A, Answers)>;

/// Asks all threads of these tasks, those of different memories at the same time: while one is on its way to the next
/// stop, the others are seen to. Returns what they answered, in the order of the tasks.
pub fn hold<A>(guests: Vec<Guest<'_, A>>) -> Result<Vec<Answered<A>>, Error> {
    let mut answered: Vec<Answered<A>> = guests.iter().map(|_| Vec::new()).collect();
    let mut queues: BTreeMap<u32, VecDeque<Turn<'_, A>>> = BTreeMap::new();
    for (task, guest) in guests.into_iter().enumerate() {
        let queue = queues.entry(guest.memory_id).or_default();
        let (pid, place, memory) = (guest.frozen.pid(), guest.interview.place, guest.memory);
        let threads = guest.frozen.threads_mut().iter_mut().zip(guest.facts);
        for ((thread, facts), (asked, questions, suspension)) in threads.zip(guest.interview.threads) {
            let tid = thread.tid();
            let visit = Visit::new(pid, thread, memory, place, facts.signals, questions);
            queue.push_back(Turn { task, asked, visit, suspension, pid, tid, clear: None });
        }
        if let Some(last) = queue.back_mut() {
            last.clear = Some((place, memory));
        }
    }
    let mut queues: Vec<VecDeque<Turn<'_, A>>> = queues.into_values().collect();
    let held = queues.iter().filter_map(VecDeque::front).try_for_each(Turn::begin);
    let held = held.and_then(|()| {
        while !queues.is_empty() {
            queues.iter_mut().try_for_each(|queue| take_turn(queue, &mut answered))?;
            queues.retain(|queue| !queue.is_empty());
        }
        Ok(())
    });
    if held.is_err() {
        queues.iter().filter_map(VecDeque::front).for_each(|turn| turn.visit.settle());
    }
    held.map(|()| answered)
}

/// Brings the first of a queue one stop further, and the next one on its way when it is back.
fn take_turn<A>(queue: &mut VecDeque<Turn<'_, A>>, answered: &mut [Answered<A>]) -> Result<(), Error> {
    let Some(turn) = queue.front_mut() else { return Ok(()) };
    let Some(answers) = turn.visit.advance()? else { return Ok(()) };
    turn.end()?;
    if let Some(turn) = queue.pop_front()
        && let Some(answered) = answered.get_mut(turn.task)
    {
        answered.push((turn.asked, answers));
    }
    match queue.front_mut() {
        Some(next) => next.begin().and_then(|()| next.visit.advance().map(drop)),
        None => Ok(()),
    }
}
