//! Tables of descriptors, and what all open file descriptions have in common.
//!
//! A description is completed by the note of its own kind (`OpenFile`, `Pipe`, ...), which names the description.

use crate::wire::{Text, enumeration, record};

enumeration! {
    /// Which kind of note completes a description.
    pub enum DescriptionKind: u16 {
        /// `OpenFile`
        File = 0,
        /// `Pipe`
        Pipe = 1,
        /// `OpenMemfd`
        Memfd = 2,
        /// `OpenTerminal`
        Terminal = 3,
        /// Nothing: it led out of the tree, and a resume gives the loader's own descriptor of the same number, or above 2 that of
        /// the lowest number that any table has for it.
        Outside = 4,
        /// Nothing: it could not be saved and comes back closed, as `--allow` asked.
        Closed = 5,
        /// `Eventfd`
        Eventfd = 6,
        /// `Timerfd`
        Timerfd = 7,
        /// `Signalfd`
        Signalfd = 8,
        /// `Pidfd`
        Pidfd = 9,
        /// `Epoll`
        Epoll = 10,
        /// `Inotify`
        Inotify = 11,
        /// `Socket`, and the note of its domain
        Socket = 12,
        /// `PseudoTerminal`, both ends
        PseudoTerminal = 20,
        /// `MessageQueue`
        MessageQueue = 21,
        /// `IoUring`
        IoUring = 22,
        /// `Userfaultfd`
        Userfaultfd = 23,
        /// `OpenFile` of a process in `/proc`, which is opened when all of the tree are there
        ProcessFile = 30,
        /// `Tun`
        Tun = 31,
    }
}

record! {
    /// A table of descriptors.
    pub struct DescriptorTable {
        /// What `Task::descriptor_table` refers to.
        id: u32,
        /// Open descriptors, ascending.
        descriptors: Vec<Descriptor>,
    }

    /// One descriptor.
    pub struct Descriptor {
        /// Its number.
        number: u32,
        /// FD_CLOEXEC
        close_on_exec: bool,
        /// Which `Description`.
        description: u32,
    }

    /// An open file description, of any kind: what all kinds have in common.
    pub struct Description {
        /// What descriptors refer to; 1 or more.
        id: u32,
        /// Which kind of note completes it.
        kind: DescriptionKind,
        /// Access mode and status flags (`flags` of `/proc/PID/fdinfo`, without O_CLOEXEC).
        flags: u32,
        /// File offset in bytes.
        position: u64,
        /// Who gets SIGIO: F_OWNER_TID, F_OWNER_PID or F_OWNER_PGRP (F_GETOWN_EX); meaningless if `owner` is 0.
        owner_type: u32,
        /// The id of that thread, process or group; 0 for none.
        owner: u32,
        /// Signal instead of SIGIO (F_GETSIG); 0 for SIGIO.
        owner_signal: u32,
        /// What `readlink /proc/PID/fd/N` said, for messages.
        label: Text,
    }
}
