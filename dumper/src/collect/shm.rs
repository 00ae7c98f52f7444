//! System V shared memory: what `/proc/sysvipc/shm` says of the segments that the tree has attached.
//!
//! A mapping names its segment by its inode, which is the id. The content is read as that of any file, through the mapping's
//! entry in `map_files`; without the right to that, the segment is attached here, which shows all of it, also what the
//! program has unmapped. A segment that nobody in the tree has attached leaves no trace in it, and is not part of it.

use super::mapping::smaps::Area;
use super::{Collected, Source};
use crate::memory::TaskMemory;
use crate::sys;
use binfmt::address::{PAGE_BYTES, Pid};
use binfmt::image::Owner;
use binfmt::ipc::{IpcObject, MODE};
use binfmt::note::shm::{self, Listed, SharedSegment};
use nix::errno::Errno;
use std::cell::OnceCell;
use std::io;
use std::sync::Arc;

/// The segments of this IPC namespace, looked at when the first is asked for.
#[derive(Debug, Default)]
pub struct Segments(OnceCell<Vec<Listed>>);

impl Segments {
    /// The segment that `area` shows.
    pub fn of(&self, area: &Area) -> Option<&Listed> {
        let all = self.0.get_or_init(shm::list);
        let original = original_key(area)?;
        let same_key = |listed: &Listed| listed.ipc.key == original || listed.is_marked_for_removal();
        all.iter().find(|listed| u64::from(listed.ipc.id) == area.inode && same_key(listed))
    }
}

/// The key in the name of a mapping.
fn original_key(area: &Area) -> Option<u32> {
    let digits = area.path.strip_prefix(b"/SYSV")?.get(..8)?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// The note of the segment that `area` shows.
pub fn note(object: u32, area: &Area, listed: &Listed) -> SharedSegment {
    SharedSegment {
        object,
        ipc: IpcObject { mode: listed.ipc.mode & MODE, ..listed.ipc.clone() },
        original_key: original_key(area).unwrap_or(listed.ipc.key),
        size_bytes: listed.size_bytes,
        marked_for_removal: listed.is_marked_for_removal(),
        locked: listed.is_locked(),
        creator_pid: listed.creator_pid,
        last_pid: listed.last_pid,
        attached: listed.attached,
        attach_time: listed.attach_time,
        detach_time: listed.detach_time,
    }
}

/// A segment that is attached here, read-only, as long as this lives.
#[derive(Debug)]
pub struct Attached {
    at: u64,
    own: TaskMemory,
}

impl Attached {
    fn new(id: u32) -> io::Result<Attached> {
        let own = TaskMemory::open(Pid(nix::unistd::getpid().as_raw()))?;
        Ok(Attached { at: sys::attach_shared(id)?, own })
    }

    /// Reads from an offset.
    pub fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), Errno> {
        self.own.read(self.at + offset, buf)
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // It goes with this process at the latest.
        let _ = sys::detach_shared(self.at);
    }
}

/// Adds what is in a segment that cannot be opened.
pub fn contents(object: u32, listed: &Listed, page_bytes: u64, out: &mut Collected) -> io::Result<()> {
    let attached = Arc::new(Attached::new(listed.ipc.id)?);
    // Of huge pages, and of what is swapped out, nothing is told.
    let all_present = page_bytes > PAGE_BYTES || listed.swapped_bytes > 0;
    let size_bytes = listed.size_bytes.next_multiple_of(PAGE_BYTES);
    let present = if all_present { Vec::new() } else { sys::present_pages(attached.at, size_bytes)? };
    let mut run: Option<(u64, u64)> = None;
    for page in 0..size_bytes / PAGE_BYTES {
        let is_present = all_present
            || usize::try_from(page).is_ok_and(|page| present.get(page).is_some_and(|page| *page));
        let start = page * PAGE_BYTES;
        match &mut run {
            Some((_, end)) if is_present && *end == start => *end += PAGE_BYTES,
            _ if is_present => {
                add(object, run.replace((start, start + PAGE_BYTES)), &attached, listed, out);
            }
            _ => {}
        }
    }
    add(object, run, &attached, listed, out);
    Ok(())
}

fn add(object: u32, run: Option<(u64, u64)>, attached: &Arc<Attached>, listed: &Listed, out: &mut Collected) {
    if let Some((start, end)) = run {
        let len_bytes = end.min(listed.size_bytes) - start;
        let source = Source::Attached(Arc::clone(attached), start);
        out.content(Owner::Object(object), start, len_bytes, 0, source);
    }
}
