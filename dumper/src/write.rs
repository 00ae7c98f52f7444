//! The image, from a layout and the sources of its segments to a file or a pipe.
//!
//! A regular file is allocated whole before the first byte (the page cache then works in large pieces, and a full disk
//! is met early), then written by two threads in pieces of up to 2 MiB. A pipe gets the same bytes in order.

mod proof;
mod sink;

pub use sink::Sink;

use crate::collected::Source;
use crate::error::Error;
use crate::memory::{Manner, TaskMemory};
use binfmt::address::Pid;
use binfmt::digest::{self, digest};
use binfmt::image::{Layout, Segment};
use binfmt::workers::together;
use memmap2::MmapMut;
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicUsize, Ordering};

const PIECE_BYTES: u64 = 2 << 20;
/// More ranges than this are not read in one call (IOV_MAX).
const PARTS_MAX: usize = 512;
const WRITERS: usize = 2;

/// What is said of an image that is written well and wrong.
const UNSOUND: &str =
    "what was collected is no sound image, which is a mistake of ckpt-dump; please report it";

/// A part of a segment.
#[derive(Clone, Copy, Debug)]
struct Part {
    segment: usize,
    /// Offset in the segment.
    offset: u64,
    len_bytes: u64,
}

/// Parts that follow one another in the file: read together, written together.
#[derive(Debug)]
struct Piece {
    file_offset: u64,
    parts: Vec<Part>,
    len_bytes: u64,
}

/// What a writer needs.
#[derive(Debug)]
pub struct Job<'a> {
    /// Where everything stands.
    pub layout: &'a Layout,
    /// The segments with their sources, in the layout's order.
    pub contents: &'a [(Segment, Source)],
    /// The memories that sources name.
    pub memories: &'a [TaskMemory],
}

/// Why writing failed.
#[derive(Debug)]
enum Failure {
    /// Of the memory with this index.
    Read(usize, Errno),
    Write(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Write(error)
    }
}

impl Job<'_> {
    /// Writes the image of the tree of `root` to `sink`, and meanwhile reads what is written as a resume would.
    pub fn write(&self, root: Pid, sink: &Sink) -> Result<(), Error> {
        std::thread::scope(|scope| {
            let prove = || proof::objection(self.layout);
            let proof = std::thread::Builder::new().spawn_scoped(scope, prove);
            let written = self.put(sink);
            // Without a thread it comes afterwards.
            let objection = match proof.map(std::thread::ScopedJoinHandle::join) {
                Ok(Ok(objection)) => objection,
                Ok(Err(_)) => Some("reading it failed".to_owned()),
                Err(_) => prove(),
            };
            written.and(objection.map_or(Ok(()), |cause| Err(Error::question(root, UNSOUND, cause))))
        })
    }

    fn put(&self, sink: &Sink) -> Result<(), Error> {
        let written = match sink.file() {
            Some(file) => self.to_file(file, sink.is_fresh()),
            None => self.to_stream(&mut io::stdout().lock()),
        };
        let pid = |index: usize| self.memories.get(index).map_or(Pid(0), TaskMemory::pid);
        written.map_err(|failure| match failure {
            Failure::Read(index, Errno::ESRCH) => Error::Died { pid: pid(index) },
            Failure::Read(index, error) => Error::question(pid(index), "reading its memory", error),
            Failure::Write(error) => Error::output(sink.name(), &error),
        })
    }

    fn pieces(&self) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        for (segment, (placed, file_offset)) in self.layout.segments.iter().enumerate() {
            if self.same(segment).is_some() {
                continue;
            }
            let mut offset = 0;
            while offset < placed.len_bytes {
                let at = file_offset + offset;
                let room = pieces.last().map_or(0, |last| match last.file_offset + last.len_bytes == at {
                    true if last.parts.len() < PARTS_MAX => PIECE_BYTES.saturating_sub(last.len_bytes),
                    _ => 0,
                });
                let len_bytes = (placed.len_bytes - offset).min(if room == 0 { PIECE_BYTES } else { room });
                let part = Part { segment, offset, len_bytes };
                match pieces.last_mut() {
                    Some(last) if room > 0 => {
                        last.len_bytes += len_bytes;
                        last.parts.push(part);
                    }
                    _ => pieces.push(Piece { file_offset: at, parts: vec![part], len_bytes }),
                }
                offset += len_bytes;
            }
        }
        pieces
    }

    fn to_file(&self, file: &File, fresh: bool) -> Result<(), Failure> {
        // As far as the file reaches, room was taken before.
        let taken = if fresh { file.metadata()?.len() } else { 0 };
        let missing = self.layout.total_bytes.saturating_sub(taken);
        if missing > 0 {
            let signed = |bytes: u64| i64::try_from(bytes).map_err(io::Error::other);
            match fallocate(file, FallocateFlags::empty(), signed(taken)?, signed(missing)?) {
                Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => {}
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
        file.set_len(self.layout.total_bytes)?;
        file.write_all_at(&self.layout.head, 0)?;
        let pieces = self.pieces();
        let next = AtomicUsize::new(0);
        let work = || -> Result<Vec<(usize, Vec<u64>)>, Failure> {
            let (mut buffer, mut done) = (buffer()?, Vec::new());
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(piece) = pieces.get(index) else { return Ok(done) };
                let written = self.read(piece, &mut buffer).and_then(|(bytes, digests)| {
                    if !fresh || !is_zero(bytes) {
                        file.write_all_at(bytes, piece.file_offset)?;
                    }
                    Ok(digests)
                });
                match written {
                    Ok(digests) => done.push((index, digests)),
                    Err(failure) => {
                        // The other writer has nothing more to do.
                        next.store(pieces.len(), Ordering::Relaxed);
                        return Err(failure);
                    }
                }
            }
        };
        let (own, others) = together(WRITERS.min(pieces.len().max(1)) - 1, work);
        let lost = || Err(Failure::Write(io::Error::other("a writer has ended")));
        let others = others.into_iter().map(|other| other.unwrap_or_else(lost));
        let mut digests = vec![Vec::new(); pieces.len()];
        for result in others.chain([own]) {
            for (index, found) in result? {
                if let Some(place) = digests.get_mut(index) {
                    *place = found;
                }
            }
        }
        let tail = self.layout.tail(&self.combined(&pieces, &digests));
        file.write_all_at(&tail, self.layout.tail_offset)?;
        punch_gaps(file, &pieces, self.layout.head.len() as u64);
        Ok(())
    }

    fn to_stream(&self, stream: &mut impl Write) -> Result<(), Failure> {
        stream.write_all(&self.layout.head)?;
        let mut at = self.layout.head.len() as u64;
        let pieces = self.pieces();
        let (mut buffer, mut digests) = (buffer()?, Vec::new());
        for piece in &pieces {
            zeros(stream, piece.file_offset - at)?;
            let (bytes, found) = self.read(piece, &mut buffer)?;
            digests.push(found);
            stream.write_all(bytes)?;
            at = piece.file_offset + piece.len_bytes;
        }
        zeros(stream, self.layout.tail_offset - at)?;
        stream.write_all(&self.layout.tail(&self.combined(&pieces, &digests)))?;
        stream.flush()?;
        Ok(())
    }

    /// Reads a piece and returns its bytes and the digest of each of its parts.
    fn read<'a>(&self, piece: &Piece, buffer: &'a mut [u8]) -> Result<(&'a [u8], Vec<u64>), Failure> {
        let buffer = buffer.get_mut(..usize::try_from(piece.len_bytes).unwrap_or(0)).unwrap_or_default();
        let mut rest = &mut *buffer;
        let mut parts = piece.parts.as_slice();
        while let Some((first, others)) = parts.split_first() {
            let Some((_, source)) = self.contents.get(first.segment) else { break };
            let len = usize::try_from(first.len_bytes).unwrap_or(0);
            match source {
                Source::Memory(index, _, manner) => {
                    let ranges = parts.iter().map_while(|part| self.address(*index, *manner, part));
                    let ranges: Vec<(u64, u64)> = ranges.collect();
                    let len_bytes: u64 = ranges.iter().map(|(_, len_bytes)| len_bytes).sum();
                    let (mine, after) = rest.split_at_mut(usize::try_from(len_bytes).unwrap_or(0));
                    let memory = self.memories.get(*index).ok_or(Failure::Read(*index, Errno::ESRCH))?;
                    memory
                        .read_ranges(&ranges, mine, *manner)
                        .map_err(|error| Failure::Read(*index, error))?;
                    (rest, parts) = (after, parts.get(ranges.len()..).unwrap_or_default());
                    continue;
                }
                Source::File(file, offset) => {
                    let (mine, after) = rest.split_at_mut(len);
                    // A file that was cut short meanwhile reads as zeros.
                    mine.fill(0);
                    read_some_at(file, mine, offset + first.offset)
                        .map_err(|error| Failure::Read(0, error))?;
                    rest = after;
                }
                Source::Attached(segment, offset) => {
                    let (mine, after) = rest.split_at_mut(len);
                    segment.read(offset + first.offset, mine).map_err(|error| Failure::Read(0, error))?;
                    rest = after;
                }
                // Never written: it stands where the other one does.
                Source::Same(_) => {}
                Source::Bytes(bytes) => {
                    let (mine, after) = rest.split_at_mut(len);
                    let from = usize::try_from(first.offset).unwrap_or(usize::MAX);
                    let bytes = bytes.get(from..).unwrap_or_default();
                    mine.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
                    rest = after;
                }
            }
            parts = others;
        }
        let mut at = 0;
        let mut digests = Vec::with_capacity(piece.parts.len());
        for part in &piece.parts {
            let end = at + usize::try_from(part.len_bytes).unwrap_or(0);
            digests.push(digest(buffer.get(at..end).unwrap_or_default()));
            at = end;
        }
        Ok((buffer, digests))
    }

    /// The segment whose bytes this one has.
    fn same(&self, segment: usize) -> Option<usize> {
        self.contents.get(segment).and_then(|(_, source)| source.same())
    }

    /// Where a part is in the memory with this index, if it is there and to be read in this manner.
    fn address(&self, index: usize, manner: Manner, part: &Part) -> Option<(u64, u64)> {
        match self.contents.get(part.segment)? {
            (_, Source::Memory(memory, start, how)) if (*memory, *how) == (index, manner) => {
                Some((start + part.offset, part.len_bytes))
            }
            _ => None,
        }
    }

    /// The digest of every segment, from those of the parts.
    fn combined(&self, pieces: &[Piece], digests: &[Vec<u64>]) -> Vec<u64> {
        let mut all = vec![digest::EMPTY; self.layout.segments.len()];
        for (piece, digests) in pieces.iter().zip(digests) {
            for (part, found) in piece.parts.iter().zip(digests) {
                if let Some(place) = all.get_mut(part.segment) {
                    *place = digest::combine(*place, *found, part.len_bytes);
                }
            }
        }
        for index in 0..all.len() {
            let other = self.same(index).and_then(|other| all.get(other).copied());
            if let (Some(other), Some(place)) = (other, all.get_mut(index)) {
                *place = other;
            }
        }
        all
    }
}

/// Room for a piece, from the start of a page: a copy to another place in a page than that it comes from takes two to
/// three times as long on some processors.
fn buffer() -> io::Result<MmapMut> {
    MmapMut::map_anon(usize::try_from(PIECE_BYTES).unwrap_or(0))
}

fn read_some_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> Result<(), Errno> {
    while !buffer.is_empty() {
        match file.read_at(buffer, offset) {
            Ok(0) => return Ok(()),
            Ok(len) => {
                buffer = buffer.split_at_mut(len).1;
                offset += len as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)),
        }
    }
    Ok(())
}

/// Gives back the room of long gaps between pieces, which was taken with all the rest.
fn punch_gaps(file: &File, pieces: &[Piece], head_bytes: u64) {
    const LONG_BYTES: u64 = 64 << 10;
    let mut at = head_bytes;
    for piece in pieces {
        if piece.file_offset >= at + LONG_BYTES
            && let (Ok(from), Ok(len)) = (i64::try_from(at), i64::try_from(piece.file_offset - at))
        {
            // Where it cannot be done the file is a little larger.
            let _ = fallocate(
                file,
                FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE,
                from,
                len,
            );
        }
        at = piece.file_offset + piece.len_bytes;
    }
}

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(ZEROS.len()).all(|chunk| ZEROS.starts_with(chunk))
}

fn zeros(stream: &mut impl Write, mut len_bytes: u64) -> io::Result<()> {
    while len_bytes > 0 {
        let now = ZEROS.len().min(usize::try_from(len_bytes).unwrap_or(usize::MAX));
        stream.write_all(ZEROS.get(..now).unwrap_or_default())?;
        len_bytes -= now as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use binfmt::image::Owner;
    use std::sync::Arc;

    #[test]
    fn pieces_cover_every_byte_once_and_streams_equal_files() {
        let bytes = |len: usize, seed: usize| -> Vec<u8> {
            (0..len).map(|i| (i * 7 + seed).to_le_bytes()[0]).collect()
        };
        let lens = [4096, 8192, 5 << 20, 100, 4096, 3];
        let contents: Vec<(Segment, Source)> = lens
            .iter()
            .enumerate()
            .map(|(i, len)| {
                let owner = Owner::Object(1);
                let segment = Segment { owner, start: (i as u64) << 32, len_bytes: *len as u64, flags: 0 };
                (segment, Source::Bytes(Arc::new(bytes(*len, i))))
            })
            .collect();
        let segments: Vec<Segment> = contents.iter().map(|(segment, _)| *segment).collect();
        let layout = Layout::new(&[], &[], &segments).expect("it fits");
        let own = i32::try_from(std::process::id()).expect("a pid");
        let memory = TaskMemory::open(Pid(own)).expect("our own");
        let job = Job { layout: &layout, contents: &contents, memories: &[memory] };
        let path = std::env::temp_dir().join(format!("ckpt-write-{own}"));
        let file = File::options().read(true).write(true).create_new(true).open(&path).expect("a file");
        std::fs::remove_file(&path).expect("unlinked");
        job.to_file(&file, true).expect("written");
        let mut stream = Vec::new();
        job.to_stream(&mut stream).expect("written");
        let mut same = vec![0; stream.len()];
        file.read_exact_at(&mut same, 0).expect("read back");
        assert!(same == stream, "the same bytes in both");
        let image = binfmt::image::Image::open(file).expect("an image");
        let digests = image.digests().expect("whole");
        digests.iter().enumerate().for_each(|(i, digest)| image.check_segment(i, *digest).expect("right"));
    }
}
