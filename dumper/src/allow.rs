//! What a person may allow to be lost.

use clap::ValueEnum;

/// A kind of state that cannot be saved and that `--allow` leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Allow {
    /// Pipes to processes outside of the tree above descriptor 2: they come back closed
    OutsidePipe,
    /// Sockets above descriptor 2: they come back closed
    Socket,
    /// What an epoll set watches and no process of the tree has open: it is watched no more
    Epoll,
    /// eventfds of which the kernel does not tell all: they come back closed
    Eventfd,
    /// What inotify instances watch and is not found, or cannot be watched anew: it is watched no more
    Inotify,
    /// fanotify groups: they come back closed
    Fanotify,
    /// io_uring instances: they come back closed
    #[value(name = "io_uring")]
    IoUring,
    /// Bytes that nobody has read in pseudo-terminals with both ends in the tree: they are lost in the image
    TerminalInput,
    /// POSIX message queues that tell of messages, or hold some and have no name: they come back closed
    Mqueue,
    /// userfaultfds: they come back closed
    Userfaultfd,
    /// pidfds, and files in `/proc`, of who is not of the tree: they come back closed
    Pidfd,
    /// Performance counters: they come back closed
    PerfEvent,
    /// BPF programs, maps and links: they come back closed
    Bpf,
    /// Devices: they come back closed
    Device,
    /// Other descriptors that are neither file nor socket nor pipe: they come back closed
    AnonInode,
    /// I/O contexts in common that cannot be made again: each thread gets one of its own
    IoContext,
    /// Asking a program whose seccomp filter forbids it: if ckpt-dump is killed in that millisecond, so is the program
    Seccomp,
}

impl Allow {
    /// The word on the command line.
    pub fn word(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The word for descriptors whose link says `anon_inode:` and this.
    pub fn of_anonymous(kind: &str) -> Allow {
        match kind.trim_matches(['[', ']']) {
            "eventfd" => Allow::Eventfd,
            "fanotify" => Allow::Fanotify,
            "io_uring" => Allow::IoUring,
            "userfaultfd" => Allow::Userfaultfd,
            "pidfd" => Allow::Pidfd,
            "perf_event" => Allow::PerfEvent,
            kind if kind.starts_with("bpf") => Allow::Bpf,
            _ => Allow::AnonInode,
        }
    }
}
