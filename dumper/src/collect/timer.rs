//! Interval timers and POSIX timers: which there are from `/proc/PID/timers`, how far they are from the process itself.

use super::{Collected, Subject};
use crate::hatch::{Answers, Arg, Question, Questions};
use binfmt::note::timer::{Countdown, IntervalTimers, PosixTimer};
use binfmt::system_call;

/// Length of struct itimerval and struct itimerspec: interval and value, each seconds and a fraction.
const SETTING_BYTES: u64 = 32;
const NS_PER_S: u64 = 1_000_000_000;

/// What the process is asked.
#[derive(Debug)]
pub struct Asked {
    intervals: [Question; 3],
    timers: Vec<(Listed, Question, Question)>,
}

/// A timer as `/proc/PID/timers` lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Listed {
    id: u32,
    signal: u32,
    value: u64,
    notify: u32,
    thread: u32,
    clock: i32,
}

impl Asked {
    /// Puts the questions; `timers` is `/proc/PID/timers`.
    pub fn put(questions: &mut Questions, timers: &str) -> Asked {
        let mut interval = |which: u64| {
            let args = [Arg::Value(which), Arg::Answer];
            questions.ask(system_call!(SYS_getitimer), &args, SETTING_BYTES, "an interval timer")
        };
        let intervals = [interval(0), interval(1), interval(2)];
        let timers = parse(timers).into_iter().map(|timer| {
            let id = Arg::Value(timer.id.into());
            let setting =
                questions.ask(system_call!(SYS_timer_gettime), &[id, Arg::Answer], SETTING_BYTES, "a timer");
            let overrun = questions.ask(system_call!(SYS_timer_getoverrun), &[id], 0, "a timer's overrun");
            (timer, setting, overrun)
        });
        Asked { intervals, timers: timers.collect() }
    }
}

/// Collects all timers.
pub fn collect(subject: &Subject<'_>, asked: &Asked, answers: &Answers, out: &mut Collected) {
    let pid = subject.pid_number();
    let countdown = |question, per_fraction_ns: u64| {
        let time_ns =
            |at| answers.u64(question, at) * NS_PER_S + answers.u64(question, at + 8) * per_fraction_ns;
        Countdown { interval_ns: time_ns(0), remaining_ns: time_ns(16) }
    };
    let [real, user, profiling] = asked.intervals.map(|question| countdown(question, 1000));
    out.note(IntervalTimers { pid, real, user, profiling });
    for (timer, setting, overrun) in &asked.timers {
        out.note(PosixTimer {
            pid,
            id: timer.id,
            clock: timer.clock,
            notify: timer.notify,
            signal: timer.signal,
            thread: timer.thread,
            value: timer.value,
            countdown: countdown(*setting, 1),
            overrun: u32::try_from(answers.result_or_zero(*overrun)).unwrap_or_default(),
        });
    }
}

/// Takes `/proc/PID/timers` apart: `ID`, `signal: NUMBER/VALUE`, `notify: KIND/WHOM.ID`, `ClockID` (proc(5)).
fn parse(text: &str) -> Vec<Listed> {
    const SIGEV_THREAD_ID: u32 = 4;
    let mut timers: Vec<Listed> = Vec::new();
    for (key, value) in text.lines().filter_map(|line| line.split_once(": ")) {
        if key == "ID" {
            timers.extend(value.parse().ok().map(|id| Listed { id, ..Listed::default() }));
        }
        let Some(timer) = timers.last_mut() else { continue };
        match key {
            "signal" => {
                let (signal, value) = value.split_once('/').unwrap_or_default();
                timer.signal = signal.parse().unwrap_or_default();
                timer.value = u64::from_str_radix(value.trim_start_matches("0x"), 16).unwrap_or_default();
            }
            "notify" => {
                let (kind, whom) = value.split_once('/').unwrap_or_default();
                timer.notify = match kind {
                    "none" => 1,
                    "thread" => 2,
                    _ => 0,
                };
                if let Some(thread) = whom.strip_prefix("tid.") {
                    timer.notify |= SIGEV_THREAD_ID;
                    timer.thread = thread.parse().unwrap_or_default();
                }
            }
            "ClockID" => timer.clock = value.parse().unwrap_or_default(),
            _ => {}
        }
    }
    timers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_are_taken_apart() {
        let text = "ID: 0\nsignal: 60/00007fff86e452a8\nnotify: signal/pid.2634\nClockID: 0\n\
                    ID: 3\nsignal: 34/0\nnotify: signal/tid.99\nClockID: -6\nNew: 1\n\
                    ID: 4\nsignal: 14/0\nnotify: none/pid.7\nClockID: 1\n";
        let timers = parse(text);
        assert_eq!(timers.len(), 3);
        assert_eq!(timers[0].value, 0x7fff_86e4_52a8);
        assert_eq!(timers[1], Listed { id: 3, signal: 34, value: 0, notify: 4, thread: 99, clock: -6 });
        assert_eq!((timers[2].notify, timers[2].clock), (1, 1));
        assert_eq!(parse(""), []);
        assert_eq!(parse("signal: 3/4\nID: x\n"), []);
    }
}
