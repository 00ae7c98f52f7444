//! Opening an image that may be anything: every number in it is a stranger's word until it was compared with the file.
//!
//! The seal is checked first, in pieces, before anything is allocated whose size the file tells.

use super::elf::{Frame, Places};
use super::notes::Notes;
use super::{DIGESTS, Digests, OWNER, Owner, SEAL, Seal, Segment, StandardNote, VERSION, put_note, tail};
use crate::digest::Digester;
use crate::note::{self, ANCILLARY, FromNote};
use crate::wire::{Reader, Wire};
use byteorder::{ByteOrder, LittleEndian};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use thiserror::Error;

/// Length of the seal: header, owner, digest.
const SEAL_BYTES: u64 = 28;
/// How much is read at once where a part of the file is only digested: it stays in the processor's cache.
pub(super) const PIECE_BYTES: usize = 1 << 20;

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

impl ImageError {
    /// What the person can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            ImageError::Io { .. } => "see whether it can be read at all: ckpt verify FILE",
            ImageError::Foreign(_) => "name a file that ckpt-dump has made",
            ImageError::Architecture(_) => "resume it on a machine of that kind",
            ImageError::Version { .. } | ImageError::UnknownNote { .. } => {
                "use the ckpt that made it, or a newer one"
            }
            ImageError::Truncated { .. } => "copy it anew: the end is missing",
            ImageError::Damaged { .. } => "copy it anew; ckpt verify FILE names all that is wrong",
        }
    }
}

/// An opened image: everything but the contents of its segments, which stay in the file.
#[derive(Debug)]
pub struct Image {
    /// The file, open for reading.
    pub file: File,
    /// Our notes, in the order of the file, without the framing ones.
    pub notes: Notes,
    /// The notes that debuggers read, in the order of the file.
    pub standard: Vec<StandardNote>,
    /// Every segment with its offset in the file.
    pub segments: Vec<(Segment, u64)>,
    /// Owner and index of each segment, ascending.
    by_owner: Vec<(Owner, usize)>,
    digests: OnceLock<Vec<u64>>,
    /// Where the digests begin.
    pub tail_offset: u64,
    /// How long the file is.
    pub total_bytes: u64,
}

impl Image {
    /// Opens `file` and checks it up to the contents of its segments: mark, version, seal, length, every note.
    pub fn open(file: File) -> Result<Image, ImageError> {
        let status = file.metadata().map_err(|error| ImageError::Io { offset: 0, error })?;
        if !status.is_file() {
            return Err(ImageError::Foreign("it is not a regular file"));
        }
        Image::planned(file, status.len())
    }

    /// The same of a file that is to have `has` bytes, of which as yet only the head needs to be there.
    pub fn planned(file: File, has: u64) -> Result<Image, ImageError> {
        let frame = Frame::read(&file, has)?;
        let seal_offset = check_seal(&file, &frame)?;
        let head = read(&file, 0, frame.notes_end)?;
        let tail_bytes = |segments| tail(&vec![0; segments]).len() as u64;
        let Places { segments, tail_offset, total_bytes } = frame.segments(&head, tail_bytes)?;
        if has < total_bytes {
            return Err(ImageError::Truncated { has, needs: total_bytes });
        }
        if has > total_bytes {
            return Err(damaged(total_bytes, format!("{} bytes follow its end", has - total_bytes)));
        }
        let (standard, notes) = parse_notes(head, frame.notes_offset, seal_offset)?;
        let by_owner = by_owner(&segments);
        let digests = OnceLock::new();
        Ok(Image { file, notes, standard, segments, by_owner, digests, tail_offset, total_bytes })
    }

    /// All notes of one kind, in the order of the file.
    pub fn all<'a, T: FromNote + 'a>(&'a self) -> impl Iterator<Item = &'a T> {
        self.notes.of_kind()
    }

    /// The notes of one kind that speak of `id`, which is their first field.
    pub fn about<'a, T: FromNote + 'a>(&'a self, id: u32) -> impl Iterator<Item = &'a T> {
        self.notes.about(id)
    }

    /// The segments of one owner with their offsets, in the order of the file.
    pub fn segments_of(&self, owner: Owner) -> impl Iterator<Item = &(Segment, u64)> {
        let first = self.by_owner.partition_point(|(other, _)| *other < owner);
        let own = self.by_owner.iter().skip(first).take_while(move |(other, _)| *other == owner);
        own.filter_map(|(_, index)| self.segments.get(*index))
    }

    /// The XSAVE areas by thread id: from the standard notes, where a debugger finds them, or from our own.
    pub fn extended_states(&self) -> BTreeMap<u32, &[u8]> {
        let own = self.all::<crate::note::thread::ExtendedState>();
        let mut areas: BTreeMap<u32, &[u8]> = own.map(|note| (note.tid, note.area.0.as_slice())).collect();
        areas.extend(crate::core_note::extended_states(&self.standard));
        areas
    }

    /// The digest that every segment must have, in the order of [`Image::segments`].
    pub fn digests(&self) -> Result<&[u64], ImageError> {
        if self.digests.get().is_none() {
            let _ = self.digests.set(self.read_digests()?);
        }
        Ok(self.digests.get().map_or(&[], Vec::as_slice))
    }

    /// The segments of one owner, each with its offset in the file and the digest that it must have.
    pub fn digests_of(
        &self,
        owner: Owner,
    ) -> Result<impl Iterator<Item = (&(Segment, u64), u64)>, ImageError> {
        let digests = self.digests()?;
        let first = self.by_owner.partition_point(|(other, _)| *other < owner);
        let own = self.by_owner.iter().skip(first).take_while(move |(other, _)| *other == owner);
        Ok(own.filter_map(|(_, index)| Some((self.segments.get(*index)?, *digests.get(*index)?))))
    }

    fn read_digests(&self) -> Result<Vec<u64>, ImageError> {
        let bytes = read(&self.file, self.tail_offset, self.total_bytes - self.tail_offset)?;
        let broken = || damaged(self.tail_offset, "the digests of the segments are not what was written");
        let note = split_notes(&bytes, self.tail_offset)?.into_iter().next().ok_or_else(broken)?;
        if note.owner != OWNER || note.number != DIGESTS {
            return Err(broken());
        }
        let digests = Digests::get("Digests", &mut Reader::new(note.bytes)).map_err(|_| broken())?;
        // Written again it must be the same, to the last byte of padding: so its own digest is checked too.
        if digests.segments.len() != self.segments.len() || tail(&digests.segments) != bytes {
            return Err(broken());
        }
        Ok(digests.segments)
    }

    /// At most `len_bytes` of the memory or object of `owner` from `start` on, as far as one segment holds them.
    pub fn stored(&self, owner: Owner, start: u64, len_bytes: u64) -> Result<Vec<u8>, ImageError> {
        let inside = |segment: &Segment| segment.start <= start && start - segment.start < segment.len_bytes;
        match self.segments_of(owner).find(|(segment, _)| inside(segment)) {
            Some((segment, offset)) => {
                let skipped = start - segment.start;
                read(&self.file, offset + skipped, len_bytes.min(segment.len_bytes - skipped))
            }
            None => Ok(Vec::new()),
        }
    }
}

impl Segment {
    /// What to say of a segment whose bytes are not those that were written.
    pub fn mismatch(&self) -> String {
        let whose = match self.owner {
            Owner::Memory(_) => format!("memory {:x}-{:x}", self.start, self.start + self.len_bytes),
            Owner::Object(id) => format!("{} bytes of object {id} at {:#x}", self.len_bytes, self.start),
        };
        format!("the {whose} is not what was written there")
    }
}

pub(super) fn damaged(offset: u64, what: impl Into<String>) -> ImageError {
    ImageError::Damaged { offset, what: what.into() }
}

/// Reads `len_bytes` at `offset`. Memory that is not to be had is an error of the image, not the end of the program.
pub(super) fn read(file: &File, offset: u64, len_bytes: u64) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::new();
    let len = usize::try_from(len_bytes).ok().filter(|len| bytes.try_reserve_exact(*len).is_ok());
    let len =
        len.ok_or_else(|| damaged(offset, format!("there is no memory for {len_bytes} bytes of it")))?;
    bytes.resize(len, 0);
    file.read_exact_at(&mut bytes, offset).map_err(|error| ImageError::Io { offset, error })?;
    Ok(bytes)
}

/// The digest of `len_bytes` at `offset`, read in pieces into `buffer`.
pub(super) fn digest_of(
    file: &File,
    offset: u64,
    len_bytes: u64,
    buffer: &mut [u8],
) -> Result<u64, ImageError> {
    let (mut at, mut digester) = (0, Digester::default());
    while at < len_bytes {
        let left = usize::try_from(len_bytes - at).unwrap_or(usize::MAX);
        let len = left.min(buffer.len());
        let piece = buffer.get_mut(..len).unwrap_or_default();
        file.read_exact_at(piece, offset + at)
            .map_err(|error| ImageError::Io { offset: offset + at, error })?;
        digester.update(piece);
        at += len as u64;
    }
    Ok(digester.finish())
}

/// Checks that the metadata end with a seal and that it holds; its offset.
fn check_seal(file: &File, frame: &Frame) -> Result<u64, ImageError> {
    let seal_offset = frame.notes_end.saturating_sub(SEAL_BYTES);
    if seal_offset < frame.notes_offset {
        return Err(damaged(frame.notes_offset, "the metadata do not end with a seal"));
    }
    let found = read(file, seal_offset, SEAL_BYTES)?;
    let seal = |digest: u64| {
        let (mut note, mut description) = (Vec::new(), Vec::new());
        Seal { digest }.put(&mut description);
        put_note(&mut note, OWNER, SEAL, &description);
        note
    };
    // Its digest stands last. All before it is known, and told first: the rest takes reading the whole head.
    let digest_at = found.len().saturating_sub(size_of::<u64>());
    if seal(0).get(..digest_at) != found.get(..digest_at) {
        return Err(damaged(seal_offset, "the metadata do not end with a seal"));
    }
    if seal(digest_of(file, 0, seal_offset, &mut vec![0; PIECE_BYTES])?) != found {
        return Err(damaged(seal_offset, format!("the first {seal_offset} bytes are not what was written")));
    }
    Ok(seal_offset)
}

struct RawNote<'a> {
    owner: &'a str,
    number: u32,
    bytes: &'a [u8],
    /// Where its header stands in the file.
    offset: u64,
    /// Where its last byte is followed by others, counted from the first of all notes.
    end: usize,
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
        let owner = name.strip_suffix(&[0]).filter(|name| !name.contains(&0));
        let owner = owner.and_then(|name| std::str::from_utf8(name).ok());
        let owner = owner.ok_or_else(|| damaged(here, "a note's owner is not a name"))?;
        notes.push(RawNote {
            owner,
            number,
            bytes: bytes.get(desc_at..desc_end).ok_or_else(broken)?,
            offset: here,
            end: desc_end,
        });
        at = desc_end.checked_next_multiple_of(4).ok_or_else(broken)?;
    }
    Ok(notes)
}

/// Owner and index of each segment, ascending.
fn by_owner(segments: &[(Segment, u64)]) -> Vec<(Owner, usize)> {
    let mut by_owner: Vec<(Owner, usize)> =
        segments.iter().enumerate().map(|(index, (segment, _))| (segment.owner, index)).collect();
    by_owner.sort_unstable();
    by_owner
}

/// The notes that stand in `head`, the start of the file, from `offset` to `end`.
fn parse_notes(head: Vec<u8>, offset: u64, end: u64) -> Result<(Vec<StandardNote>, Notes), ImageError> {
    let [from, to] = [offset, end].map(|place| usize::try_from(place).unwrap_or(usize::MAX));
    let metadata =
        head.get(from..to).ok_or_else(|| damaged(offset, "the metadata lie outside of the file"))?;
    let mut standard = Vec::new();
    let (mut places, mut offsets) = (Vec::new(), Vec::new());
    for note in split_notes(metadata, offset)? {
        if note.owner != OWNER {
            let (owner, bytes) = (note.owner.to_owned(), note.bytes.to_vec());
            standard.push(StandardNote { owner, number: note.number, bytes });
            continue;
        }
        if note::is_known(note.number) {
            let end = from + note.end;
            places.push((note.number, end - note.bytes.len()..end));
            offsets.push(note.offset);
        } else if note.number & ANCILLARY == 0 {
            return Err(ImageError::UnknownNote { number: note.number, offset: note.offset });
        }
    }
    let notes = Notes::standing_in(head, places);
    notes.check().map_err(|(index, number, error)| {
        damaged(offsets.get(index).copied().unwrap_or(offset), format!("note {number:#x}: {error}"))
    })?;
    Ok((standard, notes))
}
