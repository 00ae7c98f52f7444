//! Rings of requests and completions (io_uring(7)) in which nothing is under way.
//!
//! Both rings and the requests are memory that the kernel has in common with the program: their bytes are those of the object
//! `object`, the rings from offset 0, the requests from [`REQUESTS_AT`]. What the kernel counts for itself stands here.

use crate::wire::record;

record! {
    /// An io_uring instance.
    pub struct IoUring {
        /// The `Description` that this note completes.
        description: u32,
        /// Mappings with `Backing::IoUring` and the segments of its memory refer to this.
        object: u32,
        /// How many requests fit.
        requests: u32,
        /// How many completions fit.
        completions: u32,
        /// How many requests the kernel has taken so far.
        taken: u32,
        /// How many completions it has made so far.
        completed: u32,
        /// How many files can be registered; 0 if none is.
        file_slots: u32,
        /// Those that are.
        files: Vec<RegisteredFile>,
        /// The `Memory` that `buffers` are in.
        memory: u32,
        /// How many buffers can be registered; 0 if none is.
        buffer_slots: u32,
        /// Those that are.
        buffers: Vec<RegisteredBuffer>,
    }

    /// A registered file.
    pub struct RegisteredFile {
        /// Its slot.
        slot: u32,
        /// Which `Description`.
        description: u32,
    }

    /// A registered buffer.
    pub struct RegisteredBuffer {
        /// Its slot.
        slot: u32,
        /// First address.
        start: u64,
        /// Length in bytes.
        len_bytes: u64,
    }
}

/// Where a mapping shows the requests (IORING_OFF_SQES).
pub const REQUESTS_AT: u64 = 0x1000_0000;
/// Bytes of a request.
pub const REQUEST_BYTES: u64 = 64;
/// Bytes of a completion.
pub const COMPLETION_BYTES: u64 = 16;
/// Where the first completion stands (struct io_rings in include/linux/io_uring_types.h).
pub const COMPLETIONS_AT: u64 = 64;
/// To come to a number of requests, so many are made that do nothing. No more than these, which takes some seconds.
pub const TAKEN_MAX: u32 = 1 << 26;
/// How many requests and completions fit at most (IORING_MAX_ENTRIES, IORING_MAX_CQ_ENTRIES).
pub const REQUESTS_MAX: u32 = 32768;
/// The same of completions.
pub const COMPLETIONS_MAX: u32 = 65536;

/// Where the indices of requests begin, after the completions.
pub fn array_at(completions: u32) -> u64 {
    const CACHE_LINE_BYTES: u64 = 64;
    (COMPLETIONS_AT + u64::from(completions) * COMPLETION_BYTES).next_multiple_of(CACHE_LINE_BYTES)
}
