//! Interval timers and POSIX timers: made with their ids by Rust, armed by the program, as late as can be.

use crate::arena::Arena;
use crate::error::{Error, Result};
use crate::rebuild::prctl;
use crate::sys;
use binfmt::image::Image;
use binfmt::note::signal::{PendingSignals, SignalInfo};
use binfmt::note::task::Task;
use binfmt::note::timer::{Countdown, IntervalTimers, PosixTimer};
use binfmt::program::Program;
use binfmt::system_call;
use nix::errno::Errno;

const PR_TIMER_CREATE_RESTORE_IDS: i32 = 77;
const SIGEV_THREAD_ID: u32 = 4;
const TIMER_ABSTIME: u64 = 1;

/// Makes the POSIX timers, unarmed. `tid_now` says which id a saved thread id has now.
pub fn create(image: &Image, task: &Task, tid_now: impl Fn(u32) -> u32) -> Result<()> {
    let mut timers: Vec<&PosixTimer> = image.about::<PosixTimer>(task.pid).collect();
    if timers.is_empty() {
        return Ok(());
    }
    timers.sort_by_key(|timer| timer.id);
    // Since 6.15 the kernel takes the wanted id; before, ids were given in turn, and those in between are made and
    // deleted.
    let chosen = prctl(PR_TIMER_CREATE_RESTORE_IDS, [1, 0, 0, 0]).is_ok();
    for timer in timers {
        create_one(timer, &tid_now, chosen)
            .map_err(|error| Error::step(format!("make POSIX timer {}", timer.id), error))?;
    }
    if chosen {
        prctl(PR_TIMER_CREATE_RESTORE_IDS, [0, 0, 0, 0])
            .map_err(|error| Error::step("leave the mode in which timer ids are chosen", error))?;
    }
    Ok(())
}

fn create_one(
    timer: &PosixTimer,
    tid_now: impl Fn(u32) -> u32,
    chosen: bool,
) -> std::result::Result<(), Errno> {
    let thread = if timer.notify == SIGEV_THREAD_ID { tid_now(timer.thread) } else { 0 };
    // struct sigevent: value, signal, notify, thread id; 64 bytes.
    let mut event = timer.value.to_le_bytes().to_vec();
    [timer.signal, timer.notify, thread].iter().for_each(|word| event.extend_from_slice(&word.to_le_bytes()));
    event.resize(64, 0);
    loop {
        let mut id = [timer.id];
        let args = [
            i64::from(timer.clock).cast_unsigned(),
            event.as_ptr().addr() as u64,
            id.as_mut_ptr().addr() as u64,
            0,
            0,
            0,
        ];
        sys::call(libc::SYS_timer_create, args)?;
        let [got] = id;
        if got == timer.id {
            return Ok(());
        }
        sys::call(libc::SYS_timer_delete, [got.into(), 0, 0, 0, 0, 0])?;
        if chosen || got > timer.id {
            return Err(Errno::EBUSY);
        }
    }
}

/// Appends the calls that arm all timers with the time that remained.
pub fn arm(image: &Image, task: &Task, arena: &mut Arena, program: &mut Program) -> Result<()> {
    for note in image.about::<IntervalTimers>(task.pid) {
        for (which, countdown) in [&rearmed(&note.real), &note.user, &note.profiling].into_iter().enumerate()
        {
            if countdown.remaining_ns > 0 {
                let address = arena.put(&armed(countdown, 1000))?;
                let purpose = format!("interval timer {which}");
                program.must(system_call!(SYS_setitimer), &[which as u64, address, 0], purpose);
            }
        }
    }
    for timer in image.about::<PosixTimer>(task.pid) {
        if timer.countdown.remaining_ns == 0 {
            continue;
        }
        let id = timer.id.into();
        let purpose = format!("POSIX timer {}", timer.id);
        if fires_again(image, timer) {
            let address = arena.put(&armed(&last_expiry(timer), 1))?;
            program.must(system_call!(SYS_timer_settime), &[id, TIMER_ABSTIME, address, 0], purpose);
        } else {
            let address = arena.put(&armed(&timer.countdown, 1))?;
            program.must(system_call!(SYS_timer_settime), &[id, 0, address, 0], purpose);
        }
    }
    Ok(())
}

/// ITIMER_REAL as it will be: the kernel lets a periodic one rest from its expiry until its signal is taken, and starts
/// the next period then. A signal that is put back into the queue does not do that, so the period starts now.
fn rearmed(real: &Countdown) -> Countdown {
    let rests = real.remaining_ns == 0 && real.interval_ns > 0;
    Countdown { remaining_ns: if rests { real.interval_ns } else { real.remaining_ns }, ..*real }
}

/// Whether a signal of this periodic timer waits. It does not come back as a copy in the queue, beside which the timer
/// would soon put another one: the timer is armed with the expiry that has passed and sends it anew, so that there is one
/// signal that counts overruns from there. How many had gathered while it waited cannot be read from outside.
pub fn fires_again(image: &Image, timer: &PosixTimer) -> bool {
    let queues = image.about::<PendingSignals>(timer.pid);
    timer.countdown.interval_ns > 0
        && queues.flat_map(|queue| &queue.signals).any(|info| timer_id(info) == Some(timer.id))
}

/// Which POSIX timer sent a signal.
pub fn timer_id(info: &SignalInfo) -> Option<u32> {
    let id = info.fields.0.get(..4)?.try_into().ok()?;
    (info.code == libc::SI_TIMER).then(|| u32::from_le_bytes(id))
}

/// The timer's last expiry, on its clock: the next one less an interval.
fn last_expiry(timer: &PosixTimer) -> Countdown {
    let clock = nix::time::ClockId::from_raw(timer.clock);
    let now = nix::time::clock_gettime(clock).map(std::time::Duration::from).unwrap_or_default();
    let now_ns = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
    let next = now_ns.saturating_add(timer.countdown.remaining_ns);
    let last = next.saturating_sub(timer.countdown.interval_ns).min(now_ns);
    Countdown { remaining_ns: last, interval_ns: timer.countdown.interval_ns }
}

/// Interval and value, each in seconds and the rest in units of `unit_ns` (struct itimerval, struct itimerspec).
pub(super) fn words(countdown: &Countdown, unit_ns: u64) -> Vec<u8> {
    let pair = |ns: u64| [ns / 1_000_000_000, ns % 1_000_000_000 / unit_ns];
    let [interval_s, interval_rest] = pair(countdown.interval_ns);
    let [value_s, value_rest] = pair(countdown.remaining_ns);
    [interval_s, interval_rest, value_s, value_rest].map(u64::to_le_bytes).concat()
}

/// The same where it is armed: never zero, which would disarm.
fn armed(countdown: &Countdown, unit_ns: u64) -> Vec<u8> {
    words(&Countdown { remaining_ns: countdown.remaining_ns.max(unit_ns), ..*countdown }, unit_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_periodic_timer_that_waits_for_its_signal_goes_on() {
        let rests = Countdown { remaining_ns: 0, interval_ns: 4_000_000 };
        assert_eq!(rearmed(&rests).remaining_ns, 4_000_000);
        let off = Countdown { remaining_ns: 0, interval_ns: 0 };
        assert_eq!(rearmed(&off).remaining_ns, 0);
        let runs = Countdown { remaining_ns: 7, interval_ns: 4_000_000 };
        assert_eq!(rearmed(&runs).remaining_ns, 7);
    }
}
