//! Interval timers and POSIX timers.

use crate::wire::record;

record! {
    /// The three interval timers of a process (getitimer(2)).
    pub struct IntervalTimers {
        /// Process id.
        pid: u32,
        /// ITIMER_REAL.
        real: Countdown,
        /// ITIMER_VIRTUAL.
        user: Countdown,
        /// ITIMER_PROF.
        profiling: Countdown,
    }

    /// A timer that counts down.
    pub struct Countdown {
        /// Time to the next expiry in nanoseconds; 0 if it is not armed.
        remaining_ns: u64,
        /// Time between later expiries in nanoseconds; 0 for none.
        interval_ns: u64,
    }

    /// A POSIX timer (timer_create(2)).
    pub struct PosixTimer {
        /// Process id.
        pid: u32,
        /// Id within the process.
        id: u32,
        /// Clock.
        clock: i32,
        /// SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD_ID.
        notify: u32,
        /// Signal it sends.
        signal: u32,
        /// Thread that gets the signal, for SIGEV_THREAD_ID.
        thread: u32,
        /// sigev_value
        value: u64,
        /// When it expires and how often.
        countdown: Countdown,
        /// Expiries that the last signal stands for beyond the first (timer_getoverrun(2)).
        overrun: u32,
    }
}
