//! The ELF frame of an image: what is read before anything in it is believed, and how its program headers are judged.

use super::read::{ImageError, damaged, read};
use super::{MARK, Owner, PT_CKPT_MEMORY, PT_CKPT_OBJECT, ROOT_MEMORY, Segment, VERSION};
use crate::address::{PAGE_BYTES, Span};
use goblin::elf::program_header::{PF_R, PF_W, PF_X, PT_LOAD, PT_NOTE};
use goblin::elf64::header::{ELFCLASS64, ELFDATA2LSB, ELFMAG, EM_X86_64, ET_CORE, Header};
use goblin::elf64::program_header::ProgramHeader;
use goblin::elf64::section_header::SectionHeader;
use scroll::Pread;
use std::fs::File;

const HEADER_BYTES: u64 = size_of::<Header>() as u64;
const ENTRY_BYTES: u64 = size_of::<ProgramHeader>() as u64;
const SECTION_HEADER_BYTES: u64 = size_of::<SectionHeader>() as u64;
const PN_XNUM: u64 = 0xffff;
/// A head (headers and metadata) longer than this is no checkpoint: 64 Ki threads with full AVX-512 and AMX state and a
/// million mappings fit.
const HEAD_MAX_BYTES: u64 = 4 << 30;

/// Where the parts of the head are. All of it is a stranger's word until the seal was found to hold.
#[derive(Debug)]
pub(super) struct Frame {
    /// Offset of the program headers.
    pub(super) table_offset: u64,
    /// One past the last of them.
    pub(super) table_end: u64,
    /// Offset of the metadata.
    pub(super) notes_offset: u64,
    /// One past them: the end of the head.
    pub(super) notes_end: u64,
}

/// Where everything behind the head is.
pub(super) struct Places {
    /// Every segment with its offset.
    pub(super) segments: Vec<(Segment, u64)>,
    /// Where the last note begins.
    pub(super) tail_offset: u64,
    /// Where the file ends.
    pub(super) total_bytes: u64,
}

impl Frame {
    /// Reads the frame of `file`, which has `has` bytes; nothing is allocated whose size the file tells.
    pub(super) fn read(file: &File, has: u64) -> Result<Frame, ImageError> {
        let header = elf_header(file, has)?;
        let (count, counted_end) = entry_count(file, &header, has)?;
        if count < 2 {
            return Err(damaged(56, "it has fewer than two program headers"));
        }
        let table_offset = header.e_phoff;
        let len_bytes = count * ENTRY_BYTES;
        let table_end = table_offset.saturating_add(len_bytes);
        if table_offset < counted_end || table_end > HEAD_MAX_BYTES {
            return Err(damaged(32, format!("its program headers are said to be at {table_offset:#x}")));
        }
        if table_end > has {
            return Err(ImageError::Truncated { has, needs: table_end });
        }
        let metadata = entry(&read(file, table_offset, ENTRY_BYTES)?, 0, table_offset)?;
        let notes_end = metadata.p_offset.saturating_add(metadata.p_filesz);
        if metadata.p_type != PT_NOTE || metadata.p_offset < table_end || notes_end > HEAD_MAX_BYTES {
            return Err(damaged(table_offset, "the first program header is not that of the metadata"));
        }
        if notes_end > has {
            let last = table_end - ENTRY_BYTES;
            let tail = entry(&read(file, last, ENTRY_BYTES)?, 0, last)?;
            let needs = tail.p_offset.saturating_add(tail.p_filesz).max(notes_end);
            return Err(ImageError::Truncated { has, needs });
        }
        Ok(Frame { table_offset, table_end, notes_offset: metadata.p_offset, notes_end })
    }

    /// What the program headers say, from `head`, whose seal was found to hold.
    /// `tail_bytes` says how long the last note is for so many segments.
    pub(super) fn segments(
        &self,
        head: &[u8],
        tail_bytes: impl Fn(usize) -> u64,
    ) -> Result<Places, ImageError> {
        let count = usize::try_from((self.table_end - self.table_offset) / ENTRY_BYTES).unwrap_or_default();
        let offset_of = |index: usize| self.table_offset + index as u64 * ENTRY_BYTES;
        let at = |index: usize| entry(head, offset_of(index), offset_of(index));
        let last = count.saturating_sub(1);
        let tail = at(last)?;
        let end = tail.p_offset.checked_add(tail.p_filesz);
        let end = end.filter(|end| tail.p_type == PT_NOTE && i64::try_from(*end).is_ok());
        let end = end
            .ok_or_else(|| damaged(offset_of(last), "the last program header is not that of the digests"))?;
        if tail.p_offset < self.notes_end || tail.p_filesz != tail_bytes(last.saturating_sub(1)) {
            return Err(damaged(offset_of(last), "the digests are not as many as the segments"));
        }
        let mut segments = Vec::with_capacity(last.saturating_sub(1));
        for index in 1..last {
            let found = segment(&at(index)?, self.notes_end, tail.p_offset);
            segments.push(found.map_err(|what| damaged(offset_of(index), what))?);
        }
        if let Some(index) = first_overlap(&segments) {
            return Err(damaged(offset_of(index + 1), "a segment holds bytes that another one holds too"));
        }
        Ok(Places { segments, tail_offset: tail.p_offset, total_bytes: end })
    }
}

fn elf_header(file: &File, has: u64) -> Result<Header, ImageError> {
    match has {
        0 => return Err(ImageError::Foreign("it is empty")),
        1..HEADER_BYTES => return Err(ImageError::Foreign("it is shorter than an ELF header")),
        _ => {}
    }
    let bytes = read(file, 0, HEADER_BYTES)?;
    if !bytes.starts_with(ELFMAG) {
        return Err(ImageError::Foreign("it is not an ELF file"));
    }
    let header: Header =
        bytes.pread_with(0, scroll::LE).map_err(|_| ImageError::Foreign("it has no ELF header"))?;
    let ident = &header.e_ident;
    if ident.get(9..13) != Some(&MARK) {
        return Err(ImageError::Foreign(match header.e_type {
            ET_CORE => "it is an ordinary core file",
            _ => "it is another kind of ELF file",
        }));
    }
    if ident.get(4..6) != Some(&[ELFCLASS64, ELFDATA2LSB]) || header.e_machine != EM_X86_64 {
        return Err(ImageError::Architecture(header.e_machine));
    }
    match ident.get(13).copied() {
        Some(VERSION) => {}
        found => return Err(ImageError::Version { found: found.unwrap_or_default() }),
    }
    if header.e_type != ET_CORE {
        return Err(damaged(16, "its ELF type is not ET_CORE"));
    }
    if u64::from(header.e_phentsize) != ENTRY_BYTES {
        return Err(damaged(54, "its program headers have another size"));
    }
    Ok(header)
}

/// How many program headers there are, and the end of the header that says so.
fn entry_count(file: &File, header: &Header, has: u64) -> Result<(u64, u64), ImageError> {
    let count = u64::from(header.e_phnum);
    if count != PN_XNUM {
        return Ok((count, HEADER_BYTES));
    }
    if header.e_shoff != HEADER_BYTES {
        return Err(damaged(
            40,
            "the section header that counts its program headers is not behind the first",
        ));
    }
    let end = HEADER_BYTES + SECTION_HEADER_BYTES;
    if end > has {
        return Err(ImageError::Truncated { has, needs: end });
    }
    let bytes = read(file, HEADER_BYTES, SECTION_HEADER_BYTES)?;
    let section = bytes.pread_with::<SectionHeader>(0, scroll::LE);
    let count = section.map_or(0, |section| section.sh_info.into());
    if count < PN_XNUM {
        return Err(damaged(HEADER_BYTES + 44, "its section header counts too few program headers"));
    }
    Ok((count, end))
}

/// The program header at `at` in `bytes`; `offset` is where it stands in the file.
fn entry(bytes: &[u8], at: u64, offset: u64) -> Result<ProgramHeader, ImageError> {
    usize::try_from(at)
        .ok()
        .and_then(|at| bytes.pread_with(at, scroll::LE).ok())
        .ok_or_else(|| damaged(offset, "a program header cannot be read"))
}

/// The segment of one program header, which must lie between the offsets `from` and `to`.
fn segment(entry: &ProgramHeader, from: u64, to: u64) -> Result<(Segment, u64), String> {
    let id = u32::try_from(entry.p_paddr).ok();
    let owner = match (entry.p_type, id) {
        (PT_LOAD, Some(0)) => Owner::Memory(ROOT_MEMORY),
        (PT_CKPT_MEMORY, Some(id)) if id > ROOT_MEMORY => Owner::Memory(id),
        (PT_CKPT_OBJECT, Some(id)) if id > 0 => Owner::Object(id),
        (PT_LOAD | PT_CKPT_MEMORY | PT_CKPT_OBJECT, _) => {
            return Err(format!("a segment cannot have the owner {:#x}", entry.p_paddr));
        }
        (other, _) => return Err(format!("a segment has the unknown type {other:#x}")),
    };
    let (start, len_bytes) = (entry.p_vaddr, entry.p_filesz);
    let end = entry.p_offset.checked_add(len_bytes);
    if entry.p_offset < from || end.is_none_or(|end| end > to) || !entry.p_offset.is_multiple_of(PAGE_BYTES) {
        return Err(format!("the segment at {start:#x} does not lie on pages between metadata and digests"));
    }
    if len_bytes == 0 || len_bytes != entry.p_memsz {
        return Err(format!("the segment at {start:#x} has two lengths or none"));
    }
    if entry.p_flags & !(PF_R | PF_W | PF_X) != 0 || entry.p_align != PAGE_BYTES {
        return Err(format!("the segment at {start:#x} has unknown flags or another alignment"));
    }
    let possible = match owner {
        Owner::Memory(_) => Span::new(start, len_bytes).is_some(),
        Owner::Object(_) => start.checked_add(len_bytes).is_some_and(|end| i64::try_from(end).is_ok()),
    };
    if !possible {
        return Err(format!("no task can have {len_bytes:#x} bytes at {start:#x}"));
    }
    Ok((Segment { owner, start, len_bytes, flags: entry.p_flags }, entry.p_offset))
}

/// The index of a segment that holds bytes of its owner which another one holds too.
fn first_overlap(segments: &[(Segment, u64)]) -> Option<usize> {
    let mut order: Vec<(Owner, u64, u64, usize)> = Vec::with_capacity(segments.len());
    for (index, (segment, _)) in segments.iter().enumerate() {
        order.push((segment.owner, segment.start, segment.start + segment.len_bytes, index));
    }
    order.sort_unstable();
    let mut pairs = order.iter().zip(order.iter().skip(1));
    let found = pairs.find(|(first, second)| first.0 == second.0 && first.2 > second.1);
    found.map(|(_, second)| second.3)
}
