//! The notes of an image: one type per kind of kernel state, each declared once in the file that bears its name.
//!
//! From the declaration come the encoder, the decoder, what `ckpt show` prints, its JSON and the entry in
//! `FORMAT.md`. To add a kind: a file here with its records, one row in the table below, and its three other homes
//! (`dumper/src/collect`, `loader/src/rebuild`, `tests/cases`). A number, once released, is never given again.
//! The numbers lie apart from those of standard notes, by whose names readelf would call them.

use crate::wire::{Reader, Schema, Wire, WireError};

/// Set in the type of a note that a reader may skip when it does not know it.
pub const ANCILLARY: u32 = 0x8000_0000;

macro_rules! table {
    ($($(#[doc = $doc:literal])* $number:literal $word:ident::$name:ident,)*) => {
        /// One note of any kind.
        #[derive(Debug, Clone, PartialEq, serde::Serialize)]
        #[serde(tag = "note", rename_all = "snake_case")]
        #[cfg_attr(test, derive(proptest_derive::Arbitrary))]
        #[allow(clippy::large_enum_variant, reason = "notes live in one list that is walked a few times")]
        pub enum Note {
            $($(#[doc = $doc])* $name($word::$name),)*
        }

        impl Note {
            /// The number that stands in the note's header.
            pub fn number(&self) -> u32 {
                match self { $(Note::$name(_) => $number,)* }
            }

            /// The kind of kernel state it speaks of: the name of its file in every crate.
            pub fn word(&self) -> &'static str {
                match self { $(Note::$name(_) => stringify!($word),)* }
            }

            /// The name of its record.
            pub fn name(&self) -> &'static str {
                match self { $(Note::$name(_) => stringify!($name),)* }
            }

            /// The bytes that follow the note's header.
            pub fn encode(&self) -> Vec<u8> {
                let mut bytes = Vec::new();
                match self { $(Note::$name(note) => note.put(&mut bytes),)* }
                bytes
            }

            /// The note of type `number` whose description is `bytes`, or `None` for a number that this version does
            /// not know.
            pub fn decode(number: u32, bytes: &[u8]) -> Result<Option<Note>, WireError> {
                let mut reader = Reader::new(bytes);
                let note = match number {
                    $($number => Note::$name(Wire::get(stringify!($name), &mut reader)?),)*
                    _ => return Ok(None),
                };
                match reader.left() {
                    0 => Ok(Some(note)),
                    left => Err(WireError::Trailing { left }),
                }
            }
        }

        /// Whether this version knows notes of type `number`.
        pub fn is_known(number: u32) -> bool {
            matches!(number, $($number)|*)
        }

        /// Every kind of note: number, word, documentation, schema; in the order of the table.
        pub fn kinds() -> Vec<(u32, &'static str, &'static str, Schema)> {
            vec![$(($number, stringify!($word), concat!($($doc,)*), $word::$name::schema()),)*]
        }

        $(impl From<$word::$name> for Note {
            fn from(note: $word::$name) -> Note {
                Note::$name(note)
            }
        })*

        $(impl FromNote for $word::$name {
            const NUMBER: u32 = $number;

            fn from_note(note: &Note) -> Option<&Self> {
                match note { Note::$name(note) => Some(note), _ => None }
            }
        })*
    };
}

/// A record that stands in the table: `notes.iter().filter_map(Pipe::from_note)` are the image's pipes. Where it speaks of
/// something that has an id, that is its first field.
pub trait FromNote {
    /// The number that stands in the note's header.
    const NUMBER: u32;

    /// The record, if `note` is of this kind.
    fn from_note(note: &Note) -> Option<&Self>;
}

pub mod aio;
pub mod cgroup;
pub mod credential;
pub mod descriptor;
pub mod epoll;
pub mod eventfd;
pub mod file;
pub mod filesystem;
pub mod host;
pub mod inet;
pub mod inotify;
pub mod io_uring;
pub mod limit;
pub mod lock;
pub mod mapping;
pub mod memfd;
pub mod mqueue;
pub mod msg;
pub mod namespace;
pub mod netlink;
pub mod packet;
pub mod pid_namespace;
pub mod pidfd;
pub mod pipe;
pub mod schedule;
pub mod seccomp;
pub mod sem;
pub mod shm;
pub mod signal;
pub mod signalfd;
pub mod socket;
pub mod task;
pub mod terminal;
pub mod thread;
pub mod timer;
pub mod timerfd;
pub mod tun;
pub mod unix;
pub mod userfaultfd;

table! {
    /// The machine and the moment of the checkpoint.
    0x434b_0001 host::Host,
    /// A process: its place in the tree and what belongs to the whole thread group.
    0x434b_0010 task::Task,
    /// A thread: registers and everything the kernel keeps for it alone.
    0x434b_0011 thread::Thread,
    /// Floating-point and vector registers of a thread, where no standard note carries them.
    0x434b_0012 thread::ExtendedState,
    /// How a thread is scheduled.
    0x434b_0013 schedule::Schedule,
    /// Who a thread is for the kernel's permission checks.
    0x434b_0014 credential::Credential,
    /// The resource limits of a process.
    0x434b_0015 limit::Limit,
    /// The seccomp state of a thread.
    0x434b_0016 seccomp::Seccomp,
    /// The control groups of a process.
    0x434b_0018 cgroup::Cgroup,
    /// A pid namespace inside of the tree.
    0x434b_0017 pid_namespace::PidNamespace,
    /// A namespace in which tasks live, of another kind than that of pids.
    0x434b_0019 namespace::Namespace,
    /// An address space: its layout and its mappings.
    0x434b_0020 mapping::Memory,
    /// A file, or memory without a name, that mappings refer to.
    0x434b_0021 mapping::MappedObject,
    /// A System V shared memory segment that a task has attached.
    0x434b_0022 shm::SharedSegment,
    /// A System V message queue that the tree uses.
    0x434b_0023 msg::SystemVQueue,
    /// A set of System V semaphores that the tree uses.
    0x434b_0024 sem::SemaphoreSet,
    /// What is undone to a set of System V semaphores when a process ends.
    0x434b_0025 sem::SemaphoreUndo,
    /// A context of asynchronous I/O.
    0x434b_0026 aio::AioRing,
    /// Root, working directory and umask.
    0x434b_0030 filesystem::Filesystem,
    /// What a process does with each signal.
    0x434b_0040 signal::SignalHandlers,
    /// The signals that wait for a thread or a process.
    0x434b_0041 signal::PendingSignals,
    /// The three interval timers of a process.
    0x434b_0050 timer::IntervalTimers,
    /// A POSIX timer.
    0x434b_0051 timer::PosixTimer,
    /// A table of descriptors.
    0x434b_0060 descriptor::DescriptorTable,
    /// An open file description, of any kind: what all kinds have in common.
    0x434b_0061 descriptor::Description,
    /// A description of a regular file, a directory, a device or a symbolic link.
    0x434b_0070 file::OpenFile,
    /// A pipe or FIFO, with what is in it.
    0x434b_0071 pipe::Pipe,
    /// A description of a memfd.
    0x434b_0072 memfd::OpenMemfd,
    /// A description of a terminal.
    0x434b_0073 terminal::OpenTerminal,
    /// An eventfd.
    0x434b_0074 eventfd::Eventfd,
    /// A timerfd.
    0x434b_0075 timerfd::Timerfd,
    /// A signalfd.
    0x434b_0076 signalfd::Signalfd,
    /// A pidfd of a process or thread of the tree.
    0x434b_0077 pidfd::Pidfd,
    /// An epoll set.
    0x434b_0078 epoll::Epoll,
    /// A pseudo-terminal of which the tree has the master.
    0x434b_0090 terminal::PseudoTerminal,
    /// A description of a POSIX message queue.
    0x434b_0091 mqueue::MessageQueue,
    /// An inotify instance.
    0x434b_0079 inotify::Inotify,
    /// A socket: what those of all domains have in common.
    0x434b_007a socket::Socket,
    /// A socket of the domain AF_UNIX.
    0x434b_007b unix::UnixSocket,
    /// An IP socket.
    0x434b_007c inet::InetSocket,
    /// A socket of the domain AF_NETLINK.
    0x434b_0092 netlink::NetlinkSocket,
    /// A socket of the domain AF_PACKET.
    0x434b_0093 packet::PacketSocket,
    /// A TCP connection that goes on.
    0x434b_007e inet::InetConnection,
    /// An io_uring instance.
    0x434b_0096 io_uring::IoUring,
    /// A userfaultfd.
    0x434b_0097 userfaultfd::Userfaultfd,
    /// A description of `/dev/net/tun`.
    0x434b_0098 tun::Tun,
    /// A lock or lease on a file.
    0x434b_0080 lock::FileLock,
    /// Where the filesystem of files is mounted, so that one that a resume lacks can be named.
    0x434b_0081 file::MountPoint,
    /// What else belongs to a file whose content the image carries, or to a directory without a name.
    0x434b_0082 file::NamelessFile,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A strategy for so many kinds takes more stack than a thread of a test has.
    pub(crate) fn with_room(test: fn()) {
        const STACK_BYTES: usize = 64 << 20;
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(test).unwrap();
        thread.join().unwrap();
    }

    proptest! {
        fn survives_the_wire(note: Note) {
            prop_assert_eq!(Note::decode(note.number(), &note.encode()), Ok(Some(note)));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(number in 0x434b_0000u32..0x434b_0100, bytes: Vec<u8>) {
            let _ = Note::decode(number, &bytes);
        }

        fn is_refused_when_cut_short(note: Note, cut in 1usize..64) {
            let bytes = note.encode();
            let left = bytes.len().saturating_sub(cut);
            prop_assert!(Note::decode(note.number(), &bytes[..left]).is_err());
        }
    }

    #[test]
    fn every_note_survives_the_wire() {
        with_room(survives_the_wire);
    }

    #[test]
    fn a_note_cut_short_is_refused() {
        with_room(is_refused_when_cut_short);
    }

    #[test]
    fn no_number_stands_twice() {
        let mut numbers: Vec<u32> = kinds().iter().map(|kind| kind.0).collect();
        numbers.sort_unstable();
        let count = numbers.len();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
    }
}
