//! Timers that are read (timerfd_create(2)).

use crate::note::timer::Countdown;
use crate::wire::record;

record! {
    /// A timerfd. Nothing but its description leads to it.
    pub struct Timerfd {
        /// The `Description` that this note completes.
        description: u32,
        /// Clock.
        clock: i32,
        /// How it was last set: TFD_TIMER_ABSTIME, TFD_TIMER_CANCEL_ON_SET.
        flags: u32,
        /// When it expires and how often. One that was set without TFD_TIMER_ABSTIME goes on with what remains.
        countdown: Countdown,
        /// When it expires, in nanoseconds on its clock; 0 if it is not armed. One that was set with TFD_TIMER_ABSTIME keeps
        /// this time: if it has passed meanwhile, so many expiries wait as would have.
        expires_ns: u64,
        /// Expiries that no read has taken yet.
        ticks: u64,
    }
}

/// The clock that shows the time of a timerfd's: those that wake the machine cannot be asked where there is no hardware
/// clock.
pub fn clock_to_ask(clock: i32) -> i32 {
    match clock {
        libc::CLOCK_REALTIME_ALARM => libc::CLOCK_REALTIME,
        libc::CLOCK_BOOTTIME_ALARM => libc::CLOCK_BOOTTIME,
        clock => clock,
    }
}
