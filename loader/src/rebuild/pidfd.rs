//! Pidfds: opened when all tasks are there, see [`super::descriptor::late`].

use crate::error::{Error, Result};
use crate::rebuild::{made, set_status};
use crate::world::World;
use binfmt::note::descriptor::Description;
use binfmt::note::pidfd::Pidfd;
use binfmt::note::task::Task;
use std::os::fd::OwnedFd;

/// Opens that of a description.
pub fn open(world: &World<'_>, task: &Task, description: &Description) -> Result<OwnedFd> {
    let pidfd = world.image.about::<Pidfd>(description.id).next();
    let pidfd = pidfd.ok_or(Error::Internal("a pidfd's note is missing"))?;
    let thread = description.flags & libc::PIDFD_THREAD;
    let pid = world.id_now(task, pidfd.pid);
    let opened = || {
        let opened = made(libc::SYS_pidfd_open, [pid.into(), thread.into(), 0, 0, 0, 0])?;
        set_status(&opened, description)?;
        Ok(opened)
    };
    opened().map_err(|error| Error::step(format!("open a pidfd of process {}", pidfd.pid), error))
}
