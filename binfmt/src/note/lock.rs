//! Locks and leases on files.

use crate::wire::{enumeration, record};

enumeration! {
    /// What kind of lock it is.
    pub enum LockKind: u8 {
        /// flock(2): of the description.
        Flock = 0,
        /// fcntl(2) F_SETLK: of the process.
        Posix = 1,
        /// fcntl(2) F_OFD_SETLK: of the description.
        OpenFile = 2,
        /// fcntl(2) F_SETLEASE: of the description.
        Lease = 3,
    }
}

record! {
    /// A lock or lease on a file.
    pub struct FileLock {
        /// Process id, for a POSIX lock.
        pid: u32,
        /// The `Description` through which it is taken.
        description: u32,
        /// What kind of lock it is.
        kind: LockKind,
        /// Whether it is for writing rather than reading.
        exclusive: bool,
        /// First byte.
        start: u64,
        /// Length in bytes; 0 to the end of the file.
        len_bytes: u64,
    }
}
