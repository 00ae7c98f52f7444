//! Timerfds. One that keeps a time is set when it is made; one that goes on with what remained is armed by the program of
//! the first task that has it, as late as can be; that which is only on its way through a socket, when it is made.
//!
//! Expiries that nobody has read are put back by TFD_IOC_SET_TICKS, which a kernel has that lets the loader set its layout
//! (CONFIG_CHECKPOINT_RESTORE). Setting a timer takes them away, so they come second, over what has expired in between:
//! hence the care.

use crate::arena::Arena;
use crate::error::{Error, Refusal, Result};
use crate::rebuild::descriptor::first_holders;
use crate::rebuild::timer::words;
use crate::rebuild::{made, set_status};
use crate::sys;
use binfmt::image::Image;
use binfmt::note::descriptor::Description;
use binfmt::note::task::Task;
use binfmt::note::timer::Countdown;
use binfmt::note::timerfd::{Timerfd, clock_to_ask};
use binfmt::program::Program;
use binfmt::system_call;
use nix::errno::Errno;
use nix::time::{ClockId, clock_gettime};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

/// `_IOW('T', 0, u64)`
const TFD_IOC_SET_TICKS: u64 = 0x4008_5400;
/// How much a timer that is armed by the program and has expired before is left at least, so that it does not expire again
/// before its ticks are put back.
const LEAST_NS: u64 = 1_000_000;
/// How often an absolute one is set until it has not expired meanwhile.
const TRIES: u32 = 16;

/// Makes the timerfd of a description.
pub fn make(image: &Image, note: &Timerfd, description: &Description) -> Result<OwnedFd> {
    let failed = |error| Error::step(format!("make a timerfd of clock {}", note.clock), error);
    let clock = i64::from(note.clock).cast_unsigned();
    let flags = libc::TFD_CLOEXEC.unsigned_abs().into();
    let fd = made(libc::SYS_timerfd_create, [clock, flags, 0, 0, 0, 0]).map_err(failed)?;
    set_status(&fd, description).map_err(failed)?;
    if is_absolute(note) {
        keep_time(&fd, note).map_err(failed)?;
    } else {
        // Armed or not, this is what it has if it is never armed.
        let still = Due { expires_ns: 0, ticks: note.ticks };
        set(&fd, note, &still).map_err(failed)?;
        if note.countdown.remaining_ns > 0 && !first_holders(image).contains_key(&description.id) {
            arm_now(&fd, note).map_err(failed)?;
        }
    }
    Ok(fd)
}

/// Has a timer go on with what remained.
fn arm_now(fd: &OwnedFd, note: &Timerfd) -> nix::Result<()> {
    let number = fd.as_raw_fd().unsigned_abs().into();
    let least_ns = if note.ticks > 0 { LEAST_NS } else { 0 };
    let remaining_ns = note.countdown.remaining_ns.max(least_ns);
    let setting = words(&Countdown { remaining_ns, ..note.countdown }, 1);
    let args = [number, note.flags.into(), setting.as_ptr().addr() as u64, 0, 0, 0];
    sys::call(libc::SYS_timerfd_settime, args)?;
    if note.ticks > 0 {
        let ticks = note.ticks.to_ne_bytes();
        sys::call(libc::SYS_ioctl, [number, TFD_IOC_SET_TICKS, ticks.as_ptr().addr() as u64, 0, 0, 0])?;
    }
    Ok(())
}

/// Why no timer of these clocks can be made, if none can.
pub fn refusal(image: &Image, may_wake: bool) -> Option<Refusal> {
    let is_alarm =
        |note: &&Timerfd| matches!(note.clock, libc::CLOCK_REALTIME_ALARM | libc::CLOCK_BOOTTIME_ALARM);
    let any = image.all::<Timerfd>().any(|note| is_alarm(&note));
    (any && !may_wake).then(|| Refusal {
        reason: "it has a timerfd that wakes the machine, which needs CAP_WAKE_ALARM".to_owned(),
        remedy: "resume it as root".to_owned(),
    })
}

/// Appends the calls that arm those timers of `task`'s descriptors that go on with what remained, unless another table that
/// has them comes first.
pub fn arm(image: &Image, task: &Task, arena: &mut Arena, program: &mut Program) -> Result<()> {
    let armed = |note: &&Timerfd| !is_absolute(note) && note.countdown.remaining_ns > 0;
    if !image.all::<Timerfd>().any(|note| armed(&note)) {
        return Ok(());
    }
    let holders = first_holders(image);
    for note in image.all::<Timerfd>().filter(armed) {
        let Some((table, number)) = holders.get(&note.description).copied() else { continue };
        if table != task.descriptor_table {
            continue;
        }
        let least_ns = if note.ticks > 0 { LEAST_NS } else { 0 };
        let remaining_ns = note.countdown.remaining_ns.max(least_ns);
        let setting = arena.put(&words(&Countdown { remaining_ns, ..note.countdown }, 1))?;
        let purpose = format!("timerfd {number}");
        let args = [number.into(), note.flags.into(), setting, 0];
        program.must(system_call!(SYS_timerfd_settime), &args, purpose.clone());
        if note.ticks > 0 {
            let ticks = arena.put(&note.ticks.to_le_bytes())?;
            program.must(system_call!(SYS_ioctl), &[number.into(), TFD_IOC_SET_TICKS, ticks], purpose);
        }
    }
    Ok(())
}

fn is_absolute(note: &Timerfd) -> bool {
    note.flags & libc::TFD_TIMER_ABSTIME.unsigned_abs() != 0
}

/// How a timer that keeps its time stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Due {
    /// When it expires next, on its clock; 0 for never.
    expires_ns: u64,
    /// Expiries that wait.
    ticks: u64,
}

impl Due {
    fn at(note: &Timerfd, now_ns: u64) -> Due {
        let (expires_ns, interval_ns) = (note.expires_ns, note.countdown.interval_ns);
        if expires_ns == 0 || now_ns < expires_ns {
            return Due { expires_ns, ticks: note.ticks };
        }
        let passed =
            (now_ns - expires_ns).checked_div(interval_ns).map_or(1, |periods| periods.saturating_add(1));
        let next_ns = match interval_ns {
            0 => 0,
            _ => expires_ns.saturating_add(passed.saturating_mul(interval_ns)),
        };
        Due { expires_ns: next_ns, ticks: note.ticks.saturating_add(passed) }
    }
}

/// Sets a timer to the time that it keeps.
fn keep_time(fd: &OwnedFd, note: &Timerfd) -> nix::Result<()> {
    let clock = ClockId::from_raw(clock_to_ask(note.clock));
    for _ in 0..TRIES {
        let due = Due::at(note, now_ns(clock)?);
        match set(fd, note, &due) {
            // Somebody has set the clock since the timer was made.
            Err(Errno::ECANCELED) => continue,
            done => done?,
        }
        if due.ticks == 0 || due.expires_ns == 0 || now_ns(clock)? < due.expires_ns {
            break;
        }
    }
    Ok(())
}

fn set(fd: &OwnedFd, note: &Timerfd, due: &Due) -> nix::Result<()> {
    let number: u64 = fd.as_raw_fd().unsigned_abs().into();
    let setting = words(&Countdown { remaining_ns: due.expires_ns, ..note.countdown }, 1);
    let args = [number, note.flags.into(), setting.as_ptr().addr() as u64, 0, 0, 0];
    sys::call(libc::SYS_timerfd_settime, args)?;
    if due.ticks > 0 {
        let ticks = [due.ticks];
        sys::call(libc::SYS_ioctl, [number, TFD_IOC_SET_TICKS, ticks.as_ptr().addr() as u64, 0, 0, 0])?;
    }
    Ok(())
}

fn now_ns(clock: ClockId) -> nix::Result<u64> {
    let now = Duration::from(clock_gettime(clock)?);
    Ok(u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_have_expired_meanwhile_waits() {
        let note = |expires_ns, interval_ns, ticks| Timerfd {
            countdown: Countdown { remaining_ns: 1, interval_ns },
            expires_ns,
            ticks,
            ..Timerfd::default()
        };
        let due = |expires_ns, ticks| Due { expires_ns, ticks };
        assert_eq!(Due::at(&note(100, 10, 2), 99), due(100, 2));
        assert_eq!(Due::at(&note(100, 10, 2), 100), due(110, 3));
        assert_eq!(Due::at(&note(100, 10, 2), 129), due(130, 5));
        assert_eq!(Due::at(&note(100, 0, 0), 129), due(0, 1), "one shot");
        assert_eq!(Due::at(&note(0, 10, 0), 129), due(0, 0), "not armed");
        assert_eq!(Due::at(&note(1, 1, u64::MAX), u64::MAX).ticks, u64::MAX);
    }
}
