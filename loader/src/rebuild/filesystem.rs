//! Root, working directory and umask.

use crate::error::{Error, Result};
use binfmt::image::Image;
use binfmt::note::filesystem::Filesystem;
use binfmt::note::task::Task;

/// Puts the task where it was. Nothing of the loader's opens a path after this.
pub fn rebuild(image: &Image, task: &Task) -> Result<()> {
    let Some(note) = image.about::<Filesystem>(task.filesystem).next() else {
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
    // umask(2) cannot fail, but whoever stands between may say that it did, and nix would panic on that.
    crate::sys::call(libc::SYS_umask, [note.umask.into(), 0, 0, 0, 0, 0])
        .map(drop)
        .map_err(|error| Error::step("set the umask", error))
}
