//! Files that have a place in a filesystem: found again, compared, opened.

pub mod nameless;
pub mod process;

use crate::error::{Error, Refusal, Result};
use crate::shelf::Shelf;
use binfmt::image::Image;
use binfmt::note::descriptor::Description;
use binfmt::note::file::{FileIdentity, FileType, MountPoint, OpenFile, Presence};
use binfmt::note::filesystem::Filesystem;
use binfmt::note::inotify::Inotify;
use binfmt::note::mapping::{MappedObject, Memory, ObjectKind};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::sys::stat::Mode;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

/// How a file is going to be used, which decides what change of it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Its present content is part of the program's state.
    Reads,
    /// The program writes it: it may have grown since.
    Writes,
    /// Only that it is there matters.
    Place,
}

/// What was found at a file's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The file, or one that cannot be told from it.
    Same,
    /// Another one, or the same with another content; how it differs.
    Changed(String),
    /// Nothing that can be opened.
    Missing(Errno),
}

/// Every file of the image that must be found at its path.
pub fn all_identities(image: &Image) -> Vec<(&FileIdentity, &'static str, Access)> {
    let mut all = Vec::new();
    for memory in image.all::<Memory>() {
        all.push((&memory.executable, "executable", Access::Reads));
    }
    for object in image.all::<MappedObject>().filter(|object| object.kind == ObjectKind::File) {
        all.push((&object.file, "mapped file", if object.writable { Access::Writes } else { Access::Reads }));
    }
    for open in image.all::<OpenFile>().filter(|open| open.process == 0) {
        let flags = image.about::<Description>(open.description).next();
        let flags = flags.map_or(0, |description| description.flags.cast_signed());
        let writes = flags & libc::O_ACCMODE != libc::O_RDONLY;
        let regular = open.file.file_type == FileType::Regular && flags & libc::O_PATH == 0;
        let access = match (regular, writes) {
            (false, _) => Access::Place,
            (true, true) => Access::Writes,
            (true, false) => Access::Reads,
        };
        all.push((&open.file, "open file", access));
    }
    for filesystem in image.all::<Filesystem>() {
        all.push((&filesystem.working_directory, "working directory", Access::Place));
    }
    for watch in image.all::<Inotify>().flat_map(|instance| &instance.watches) {
        all.push((&watch.file, "watched file", Access::Place));
    }
    let made_up = image.all::<MountPoint>().filter(|mount| mount.is_made_up()).map(|mount| mount.id);
    let made_up: BTreeSet<u32> = made_up.collect();
    for (identity, _, access) in &mut all {
        if made_up.contains(&identity.mount) {
            *access = Access::Place;
        }
    }
    all.retain(|(identity, ..)| place(identity).is_some_and(|path| !path.as_os_str().is_empty()));
    all
}

/// Where a file is to be found; one that has no name any more is made.
pub fn place(identity: &FileIdentity) -> Option<&Path> {
    match identity.presence {
        Presence::Linked => Some(identity.path.as_path()),
        Presence::LinkedElsewhere => Some(identity.other_link.as_path()),
        Presence::Deleted | Presence::Unnamed => None,
    }
}

/// Looks whether the file at the path is the one that was saved.
pub fn look(identity: &FileIdentity, access: Access) -> Found {
    let Some(path) = place(identity) else { return Found::Same };
    let found = match identity.file_type {
        FileType::SymbolicLink => fs::symlink_metadata(path),
        _ => fs::metadata(path),
    };
    match found {
        Ok(now) => compare(identity, access, &FileIdentity::of(&now)),
        Err(error) => Found::Missing(Errno::from_raw(error.raw_os_error().unwrap_or(libc::ENOENT))),
    }
}

fn compare(identity: &FileIdentity, access: Access, now: &FileIdentity) -> Found {
    if now.file_type != identity.file_type {
        return Found::Changed("it is another type of file".to_owned());
    }
    let devices = [FileType::CharacterDevice, FileType::BlockDevice];
    if devices.contains(&identity.file_type) && now.device_number != identity.device_number {
        return Found::Changed("it is another device".to_owned());
    }
    if identity.file_type != FileType::Regular || access == Access::Place {
        return Found::Same;
    }
    if !identity.build_id.0.is_empty() {
        return match place(identity).and_then(binfmt::build_id::of_file) {
            Some(found) if found == identity.build_id.0 => Found::Same,
            found => Found::Changed(format!(
                "the image has build id {}, this host has {}",
                identity.build_id,
                found.map_or("none".to_owned(), |id| binfmt::wire::Bytes(id).to_string()),
            )),
        };
    }
    match access {
        Access::Writes if now.size_bytes < identity.size_bytes => {
            Found::Changed(format!("it had {} bytes and has {}", identity.size_bytes, now.size_bytes))
        }
        Access::Reads if now.size_bytes != identity.size_bytes => {
            Found::Changed(format!("it had {} bytes and has {}", identity.size_bytes, now.size_bytes))
        }
        Access::Reads if now.modified_ns != identity.modified_ns => {
            Found::Changed("it was modified after the checkpoint".to_owned())
        }
        _ => Found::Same,
    }
}

/// The mounts of the image that are not there: nothing of that type is mounted at their place.
pub fn absent_mounts(image: &Image) -> BTreeMap<u32, MountPoint> {
    let here = binfmt::mountinfo::parse(&fs::read("/proc/self/mountinfo").unwrap_or_default());
    let is_here = |mount: &MountPoint| {
        here.iter().any(|found| (&found.path, &found.filesystem) == (&mount.path, &mount.filesystem))
    };
    let absent = image.all::<MountPoint>().filter(|mount| !is_here(mount));
    absent.map(|mount| (mount.id, mount.clone())).collect()
}

/// What to say of a file that was not found as it was; `lost` is its mount, if that is not there.
pub fn refusal(
    identity: &FileIdentity,
    purpose: &str,
    found: &Found,
    lost: Option<&MountPoint>,
) -> Option<Refusal> {
    if let Some(MountPoint { path, filesystem, source, .. }) = lost.filter(|_| *found != Found::Same) {
        let was = format!("{filesystem} ({source}) was mounted at {path}, and is not");
        return Some(Refusal {
            reason: format!("{} ({purpose}) is not there: {was}", identity.path),
            remedy: format!("mount it, or resume with --path {path}=NEW"),
        });
    }
    let name = match identity.presence {
        Presence::LinkedElsewhere => format!("{}, the other name of {},", identity.other_link, identity.path),
        _ => identity.path.to_string(),
    };
    match found {
        Found::Same => None,
        Found::Changed(how) => Some(Refusal {
            reason: format!("{name} ({purpose}) is not the file it was: {how}"),
            remedy: "put the old one back, or resume with --allow changed-file".to_owned(),
        }),
        Found::Missing(error) => Some(Refusal {
            reason: format!("{name} ({purpose}) cannot be opened: {error}"),
            remedy: "put the file back, or resume where it was dumped".to_owned(),
        }),
    }
}

/// Status flags that open(2) must get; the others of a description's are set by it.
const OPEN_FLAGS: i32 = libc::O_ACCMODE
    | libc::O_APPEND
    | libc::O_NONBLOCK
    | libc::O_DIRECT
    | libc::O_PATH
    | libc::O_DIRECTORY
    | libc::O_NOFOLLOW
    | libc::O_NOATIME
    | libc::O_SYNC
    | libc::O_ASYNC
    | libc::O_LARGEFILE;

/// Opens the file of a description and sets its offset.
pub fn reopen(shelf: &Shelf, open_file: &OpenFile, description: &Description) -> Result<OwnedFd> {
    let mut flags = description.flags.cast_signed() & OPEN_FLAGS;
    if open_file.file.file_type != FileType::Directory {
        // A part of O_TMPFILE.
        flags &= !libc::O_DIRECTORY;
    }
    let fd = open_identity(shelf, &open_file.file, flags)?;
    seek(&fd, open_file, description)?;
    Ok(fd)
}

/// Sets the offset of a description.
fn seek(fd: &OwnedFd, open_file: &OpenFile, description: &Description) -> Result<()> {
    let seekable =
        matches!(open_file.file.file_type, FileType::Regular | FileType::Directory | FileType::BlockDevice);
    if seekable && description.flags.cast_signed() & libc::O_PATH == 0 && description.position != 0 {
        let position = description.position.cast_signed();
        nix::unistd::lseek64(fd, position, nix::unistd::Whence::SeekSet)
            .map_err(|error| Error::step(format!("seek in {}", open_file.file.path), error))?;
    }
    Ok(())
}

/// Opens a file; one that has no name any more by what [`nameless`] made of it.
pub fn open_identity(shelf: &Shelf, identity: &FileIdentity, flags: i32) -> Result<OwnedFd> {
    let failed = |error| Error::step(format!("open {}", identity.path), error);
    let flags = OFlag::from_bits_retain(flags | libc::O_CLOEXEC | libc::O_NOCTTY);
    match identity.presence {
        Presence::Linked => open(identity.path.as_path(), flags, Mode::empty()).map_err(failed),
        Presence::LinkedElsewhere => open_elsewhere(identity, flags).map_err(failed),
        Presence::Deleted | Presence::Unnamed => {
            let made = shelf.deleted(identity.device, identity.inode);
            let made = made.ok_or(Error::Internal("a file without a name was not made"))?;
            open(super::fd_path(made).as_str(), flags - OFlag::O_NOFOLLOW, Mode::empty()).map_err(failed)
        }
    }
}

/// Opens a file by another link, under its old name if that is free, so that `/proc/PID/fd` shows what it did.
fn open_elsewhere(identity: &FileIdentity, flags: OFlag) -> nix::Result<OwnedFd> {
    let (path, other) = (identity.path.as_path(), identity.other_link.as_path());
    if nix::unistd::linkat(AT_FDCWD, other, AT_FDCWD, path, AtFlags::empty()).is_err() {
        return open(other, flags, Mode::empty());
    }
    let fd = open(path, flags, Mode::empty());
    nix::unistd::unlink(path)?;
    fd
}

/// Every file of the image that has no name any more.
pub fn without_name(image: &Image) -> impl Iterator<Item = &FileIdentity> {
    let objects = image.all::<MappedObject>().filter(|object| object.kind == ObjectKind::File);
    image
        .all::<OpenFile>()
        .filter(|open| open.process == 0)
        .map(|open| &open.file)
        .chain(objects.map(|object| &object.file))
        .chain(image.all::<Memory>().map(|memory| &memory.executable))
        .chain(image.all::<Inotify>().flat_map(|instance| &instance.watches).map(|watch| &watch.file))
        .chain(image.all::<Filesystem>().map(|filesystem| &filesystem.working_directory))
        .filter(|identity| matches!(identity.presence, Presence::Deleted | Presence::Unnamed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_name_is_looked_for_under_the_other() {
        let folder = std::env::temp_dir().join(format!("ckpt-other-name-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let other = folder.join("other");
        fs::write(&other, "content").unwrap();
        let identity = FileIdentity {
            path: folder.join("file").as_path().into(),
            other_link: other.as_path().into(),
            presence: Presence::LinkedElsewhere,
            ..FileIdentity::of(&fs::metadata(&other).unwrap())
        };
        assert_eq!(look(&identity, Access::Reads), Found::Same);
        fs::remove_file(&other).unwrap();
        let found = look(&identity, Access::Reads);
        fs::remove_dir(&folder).unwrap();
        assert_eq!(found, Found::Missing(Errno::ENOENT));
        let reason = refusal(&identity, "open file", &found, None).unwrap().reason;
        assert!(reason.contains("/other, the other name of /"), "{reason}");
    }
}
