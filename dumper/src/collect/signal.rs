//! Signals: dispositions from the process itself, the waiting ones by PTRACE_PEEKSIGINFO, which takes none.

use super::{Collected, Subject};
use crate::error::Error;
use crate::hatch::{Answers, Arg, Question, Questions};
use crate::parse::{self, u32_at};
use crate::sys::{self, Queue};
use binfmt::address::Tid;
use binfmt::note::signal::{Action, PendingSignals, SignalHandlers, SignalInfo};
use binfmt::system_call;
use nix::errno::Errno;

/// Length of the kernel's struct sigaction: handler, flags, restorer, mask.
const ACTION_BYTES: u64 = 32;
const SIGNALS: std::ops::RangeInclusive<u32> = 1..=64;

/// What the process is asked.
#[derive(Debug)]
pub struct Asked {
    actions: Vec<(u32, Question)>,
}

impl Asked {
    /// Puts the questions.
    pub fn put(questions: &mut Questions) -> Asked {
        let asked = SIGNALS.filter(|signal| !is_fixed(*signal)).map(|signal| {
            let args = [Arg::Value(signal.into()), Arg::Value(0), Arg::Answer, Arg::Value(8)];
            (
                signal,
                questions.ask(system_call!(SYS_rt_sigaction), &args, ACTION_BYTES, "a signal's disposition"),
            )
        });
        Asked { actions: asked.collect() }
    }
}

fn is_fixed(signal: u32) -> bool {
    [libc::SIGKILL, libc::SIGSTOP].contains(&signal.cast_signed())
}

/// Collects dispositions and waiting signals.
pub fn collect(
    subject: &Subject<'_>,
    asked: &Asked,
    answers: &Answers,
    out: &mut Collected,
) -> Result<(), Error> {
    if subject.shares.handlers.is_first {
        out.note(handlers(subject.shares.handlers.id, asked, answers));
    }
    let process = pending(subject, subject.pid().leader(), Queue::Process, subject.status, "ShdPnd")?;
    let mut queues = vec![(0, process)];
    for facts in subject.facts {
        let own = pending(subject, facts.tid, Queue::Thread, &facts.status, "SigPnd")?;
        queues.push((facts.tid.0.cast_unsigned(), own));
    }
    for (tid, signals) in queues.into_iter().filter(|(_, signals)| !signals.is_empty()) {
        out.note(PendingSignals { pid: subject.pid_number(), tid, signals });
    }
    Ok(())
}

fn handlers(id: u32, asked: &Asked, answers: &Answers) -> SignalHandlers {
    let actions = asked.actions.iter().map(|(signal, question)| Action {
        signal: *signal,
        handler: answers.u64(*question, 0),
        flags: answers.u64(*question, 8),
        restorer: answers.u64(*question, 16),
        mask: answers.u64(*question, 24),
    });
    let default = |action: &Action| *action == Action { signal: action.signal, ..Action::default() };
    SignalHandlers { id, actions: actions.filter(|action| !default(action)).collect() }
}

fn pending(
    subject: &Subject<'_>,
    tid: Tid,
    queue: Queue,
    status: &str,
    key: &str,
) -> Result<Vec<SignalInfo>, Error> {
    let mut signals = Vec::new();
    loop {
        let batch = match sys::peek_signals(tid, queue, signals.len() as u64) {
            Ok(batch) => batch,
            Err(Errno::ESRCH) => return Err(Error::Died { pid: subject.pid() }),
            Err(error) => {
                return Err(Error::question(
                    subject.pid(),
                    format!("reading the signals of thread {tid}"),
                    error,
                ));
            }
        };
        if batch.is_empty() {
            break;
        }
        signals.extend(batch.iter().map(|info| from_siginfo(info)));
    }
    // A signal that was sent when no memory or no RLIMIT_SIGPENDING was left waits without information.
    let waiting = parse::hex(status, key).unwrap_or_default();
    for signal in SIGNALS.filter(|signal| waiting & (1 << (signal - 1)) != 0) {
        if !signals.iter().any(|info| info.signal == signal) {
            signals.push(SignalInfo { signal, ..SignalInfo::default() });
        }
    }
    Ok(signals)
}

fn from_siginfo(info: &[u8]) -> SignalInfo {
    let fields = info.get(16..).unwrap_or_default();
    let len = fields.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    SignalInfo {
        signal: u32_at(info, 0),
        error: u32_at(info, 4).cast_signed(),
        code: u32_at(info, 8).cast_signed(),
        fields: fields.get(..len).unwrap_or_default().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_zeros_of_siginfo_are_left_out() {
        let mut info = [0; 128];
        info[0] = 34;
        info[8..12].copy_from_slice(&(-1i32).to_le_bytes());
        info[24] = 7;
        let signal = from_siginfo(&info);
        assert_eq!((signal.signal, signal.code, signal.error), (34, -1, 0));
        assert_eq!(signal.fields.0, [0, 0, 0, 0, 0, 0, 0, 0, 7]);
    }
}
