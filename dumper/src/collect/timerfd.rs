//! Timerfds: what stands in `/proc/PID/fdinfo`, made whole by timerfd_gettime(2) through a duplicate.
//!
//! A periodic timer that has expired rests until it is read or asked for its time; only then does the kernel count the
//! expiries since and start the next period. Until then nobody can see from outside when that is. Being asked is
//! all that happens to it, and whoever reads it cannot tell.

use super::Collected;
use super::descriptor::Open;
use crate::error::Error;
use crate::{parse, sys};
use binfmt::note::timer::Countdown;
use binfmt::note::timerfd::{Timerfd, clock_to_ask};
use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

/// How often it is looked at until it has not expired between two looks.
const TRIES: u32 = 32;
/// How long after it the clock may be looked at, lest an absolute one expire later than it should.
const AT_ONCE_NS: u64 = 10_000;

/// Completes `description`, of which `duplicate` is one.
pub fn collect(
    description: u32,
    open: &Open<'_>,
    duplicate: BorrowedFd<'_>,
    out: &mut Collected,
) -> Result<(), Error> {
    let pid = open.subject.pid();
    let failed = |error| Error::question(pid, format!("asking its timerfd {}", open.number), error);
    let mut shown = parse(&open.info).ok_or_else(|| open.makes_no_sense())?;
    let clock = ClockId::from_raw(clock_to_ask(shown.clock));
    let mut note = Timerfd::default();
    for _ in 0..TRIES {
        let before_ns = now_ns(clock).map_err(failed)?;
        let remaining_ns = sys::timerfd_remaining(duplicate).map_err(failed)?;
        let now_ns = now_ns(clock).map_err(failed)?;
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", duplicate.as_raw_fd()));
        shown = parse(&info.unwrap_or_default()).ok_or_else(|| open.makes_no_sense())?;
        note = noted(description, &shown, remaining_ns, now_ns);
        if shown.agrees(remaining_ns) && now_ns.abs_diff(before_ns) < AT_ONCE_NS {
            break;
        }
    }
    out.note(note);
    Ok(())
}

fn now_ns(clock: ClockId) -> Result<u64, Errno> {
    clock_gettime(clock).map(|now| nanoseconds(now.into()))
}

fn noted(description: u32, shown: &Shown, remaining_ns: u64, now_ns: u64) -> Timerfd {
    // It expires faster than we look.
    let remaining_ns = if shown.rests() { remaining_ns.max(1) } else { remaining_ns };
    Timerfd {
        description,
        clock: shown.clock,
        flags: shown.flags,
        countdown: Countdown { remaining_ns, interval_ns: shown.interval_ns },
        expires_ns: if remaining_ns == 0 { 0 } else { now_ns.saturating_add(remaining_ns) },
        ticks: shown.ticks,
    }
}

/// What fdinfo says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Shown {
    clock: i32,
    ticks: u64,
    flags: u32,
    remaining_ns: u64,
    interval_ns: u64,
}

impl Shown {
    /// Whether it is periodic and has expired, and nobody has asked it since.
    fn rests(&self) -> bool {
        self.remaining_ns == 0 && self.interval_ns > 0 && self.ticks > 0
    }

    /// Whether nothing has happened since so much remained.
    fn agrees(&self, remaining_ns: u64) -> bool {
        !self.rests() && self.remaining_ns <= remaining_ns && (self.remaining_ns == 0) == (remaining_ns == 0)
    }
}

/// Takes fdinfo apart (proc_pid_fdinfo(5)); `None` if it is not that of a timerfd.
fn parse(info: &str) -> Option<Shown> {
    let time_ns = |key| {
        let (s, ns) = parse::value(info, key)?.strip_prefix('(')?.strip_suffix(')')?.split_once(", ")?;
        Some(nanoseconds(Duration::new(s.parse().ok()?, ns.parse().ok()?)))
    };
    Some(Shown {
        clock: parse::value(info, "clockid")?.parse().ok()?,
        ticks: parse::decimal(info, "ticks")?,
        flags: u32::from_str_radix(parse::value(info, "settime flags")?, 8).ok()?,
        remaining_ns: time_ns("it_value")?,
        interval_ns: time_ns("it_interval")?,
    })
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const INFO: &str = "pos:\t0\nflags:\t02004002\nmnt_id:\t16\nino:\t1061\nclockid: 0\nticks: 3\nsettime flags: 01\n\
                        it_value: (0, 49406829)\nit_interval: (1, 5)\n";

    #[test]
    fn what_fdinfo_says_is_taken_apart() {
        let shown =
            Shown { clock: 0, ticks: 3, flags: 1, remaining_ns: 49_406_829, interval_ns: 1_000_000_005 };
        assert_eq!(parse(INFO), Some(shown));
        assert_eq!(parse(&INFO.replace("(0, ", "0, ")), None);
        assert_eq!(parse(&INFO.replace("ticks", "tocks")), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn an_expiry_between_two_looks_is_noticed() {
        let shown = |remaining_ns, ticks| Shown { remaining_ns, ticks, ..Shown::default() };
        assert!(shown(5, 0).agrees(7) && shown(0, 1).agrees(0) && shown(0, 0).agrees(0));
        assert!(!shown(0, 1).agrees(7), "one shot");
        let periodic = |remaining_ns| Shown { interval_ns: 10, ..shown(remaining_ns, 1) };
        assert!(periodic(5).agrees(6) && !periodic(8).agrees(6) && !periodic(0).agrees(0));
        assert_eq!(noted(1, &periodic(0), 0, 100).expires_ns, 101);
        assert_eq!(noted(1, &shown(0, 1), 0, 100).expires_ns, 0);
    }
}
