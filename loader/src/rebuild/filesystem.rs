//! Root, working directory and umask.

use crate::error::{Error, Result};
use crate::shelf::Shelf;
use binfmt::image::Image;
use binfmt::note::file::Presence;
use binfmt::note::filesystem::Filesystem;
use binfmt::note::task::Task;
use binfmt::wire::Text;
use nix::errno::Errno;

/// Puts the task into its working directory if that has no name any more: it stands on the shelf, which is closed before the
/// task is where it was in all else.
pub fn go_to_deleted(image: &Image, task: &Task, shelf: &Shelf) -> Result<()> {
    let directory = &note(image, task)?.working_directory;
    if directory.presence != Presence::Deleted {
        return Ok(());
    }
    let made = shelf.deleted(directory.device, directory.inode);
    let made = made.ok_or(Error::Internal("a directory without a name was not made"))?;
    nix::unistd::fchdir(made).map_err(|error| failed(&directory.path, error))
}

/// Puts the task where it was. Nothing of the loader's opens a path after this.
pub fn rebuild(image: &Image, task: &Task) -> Result<()> {
    let note = note(image, task)?;
    let (root, directory) = (&note.root.path, &note.working_directory.path);
    // The working directory is named from the dumper's root, so it comes before the task's root does.
    if note.working_directory.presence != Presence::Deleted {
        nix::unistd::chdir(directory.as_path()).map_err(|error| failed(directory, error))?;
    }
    if root.0 != b"/" {
        nix::unistd::chroot(root.as_path())
            .map_err(|error| Error::step(format!("chroot to {root}"), error))?;
    }
    // umask(2) cannot fail, but whoever stands between may say that it did, and nix would panic on that.
    crate::sys::call(libc::SYS_umask, [note.umask.into(), 0, 0, 0, 0, 0])
        .map(drop)
        .map_err(|error| Error::step("set the umask", error))
}

fn note<'a>(image: &'a Image, task: &Task) -> Result<&'a Filesystem> {
    let note = image.about::<Filesystem>(task.filesystem).next();
    note.ok_or(Error::Internal("the image has no root directory"))
}

fn failed(directory: &Text, error: Errno) -> Error {
    Error::step(format!("go to the working directory {directory}"), error)
}
