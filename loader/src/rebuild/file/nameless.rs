//! Files and directories that have no name any more, made anew.
//!
//! For a moment each has its old name, if that is free, so that `/proc/PID/fd` shows what it did: first the directories,
//! with those that are gone above them, then the files in them. Then all names go again. What would stand against that (an
//! immutable file cannot be unlinked) is set last.

use crate::error::{Error, Result};
use crate::rebuild::{as_far_as_permitted, fd_path, file, fill_object};
use crate::shelf::Shelf;
use crate::sys;
use binfmt::image::Image;
use binfmt::note::file::{FileIdentity, FileType, NamelessFile, Presence};
use binfmt::note::mapping::{MappedObject, ObjectKind};
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, open};
use nix::sys::stat::Mode;
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, getpid, mkdir, unlinkat};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Device and inode in the image.
type Which = (u64, u64);

/// Makes all of them, directories first.
pub fn make_all(image: &Image) -> Result<Vec<(Which, OwnedFd)>> {
    let mut wanted: BTreeMap<Which, &FileIdentity> = BTreeMap::new();
    for identity in file::without_name(image) {
        wanted.entry((identity.device, identity.inode)).or_insert(identity);
    }
    let is_directory = |identity: &FileIdentity| identity.file_type == FileType::Directory;
    let mut directories: Vec<(Which, &FileIdentity)> = wanted
        .iter()
        .filter(|(_, identity)| is_directory(identity))
        .map(|(which, identity)| (*which, *identity))
        .collect();
    // Above before below.
    directories.sort_by_key(|(_, identity)| identity.path.as_path().components().count());
    let mut names = Names::default();
    let mut made = Vec::new();
    for (which, identity) in &directories {
        let fd = names.make(identity.path.as_path()).map_err(|error| failed(identity, error))?;
        made.push((*which, fd));
    }
    for (which, identity) in wanted.iter().filter(|(_, identity)| !is_directory(identity)) {
        made.push((*which, make_file(image, identity)?));
    }
    drop(names);
    for ((_, identity), (_, fd)) in directories.iter().zip(&made) {
        dress(identity, fd.as_fd()).map_err(|error| failed(identity, error))?;
    }
    Ok(made)
}

fn failed(identity: &FileIdentity, error: Errno) -> Error {
    let what = if identity.file_type == FileType::Directory { "directory" } else { "file" };
    Error::step(format!("make the deleted {what} {} again", identity.path), error)
}

/// Owner and permissions.
fn dress(identity: &FileIdentity, fd: BorrowedFd<'_>) -> nix::Result<()> {
    let (user, group) = (Uid::from_raw(identity.user), Gid::from_raw(identity.group));
    as_far_as_permitted(nix::unistd::fchown(fd, Some(user), Some(group)))?;
    nix::sys::stat::fchmod(fd, Mode::from_bits_truncate(identity.mode))
}

/// The directories that have names for now. Dropping it takes them.
#[derive(Debug, Default)]
struct Names(Vec<PathBuf>);

impl Names {
    /// Makes a directory, and those above it that are gone; under another name where that one is taken, and elsewhere
    /// where it cannot be.
    fn make(&mut self, path: &Path) -> nix::Result<OwnedFd> {
        if !path.is_absolute() {
            return Err(Errno::EINVAL);
        }
        let other = format!("ckpt-{}-{}", getpid(), self.0.len());
        let beside = path.parent().map(|above| above.join(format!(".{other}")));
        let candidates = [Some(path.to_owned()), beside, Some(Path::new("/tmp").join(other))];
        let mut last = Errno::ENOENT;
        for candidate in candidates.into_iter().flatten() {
            match self.make_at(&candidate) {
                Ok(made) => return Ok(made),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn make_at(&mut self, path: &Path) -> nix::Result<OwnedFd> {
        let above: Vec<&Path> = path.ancestors().skip(1).collect();
        for directory in above.into_iter().rev() {
            match self.add(directory) {
                Ok(()) | Err(Errno::EEXIST) => {}
                // Also where it is there and nothing could be made in what is above it.
                Err(_) if directory.is_dir() => {}
                Err(error) => return Err(error),
            }
        }
        self.add(path)?;
        open(path, OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty())
    }

    fn add(&mut self, path: &Path) -> nix::Result<()> {
        mkdir(path, Mode::S_IRWXU)?;
        self.0.push(path.to_owned());
        Ok(())
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        for path in self.0.iter().rev() {
            let _ = unlinkat(AT_FDCWD, path, UnlinkatFlags::RemoveDir);
        }
    }
}

/// Makes a file, from the content in the image.
fn make_file(image: &Image, identity: &FileIdentity) -> Result<OwnedFd> {
    let path = identity.path.as_path();
    let mode = Mode::from_bits_truncate(identity.mode);
    let unnamed = open_unnamed(path, mode).map_err(|error| failed(identity, error))?;
    fill_object(image, identity.content, &unnamed, identity.size_bytes, &identity.path.to_string())?;
    dress(identity, unnamed.as_fd()).map_err(|error| failed(identity, error))?;
    if identity.presence == Presence::Unnamed {
        return Ok(unnamed);
    }
    let follow = AtFlags::AT_SYMLINK_FOLLOW;
    if nix::unistd::linkat(AT_FDCWD, fd_path(&unnamed).as_str(), AT_FDCWD, path, follow).is_err() {
        return Ok(unnamed);
    }
    let named = open(path, OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty());
    nix::unistd::unlink(path).map_err(|error| failed(identity, error))?;
    named.map_err(|error| failed(identity, error))
}

/// A new file without a name in the directory that `path` names one in, or where that is gone as well, in what there is of
/// its path.
fn open_unnamed(path: &Path, mode: Mode) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_TMPFILE | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let mut directories = path.ancestors().skip(1).filter(|directory| directory.is_absolute());
    let first = directories.next().unwrap_or(Path::new("/"));
    let beside = open(first, flags, mode);
    match beside {
        // NFS and others have no files that never had a name.
        Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL) => return open_and_unlink(path, mode),
        Err(Errno::ENOENT) => {}
        _ => return beside,
    }
    let directories = directories.chain([Path::new("/tmp")]);
    directories.map(|directory| open(directory, flags, mode)).find(nix::Result::is_ok).unwrap_or(beside)
}

/// A new file under this name if it is free, or beside it, which loses it at once.
fn open_and_unlink(path: &Path, mode: Mode) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_RDWR | OFlag::O_CLOEXEC;
    let beside = path.with_file_name(format!(".ckpt-{}", getpid()));
    let (made, name) = match open(path, flags, mode) {
        Err(Errno::EEXIST) => (open(&beside, flags, mode)?, beside.as_path()),
        made => (made?, path),
    };
    nix::unistd::unlink(name)?;
    Ok(made)
}

/// Gives them, and memfds, what else belongs to them, when all that had to be opened for writing has been.
pub fn finish_all(image: &Image, shelf: &Shelf) -> Result<()> {
    let mut identities: BTreeMap<Which, &FileIdentity> =
        file::without_name(image).map(|identity| ((identity.device, identity.inode), identity)).collect();
    let mut memfds = BTreeMap::new();
    let mut mapped = BTreeSet::new();
    for object in image.all::<MappedObject>() {
        let which = (object.file.device, object.file.inode);
        if object.kind == ObjectKind::Memfd {
            memfds.insert(which, object.id);
            identities.insert(which, &object.file);
        } else if object.writable {
            mapped.insert(which);
        }
    }
    for note in image.all::<NamelessFile>() {
        let which = (note.device, note.inode);
        let fd = match memfds.get(&which) {
            Some(id) => shelf.memfd(*id),
            None => shelf.deleted(note.device, note.inode),
        };
        let (Some(fd), Some(identity)) = (fd, identities.get(&which)) else { continue };
        let writable = mapped.contains(&which);
        finish(note, identity, writable, fd).map_err(|error| failed(identity, error))?;
    }
    Ok(())
}

fn finish(
    note: &NamelessFile,
    identity: &FileIdentity,
    is_mapped: bool,
    fd: BorrowedFd<'_>,
) -> nix::Result<()> {
    for attribute in &note.extended {
        let name = CString::new(attribute.name.0.clone()).map_err(|_| Errno::EINVAL)?;
        match sys::set_attribute(fd, &name, &attribute.value.0) {
            // Some take a right, some another filesystem.
            Ok(()) | Err(Errno::EPERM | Errno::EACCES | Errno::EOPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    let time = |ns: i64| TimeSpec::new(ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
    let (accessed, modified) = (time(note.accessed_ns), time(identity.modified_ns));
    as_far_as_permitted(nix::sys::stat::futimens(fd, &accessed, &modified))?;
    // Who maps it writes to it only later.
    if note.attributes != 0 && !is_mapped {
        // Some take a right, and not every filesystem has them.
        let _ = sys::add_change_attributes(fd, note.attributes);
    }
    Ok(())
}
