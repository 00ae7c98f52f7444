//! Where filesystems are mounted: for each file that the image names, so that a resume can say which one it lacks.

use crate::sys;
use binfmt::mountinfo;
use binfmt::note::file::MountPoint;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The mounts that were met.
#[derive(Debug, Default)]
pub struct Mounts {
    /// By the kernel's number. Of one that is nowhere to be seen it is known that it is not.
    known: BTreeMap<u32, Option<MountPoint>>,
}

/// The mount of a file.
#[derive(Debug, PartialEq)]
pub enum Mount<'a> {
    /// It is there; whether it was met before.
    At(&'a MountPoint, Met),
    /// It was taken off while the file was open.
    Detached,
    /// The kernel does not tell.
    Unknown,
}

/// Whether a mount was met before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Met {
    /// It was not.
    New,
    /// It was.
    Before,
}

impl Mounts {
    /// The mount through which the magic link `link` of process `pid` leads to its file.
    pub fn of(&mut self, link: &Path, pid: i32) -> Mount<'_> {
        let Some(id) = sys::mount_of(link).ok().and_then(|id| u32::try_from(id).ok()) else {
            return Mount::Unknown;
        };
        let met = if self.known.contains_key(&id) { Met::Before } else { Met::New };
        let found = self.known.entry(id).or_insert_with(|| look(id, pid));
        found.as_ref().map_or(Mount::Detached, |mount| Mount::At(mount, met))
    }
}

/// Looks a mount up where this process sees it, or the other one.
fn look(id: u32, pid: i32) -> Option<MountPoint> {
    let listed = |path: String| mountinfo::parse(&fs::read(path).unwrap_or_default());
    let find = |path| listed(path).into_iter().find(|mount| mount.id == id);
    find("/proc/self/mountinfo".to_owned()).or_else(|| find(format!("/proc/{pid}/mountinfo")))
}
