//! The seccomp state of a thread.

use crate::wire::{Bytes, enumeration, record};

enumeration! {
    /// How system calls are restricted (field Seccomp of `/proc/PID/status`).
    pub enum SeccompMode: u8 {
        /// Not at all.
        Disabled = 0,
        /// To read, write, _exit and sigreturn.
        Strict = 1,
        /// By filters.
        Filter = 2,
    }
}

record! {
    /// The seccomp state of a thread (seccomp(2)).
    pub struct Seccomp {
        /// Thread id.
        tid: u32,
        /// How system calls are restricted.
        mode: SeccompMode,
        /// The filters, in the order in which they were installed.
        filters: Vec<Filter>,
    }

    /// One filter.
    pub struct Filter {
        /// SECCOMP_FILTER_FLAG_LOG, if set.
        flags: u32,
        /// Classic BPF, eight bytes an instruction: code (u16), jt (u8), jf (u8), k (u32).
        instructions: Bytes,
    }
}
