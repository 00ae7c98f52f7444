//! Root, working directory and umask.

use crate::error::{Error, Result};
use binfmt::image::Image;
use binfmt::note::filesystem::Filesystem;
use binfmt::note::task::Task;
use nix::sys::stat::{Mode, umask};

/// Puts the task where it was. Nothing of the loader's opens a path after this.
pub fn rebuild(image: &Image, task: &Task) -> Result<()> {
    let Some(note) = image.all::<Filesystem>().find(|note| note.id == task.filesystem) else {
        return Err(Error::Internal("the image has no root directory"));
    };
    let (root, directory) = (&note.root.path, &note.working_directory.path);
    // The working directory is named from the dumper's root, so it comes before the task's root does.
    nix::unistd::chdir(directory.as_path())
        .map_err(|error| Error::step(format!("go to the working directory {directory}"), error))?;
    if root.0 != b"/" {
        nix::unistd::chroot(root.as_path())
            .map_err(|error| Error::step(format!("chroot to {root}"), error))?;
    }
    umask(Mode::from_bits_truncate(note.umask));
    Ok(())
}
