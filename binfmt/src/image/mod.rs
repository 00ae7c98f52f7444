//! The file: ELF64, ET_CORE, with our mark in the padding of `e_ident`.
//!
//! ```text
//! ELF header · [section header 0] · program headers · PT_NOTE (all metadata) · segments · PT_NOTE (digests)
//! ```
//!
//! The section header exists only above 65,534 program headers (PN_XNUM, elf(5)). Metadata come first and whole, so
//! an image can be written to a pipe and planned from its head. Everything before the seal, the last note of the
//! metadata, is covered by the digest in it. The digests of the segments stand last; a file without them is cut short.

mod elf;
mod layout;
mod notes;
mod read;
#[cfg(test)]
mod tests;
mod verify;

use layout::tail;
pub use layout::{Layout, LayoutError};
pub use notes::Notes;
pub use read::{Image, ImageError};

use crate::wire::record;

/// What `e_ident[9..13]` says of every image.
pub const MARK: [u8; 4] = *b"CKPT";
/// The format's major version, in `e_ident[13]`. A reader refuses a greater one.
pub const VERSION: u8 = 1;
/// Owner name of our notes, as it stands in the file.
pub const OWNER: &str = "CKPT";

/// Memory of a task that is not the root: p_vaddr is the address, p_paddr the id of the `Memory` note.
pub const PT_CKPT_MEMORY: u32 = 0x6043_4b01;
/// Bytes of an object: p_vaddr is the offset in it, p_paddr the object's id.
pub const PT_CKPT_OBJECT: u32 = 0x6043_4b02;
/// Id of the root task's `Memory` note; its segments are PT_LOAD.
pub const ROOT_MEMORY: u32 = 1;

/// Note type of the seal.
pub const SEAL: u32 = 0x7fff_0001;
/// Note type of the digests.
pub const DIGESTS: u32 = 0x7fff_0002;

record! {
    /// The last note of the metadata. Its description ends the part that it covers.
    pub struct Seal {
        /// Digest of all bytes of the file before this note's header.
        digest: u64,
    }

    /// The only note after the segments: proof that the file is whole.
    pub struct Digests {
        /// Digest of every segment, in the order of the program headers.
        segments: Vec<u64>,
        /// Digest of all bytes of this note before this field.
        digest: u64,
    }
}

/// Whose bytes a segment holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// Pages of the address space with this `Memory` id.
    Memory(u32),
    /// Bytes of an object: a memfd, shared memory, a deleted file, what is in a pipe.
    Object(u32),
}

/// A run of stored bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Whose they are.
    pub owner: Owner,
    /// Address in the memory, or offset in the object, of the first byte.
    pub start: u64,
    /// How many.
    pub len_bytes: u64,
    /// PF_R, PF_W, PF_X for debuggers.
    pub flags: u32,
}

/// A note of the kinds that debuggers know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StandardNote {
    /// `CORE` or `LINUX`.
    pub owner: String,
    /// NT_PRSTATUS, NT_X86_XSTATE, ...
    pub number: u32,
    /// Its description.
    pub bytes: Vec<u8>,
}

/// Appends an ELF note, name and description padded to four bytes.
fn put_note(out: &mut Vec<u8>, owner: &str, number: u32, bytes: &[u8]) {
    let word = |value: usize| u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes();
    out.extend_from_slice(&word(owner.len() + 1));
    out.extend_from_slice(&word(bytes.len()));
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(owner.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}
