//! Opening an image that may be anything: every number in it is a stranger's word until it was compared with the file.

use super::{
    DIGESTS, Digests, MARK, OWNER, Owner, PT_CKPT_MEMORY, PT_CKPT_OBJECT, ROOT_MEMORY, SEAL, Seal, Segment,
    StandardNote, VERSION,
};
use crate::digest::digest;
use crate::note::{ANCILLARY, FromNote, Note};
use crate::wire::{Reader, Wire, WireError};
use byteorder::{ByteOrder, LittleEndian};
use goblin::elf::program_header::{PT_LOAD, PT_NOTE};
use goblin::elf64::header::{ELFCLASS64, ELFDATA2LSB, ELFMAG, EM_X86_64, ET_CORE, Header};
use goblin::elf64::program_header::ProgramHeader;
use goblin::elf64::section_header::SectionHeader;
use scroll::Pread;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use thiserror::Error;

const PN_XNUM: u64 = 0xffff;
/// More metadata than this is no checkpoint: 64 Ki threads with full AVX-512 and AMX state and a million mappings fit.
const METADATA_MAX_BYTES: u64 = 4 << 30;

/// Why a file cannot be used as a checkpoint. Offsets are those of the file.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The file cannot be read.
    #[error("reading it failed at byte {offset}: {error}")]
    Io {
        /// Where.
        offset: u64,
        /// What the kernel says.
        error: io::Error,
    },
    /// It is something else.
    #[error("it is not a checkpoint: {0}")]
    Foreign(&'static str),
    /// It is for another kind of processor.
    #[error("it was made on another architecture (ELF machine {0}); this program knows x86-64 (62)")]
    Architecture(u16),
    /// It is of a version that this program does not know.
    #[error("its format is version {found} and this program knows {VERSION}")]
    Version {
        /// What it says.
        found: u8,
    },
    /// It ends early.
    #[error("it is cut short: {has} bytes of {needs}")]
    Truncated {
        /// How long it is.
        has: u64,
        /// How long it says it is.
        needs: u64,
    },
    /// It says something that cannot be.
    #[error("it is damaged at byte {offset}: {what}")]
    Damaged {
        /// Where.
        offset: u64,
        /// What is wrong there.
        what: String,
    },
    /// It holds state that this program does not know and must not skip.
    #[error("it holds a note of the unknown type {number:#x} at byte {offset}; a newer ckpt wrote it")]
    UnknownNote {
        /// The type.
        number: u32,
        /// Where it stands.
        offset: u64,
    },
}

/// An opened image: everything but the contents of its segments, which stay in the file.
#[derive(Debug)]
pub struct Image {
    /// The file, open for reading.
    pub file: File,
    /// Our notes, in the order of the file, without the framing ones.
    pub notes: Vec<Note>,
    /// The notes that debuggers read, in the order of the file.
    pub standard: Vec<StandardNote>,
    /// Every segment with its offset in the file.
    pub segments: Vec<(Segment, u64)>,
    /// Where the digests begin.
    pub tail_offset: u64,
    /// How long the file is.
    pub total_bytes: u64,
}

impl Image {
    /// Opens `file` and checks it up to the contents of its segments: mark, version, length, seal, every note.
    pub fn open(file: File) -> Result<Image, ImageError> {
        let has = file.metadata().map_err(|error| ImageError::Io { offset: 0, error })?.len();
        let header = elf_header(&file, has)?;
        let table = program_headers(&file, &header, has)?;
        let (Some(metadata), Some(tail)) = (table.first(), table.last()) else {
            return Err(damaged(32, "there are no program headers"));
        };
        if metadata.p_type != PT_NOTE || tail.p_type != PT_NOTE || table.len() < 2 {
            return Err(damaged(header.e_phoff, "the first and last program headers are not notes"));
        }
        let needs = tail.p_offset.saturating_add(tail.p_filesz);
        if has < needs {
            return Err(ImageError::Truncated { has, needs });
        }
        let metadata_end = metadata.p_offset.saturating_add(metadata.p_filesz);
        if metadata_end > needs || metadata.p_filesz > METADATA_MAX_BYTES {
            return Err(damaged(header.e_phoff, "the metadata lie outside of the file"));
        }
        let head = read(&file, 0, metadata_end)?;
        let (standard, notes) = parse_metadata(&head, metadata.p_offset)?;
        let middle = table.get(1..table.len() - 1).unwrap_or_default();
        let segments =
            middle.iter().map(|entry| segment(entry, metadata_end, tail.p_offset)).collect::<Result<_, _>>();
        let segments = segments.map_err(|what| damaged(header.e_phoff, what))?;
        Ok(Image { file, notes, standard, segments, tail_offset: tail.p_offset, total_bytes: needs })
    }

    /// All notes of one kind, in the order of the file.
    pub fn all<'a, T: FromNote + 'a>(&'a self) -> impl Iterator<Item = &'a T> {
        self.notes.iter().filter_map(T::from_note)
    }

    /// The segments of one owner with their offsets, in the order of the file.
    pub fn segments_of(&self, owner: Owner) -> impl Iterator<Item = &(Segment, u64)> {
        self.segments.iter().filter(move |(segment, _)| segment.owner == owner)
    }

    /// The XSAVE area of thread `tid`: from the standard notes, where a debugger finds it, or from our own.
    pub fn extended_state(&self, tid: u32) -> Option<&[u8]> {
        crate::core_note::extended_state(&self.standard, tid).or_else(|| {
            let mut notes = self.all::<crate::note::thread::ExtendedState>();
            notes.find(|note| note.tid == tid).map(|note| note.area.0.as_slice())
        })
    }

    /// The digest that every segment must have, in the order of [`Image::segments`].
    pub fn digests(&self) -> Result<Vec<u64>, ImageError> {
        let bytes = read(&self.file, self.tail_offset, self.total_bytes - self.tail_offset)?;
        let broken = || damaged(self.tail_offset, "the digests are not there");
        let mut notes = split_notes(&bytes, self.tail_offset)?.into_iter();
        let note = notes.next().ok_or_else(broken)?;
        if note.owner != OWNER || note.number != DIGESTS {
            return Err(broken());
        }
        let mut reader = Reader::new(note.bytes);
        let digests = Digests::get("Digests", &mut reader)
            .map_err(|error| damaged(self.tail_offset, error.to_string()))?;
        let covered = note.bytes.get(..note.bytes.len().saturating_sub(8)).unwrap_or_default();
        if reader.left() != 0
            || digest(covered) != digests.digest
            || digests.segments.len() != self.segments.len()
        {
            return Err(damaged(self.tail_offset, "the digests do not match their own"));
        }
        Ok(digests.segments)
    }

    /// Reads a whole segment and compares it with `expected`, its digest from [`Image::digests`].
    pub fn check_segment(&self, index: usize, expected: u64) -> Result<(), ImageError> {
        const PIECE_BYTES: u64 = 4 << 20;
        let Some((segment, offset)) = self.segments.get(index) else { return Ok(()) };
        let (mut at, mut found) = (0, crate::digest::EMPTY);
        while at < segment.len_bytes {
            let piece = read(&self.file, offset + at, PIECE_BYTES.min(segment.len_bytes - at))?;
            found = crate::digest::combine(found, digest(&piece), piece.len() as u64);
            at += piece.len() as u64;
        }
        if found == expected {
            return Ok(());
        }
        Err(damaged(*offset, segment_mismatch(segment)))
    }
}

/// What to say of a segment whose bytes are not those that were written.
pub(crate) fn segment_mismatch(segment: &Segment) -> String {
    let whose = match segment.owner {
        Owner::Memory(_) => format!("memory {:x}-{:x}", segment.start, segment.start + segment.len_bytes),
        Owner::Object(id) => format!("{} bytes of object {id} at {:#x}", segment.len_bytes, segment.start),
    };
    format!("the {whose} is not what was written there")
}

fn damaged(offset: u64, what: impl Into<String>) -> ImageError {
    ImageError::Damaged { offset, what: what.into() }
}

fn read(file: &File, offset: u64, len_bytes: u64) -> Result<Vec<u8>, ImageError> {
    let len = usize::try_from(len_bytes).map_err(|_| damaged(offset, "a length is beyond all memory"))?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, offset).map_err(|error| ImageError::Io { offset, error })?;
    Ok(bytes)
}

fn elf_header(file: &File, has: u64) -> Result<Header, ImageError> {
    if has < size_of::<Header>() as u64 {
        return Err(ImageError::Foreign("it is shorter than an ELF header"));
    }
    let bytes = read(file, 0, size_of::<Header>() as u64)?;
    let header: Header =
        bytes.pread_with(0, scroll::LE).map_err(|_| ImageError::Foreign("it has no ELF header"))?;
    let ident = &header.e_ident;
    if !ident.starts_with(ELFMAG) {
        return Err(ImageError::Foreign("it is not an ELF file"));
    }
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
    if usize::from(header.e_phentsize) != size_of::<ProgramHeader>() {
        return Err(damaged(54, "its program headers have another size"));
    }
    Ok(header)
}

fn program_headers(file: &File, header: &Header, has: u64) -> Result<Vec<ProgramHeader>, ImageError> {
    let mut count = u64::from(header.e_phnum);
    if count == PN_XNUM {
        let end = header.e_shoff.saturating_add(size_of::<SectionHeader>() as u64);
        if header.e_shoff == 0 || end > has {
            return Err(damaged(
                40,
                "it has too many program headers and no section header that counts them",
            ));
        }
        let bytes = read(file, header.e_shoff, size_of::<SectionHeader>() as u64)?;
        count = bytes.pread_with::<SectionHeader>(0, scroll::LE).map_or(0, |section| section.sh_info.into());
    }
    let len_bytes = count * size_of::<ProgramHeader>() as u64;
    let end = header.e_phoff.saturating_add(len_bytes);
    if end > has {
        return Err(ImageError::Truncated { has, needs: end });
    }
    let bytes = read(file, header.e_phoff, len_bytes)?;
    bytes
        .chunks_exact(size_of::<ProgramHeader>())
        .map(|entry| entry.pread_with(0, scroll::LE))
        .collect::<Result<_, _>>()
        .map_err(|_| damaged(header.e_phoff, "the program headers cannot be read"))
}

fn segment(entry: &ProgramHeader, from: u64, to: u64) -> Result<(Segment, u64), String> {
    let id =
        u32::try_from(entry.p_paddr).map_err(|_| format!("a segment's owner is {:#x}", entry.p_paddr))?;
    let owner = match entry.p_type {
        PT_LOAD => Owner::Memory(ROOT_MEMORY),
        PT_CKPT_MEMORY => Owner::Memory(id),
        PT_CKPT_OBJECT => Owner::Object(id),
        other => return Err(format!("a segment has the unknown type {other:#x}")),
    };
    let end = entry.p_offset.saturating_add(entry.p_filesz);
    let inside = entry.p_offset >= from && end <= to && entry.p_filesz > 0 && entry.p_filesz == entry.p_memsz;
    if !inside || entry.p_vaddr.checked_add(entry.p_filesz).is_none() {
        return Err(format!("the segment at {:#x} lies outside of the file's middle", entry.p_vaddr));
    }
    let segment = Segment { owner, start: entry.p_vaddr, len_bytes: entry.p_filesz, flags: entry.p_flags };
    Ok((segment, entry.p_offset))
}

struct RawNote<'a> {
    owner: &'a str,
    number: u32,
    bytes: &'a [u8],
    offset: u64,
}

/// Splits the bytes of a PT_NOTE segment that stands at `offset`.
fn split_notes(bytes: &[u8], offset: u64) -> Result<Vec<RawNote<'_>>, ImageError> {
    let mut notes = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let here = offset + at as u64;
        let broken = || damaged(here, "a note does not fit in its segment");
        let header = bytes.get(at..at + 12).ok_or_else(broken)?;
        let (words, kind) = header.split_at(8);
        let (name_len, desc_len) = words.split_at(4);
        let [name_len, desc_len] = [name_len, desc_len]
            .map(|word| usize::try_from(LittleEndian::read_u32(word)).unwrap_or(usize::MAX));
        let number = LittleEndian::read_u32(kind);
        let name_at = at + 12;
        let name_end = name_at.checked_add(name_len).ok_or_else(broken)?;
        let desc_at = name_end.checked_next_multiple_of(4).ok_or_else(broken)?;
        let desc_end = desc_at.checked_add(desc_len).ok_or_else(broken)?;
        let name = bytes.get(name_at..name_end).ok_or_else(broken)?;
        let owner =
            name.split_last().and_then(|(_, name)| std::str::from_utf8(name).ok()).ok_or_else(broken)?;
        notes.push(RawNote {
            owner,
            number,
            bytes: bytes.get(desc_at..desc_end).ok_or_else(broken)?,
            offset: here,
        });
        at = desc_end.checked_next_multiple_of(4).ok_or_else(broken)?;
    }
    Ok(notes)
}

/// The notes in `head`, which is the file up to the end of the metadata that begin at `offset`; only after the seal was
/// found to hold does anything in them count.
fn parse_metadata(head: &[u8], offset: u64) -> Result<(Vec<StandardNote>, Vec<Note>), ImageError> {
    let start = usize::try_from(offset).unwrap_or(usize::MAX);
    let metadata =
        head.get(start..).ok_or_else(|| damaged(offset, "the metadata lie outside of the file"))?;
    let mut raw = split_notes(metadata, offset)?;
    let seal = raw.pop().filter(|note| note.owner == OWNER && note.number == SEAL);
    let seal = seal.ok_or_else(|| damaged(offset, "the metadata do not end with a seal"))?;
    let expected = Seal::get("Seal", &mut Reader::new(seal.bytes))
        .map_err(|error: WireError| damaged(seal.offset, error.to_string()))?;
    let covered = usize::try_from(seal.offset).ok().and_then(|end| head.get(..end)).unwrap_or_default();
    if digest(covered) != expected.digest {
        return Err(damaged(
            seal.offset,
            format!("the first {} bytes are not what was written", seal.offset),
        ));
    }
    let mut standard = Vec::new();
    let mut notes = Vec::new();
    for note in raw {
        if note.owner != OWNER {
            let (owner, bytes) = (note.owner.to_owned(), note.bytes.to_vec());
            standard.push(StandardNote { owner, number: note.number, bytes });
            continue;
        }
        match Note::decode(note.number, note.bytes) {
            Ok(Some(decoded)) => notes.push(decoded),
            Ok(None) if note.number & ANCILLARY != 0 => {}
            Ok(None) => return Err(ImageError::UnknownNote { number: note.number, offset: note.offset }),
            Err(error) => return Err(damaged(note.offset, format!("note {:#x}: {error}", note.number))),
        }
    }
    Ok((standard, notes))
}
