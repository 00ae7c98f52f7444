//! Descriptions of memfds. The memfd itself is a `MappedObject`, mapped or not.

use crate::wire::record;

record! {
    /// A description of a memfd.
    pub struct OpenMemfd {
        /// The `Description` that this note completes.
        description: u32,
        /// Which `MappedObject`.
        object: u32,
    }
}
