//! Files that have a place in a filesystem: found again, compared, opened.

use crate::error::{Error, Refusal, Result};
use crate::shelf::Shelf;
use binfmt::image::Image;
use binfmt::note::descriptor::Description;
use binfmt::note::file::{FileIdentity, FileType, OpenFile, Presence};
use binfmt::note::filesystem::Filesystem;
use binfmt::note::inotify::Inotify;
use binfmt::note::mapping::{MappedObject, Memory, ObjectKind};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};
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
    for open in image.all::<OpenFile>() {
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

/// What to say of a file that was not found as it was.
pub fn refusal(identity: &FileIdentity, purpose: &str, found: &Found) -> Option<Refusal> {
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
    let seekable =
        matches!(open_file.file.file_type, FileType::Regular | FileType::Directory | FileType::BlockDevice);
    if seekable && flags & libc::O_PATH == 0 && description.position != 0 {
        let position = description.position.cast_signed();
        nix::unistd::lseek64(&fd, position, nix::unistd::Whence::SeekSet)
            .map_err(|error| Error::step(format!("seek in {}", open_file.file.path), error))?;
    }
    Ok(fd)
}

/// Opens a file; one that has no name any more by what [`make_deleted`] made of it.
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
        .map(|open| &open.file)
        .chain(objects.map(|object| &object.file))
        .chain(image.all::<Memory>().map(|memory| &memory.executable))
        .chain(image.all::<Inotify>().flat_map(|instance| &instance.watches).map(|watch| &watch.file))
        .filter(|identity| matches!(identity.presence, Presence::Deleted | Presence::Unnamed))
}

/// A new file without a name in the directory that `path` names one in, or where that is gone as well, in what there is of
/// its path.
fn open_unnamed(path: &Path, mode: Mode) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let mut directories = path.ancestors().skip(1).filter(|directory| directory.is_absolute());
    let first = directories.next().unwrap_or(Path::new("/"));
    let beside = open(first, flags, mode);
    if !matches!(beside, Err(Errno::ENOENT)) {
        return beside;
    }
    let directories = directories.chain([Path::new("/tmp")]);
    directories.map(|directory| open(directory, flags, mode)).find(nix::Result::is_ok).unwrap_or(beside)
}

/// Makes a file without a name, from the content in the image. For a moment it has its old name, if that is free, so
/// that `/proc/PID/fd` shows what it did.
pub fn make_deleted(image: &Image, identity: &FileIdentity) -> Result<OwnedFd> {
    let path = identity.path.as_path();
    let failed = |error| Error::step(format!("make the deleted file {} again", identity.path), error);
    let mode = Mode::from_bits_truncate(identity.mode);
    let unnamed = open_unnamed(path, mode).map_err(failed)?;
    super::fill_object(image, identity.content, &unnamed, identity.size_bytes, &identity.path.to_string())?;
    let (user, group) = (Uid::from_raw(identity.user), Gid::from_raw(identity.group));
    super::as_far_as_permitted(nix::unistd::fchown(&unnamed, Some(user), Some(group))).map_err(failed)?;
    nix::sys::stat::fchmod(&unnamed, mode).map_err(failed)?;
    if identity.presence == Presence::Unnamed {
        return Ok(unnamed);
    }
    let own = super::fd_path(&unnamed);
    let follow = AtFlags::AT_SYMLINK_FOLLOW;
    if nix::unistd::linkat(AT_FDCWD, own.as_str(), AT_FDCWD, path, follow).is_err() {
        return Ok(unnamed);
    }
    let named = open(path, OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty());
    nix::unistd::unlink(path).map_err(failed)?;
    named.map_err(failed)
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
        let reason = refusal(&identity, "open file", &found).unwrap().reason;
        assert!(reason.contains("/other, the other name of /"), "{reason}");
    }
}
