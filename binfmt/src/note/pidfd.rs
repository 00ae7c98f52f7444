//! Descriptors of processes (pidfd_open(2)).

use crate::wire::record;

record! {
    /// A pidfd of a process or thread of the tree.
    pub struct Pidfd {
        /// The `Description` that this note completes, among whose flags PIDFD_THREAD is (O_EXCL).
        description: u32,
        /// Process id, or with PIDFD_THREAD the id of a thread.
        pid: u32,
    }
}
