//! Eventfds: made with 0, which has room for 32 bits only, and written to.

use crate::error::{Error, Result};
use crate::rebuild::set_status;
use binfmt::note::descriptor::Description;
use binfmt::note::eventfd::Eventfd;
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::os::fd::OwnedFd;

/// Makes the eventfd of a description.
pub fn make(note: &Eventfd, description: &Description) -> Result<OwnedFd> {
    let failed = |error| Error::step(format!("make an eventfd with the value {}", note.value), error);
    let kind = if note.semaphore { EfdFlags::EFD_SEMAPHORE } else { EfdFlags::empty() };
    // Nothing here may wait, whatever the value is said to be.
    let flags = kind | EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
    let eventfd = EventFd::from_value_and_flags(0, flags).map_err(failed)?;
    if note.value != 0 {
        eventfd.write(note.value).map_err(failed)?;
    }
    let fd = OwnedFd::from(eventfd);
    set_status(&fd, description).map_err(failed)?;
    Ok(fd)
}
