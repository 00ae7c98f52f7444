//! Descriptors from which signals are read (signalfd(2)).

use crate::wire::record;

record! {
    /// A signalfd. It holds no signals: those that wait are `PendingSignals`.
    pub struct Signalfd {
        /// The `Description` that this note completes.
        description: u32,
        /// Signals that it takes; bit 0 is signal 1.
        mask: u64,
    }
}
