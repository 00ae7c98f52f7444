//! Locks and leases on files, taken again last of all: closing any descriptor of a file drops its POSIX locks. Those of
//! descriptions that are only on their way through a socket are taken on the shelf: they are no process's.

use crate::error::{Error, Result};
use crate::rebuild::descriptor::without_holder;
use crate::shelf::Shelf;
use binfmt::image::Image;
use binfmt::note::descriptor::DescriptorTable;
use binfmt::note::lock::{FileLock, LockKind};
use binfmt::note::task::Task;
use std::os::fd::AsRawFd;

/// Takes every lock of a task through a descriptor of its description.
pub fn rebuild(image: &Image, task: &Task) -> Result<()> {
    for lock in image.about::<FileLock>(task.pid) {
        if without_holder(image).any(|description| description.id == lock.description) {
            continue;
        }
        let tables = image.about::<DescriptorTable>(task.descriptor_table);
        let entries = tables.flat_map(|table| &table.descriptors);
        let number =
            entries.filter(|entry| entry.description == lock.description).map(|entry| entry.number).next();
        let number = number.ok_or(Error::Internal("a lock's descriptor is missing"))?;
        take(lock, number).map_err(|error| {
            Error::step(
                format!("take the {:?} lock on descriptor {number} (another program may hold it)", lock.kind),
                error,
            )
        })?;
    }
    Ok(())
}

/// Takes those of descriptions that are only on their way.
pub fn rebuild_on_the_way(image: &Image, shelf: &Shelf) -> Result<()> {
    for description in without_holder(image) {
        for lock in image.all::<FileLock>().filter(|lock| lock.description == description.id) {
            let Some(fd) = shelf.description(description.id) else { continue };
            take(lock, fd.as_raw_fd().unsigned_abs()).map_err(|error| {
                let label = &description.label;
                Error::step(
                    format!("take the {:?} lock on {label} (another program may hold it)", lock.kind),
                    error,
                )
            })?;
        }
    }
    Ok(())
}

fn take(lock: &FileLock, number: u32) -> std::result::Result<(), nix::errno::Errno> {
    let fd = u64::from(number);
    let fcntl = |command: i32, argument: u64| {
        crate::sys::call(libc::SYS_fcntl, [fd, command.unsigned_abs().into(), argument, 0, 0, 0]).map(drop)
    };
    let kind = if lock.exclusive { libc::F_WRLCK } else { libc::F_RDLCK };
    match lock.kind {
        LockKind::Flock => {
            let operation = if lock.exclusive { libc::LOCK_EX } else { libc::LOCK_SH } | libc::LOCK_NB;
            crate::sys::call(libc::SYS_flock, [fd, operation.unsigned_abs().into(), 0, 0, 0, 0]).map(drop)
        }
        LockKind::Lease => fcntl(libc::F_SETLEASE, kind.unsigned_abs().into()),
        LockKind::Posix | LockKind::OpenFile => {
            let range = libc::flock {
                l_type: libc::c_short::try_from(kind).unwrap_or_default(),
                l_whence: 0,
                l_start: lock.start.cast_signed(),
                l_len: lock.len_bytes.cast_signed(),
                l_pid: 0,
            };
            let command = if lock.kind == LockKind::Posix { libc::F_SETLK } else { libc::F_OFD_SETLK };
            fcntl(command, std::ptr::from_ref(&range).addr() as u64)
        }
    }
}
