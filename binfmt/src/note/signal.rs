//! Signals: what a process does with each, and which wait.

use crate::wire::{Bytes, record};

record! {
    /// What a process does with each signal.
    pub struct SignalHandlers {
        /// What `Task::signal_handlers` refers to.
        id: u32,
        /// Every signal whose disposition is not the default one with no flags and an empty mask.
        actions: Vec<Action>,
    }

    /// The disposition of one signal (rt_sigaction(2)).
    pub struct Action {
        /// Signal number.
        signal: u32,
        /// Address of the handler; 0 for SIG_DFL, 1 for SIG_IGN.
        handler: u64,
        /// SA_* flags.
        flags: u64,
        /// Address of the restorer.
        restorer: u64,
        /// Signals that are blocked while the handler runs.
        mask: u64,
    }

    /// The signals that wait for a thread or a process.
    pub struct PendingSignals {
        /// Process id.
        pid: u32,
        /// Thread id, or 0 for the queue of the process.
        tid: u32,
        /// In the order of their queue.
        signals: Vec<SignalInfo>,
    }

    /// What comes with a signal (siginfo_t, sigaction(2)).
    pub struct SignalInfo {
        /// Signal number.
        signal: u32,
        /// si_errno
        error: i32,
        /// si_code
        code: i32,
        /// The fields that depend on the signal: bytes 16 to 127 of siginfo_t on x86-64, trailing zeros left out.
        fields: Bytes,
    }
}
