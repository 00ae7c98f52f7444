//! Userfaultfds: each serves the memory of who makes it, so the task itself does, when it stands.

use crate::error::{Error, Result};
use crate::rebuild::descriptor::{dup_above, put};
use crate::rebuild::{made, set_status};
use crate::sys;
use crate::world::World;
use binfmt::note::descriptor::{Description, DescriptorTable};
use binfmt::note::task::Task;
use binfmt::note::userfaultfd::Userfaultfd;
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Makes those in the table of `task`, whose other descriptors are in place, and puts them at their numbers.
pub fn rebuild(world: &World<'_>, task: &Task) -> Result<()> {
    for note in world.image.all::<Userfaultfd>() {
        let tables = world.image.about::<DescriptorTable>(task.descriptor_table);
        let entries = tables.flat_map(|table| &table.descriptors);
        let mut entries = entries.filter(|entry| entry.description == note.description).peekable();
        if entries.peek().is_some() {
            let description = world.image.about::<Description>(note.description).next();
            let description = description.ok_or(Error::Internal("a userfaultfd has no description"))?;
            let fd = make(world, note, description).map_err(|error| match error {
                Errno::EPERM => Error::step(
                    "make a userfaultfd (it takes CAP_SYS_PTRACE, or 1 in /proc/sys/vm/unprivileged_userfaultfd)",
                    error,
                ),
                error => Error::step("make a userfaultfd", error),
            })?;
            entries.try_for_each(|entry| put(fd.as_fd(), entry.number, entry.close_on_exec))?;
        }
    }
    Ok(())
}

fn make(world: &World<'_>, note: &Userfaultfd, description: &Description) -> nix::Result<OwnedFd> {
    /// Serves no fault of the kernel's, which anybody may ask for. Whether a program did, is told nowhere.
    const USER_MODE_ONLY: u64 = 1;
    const UFFDIO_API: u64 = 0xc018_aa3f;
    let with = |flags: u64| {
        let flags = flags | u64::from(libc::O_CLOEXEC.unsigned_abs());
        made(libc::SYS_userfaultfd, [flags, 0, 0, 0, 0, 0])
    };
    let fd = match with(0) {
        Err(Errno::EPERM) => with(USER_MODE_ONLY)?,
        fd => fd?,
    };
    set_status(&fd, description)?;
    // The number may be one of the program's.
    let fd = dup_above(fd.as_raw_fd(), world.stage.report)?;
    if note.agreed {
        // struct uffdio_api
        let mut api = [0xaa, note.features, 0u64];
        let api = api.as_mut_ptr().expose_provenance() as u64;
        sys::call(libc::SYS_ioctl, [fd.as_raw_fd().unsigned_abs().into(), UFFDIO_API, api, 0, 0, 0])?;
    }
    Ok(fd)
}
