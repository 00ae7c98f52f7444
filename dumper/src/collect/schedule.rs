//! How a thread is scheduled.

use super::{Collected, Subject};
use crate::error::Error;
use crate::hatch::{Answers, Question, Questions};
use crate::parse::{u32_at, u64_at};
use crate::sys;
use binfmt::address::Tid;
use binfmt::note::schedule::Schedule;

/// What a thread is asked.
#[derive(Debug)]
pub struct Asked {
    timer_slack: Question,
}

impl Asked {
    /// Puts the questions.
    pub fn put(questions: &mut Questions) -> Asked {
        Asked { timer_slack: questions.prctl(libc::PR_GET_TIMERSLACK, "the timer slack") }
    }
}

/// Collects how one thread is scheduled. The words of struct sched_attr are those of sched_setattr(2).
pub fn collect(
    subject: &Subject<'_>,
    tid: Tid,
    asked: &Asked,
    answers: &Answers,
    out: &mut Collected,
) -> Result<(), Error> {
    let failed =
        |error| Error::question(subject.pid(), format!("reading how thread {tid} is scheduled"), error);
    let attributes = sys::sched_attributes(tid).map_err(failed)?;
    out.note(Schedule {
        tid: tid.0.cast_unsigned(),
        policy: u32_at(&attributes, 4),
        flags: u64_at(&attributes, 8),
        nice: u32_at(&attributes, 16).cast_signed(),
        priority: u32_at(&attributes, 20),
        runtime_ns: u64_at(&attributes, 24),
        deadline_ns: u64_at(&attributes, 32),
        period_ns: u64_at(&attributes, 40),
        utilization_min: u32_at(&attributes, 48),
        utilization_max: u32_at(&attributes, 52),
        io_priority: u32::try_from(sys::io_priority(tid).map_err(failed)?).unwrap_or_default(),
        io_context: subject.io_contexts.get(&tid).copied().unwrap_or(0),
        affinity: sys::affinity(tid).map_err(failed)?.into(),
        timer_slack_ns: answers.result_or_zero(asked.timer_slack),
    });
    Ok(())
}
