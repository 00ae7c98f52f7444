//! The resource limits of a process.

use crate::wire::record;

record! {
    /// The resource limits of a process (prlimit(2)).
    pub struct Limit {
        /// Process id.
        pid: u32,
        /// One entry per resource, in the order of RLIMIT_*.
        limits: Vec<ResourceLimit>,
    }

    /// One limit.
    pub struct ResourceLimit {
        /// RLIMIT_*
        resource: u32,
        /// Soft limit; all ones for none.
        soft: u64,
        /// Hard limit; all ones for none.
        hard: u64,
    }
}
