//! Descriptions of memfds: each opened anew, so that it has an offset and flags of its own.

use crate::error::{Error, Result};
use crate::rebuild::fd_path;
use crate::shelf::Shelf;
use binfmt::note::descriptor::Description;
use binfmt::note::memfd::OpenMemfd;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use nix::unistd::{Whence, lseek64};
use std::os::fd::OwnedFd;

/// Opens the memfd of a description.
pub fn reopen(note: &OpenMemfd, description: &Description, shelf: &Shelf) -> Result<OwnedFd> {
    let failed = |error| Error::step(format!("open {}", description.label), error);
    let memfd = shelf.memfd(note.object).ok_or(Error::Internal("a memfd was not made"))?;
    let kept = libc::O_ACCMODE | libc::O_APPEND | libc::O_NONBLOCK | libc::O_LARGEFILE;
    let flags = OFlag::from_bits_retain(description.flags.cast_signed() & kept | libc::O_CLOEXEC);
    let fd = open(fd_path(memfd).as_str(), flags, Mode::empty()).map_err(failed)?;
    if description.position != 0 {
        lseek64(&fd, description.position.cast_signed(), Whence::SeekSet).map_err(failed)?;
    }
    Ok(fd)
}
