//! How a thread is scheduled.

use crate::wire::{Bytes, record};

record! {
    /// How a thread is scheduled (sched_getattr(2), ioprio_get(2), sched_getaffinity(2)).
    pub struct Schedule {
        /// Thread id.
        tid: u32,
        /// SCHED_OTHER, SCHED_FIFO, ...
        policy: u32,
        /// SCHED_FLAG_RESET_ON_FORK and the like.
        flags: u64,
        /// Nice value, -20 to 19.
        nice: i32,
        /// Static priority of the real-time policies, 1 to 99; 0 otherwise.
        priority: u32,
        /// SCHED_DEADLINE: runtime in nanoseconds. For SCHED_OTHER the slice asked for (6.12), or 0.
        runtime_ns: u64,
        /// SCHED_DEADLINE: deadline in nanoseconds.
        deadline_ns: u64,
        /// SCHED_DEADLINE: period in nanoseconds.
        period_ns: u64,
        /// Utilization clamp, lower bound.
        utilization_min: u32,
        /// Utilization clamp, upper bound.
        utilization_max: u32,
        /// I/O priority: class in the upper three bits of 16, level below; 0 for none.
        io_priority: u32,
        /// Which I/O context it has together with other threads (CLONE_IO), by which the priority of one is that of all: equal
        /// numbers for the same one, 0 for one of its own or none.
        io_context: u32,
        /// Processors it may run on, one bit each, little-endian.
        affinity: Bytes,
        /// Timer slack in nanoseconds (PR_GET_TIMERSLACK).
        timer_slack_ns: u64,
    }
}
