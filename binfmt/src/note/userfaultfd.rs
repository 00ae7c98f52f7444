//! Descriptors by which a program serves its own page faults (userfaultfd(2)), of which none serves any memory at the moment.

use crate::wire::record;

record! {
    /// A userfaultfd. It belongs to the memory of the task that has it.
    pub struct Userfaultfd {
        /// The `Description` that this note completes.
        description: u32,
        /// Whether the program and the kernel have agreed on what it can do (UFFDIO_API).
        agreed: bool,
        /// On which features; 0 if they have not agreed.
        features: u64,
    }
}
