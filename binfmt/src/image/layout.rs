//! Where everything stands in the file, known before the first byte is written.

use super::{
    DIGESTS, Digests, MARK, OWNER, Owner, PT_CKPT_MEMORY, PT_CKPT_OBJECT, ROOT_MEMORY, SEAL, Seal, Segment,
    StandardNote, VERSION, put_note,
};
use crate::address::{HUGE_PAGE_BYTES, PAGE_BYTES};
use crate::digest::digest;
use crate::note::Note;
use crate::wire::Wire;
use goblin::elf::program_header::{PT_LOAD, PT_NOTE};
use goblin::elf64::header::{ELFCLASS64, ELFDATA2LSB, ELFMAG, EM_X86_64, ET_CORE, EV_CURRENT, Header};
use goblin::elf64::program_header::ProgramHeader;
use goblin::elf64::section_header::SectionHeader;
use scroll::Pwrite;
use thiserror::Error;

const HEADER_BYTES: u64 = size_of::<Header>() as u64;
const PROGRAM_HEADER_BYTES: u64 = size_of::<ProgramHeader>() as u64;
const SECTION_HEADER_BYTES: u64 = size_of::<SectionHeader>() as u64;
/// Program header counts from here on stand in section header 0 (PN_XNUM).
const PN_XNUM: u64 = 0xffff;

/// Why no file can hold what was asked.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LayoutError {
    /// The offsets do not fit in a file.
    #[error("the image would be larger than a file can be")]
    TooLarge,
    /// A segment is to be where another one is that is not the same range, or comes later.
    #[error("the segment at {start:#x} cannot be where another one is")]
    NotTheSame {
        /// Its first address.
        start: u64,
    },
}

/// The head of an image, ready to be written, and the place of everything after it.
#[derive(Debug)]
pub struct Layout {
    /// The file from its first byte to the end of the metadata.
    pub head: Vec<u8>,
    /// Each segment with its offset in the file, in the given order. Gaps between those that are not shared are zeros.
    pub segments: Vec<(Segment, u64)>,
    /// Where the digests begin.
    pub tail_offset: u64,
    /// How long the file is in all.
    pub total_bytes: u64,
}

impl Layout {
    /// Lays out an image of these notes and segments, each with bytes of its own.
    pub fn new(
        standard: &[StandardNote],
        notes: &[Note],
        segments: &[Segment],
    ) -> Result<Layout, LayoutError> {
        Layout::sharing(standard, notes, segments, &[])
    }

    /// The same, but a segment for which `placed_as` has the index of an earlier one, of the same range in another memory,
    /// is placed where that one is: the bytes of both stand in the file once.
    pub fn sharing(
        standard: &[StandardNote],
        notes: &[Note],
        segments: &[Segment],
        placed_as: &[Option<usize>],
    ) -> Result<Layout, LayoutError> {
        let header_count = segments.len() as u64 + 2;
        let extended = header_count >= PN_XNUM;
        let table_offset = HEADER_BYTES + if extended { SECTION_HEADER_BYTES } else { 0 };
        let notes_offset = table_offset + header_count * PROGRAM_HEADER_BYTES;

        let mut metadata = Vec::new();
        standard.iter().for_each(|note| put_note(&mut metadata, &note.owner, note.number, &note.bytes));
        notes.iter().for_each(|note| put_note(&mut metadata, OWNER, note.number(), &note.encode()));
        let sealed_bytes = metadata.len();
        put_note(&mut metadata, OWNER, SEAL, &[0; 8]);

        let mut offset = notes_offset + metadata.len() as u64;
        let mut placed: Vec<(Segment, u64)> = Vec::with_capacity(segments.len());
        for (index, segment) in segments.iter().enumerate() {
            if let Some(other) = placed_as.get(index).copied().flatten() {
                let found = placed.get(other).filter(|(first, _)| shares(first, segment));
                let (_, there) = found.ok_or(LayoutError::NotTheSame { start: segment.start })?;
                placed.push((*segment, *there));
                continue;
            }
            offset = place(offset, segment).ok_or(LayoutError::TooLarge)?;
            placed.push((*segment, offset));
            offset = offset.checked_add(segment.len_bytes).ok_or(LayoutError::TooLarge)?;
        }
        let tail_offset = offset.checked_next_multiple_of(PAGE_BYTES).ok_or(LayoutError::TooLarge)?;
        let tail_bytes = tail(&vec![0; segments.len()]).len() as u64;
        let total_bytes = tail_offset.checked_add(tail_bytes).ok_or(LayoutError::TooLarge)?;
        if i64::try_from(total_bytes).is_err() {
            return Err(LayoutError::TooLarge);
        }

        let mut head = elf_header(header_count, table_offset, extended);
        put_header(&mut head, note_header(notes_offset, metadata.len() as u64));
        placed.iter().for_each(|(segment, offset)| put_header(&mut head, segment_header(segment, *offset)));
        put_header(&mut head, note_header(tail_offset, tail_bytes));
        let seal = head.len() + sealed_bytes;
        head.extend_from_slice(&metadata);
        head.truncate(seal);
        let mut sealed = Vec::new();
        Seal { digest: digest(&head) }.put(&mut sealed);
        put_note(&mut head, OWNER, SEAL, &sealed);
        Ok(Layout { head, segments: placed, tail_offset, total_bytes })
    }

    /// The end of the file, given the digest of every segment in order.
    pub fn tail(&self, digests: &[u64]) -> Vec<u8> {
        tail(digests)
    }
}

/// Whether two segments may be the same bytes of the file: the same range of two memories.
fn shares(first: &Segment, second: &Segment) -> bool {
    let range = |segment: &Segment| (segment.start, segment.len_bytes);
    let memories = matches!((first.owner, second.owner), (Owner::Memory(_), Owner::Memory(_)));
    memories && first.owner != second.owner && range(first) == range(second)
}

/// Where a segment may begin at or after `offset`: on a page, and from 2 MiB of length on congruent to its address, so
/// that the page cache can hold and map it in huge pages.
fn place(offset: u64, segment: &Segment) -> Option<u64> {
    if segment.len_bytes < HUGE_PAGE_BYTES {
        return offset.checked_next_multiple_of(PAGE_BYTES);
    }
    let phase = segment.start % HUGE_PAGE_BYTES;
    let block = offset.saturating_sub(phase).checked_next_multiple_of(HUGE_PAGE_BYTES)?;
    let placed = block.checked_add(phase)?;
    if placed >= offset { Some(placed) } else { placed.checked_add(HUGE_PAGE_BYTES) }
}

/// The last note, given the digest of every segment in order.
pub(super) fn tail(digests: &[u64]) -> Vec<u8> {
    let mut note = Digests { segments: digests.to_vec(), digest: 0 };
    let mut bytes = Vec::new();
    note.segments.put(&mut bytes);
    note.digest = digest(&bytes);
    note.digest.put(&mut bytes);
    let mut out = Vec::new();
    put_note(&mut out, OWNER, DIGESTS, &bytes);
    out
}

fn elf_header(header_count: u64, table_offset: u64, extended: bool) -> Vec<u8> {
    let mut ident = [0; 16];
    let prefix = [ELFMAG[0], ELFMAG[1], ELFMAG[2], ELFMAG[3], ELFCLASS64, ELFDATA2LSB, EV_CURRENT];
    ident.iter_mut().zip(prefix).for_each(|(place, byte)| *place = byte);
    ident.iter_mut().skip(9).zip(MARK.into_iter().chain([VERSION])).for_each(|(place, byte)| *place = byte);
    // These sizes are constants of the format.
    let small = |bytes: u64| u16::try_from(bytes).unwrap_or(u16::MAX);
    let header = Header {
        e_ident: ident,
        e_type: ET_CORE,
        e_machine: EM_X86_64,
        e_version: EV_CURRENT.into(),
        e_phoff: table_offset,
        e_shoff: if extended { HEADER_BYTES } else { 0 },
        e_ehsize: small(HEADER_BYTES),
        e_phentsize: small(PROGRAM_HEADER_BYTES),
        e_phnum: small(header_count),
        e_shentsize: if extended { small(SECTION_HEADER_BYTES) } else { 0 },
        e_shnum: u16::from(extended),
        ..Header::default()
    };
    let mut bytes = Vec::new();
    put_header(&mut bytes, header);
    if extended {
        let section = SectionHeader {
            sh_info: u32::try_from(header_count).unwrap_or(u32::MAX),
            ..SectionHeader::default()
        };
        put_header(&mut bytes, section);
    }
    bytes
}

fn note_header(offset: u64, len_bytes: u64) -> ProgramHeader {
    ProgramHeader {
        p_type: PT_NOTE,
        p_offset: offset,
        p_filesz: len_bytes,
        p_align: 4,
        ..ProgramHeader::default()
    }
}

fn segment_header(segment: &Segment, offset: u64) -> ProgramHeader {
    let (p_type, owner) = match segment.owner {
        Owner::Memory(ROOT_MEMORY) => (PT_LOAD, 0),
        Owner::Memory(id) => (PT_CKPT_MEMORY, id),
        Owner::Object(id) => (PT_CKPT_OBJECT, id),
    };
    ProgramHeader {
        p_type,
        p_flags: segment.flags,
        p_offset: offset,
        p_vaddr: segment.start,
        p_paddr: owner.into(),
        p_filesz: segment.len_bytes,
        p_memsz: segment.len_bytes,
        p_align: PAGE_BYTES,
    }
}

/// Appends one of goblin's headers as it stands in a little-endian file.
fn put_header<T>(out: &mut Vec<u8>, header: T)
where
    T: scroll::ctx::TryIntoCtx<scroll::Endian>,
    T::Error: From<scroll::Error>,
{
    let start = out.len();
    out.resize(start + size_of::<T>(), 0);
    let written = out.pwrite_with(header, start, scroll::LE);
    debug_assert!(written.is_ok_and(|len| len == size_of::<T>()), "the space was made for it");
}
