//! What mappings are mapped from: files, and memory without a name that several mappings or tasks can share.

use super::smaps::Area;
use crate::collect::file::{self, Naming, Place};
use crate::collect::{Collected, Source, Subject, shm};
use crate::error::Error;
use crate::memory::{Manner, TaskMemory};
use binfmt::address::PAGE_BYTES;
use binfmt::image::Owner;
use binfmt::note::Note;
use binfmt::note::file::{FileIdentity, FileType, Presence};
use binfmt::note::mapping::{MappedObject, ObjectKind};
use binfmt::wire::Text;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::statfs::{HUGETLBFS_MAGIC, fstatfs};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

/// What the kernel appends to a path that no longer leads to the file.
const DELETED: &[u8] = b" (deleted)";
/// Without the right to open shared memory it is read through its mapping, which makes pages of its holes; from here on
/// that would hurt more than a refusal.
const READ_THROUGH_MAX_BYTES: u64 = 1 << 30;

/// Set in the device of System V segments, to tell them from other memory; no device number is so long.
const SYSTEM_V_SPACE: u64 = 1 << 63;

/// The objects that the address spaces of a tree are mapped from, each once.
#[derive(Debug, Default)]
pub struct Objects {
    found: BTreeMap<u32, MappedObject>,
    /// Ids by kind, and by device and inode as mappings tell them.
    known: BTreeMap<(ObjectKind, u64, u64), u32>,
    /// Those that are read through mappings: what was found of each, and in which memory was looked last.
    through: BTreeMap<u32, (Covered, usize)>,
    /// The programs that are run, by device, inode and label.
    executables: BTreeMap<(u64, u64, Vec<u8>), FileIdentity>,
    /// The System V segments that there are.
    segments: shm::Segments,
}

impl Objects {
    /// Which program a process runs: told once for all that run it.
    pub(super) fn executable(&mut self, place: &Place, out: &mut Collected) -> FileIdentity {
        let key = (place.metadata.dev(), place.metadata.ino(), place.label.clone());
        let told = self.executables.get(&key).cloned();
        told.unwrap_or_else(|| {
            let identity = file::identify_mapped(place, Naming::Ordinary, out);
            self.executables.insert(key, identity.clone());
            identity
        })
    }

    /// The notes of all of them.
    pub fn into_notes(self) -> Vec<Note> {
        self.found.into_values().map(Note::from).collect()
    }

    /// The id of the object that `area` is mapped from.
    pub(super) fn of(
        &mut self,
        subject: &Subject<'_>,
        area: &Area,
        out: &mut Collected,
    ) -> Result<u32, Error> {
        let kind = kind(area);
        let writable = area.shared && area.has("mw");
        let told = (kind, area.device, area.inode);
        if let Some(id) = self.known.get(&told).copied() {
            self.again(id, subject, area, writable, out);
            return Ok(id);
        }
        let place = open_place(subject, area);
        let key = place
            .as_ref()
            .map_or((area.device, area.inode), |place| (place.metadata.dev(), place.metadata.ino()));
        // The inode of a System V segment is its id, on the same device as memfds with inodes of their own.
        let space = if kind == ObjectKind::SystemV { SYSTEM_V_SPACE } else { 0 };
        let id = out.object(key.0 | space, key.1);
        self.known.insert(told, id);
        if self.found.contains_key(&id) {
            self.again(id, subject, area, writable, out);
            return Ok(id);
        }
        let mut object = match &place {
            Some(place) => self.opened(subject, area, id, kind, place, out)?,
            None => self.unopened(subject, area, id, kind, out),
        };
        object.writable = writable;
        if kind == ObjectKind::SystemV {
            self.segment(area, &mut object, out)?;
        }
        self.found.insert(id, object);
        Ok(id)
    }

    /// Adds the note of a System V segment.
    fn segment(&self, area: &Area, object: &mut MappedObject, out: &mut Collected) -> Result<(), Error> {
        let Some(listed) = self.segments.of(area) else {
            let place = format!("{:x}-{:x}", area.start, area.end);
            out.unsupported(
                format!(
                    "{place} shows System V segment {}, which /proc/sysvipc/shm does not list",
                    area.inode
                ),
                "mount /proc in the IPC namespace of the program",
            );
            return Ok(());
        };
        object.file.size_bytes = listed.size_bytes;
        out.note(shm::note(object.id, area, listed));
        Ok(())
    }

    /// The object of a memfd that a descriptor leads to; its note is added if no mapping has done so.
    pub fn memfd(&mut self, subject: &Subject<'_>, place: &Place, out: &mut Collected) -> Result<u32, Error> {
        let id = out.object(place.metadata.dev(), place.metadata.ino());
        if let Entry::Vacant(entry) = self.found.entry(id) {
            let object = open_memory(subject, id, ObjectKind::Memfd, place, out)?;
            entry.insert(MappedObject { writable: true, ..object });
        }
        Ok(id)
    }

    /// Another mapping of an object that is known.
    fn again(&mut self, id: u32, subject: &Subject<'_>, area: &Area, writable: bool, out: &mut Collected) {
        if self.through.get(&id).is_some_and(|(_, last)| *last != subject.memory_index) {
            let covered_bytes = self.read_through(id, subject, area, out);
            if let Some(object) = self.found.get_mut(&id) {
                let deleted = object.file.presence == Presence::Deleted;
                let reach = if deleted { covered_bytes } else { reach_bytes(subject, area) };
                object.file.size_bytes = object.file.size_bytes.max(reach);
            }
        }
        if let Some(object) = self.found.get_mut(&id) {
            object.writable |= writable;
        }
    }

    /// An object that we can open.
    fn opened(
        &self,
        subject: &Subject<'_>,
        area: &Area,
        id: u32,
        kind: ObjectKind,
        place: &Place,
        out: &mut Collected,
    ) -> Result<MappedObject, Error> {
        if kind == ObjectKind::File {
            let mut identity = file::identify_mapped(place, Naming::Ordinary, out);
            if identity.file_type != FileType::Regular {
                out.unsupported(
                    format!(
                        "{:x}-{:x} maps {}, which is no regular file",
                        area.start, area.end, identity.path
                    ),
                    "close the device",
                );
            }
            if !out.carries(id) {
                file::carry(subject, place, &mut identity, out)?;
            } else if identity.presence != Presence::Linked {
                identity.content = id;
            }
            return Ok(MappedObject { id, kind, file: identity, ..MappedObject::default() });
        }
        if kind == ObjectKind::Device || is_private_memory(kind, area) {
            let identity = FileIdentity { path: label(area), ..FileIdentity::of(&place.metadata) };
            return Ok(self.memory(area, id, kind, identity));
        }
        open_memory(subject, id, kind, place, out)
    }

    /// An object that we have no right to open: its content is read through the mappings.
    fn unopened(
        &mut self,
        subject: &Subject<'_>,
        area: &Area,
        id: u32,
        kind: ObjectKind,
        out: &mut Collected,
    ) -> MappedObject {
        let size_bytes = reach_bytes(subject, area);
        let identity = FileIdentity {
            path: label(area),
            device: area.device,
            inode: area.inode,
            size_bytes,
            mode: 0o600,
            content: id,
            ..FileIdentity::default()
        };
        if kind == ObjectKind::Device || is_private_memory(kind, area) {
            return self.memory(area, id, kind, FileIdentity { content: 0, ..identity });
        }
        let whose = format!("{:x}-{:x} maps {}", area.start, area.end, label(area));
        if kind == ObjectKind::SystemV {
            let listed = self.segments.of(area);
            if let Some(Err(_)) = listed.map(|listed| shm::contents(id, listed, area.page_bytes, out)) {
                out.unsupported(format!("{whose}, which we may not read"), "run ckpt-dump as root");
            }
            return self.memory(area, id, kind, identity);
        }
        // A deleted file has no other reader left; of one that has a name or a descriptor we would not see the whole.
        let deleted = is_deleted(kind, area);
        let partial = kind == ObjectKind::Memfd || (kind == ObjectKind::File && !deleted);
        if partial || size_bytes > READ_THROUGH_MAX_BYTES {
            out.unsupported(format!("{whose}, which we may not open"), "run ckpt-dump as root");
            return self.memory(area, id, kind, identity);
        }
        let covered_bytes = self.read_through(id, subject, area, out);
        if deleted {
            let file = FileIdentity { presence: Presence::Deleted, size_bytes: covered_bytes, ..identity };
            return self.memory(area, id, kind, file);
        }
        self.memory(area, id, kind, identity)
    }

    /// Adds what the mappings of one address space show of an object and no other has shown. Returns how far it is known.
    fn read_through(&mut self, id: u32, subject: &Subject<'_>, area: &Area, out: &mut Collected) -> u64 {
        let deleted = is_deleted(kind(area), area);
        let mut parts: Vec<&Area> =
            mappings_of(subject, area).filter(|part| part.shared || deleted).collect();
        // What a private mapping shows may be its own page instead of the file's: the less likely that is, the earlier
        // it is asked.
        parts.sort_by_key(|part| (!part.shared, part.has("wr"), part.offset));
        let (covered, last) = self.through.entry(id).or_default();
        *last = subject.memory_index;
        for part in parts {
            let (from, to) = (part.offset, part.offset + readable_bytes(subject.memory, part));
            for (from, to) in covered.add(from, to) {
                let source =
                    Source::Memory(subject.memory_index, part.start + (from - part.offset), Manner::Fast);
                out.content(Owner::Object(id), from, to - from, 0, source);
            }
        }
        covered.end()
    }

    fn memory(&self, area: &Area, id: u32, kind: ObjectKind, file: FileIdentity) -> MappedObject {
        let huge_page_bytes = if area.has("ht") { area.page_bytes } else { 0 };
        let mode = file.mode;
        MappedObject { id, kind, file, writable: false, huge_page_bytes, seals: 0, mode }
    }
}

/// The mappings of the object that `area` is mapped from.
fn mappings_of<'a>(subject: &'a Subject<'_>, area: &Area) -> impl Iterator<Item = &'a Area> {
    let key = (area.device, area.inode);
    subject.areas.iter().filter(move |part| (part.device, part.inode) == key)
}

/// How far the object that `area` is mapped from reaches, as far as the mappings tell.
fn reach_bytes(subject: &Subject<'_>, area: &Area) -> u64 {
    let ends = mappings_of(subject, area).map(|part| part.offset.saturating_add(part.len_bytes()));
    ends.max().unwrap_or_default()
}

fn is_deleted(kind: ObjectKind, area: &Area) -> bool {
    kind == ObjectKind::File && area.path.ends_with(DELETED)
}

/// Memory that several can share, opened through `place`.
fn open_memory(
    subject: &Subject<'_>,
    id: u32,
    kind: ObjectKind,
    place: &Place,
    out: &mut Collected,
) -> Result<MappedObject, Error> {
    let failed = |error| Error::question(subject.pid(), "reading its shared memory", error);
    let opened = Arc::new(file::open_unnoticed(&place.link).map_err(failed)?);
    let seals = fcntl(&opened, FcntlArg::F_GET_SEALS).unwrap_or(0).cast_unsigned();
    let system = fstatfs(&opened).map_err(|error| failed(error.into()))?;
    let huge_page_bytes = match system.filesystem_type() == HUGETLBFS_MAGIC {
        true => u64::try_from(system.block_size()).unwrap_or_default(),
        false => 0,
    };
    if kind == ObjectKind::Memfd {
        file::nameless::collect(place, &opened, out);
    }
    if !out.carries(id) {
        match huge_page_bytes {
            0 => file::contents(id, &opened, place.metadata.len(), out),
            page_bytes => huge_contents(id, &opened, place.metadata.len(), page_bytes, out),
        }
        .map_err(failed)?;
    }
    let path = without_deleted(&place.label);
    let file = FileIdentity { path, content: id, ..FileIdentity::of(&place.metadata) };
    let mode = file.mode;
    Ok(MappedObject { id, kind, file, writable: false, huge_page_bytes, seals, mode })
}

/// Adds the huge pages of `file` that hold something. Its holes are found by reading them: hugetlbfs calls all of it data.
fn huge_contents(
    id: u32,
    file: &Arc<File>,
    size_bytes: u64,
    page_bytes: u64,
    out: &mut Collected,
) -> io::Result<()> {
    const PIECE_BYTES: u64 = 64 << 10;
    let mut piece = vec![0; usize::try_from(PIECE_BYTES).map_err(io::Error::other)?];
    let mut at = 0;
    while at < size_bytes {
        let end = size_bytes.min(at.saturating_add(page_bytes));
        let mut looked = at;
        while looked < end {
            let len = usize::try_from(PIECE_BYTES.min(end - looked)).map_err(io::Error::other)?;
            let part = piece.get_mut(..len).unwrap_or_default();
            file.read_exact_at(part, looked)?;
            if part.iter().any(|byte| *byte != 0) {
                out.content(Owner::Object(id), at, end - at, 0, Source::File(Arc::clone(file), at));
                break;
            }
            looked += PIECE_BYTES;
        }
        at = end;
    }
    Ok(())
}

/// Which bytes of an object were found somewhere: ranges that do not touch each other, ascending.
#[derive(Debug, Default)]
struct Covered(Vec<(u64, u64)>);

impl Covered {
    /// Adds a range, and says which parts of it are new.
    fn add(&mut self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let mut fresh = Vec::new();
        let mut at = from;
        for (start, end) in self.0.iter().copied().filter(|(start, end)| *start < to && from < *end) {
            if at < start {
                fresh.push((at, start));
            }
            at = at.max(end);
        }
        if at < to {
            fresh.push((at, to));
        }
        self.0.extend(&fresh);
        self.0.sort_unstable();
        fresh
    }

    fn end(&self) -> u64 {
        self.0.last().map_or(0, |(_, end)| *end)
    }
}

/// How much of a mapping lies before the end of its file: behind it there is nothing to read.
fn readable_bytes(memory: &TaskMemory, part: &Area) -> u64 {
    let (mut known, mut beyond) = (0, part.len_bytes() / PAGE_BYTES + 1);
    while beyond - known > 1 {
        let middle = known + (beyond - known) / 2;
        match memory.read(part.start + (middle - 1) * PAGE_BYTES, &mut [0]) {
            Ok(()) => known = middle,
            Err(_) => beyond = middle,
        }
    }
    known * PAGE_BYTES
}

/// Whether the object is only the label of memory that is all the mapping's own.
fn is_private_memory(kind: ObjectKind, area: &Area) -> bool {
    kind == ObjectKind::HugePages && !area.shared
}

/// The path without ` (deleted)`, which every object without a name bears.
fn label(area: &Area) -> Text {
    without_deleted(&area.path)
}

fn without_deleted(path: &[u8]) -> Text {
    path.strip_suffix(DELETED).unwrap_or(path).into()
}

fn kind(area: &Area) -> ObjectKind {
    let path = area.path.as_slice();
    let system_v = || path.strip_prefix(b"/SYSV").and_then(|rest| rest.get(..8));
    match path.strip_suffix(b" (deleted)") {
        Some(name) if name.starts_with(b"/memfd:") => ObjectKind::Memfd,
        Some(b"/dev/zero") => ObjectKind::SharedAnonymous,
        Some(b"/anon_hugepage") => ObjectKind::HugePages,
        Some(_) if system_v().is_some_and(|key| key.iter().all(u8::is_ascii_hexdigit)) => ObjectKind::SystemV,
        None if path.starts_with(b"[anon_shmem:") => ObjectKind::SharedAnonymous,
        None if path == b"/dev/zero" && !area.shared => ObjectKind::Device,
        _ => ObjectKind::File,
    }
}

/// A way to what `area` is mapped from: its entry in `map_files` (which needs a capability), its path if that still
/// leads there, the executable's link, or a descriptor of the same file.
fn open_place(subject: &Subject<'_>, area: &Area) -> Option<Place> {
    let entry = subject.proc.path(&format!("map_files/{:x}-{:x}", area.start, area.end));
    if let Ok(place) = Place::magic_link(entry) {
        return Some(place);
    }
    let same = |place: &Place| place.metadata.ino() == area.inode && place.metadata.dev() == area.device;
    let by_path = || {
        use std::os::unix::ffi::OsStrExt;
        let path = std::path::PathBuf::from(std::ffi::OsStr::from_bytes(&area.path));
        let metadata = std::fs::symlink_metadata(&path).ok()?;
        Some(Place { link: path, label: area.path.clone(), metadata }).filter(same)
    };
    let by_link = |name: &str| Place::magic_link(subject.proc.path(name)).ok().filter(same);
    let by_descriptor = || {
        let numbers = subject.proc.numbers("fd").ok()?;
        numbers.into_iter().find_map(|number| by_link(&format!("fd/{number}")))
    };
    by_path().or_else(|| by_link("exe")).or_else(by_descriptor)
}

#[cfg(test)]
mod tests {
    use super::Covered;

    #[test]
    fn only_what_is_new_is_told() {
        let mut covered = Covered::default();
        assert_eq!(covered.add(10, 20), [(10, 20)]);
        assert_eq!(covered.add(30, 40), [(30, 40)]);
        assert_eq!(covered.add(0, 50), [(0, 10), (20, 30), (40, 50)]);
        assert_eq!(covered.add(5, 45), []);
        assert_eq!(covered.add(60, 60), []);
        assert_eq!(covered.end(), 50);
    }
}
