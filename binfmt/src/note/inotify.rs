//! Inotify instances: what they watch. Events that nobody has read cannot be looked at without being taken.

use crate::note::file::FileIdentity;
use crate::wire::record;

record! {
    /// An inotify instance.
    pub struct Inotify {
        /// The `Description` that this note completes.
        description: u32,
        /// What it watches, by watch descriptor.
        watches: Vec<Watch>,
        /// How many bytes of events nobody had read (FIONREAD). They come back as the one event that says that events were
        /// lost (IN_Q_OVERFLOW).
        unread_bytes: u32,
    }

    /// A watch.
    pub struct Watch {
        /// Watch descriptor.
        number: u32,
        /// Events, IN_ONESHOT and IN_EXCL_UNLINK.
        mask: u32,
        /// Which file or directory.
        file: FileIdentity,
    }
}

/// Watch descriptors are given in ascending order: to come to one, all before it are made and removed. No more than these,
/// which takes some seconds.
pub const NUMBER_MAX: u32 = 1 << 17;
