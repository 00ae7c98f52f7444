//! The address space: every mapping at its place, with its pages, its protection and its advice.
//!
//! Four passes over the mappings, because each needs the one before whole: map everything (writable where pages are
//! going to be stored), fill it, give every mapping its final protection and advice, and move the vdso to its place.

use crate::arena::Hole;
use crate::aside::Parked;
use crate::error::{Error, Result};
use crate::fill;
use crate::rebuild::{file, fill_object};
use crate::sys;
use binfmt::image::{Image, Owner};
use binfmt::note::mapping::{Backing, MappedObject, Mapping, Memory, ObjectKind};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const MAP_HUGE_SHIFT: u32 = 26;
const MADV_GUARD_INSTALL: i32 = 102;

/// What `--plan` says of the mappings.
pub fn steps(image: &Image, memory: &Memory) -> Vec<String> {
    let mut steps: Vec<String> = memory.mappings.iter().map(|mapping| step(image, mapping)).collect();
    let stored = image.segments_of(Owner::Memory(memory.id)).map(|(segment, _)| segment.len_bytes);
    let (count, bytes) = stored.fold((0u64, 0u64), |(count, bytes), len| (count + 1, bytes + len));
    steps.push(format!("pread() x {count}  # {bytes} bytes of memory"));
    steps
}

fn step(image: &Image, mapping: &Mapping) -> String {
    let object = object(image, mapping);
    let from = match (mapping.backing, object) {
        (Backing::Object, Some(object)) => match object.kind {
            ObjectKind::File | ObjectKind::Device => object.file.path.to_string(),
            kind => format!("{kind:?} {}", object.id),
        },
        (Backing::Anonymous, _) => "anonymous".to_owned(),
        (backing, _) => format!("{backing:?}"),
    };
    let end = mapping.start.saturating_add(mapping.len_bytes);
    let letters: String = [(libc::PROT_READ, 'r'), (libc::PROT_WRITE, 'w'), (libc::PROT_EXEC, 'x')]
        .into_iter()
        .map(|(bit, letter)| if mapping.protection & bit.unsigned_abs() != 0 { letter } else { '-' })
        .chain([if mapping.shared { 's' } else { 'p' }])
        .collect();
    format!("mmap({:#x}-{end:#x}, {letters})  # {from}", mapping.start)
}

/// What mappings and descriptors share: memfds, and files that have lost their name.
#[derive(Debug, Default)]
pub struct Objects {
    /// Memfds by the id of their note.
    memfds: BTreeMap<u32, OwnedFd>,
    /// Files without a name by device and inode; see `file::make_deleted`.
    deleted: BTreeMap<(u64, u64), OwnedFd>,
}

impl Objects {
    /// Makes them, with their contents.
    pub fn make(image: &Image, memory: &Memory) -> Result<Objects> {
        let mut objects = Objects::default();
        for object in image.all::<MappedObject>().filter(|object| object.kind == ObjectKind::Memfd) {
            objects.memfds.insert(object.id, make_memfd(image, memory, object)?);
        }
        for identity in file::without_name(image) {
            if let Entry::Vacant(place) = objects.deleted.entry((identity.device, identity.inode)) {
                place.insert(file::make_deleted(image, identity)?);
            }
        }
        Ok(objects)
    }

    /// A memfd by the id of its note.
    pub fn memfd(&self, id: u32) -> Option<&OwnedFd> {
        self.memfds.get(&id)
    }

    /// A file without a name.
    pub fn deleted(&self, device: u64, inode: u64) -> Option<&OwnedFd> {
        self.deleted.get(&(device, inode))
    }

    /// Seals memfds, when nothing of ours writes them any more.
    pub fn seal(&self, image: &Image) -> Result<()> {
        for object in image.all::<MappedObject>() {
            let Some(fd) = self.memfds.get(&object.id) else { continue };
            let seals = nix::fcntl::SealFlag::from_bits_retain(object.seals.cast_signed());
            if !seals.is_empty() {
                nix::fcntl::fcntl(fd.as_fd(), nix::fcntl::FcntlArg::F_ADD_SEALS(seals))
                    .map_err(|error| Error::step(format!("seal the memfd {}", object.file.path), error))?;
            }
        }
        Ok(())
    }
}

fn make_memfd(image: &Image, memory: &Memory, object: &MappedObject) -> Result<OwnedFd> {
    let name = object.file.path.to_string();
    let failed = |error| Error::step(format!("make the memfd {name}"), error);
    let label = object.file.path.0.strip_prefix(b"/memfd:").unwrap_or(&object.file.path.0);
    let label = CString::new(label).map_err(|_| failed(nix::errno::Errno::EINVAL))?;
    let mut flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    if object.huge_page_bytes > 0 {
        flags |= MFdFlags::MFD_HUGETLB | MFdFlags::from_bits_retain(huge_page_flag(object.huge_page_bytes));
    }
    let fd = memfd_create(label.as_c_str(), flags).map_err(failed)?;
    let content = if object.file.content == 0 { object.id } else { object.file.content };
    if object.huge_page_bytes > 0 {
        fill_huge(image, memory, object, content, &fd)?;
    } else {
        fill_object(image, content, &fd, object.file.size_bytes, &name)?;
    }
    let mode = nix::sys::stat::Mode::from_bits_truncate(object.file.mode);
    nix::sys::stat::fchmod(&fd, mode).map_err(failed)?;
    Ok(fd)
}

/// Huge pages cannot be written with write(2), only through a mapping.
fn fill_huge(
    image: &Image,
    memory: &Memory,
    object: &MappedObject,
    content: u32,
    fd: &OwnedFd,
) -> Result<()> {
    let failed = |error| Error::step(format!("fill {}", object.file.path), error);
    let size = object.file.size_bytes;
    let len = i64::try_from(size).map_err(|_| failed(nix::errno::Errno::EFBIG))?;
    nix::unistd::ftruncate(fd.as_fd(), len).map_err(failed)?;
    if size == 0 {
        return Ok(());
    }
    let view = crate::plan::scratch_range(memory, size).ok_or(Error::Internal("no room for a huge memfd"))?;
    let protection = (libc::PROT_READ | libc::PROT_WRITE).unsigned_abs();
    let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
    sys::map_fixed(view, size, protection, flags, Some((fd.as_fd(), 0))).map_err(failed)?;
    fill::fill_owner(image, Owner::Object(content), view)?;
    sys::unmap(view, size).map_err(failed)
}

/// Makes all memory of the task.
pub fn rebuild(image: &Image, memory: &Memory, objects: &Objects, hole: Hole, parked: &Parked) -> Result<()> {
    let stored = stored_ranges(image, memory);
    for mapping in &memory.mappings {
        map(image, memory, mapping, objects, &stored)?;
    }
    fill::fill(image, memory, crate::plan::scratch_range(memory, fill::staging_bytes()))?;
    sweep(memory, hole)?;
    for mapping in &memory.mappings {
        finish(mapping, &stored)?;
    }
    move_vdso(memory, parked)?;
    seal(memory)
}

/// Seals mappings (mseal(2), 6.10), when nothing of ours changes them any more.
fn seal(memory: &Memory) -> Result<()> {
    const SYS_MSEAL: libc::c_long = 462;
    for mapping in memory.mappings.iter().filter(|mapping| has_flag(mapping, "sl")) {
        if matches!(mapping.backing, Backing::Anonymous | Backing::Object) {
            sys::call(SYS_MSEAL, [mapping.start, mapping.len_bytes, 0, 0, 0, 0])
                .map_err(|error| failed("seal", mapping, error))?;
        }
    }
    Ok(())
}

fn huge_page_flag(page_bytes: u64) -> u32 {
    page_bytes.trailing_zeros() << MAP_HUGE_SHIFT
}

fn object<'a>(image: &'a Image, mapping: &Mapping) -> Option<&'a MappedObject> {
    image.all::<MappedObject>().find(|object| object.id == mapping.object)
}

/// Start and end of every stored run of this memory, ascending.
fn stored_ranges(image: &Image, memory: &Memory) -> Vec<(u64, u64)> {
    let segments = image.segments_of(Owner::Memory(memory.id));
    let mut ranges: Vec<(u64, u64)> = segments
        .map(|(segment, _)| (segment.start, segment.start.saturating_add(segment.len_bytes)))
        .collect();
    ranges.sort_unstable();
    ranges
}

/// How many bytes of the mapping are stored.
fn stored_bytes(mapping: &Mapping, stored: &[(u64, u64)]) -> u64 {
    let end = mapping.start.saturating_add(mapping.len_bytes);
    let first = stored.partition_point(|(_, stored_end)| *stored_end <= mapping.start);
    stored
        .iter()
        .skip(first)
        .take_while(|(start, _)| *start < end)
        .map(|(start, stored_end)| end.min(*stored_end) - mapping.start.max(*start))
        .sum()
}

fn has_flag(mapping: &Mapping, flag: &str) -> bool {
    mapping.vm_flags.0.split(|byte| *byte == b' ').any(|word| word == flag.as_bytes())
}

fn failed(what: &str, mapping: &Mapping, error: nix::errno::Errno) -> Error {
    let end = mapping.start.saturating_add(mapping.len_bytes);
    Error::step(format!("{what} {:x}-{end:x}", mapping.start), error)
}

fn map(
    image: &Image,
    memory: &Memory,
    mapping: &Mapping,
    objects: &Objects,
    stored: &[(u64, u64)],
) -> Result<()> {
    let write_first = if stored_bytes(mapping, stored) > 0 { libc::PROT_WRITE.unsigned_abs() } else { 0 };
    let protection = mapping.protection | write_first;
    let mut flags = if mapping.shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
    for (name, flag) in [("gd", libc::MAP_GROWSDOWN), ("nr", libc::MAP_NORESERVE)] {
        flags |= if has_flag(mapping, name) { flag } else { 0 };
    }
    let place = |flags: i32, from: Option<(BorrowedFd<'_>, u64)>| {
        sys::map_fixed(mapping.start, mapping.len_bytes, protection, flags, from)
            .map_err(|error| failed("map", mapping, error))
    };
    match mapping.backing {
        Backing::Vvar | Backing::VvarClock | Backing::Vdso | Backing::Kernel => return Ok(()),
        Backing::Anonymous => place(flags | libc::MAP_ANONYMOUS, None)?,
        Backing::Object => {
            let object = object(image, mapping).ok_or(Error::Internal("a mapping refers to no object"))?;
            let huge = libc::MAP_HUGETLB | huge_page_flag(mapping.page_bytes).cast_signed();
            match (object.kind, objects.memfd(object.id)) {
                (_, Some(fd)) => place(flags, Some((fd.as_fd(), mapping.offset)))?,
                (ObjectKind::File | ObjectKind::Device, None) => {
                    let access =
                        if object.writable && mapping.shared { libc::O_RDWR } else { libc::O_RDONLY };
                    let fd = file::open_identity(objects, &object.file, access)?;
                    place(flags, Some((fd.as_fd(), mapping.offset)))?;
                }
                (ObjectKind::HugePages, None) if !mapping.shared => {
                    place(flags | libc::MAP_ANONYMOUS | huge, None)?
                }
                (ObjectKind::SharedAnonymous | ObjectKind::HugePages, None) => {
                    shared_anonymous(image, memory, mapping, object, protection)?;
                }
                (kind, None) => {
                    return Err(Error::step(format!("map a {kind:?}"), nix::errno::Errno::ENOSYS));
                }
            }
        }
    }
    for (name, advice) in [("hg", libc::MADV_HUGEPAGE), ("nh", libc::MADV_NOHUGEPAGE)] {
        if has_flag(mapping, name) {
            sys::advise(mapping.start, mapping.len_bytes, advice)
                .map_err(|error| failed("advise", mapping, error))?;
        }
    }
    Ok(())
}

/// Shared memory without a name. One mapping of all of it is made in place. Otherwise the first mapping makes the whole
/// object somewhere free, every mapping is a second view of a part of it (mremap of length 0), and the last one takes
/// the first view away.
fn shared_anonymous(
    image: &Image,
    memory: &Memory,
    mapping: &Mapping,
    object: &MappedObject,
    protection: u32,
) -> Result<()> {
    let of_object = |other: &&Mapping| other.backing == Backing::Object && other.object == object.id;
    let all: Vec<&Mapping> = memory.mappings.iter().filter(of_object).collect();
    let page = mapping.page_bytes.max(binfmt::address::PAGE_BYTES);
    let size =
        object.file.size_bytes.max(mapping.offset.saturating_add(mapping.len_bytes)).next_multiple_of(page);
    let alone = all.len() == 1 && mapping.offset == 0 && mapping.len_bytes == size;
    let view = match alone {
        true => mapping.start,
        false => {
            crate::plan::scratch_range(memory, size).ok_or(Error::Internal("no room for shared memory"))?
        }
    };
    if all.first().is_some_and(|first| std::ptr::eq(*first, mapping)) {
        let huge = match object.kind {
            ObjectKind::HugePages => libc::MAP_HUGETLB | huge_page_flag(mapping.page_bytes).cast_signed(),
            _ => 0,
        };
        let reserve = if has_flag(mapping, "nr") { libc::MAP_NORESERVE } else { 0 };
        let all_rights = (libc::PROT_READ | libc::PROT_WRITE).unsigned_abs();
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | reserve | huge;
        sys::map_fixed(view, size, all_rights, flags, None).map_err(|error| failed("map", mapping, error))?;
        fill::fill_owner(image, Owner::Object(object.id), view)?;
    }
    if !alone {
        sys::remap(view + mapping.offset, 0, mapping.len_bytes, mapping.start)
            .map_err(|error| failed("map a second view of", mapping, error))?;
    }
    sys::protect(mapping.start, mapping.len_bytes, protection, 0)
        .map_err(|error| failed("protect", mapping, error))?;
    if !alone && all.last().is_some_and(|last| std::ptr::eq(*last, mapping)) {
        sys::unmap(view, size).map_err(|error| failed("unmap the first view of", mapping, error))?;
    }
    Ok(())
}

/// Helper threads leave their stacks behind: nothing but the task's mappings and the hole may stay.
fn sweep(memory: &Memory, hole: Hole) -> Result<()> {
    let mut keep: Vec<(u64, u64)> = memory
        .mappings
        .iter()
        .map(|mapping| (mapping.start, mapping.start.saturating_add(mapping.len_bytes)))
        .chain([(hole.start, hole.end())])
        .collect();
    keep.sort_unstable();
    let mut at = 0;
    for (start, end) in keep.into_iter().chain([(binfmt::address::TASK_END, u64::MAX)]) {
        if start > at && at < binfmt::address::TASK_END {
            sys::unmap(at, start - at)
                .map_err(|error| Error::step("clear the gaps between mappings", error))?;
        }
        at = at.max(end);
    }
    Ok(())
}

/// Advice that a mapping carries, by its letters in `VmFlags`.
const ADVICE: [(&str, i32); 6] = [
    ("dc", libc::MADV_DONTFORK),
    ("wf", libc::MADV_WIPEONFORK),
    ("dd", libc::MADV_DONTDUMP),
    ("sr", libc::MADV_SEQUENTIAL),
    ("rr", libc::MADV_RANDOM),
    ("mg", libc::MADV_MERGEABLE),
];

/// Final protection, key, advice, name, guards and locks.
fn finish(mapping: &Mapping, stored: &[(u64, u64)]) -> Result<()> {
    if !matches!(mapping.backing, Backing::Anonymous | Backing::Object) {
        return Ok(());
    }
    let (start, len) = (mapping.start, mapping.len_bytes);
    let step = |what: &'static str| move |error| failed(what, mapping, error);
    for (name, advice) in ADVICE {
        if has_flag(mapping, name) {
            sys::advise(start, len, advice).map_err(step("advise"))?;
        }
    }
    if !mapping.name.0.is_empty() {
        let name = CString::new(mapping.name.0.clone()).unwrap_or_default();
        sys::name_range(start, len, &name).map_err(step("name"))?;
    }
    for guard in &mapping.guards {
        sys::advise(guard.start, guard.len_bytes, MADV_GUARD_INSTALL).map_err(step("guard"))?;
    }
    let stored = stored_bytes(mapping, stored);
    if has_flag(mapping, "lo") {
        // Whether it was locked on fault cannot be read; what was absent in a locked mapping was.
        let on_fault = mapping.backing == Backing::Anonymous && stored < len;
        let flags = if on_fault { libc::MLOCK_ONFAULT } else { 0 };
        sys::lock(start, len, flags).map_err(step("lock"))?;
    }
    if stored > 0 || mapping.protection_key != 0 {
        sys::protect(start, len, mapping.protection, mapping.protection_key).map_err(step("protect"))?;
    }
    Ok(())
}

/// Moves the kernel's own mappings to where the task had them, in ascending order.
fn move_vdso(memory: &Memory, parked: &Parked) -> Result<()> {
    for mapping in &memory.mappings {
        let name = match mapping.backing {
            Backing::Vvar => "[vvar]",
            Backing::VvarClock => "[vvar_vclock]",
            Backing::Vdso => "[vdso]",
            _ => continue,
        };
        let area = parked
            .areas
            .iter()
            .find(|area| area.name == name)
            .filter(|area| area.len_bytes == mapping.len_bytes);
        let area = area.ok_or(Error::Internal("this kernel's vdso has another shape"))?;
        sys::remap(area.at, area.len_bytes, area.len_bytes, mapping.start)
            .map_err(|error| failed("move the vdso to", mapping, error))?;
    }
    Ok(())
}
