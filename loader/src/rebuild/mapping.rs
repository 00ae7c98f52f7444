//! The address space: every mapping at its place, with its pages, its protection and its advice.
//!
//! Four passes over the mappings, because each needs the one before whole: map everything (writable where pages are
//! going to be stored), fill it, give every mapping its final protection and advice, and move the vdso to its place.
//! Tasks are forked between the second and the third, so that they share pages, and then change what differs.

mod inherited;

use crate::arena::Hole;
use crate::aside::Parked;
use crate::error::{Error, Result};
use crate::fill;
use crate::rebuild::{aio, file, fill_object, io_uring, shm};
use crate::sys;
use crate::world::World;
use binfmt::image::{Image, Owner};
use binfmt::note::mapping::{Backing, MappedObject, Mapping, Memory, ObjectKind};
use inherited::Inherited;
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

const MAP_HUGE_SHIFT: u32 = 26;
const MADV_GUARD_INSTALL: i32 = 102;

/// What `--plan` says of the mappings: of those that are not `inherited`.
pub fn steps(image: &Image, memory: &Memory, inherited: Option<&Memory>) -> Vec<String> {
    let lines =
        |memory: &Memory| memory.mappings.iter().map(|mapping| step(image, mapping)).collect::<Vec<String>>();
    let mut steps = lines(memory);
    if let Some(inherited) = inherited {
        let theirs: BTreeSet<String> = lines(inherited).into_iter().collect();
        let all = steps.len();
        steps.retain(|step| !theirs.contains(step));
        steps.insert(0, format!("# it has inherited {} mappings", all - steps.len()));
    }
    let stored = image.segments_of(Owner::Memory(memory.id)).map(|(segment, _)| segment.len_bytes);
    let (count, bytes) = stored.fold((0u64, 0u64), |(count, bytes), len| (count + 1, bytes + len));
    steps.extend(aio::steps(image, memory));
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
        (Backing::Vvar, _) => "[vvar]".to_owned(),
        (Backing::VvarClock, _) => "[vvar_vclock]".to_owned(),
        (Backing::Vdso, _) => "[vdso]".to_owned(),
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

/// Makes a memfd with its content.
pub fn make_memfd(image: &Image, object: &MappedObject) -> Result<OwnedFd> {
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
        fill_huge(image, object, content, &fd)?;
    } else {
        fill_object(image, content, &fd, object.file.size_bytes, &name)?;
    }
    let mode = nix::sys::stat::Mode::from_bits_truncate(object.file.mode);
    nix::sys::stat::fchmod(&fd, mode).map_err(failed)?;
    Ok(fd)
}

/// Huge pages cannot be written with write(2), only through a mapping.
fn fill_huge(image: &Image, object: &MappedObject, content: u32, fd: &OwnedFd) -> Result<()> {
    let failed = |error| Error::step(format!("fill {}", object.file.path), error);
    let size = object.file.size_bytes;
    let len = i64::try_from(size).map_err(|_| failed(nix::errno::Errno::EFBIG))?;
    nix::unistd::ftruncate(fd.as_fd(), len).map_err(failed)?;
    if size == 0 {
        return Ok(());
    }
    let view = sys::map_somewhere(size, fd.as_fd()).map_err(failed)?;
    fill::fill_owner(image, Owner::Object(content), view)?;
    sys::unmap(view, size).map_err(failed)
}

/// Makes the memory of a task, but for what [`finish`] does. `standing` is the memory that was inherited by fork, raw as
/// this function left it: what both have in common stays, and its pages stay shared.
pub fn populate(world: &World<'_>, memory: &Memory, standing: Option<&Memory>) -> Result<()> {
    let stored = stored_ranges(world.image, memory);
    let inherited = match standing {
        Some(old) => Inherited::between(world.image, old, memory),
        None => {
            make_views(world, memory)?;
            Inherited::default()
        }
    };
    if let Some(old) = standing {
        inherited.drop_rest(old)?;
    }
    for mapping in memory.mappings.iter().filter(|mapping| is_made(mapping)) {
        let writable = if stored_bytes(mapping, &stored) > 0 { libc::PROT_WRITE.unsigned_abs() } else { 0 };
        let protection = mapping.protection | writable;
        for (start, end) in inherited.missing(mapping) {
            map(world, &part(mapping, start, end), protection)?;
        }
        for (start, end) in inherited.kept(mapping) {
            sys::protect(start, end - start, protection, 0)
                .map_err(|error| failed("make writable", mapping, error))?;
        }
    }
    inherited.drop_pages()?;
    fill::fill(world.image, memory, world.places.staging, |segment| !inherited.has(segment))
}

/// Gives every mapping its final protection and advice, drops all else but the hole, and moves the vdso to its place.
pub fn finish(world: &World<'_>, memory: &Memory, inherited: bool) -> Result<()> {
    let stored = stored_ranges(world.image, memory);
    sweep(memory, world.hole)?;
    for mapping in memory.mappings.iter().filter(|mapping| is_made(mapping)) {
        finish_one(mapping, &stored, inherited)?;
    }
    move_vdso(memory, world.parked)?;
    aio::rebuild(world.image, memory)?;
    io_uring::map_all(world, memory)?;
    seal(memory)
}

/// Whether a mapping is made here, and not by the kernel.
fn is_made(mapping: &Mapping) -> bool {
    matches!(mapping.backing, Backing::Anonymous | Backing::Object)
}

/// A part of a mapping.
fn part(mapping: &Mapping, start: u64, end: u64) -> Mapping {
    let offset = match mapping.backing {
        Backing::Object => mapping.offset + (start - mapping.start),
        _ => mapping.offset,
    };
    Mapping { start, len_bytes: end - start, offset, ..mapping.clone() }
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
    image.about::<MappedObject>(mapping.object).next()
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

pub(super) fn has_flag(mapping: &Mapping, flag: &str) -> bool {
    mapping.vm_flags.0.split(|byte| *byte == b' ').any(|word| word == flag.as_bytes())
}

pub(super) fn failed(what: &str, mapping: &Mapping, error: nix::errno::Errno) -> Error {
    let end = mapping.start.saturating_add(mapping.len_bytes);
    Error::step(format!("{what} {:x}-{end:x}", mapping.start), error)
}

fn map(world: &World<'_>, mapping: &Mapping, protection: u32) -> Result<()> {
    let mut flags = if mapping.shared { libc::MAP_SHARED } else { libc::MAP_PRIVATE };
    for (name, flag) in [("gd", libc::MAP_GROWSDOWN), ("nr", libc::MAP_NORESERVE)] {
        flags |= if has_flag(mapping, name) { flag } else { 0 };
    }
    let place = |flags: i32, from: Option<(BorrowedFd<'_>, u64)>| {
        sys::map_fixed(mapping.start, mapping.len_bytes, protection, flags, from)
            .map_err(|error| failed("map", mapping, error))
    };
    if mapping.backing == Backing::Anonymous {
        place(flags | libc::MAP_ANONYMOUS, None)?;
    } else {
        let object = object(world.image, mapping).ok_or(Error::Internal("a mapping refers to no object"))?;
        let huge = libc::MAP_HUGETLB | huge_page_flag(mapping.page_bytes).cast_signed();
        match (object.kind, world.shelf.memfd(object.id)) {
            (_, Some(fd)) => place(flags, Some((fd, mapping.offset)))?,
            (ObjectKind::File | ObjectKind::Device, None) => {
                let access = if object.writable && mapping.shared { libc::O_RDWR } else { libc::O_RDONLY };
                let fd = file::open_identity(world.shelf, &object.file, access)?;
                place(flags, Some((fd.as_fd(), mapping.offset)))?;
            }
            (ObjectKind::HugePages, None) if !mapping.shared => {
                place(flags | libc::MAP_ANONYMOUS | huge, None)?
            }
            (ObjectKind::SharedAnonymous | ObjectKind::HugePages, None) => {
                view(world, mapping, object, protection)?;
            }
            (ObjectKind::SystemV, None) => shm::attach(world, mapping, object, protection)?,
            (ObjectKind::Memfd, None) => return Err(Error::Internal("a memfd was not made")),
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

/// Makes whole objects of shared memory without a name where [`map`] takes views of them, for this task and for all that
/// will be forked from it.
fn make_views(world: &World<'_>, memory: &Memory) -> Result<()> {
    // System V segments are attached by whoever has them.
    let objects = world.objects_of_family(memory.id).into_iter();
    for object in objects.filter(|object| object.kind != ObjectKind::SystemV) {
        let Some(at) = world.places.views.get(&object.id).copied() else { continue };
        make_object(world, object, at)?;
    }
    Ok(())
}

/// Makes a whole object of shared memory without a name at an address, with its content.
fn make_object(world: &World<'_>, object: &MappedObject, at: u64) -> Result<()> {
    let huge = match object.kind {
        ObjectKind::HugePages => libc::MAP_HUGETLB | huge_page_flag(object.huge_page_bytes).cast_signed(),
        _ => 0,
    };
    let of_object = |mapping: &&Mapping| mapping.backing == Backing::Object && mapping.object == object.id;
    let mut mappings = world.image.all::<Memory>().flat_map(|memory| &memory.mappings).filter(of_object);
    let reserve = if mappings.any(|mapping| has_flag(mapping, "nr")) { libc::MAP_NORESERVE } else { 0 };
    let all_rights = (libc::PROT_READ | libc::PROT_WRITE).unsigned_abs();
    let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS | reserve | huge;
    let size = object_bytes(world.image, object);
    sys::map_fixed(at, size, all_rights, flags, None)
        .map_err(|error| Error::step(format!("make shared memory of {size} bytes"), error))?;
    fill::fill_owner(world.image, Owner::Object(object.id), at)
}

/// How long an object of shared memory is: as far as any mapping of it reaches.
pub fn object_bytes(image: &Image, object: &MappedObject) -> u64 {
    let mappings = image.all::<Memory>().flat_map(|memory| &memory.mappings);
    let of_object =
        mappings.filter(|mapping| mapping.backing == Backing::Object && mapping.object == object.id);
    let end = of_object.map(|mapping| mapping.offset.saturating_add(mapping.len_bytes)).max().unwrap_or(0);
    end.max(object.file.size_bytes).next_multiple_of(object.huge_page_bytes.max(binfmt::address::PAGE_BYTES))
}

/// Objects of shared memory without a name that need a view of the whole from which mappings are taken (mremap of
/// length 0), by how long it is. One that has a single mapping of all of it is made in place, and a System V segment is
/// attached in place wherever all of it is mapped.
pub fn viewed(image: &Image) -> Vec<(u32, u64)> {
    let mut mappings: BTreeMap<u32, Vec<&Mapping>> = BTreeMap::new();
    for mapping in image.all::<Memory>().flat_map(|memory| &memory.mappings) {
        if mapping.backing == Backing::Object && mapping.shared {
            mappings.entry(mapping.object).or_default().push(mapping);
        }
    }
    let unnamed = [ObjectKind::SharedAnonymous, ObjectKind::HugePages, ObjectKind::SystemV];
    let objects = image.all::<MappedObject>().filter(|object| unnamed.contains(&object.kind));
    objects
        .filter_map(|object| {
            let all = mappings.get(&object.id)?;
            let size = object_bytes(image, object);
            let in_place = match object.kind {
                ObjectKind::SystemV => all.iter().all(|mapping| shm::is_whole(mapping, object)),
                _ => matches!(all.as_slice(), [one] if one.offset == 0 && one.len_bytes == size),
            };
            (!in_place).then_some((object.id, size))
        })
        .collect()
}

/// Maps a part of an object of shared memory without a name.
fn view(world: &World<'_>, mapping: &Mapping, object: &MappedObject, protection: u32) -> Result<()> {
    match world.places.views.get(&object.id) {
        None => make_object(world, object, mapping.start)?,
        Some(whole) => sys::remap(whole + mapping.offset, 0, mapping.len_bytes, mapping.start)
            .map_err(|error| failed("map a view of", mapping, error))?,
    }
    sys::protect(mapping.start, mapping.len_bytes, protection, 0)
        .map_err(|error| failed("protect", mapping, error))
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
pub(super) fn finish_one(mapping: &Mapping, stored: &[(u64, u64)], inherited: bool) -> Result<()> {
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
    if stored > 0 || inherited || mapping.protection_key != 0 {
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
