//! Counters that tasks wake each other by (eventfd(2)).

use crate::wire::record;

record! {
    /// An eventfd. Nothing but its description leads to it.
    pub struct Eventfd {
        /// The `Description` that this note completes.
        description: u32,
        /// What is counted: 0 if a read would wait, at most 2^64 - 2.
        value: u64,
        /// Whether a read takes 1 instead of all (EFD_SEMAPHORE).
        semaphore: bool,
    }
}
