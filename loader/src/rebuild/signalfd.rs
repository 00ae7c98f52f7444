//! Signalfds.

use crate::error::{Error, Result};
use crate::rebuild::{made, set_status};
use binfmt::note::descriptor::Description;
use binfmt::note::signalfd::Signalfd;
use std::os::fd::OwnedFd;

/// signalfd(2): not one that is there already.
const NEW: u64 = u64::MAX;

/// Makes the signalfd of a description.
pub fn make(note: &Signalfd, description: &Description) -> Result<OwnedFd> {
    let failed = |error| Error::step(format!("make a signalfd for the signals {:#x}", note.mask), error);
    let mask = [note.mask];
    let args = [NEW, mask.as_ptr().addr() as u64, 8, libc::SFD_CLOEXEC.unsigned_abs().into(), 0, 0];
    let fd = made(libc::SYS_signalfd4, args).map_err(failed)?;
    set_status(&fd, description).map_err(failed)?;
    Ok(fd)
}
