//! Pipes and FIFOs, with what is in them.

use crate::note::file::FileIdentity;
use crate::wire::record;

record! {
    /// A pipe or FIFO, with what is in it.
    pub struct Pipe {
        /// Inode number: which pipe it is.
        inode: u64,
        /// The descriptions of its ends, in the image.
        descriptions: Vec<u32>,
        /// Capacity in bytes (F_GETPIPE_SZ).
        capacity_bytes: u32,
        /// Which object segments carry the bytes in it; 0 if it is empty.
        content: u32,
        /// How many bytes are in it.
        content_bytes: u64,
        /// Lengths of the packets in it (O_DIRECT), empty for a stream.
        packets: Vec<u32>,
        /// The FIFO's place in the filesystem; its path is empty for a pipe without a name.
        fifo: FileIdentity,
    }
}
