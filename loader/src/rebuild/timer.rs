//! Interval timers and POSIX timers: made with their ids by Rust, armed by the program, as late as can be.

use crate::arena::Arena;
use crate::error::{Error, Result};
use crate::rebuild::prctl;
use crate::sys;
use binfmt::image::Image;
use binfmt::note::task::Task;
use binfmt::note::timer::{Countdown, IntervalTimers, PosixTimer};
use binfmt::program::Program;
use binfmt::system_call;
use nix::errno::Errno;

const PR_TIMER_CREATE_RESTORE_IDS: i32 = 77;
const SIGEV_THREAD_ID: u32 = 4;

/// Makes the POSIX timers, unarmed. `tid_now` says which id a saved thread id has now.
pub fn create(image: &Image, task: &Task, tid_now: impl Fn(u32) -> u32) -> Result<()> {
    let mut timers: Vec<&PosixTimer> =
        image.all::<PosixTimer>().filter(|timer| timer.pid == task.pid).collect();
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
    for note in image.all::<IntervalTimers>().filter(|note| note.pid == task.pid) {
        for (which, countdown) in [&note.real, &note.user, &note.profiling].into_iter().enumerate() {
            if countdown.remaining_ns > 0 {
                let address = arena.put(&words(countdown, 1000))?;
                let purpose = format!("interval timer {which}");
                program.must(system_call!(SYS_setitimer), &[which as u64, address, 0], purpose);
            }
        }
    }
    for timer in image.all::<PosixTimer>().filter(|timer| timer.pid == task.pid) {
        if timer.countdown.remaining_ns > 0 {
            let address = arena.put(&words(&timer.countdown, 1))?;
            let purpose = format!("POSIX timer {}", timer.id);
            program.must(system_call!(SYS_timer_settime), &[timer.id.into(), 0, address, 0], purpose);
        }
    }
    Ok(())
}

/// Interval and value, each in seconds and the rest in units of `unit_ns`; never zero, which would disarm.
fn words(countdown: &Countdown, unit_ns: u64) -> Vec<u8> {
    let pair = |ns: u64| [ns / 1_000_000_000, ns % 1_000_000_000 / unit_ns];
    let [interval_s, interval_rest] = pair(countdown.interval_ns);
    let [value_s, value_rest] = pair(countdown.remaining_ns.max(unit_ns));
    [interval_s, interval_rest, value_s, value_rest].map(u64::to_le_bytes).concat()
}
