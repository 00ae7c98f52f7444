//! System V shared memory: what is in a segment, and how the tasks attach it. How segments are made: see `ipc`.

use crate::error::{Error, Result};
use crate::fill;
use crate::rebuild::mapping;
use crate::sys;
use crate::world::World;
use binfmt::image::{Image, Owner};
use binfmt::ipc::IpcKind;
use binfmt::note::mapping::{MappedObject, Mapping};
use binfmt::note::shm::SharedSegment;
use nix::errno::Errno;

const HUGE_SHIFT: u32 = 26;

fn object<'a>(image: &'a Image, segment: &SharedSegment) -> Result<&'a MappedObject> {
    let object = image.all::<MappedObject>().find(|object| object.id == segment.object);
    object.ok_or(Error::Internal("a segment refers to no object"))
}

/// The flags of shmget(2) for its huge pages, if it has such.
pub fn huge_flags(image: &Image, segment: &SharedSegment) -> Result<i32> {
    Ok(match object(image, segment)?.huge_page_bytes {
        0 => 0,
        bytes => libc::SHM_HUGETLB | (bytes.trailing_zeros() << HUGE_SHIFT).cast_signed(),
    })
}

/// Gives segment `id`, which is attached at `at`, its content.
pub fn fill(
    image: &Image,
    segment: &SharedSegment,
    id: u32,
    at: u64,
    reused: bool,
    failed: &dyn Fn(&str, Errno) -> Error,
) -> Result<()> {
    let object = object(image, segment)?;
    if reused {
        if sys::shared_attached(id) != Ok(1) {
            return Err(failed("take (somebody else has attached it meanwhile)", Errno::EBUSY));
        }
        sys::advise(at, length_bytes(object), libc::MADV_REMOVE).map_err(|error| failed("clear", error))?;
    }
    if segment.locked {
        sys::lock_shared(id).map_err(|error| failed("lock", error))?;
    }
    if segment.marked_for_removal {
        let removed = sys::remove_ipc(IpcKind::Segment, id);
        removed.map_err(|error| failed("mark for removal", error))?;
    }
    fill::fill_owner(image, Owner::Object(object.id), at)
}

/// How long a segment is where it is mapped.
fn length_bytes(object: &MappedObject) -> u64 {
    object.file.size_bytes.next_multiple_of(object.huge_page_bytes.max(binfmt::address::PAGE_BYTES))
}

/// Whether a mapping shows all of its segment.
pub fn is_whole(mapping: &Mapping, object: &MappedObject) -> bool {
    mapping.offset == 0 && mapping.len_bytes == length_bytes(object)
}

/// Attaches a segment where a mapping shows it, or a part of it, or more than there is.
pub fn attach(world: &World<'_>, mapping: &Mapping, object: &MappedObject, protection: u32) -> Result<()> {
    let segment = world.image.all::<SharedSegment>().find(|segment| segment.object == object.id);
    let segment = segment.ok_or(Error::Internal("an object is no segment"))?;
    let (id, _) = world.ipc(IpcKind::Segment, segment.ipc.id)?;
    let failed = |what| move |error| mapping::failed(what, mapping, error);
    // Attached with SHM_RDONLY, it can never be written.
    let flags = if mapping::has_flag(mapping, "mw") { 0 } else { libc::SHM_RDONLY };
    if is_whole(mapping, object) {
        sys::attach_shared(id, mapping.start, flags).map_err(failed("attach System V segment at"))?;
    } else {
        let at = world.places.views.get(&object.id).copied();
        let at = at.ok_or(Error::Internal("there is no room for a segment"))?;
        sys::attach_shared(id, at, flags).map_err(failed("attach System V segment for"))?;
        let (is, wanted) = (length_bytes(object), mapping.offset.saturating_add(mapping.len_bytes));
        if wanted > is {
            sys::grow(at, is, wanted).map_err(failed("make room in"))?;
        }
        sys::remap(at + mapping.offset, mapping.len_bytes, mapping.len_bytes, mapping.start)
            .map_err(failed("move a part of a System V segment to"))?;
        for (start, end) in [(0, mapping.offset), (wanted, is)] {
            if start < end {
                sys::unmap(at + start, end - start).map_err(failed("unmap what surrounds"))?;
            }
        }
    }
    sys::protect(mapping.start, mapping.len_bytes, protection, 0).map_err(failed("protect"))
}
