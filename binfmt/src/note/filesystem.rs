//! Root, working directory and umask.

use crate::note::file::FileIdentity;
use crate::wire::record;

record! {
    /// Root, working directory and umask.
    pub struct Filesystem {
        /// What `Task::filesystem` refers to.
        id: u32,
        /// Root directory, seen from the dumper's.
        root: FileIdentity,
        /// Working directory, seen from the dumper's root.
        working_directory: FileIdentity,
        /// File mode creation mask.
        umask: u32,
    }
}
