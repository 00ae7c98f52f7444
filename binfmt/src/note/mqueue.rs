//! POSIX message queues (mq_overview(7)). One with a name belongs to nobody and stays where it is, with its messages, like a
//! file.

use crate::wire::{Text, record};

record! {
    /// A description of a POSIX message queue.
    pub struct MessageQueue {
        /// The `Description` that this note completes.
        description: u32,
        /// Its name, without the slash.
        name: Text,
        /// Inode number: two descriptions with the same are of the same queue.
        inode: u64,
        /// Whether it has no name any more (mq_unlink(3)): then it is made anew.
        unlinked: bool,
        /// How many messages it takes at most.
        max_messages: u64,
        /// How long a message may be, in bytes.
        message_bytes: u64,
        /// How many messages were in it.
        messages: u64,
        /// Permission bits.
        mode: u32,
        /// Owner.
        user: u32,
        /// Group.
        group: u32,
    }
}
