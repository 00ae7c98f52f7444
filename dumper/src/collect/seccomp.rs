//! The seccomp state of a thread, and whether it lets the thread be asked about itself.
//!
//! A filter is evaluated here, before anything is run: a call that it does not allow could end the program. Suspending
//! seccomp is only done on demand, since the suspension ends with this program.

mod filter;

use super::{Collected, Subject, ThreadFacts};
use crate::Options;
use crate::allow::Allow;
use crate::error::Error;
use crate::hatch::place::Place;
use crate::hatch::{self, Questions};
use crate::{parse, sys};
use binfmt::address::Tid;
use binfmt::note::seccomp::{Filter, Seccomp, SeccompMode};
use filter::Call;
use nix::errno::Errno;

/// Whether a thread may make the calls of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    /// All of them.
    Allowed,
    /// Not this one.
    Forbidden(String),
    /// The filters cannot be read.
    Unknown,
}

fn mode(facts: &ThreadFacts) -> SeccompMode {
    match parse::decimal(&facts.status, "Seccomp") {
        Some(1) => SeccompMode::Strict,
        Some(2) => SeccompMode::Filter,
        _ => SeccompMode::Disabled,
    }
}

/// Collects the seccomp state of one thread.
pub fn collect(subject: &Subject<'_>, facts: &ThreadFacts, out: &mut Collected) -> Result<(), Error> {
    let mode = mode(facts);
    let filters = match mode {
        SeccompMode::Filter => filters(facts.tid).map_err(|error| {
            Error::question(
                subject.pid(),
                format!("reading the seccomp filters of thread {}", facts.tid),
                error,
            )
        })?,
        _ => Vec::new(),
    };
    out.note(Seccomp { tid: facts.tid.0.cast_unsigned(), mode, filters });
    Ok(())
}

/// Whether seccomp is suspended while a thread is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspension {
    /// It is not: the thread may be asked as it is.
    Unneeded,
    /// It is, as the person allowed.
    Needed,
}

impl Suspension {
    /// Before the thread is asked.
    pub fn begin(self, tid: Tid) -> Result<(), Errno> {
        const PTRACE_O_SUSPEND_SECCOMP: i32 = 1 << 21;
        match self {
            Suspension::Unneeded => Ok(()),
            Suspension::Needed => {
                sys::set_options(tid, libc::PTRACE_O_TRACESYSGOOD | PTRACE_O_SUSPEND_SECCOMP)
            }
        }
    }

    /// After it.
    pub fn end(self, tid: Tid) -> Result<(), Errno> {
        match self {
            Suspension::Unneeded => Ok(()),
            Suspension::Needed => sys::set_options(tid, libc::PTRACE_O_TRACESYSGOOD),
        }
    }
}

/// What must be done about seccomp before a thread is asked; names it if that is not allowed.
pub fn suspension(
    facts: &ThreadFacts,
    questions: &Questions,
    place: Place,
    options: &Options,
    out: &mut Collected,
) -> Suspension {
    let what = match verdict(facts, questions, place) {
        Verdict::Allowed => return Suspension::Unneeded,
        _ if options.allow.contains(&Allow::Seccomp) => return Suspension::Needed,
        Verdict::Forbidden(what) => {
            format!("seccomp forbids thread {} {what}, with which it would be asked", facts.tid)
        }
        Verdict::Unknown => format!("the seccomp filters of thread {} cannot be read", facts.tid),
    };
    out.unsupported(
        what,
        "as root, `--allow seccomp` suspends it for a millisecond, in which killing ckpt-dump kills the program",
    );
    Suspension::Unneeded
}

/// Whether a thread may be asked `questions` by a stub at `place`.
fn verdict(facts: &ThreadFacts, questions: &Questions, place: Place) -> Verdict {
    match mode(facts) {
        SeccompMode::Disabled => Verdict::Allowed,
        SeccompMode::Strict => Verdict::Forbidden("anything but read, write and _exit".to_owned()),
        SeccompMode::Filter => match filters(facts.tid) {
            Err(_) => Verdict::Unknown,
            Ok(filters) => {
                let forbidden = hatch::calls(questions, place).into_iter().find(|(call, args)| {
                    let call = Call::new(call.number, args, place.address);
                    !filters.iter().all(|filter| filter::allows(&filter.instructions.0, &call))
                });
                forbidden.map_or(Verdict::Allowed, |(call, _)| {
                    Verdict::Forbidden(call.name.trim_start_matches("SYS_").to_owned())
                })
            }
        },
    }
}

/// The filters of a thread, in the order in which they were installed. The kernel counts from the oldest.
fn filters(tid: Tid) -> Result<Vec<Filter>, Errno> {
    let mut filters = Vec::new();
    loop {
        let index = filters.len() as u64;
        match sys::seccomp_filter(tid, index) {
            Ok(code) => {
                let flags = u32::try_from(sys::seccomp_flags(tid, index)?).unwrap_or_default();
                filters.push(Filter { flags, instructions: code.into() });
            }
            Err(Errno::ENOENT) => return Ok(filters),
            Err(error) => return Err(error),
        }
    }
}
