//! Pidfds: opened when all tasks are there, which is after the shelf and the forks. So the first process that has one in
//! its table opens it, and the others take it from there.

use crate::control::{Patience, ProcessWord, Progress};
use crate::error::{Error, Result};
use crate::rebuild::descriptor::{dup_above, put};
use crate::rebuild::set_status;
use crate::sys;
use crate::world::{Shared, World};
use binfmt::image::Image;
use binfmt::note::descriptor::{Description, Descriptor, DescriptorTable};
use binfmt::note::pidfd::Pidfd;
use binfmt::note::task::Task;
use nix::errno::Errno;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

/// Opens the pidfds in the table of `task`, which this process makes.
pub fn rebuild(world: &World<'_>, process: usize, task: &Task) -> Result<()> {
    let image = world.image;
    if image.all::<Pidfd>().next().is_none() {
        return Ok(());
    }
    let above = world.stage.report;
    let own = |pidfd: &&Pidfd| first(image, pidfd).is_some_and(|(table, _)| table == task.descriptor_table);
    for pidfd in image.all::<Pidfd>().filter(own) {
        let description = image.about::<Description>(pidfd.description).next();
        let description = description.ok_or(Error::Internal("a pidfd has no description"))?;
        let fd = open(world, task, pidfd, description, above)
            .map_err(|error| Error::step(format!("open a pidfd of process {}", pidfd.pid), error))?;
        put_all(image, task, pidfd, &fd)?;
    }
    world.control.set_of(process, ProcessWord::Progress, Progress::PidfdsOpen.word());
    for pidfd in image.all::<Pidfd>().filter(|pidfd| !own(pidfd)) {
        if entries(image, task.descriptor_table, pidfd.description).next().is_none() {
            continue;
        }
        let fd = take(world, task, pidfd, above)?;
        put_all(image, task, pidfd, &fd)?;
    }
    Ok(())
}

/// The first table that has it, and its number there.
fn first(image: &Image, pidfd: &Pidfd) -> Option<(u32, u32)> {
    let find = |table: &DescriptorTable| {
        let entry = entries(image, table.id, pidfd.description).next()?;
        Some((table.id, entry.number))
    };
    image.all::<DescriptorTable>().find_map(find)
}

fn entries(image: &Image, table: u32, description: u32) -> impl Iterator<Item = &Descriptor> {
    let tables = image.about::<DescriptorTable>(table);
    tables.flat_map(|table| &table.descriptors).filter(move |entry| entry.description == description)
}

fn open(
    world: &World<'_>,
    task: &Task,
    pidfd: &Pidfd,
    description: &Description,
    above: RawFd,
) -> nix::Result<OwnedFd> {
    let thread = description.flags & libc::PIDFD_THREAD;
    let pid = world.id_now(task, pidfd.pid);
    let number = sys::call(libc::SYS_pidfd_open, [pid.into(), thread.into(), 0, 0, 0, 0])?;
    let opened = sys::adopt(RawFd::try_from(number).map_err(|_| Errno::EBADF)?);
    set_status(&opened, description)?;
    // The number may be one of the program's.
    dup_above(opened.as_raw_fd(), above)
}

/// A duplicate of the one that another process has opened.
fn take(world: &World<'_>, task: &Task, pidfd: &Pidfd, above: RawFd) -> Result<OwnedFd> {
    const MISSING: Error = Error::Internal("nobody opens a pidfd");
    let (table, number) = first(world.image, pidfd).ok_or(MISSING)?;
    let makes = |process: usize, other: &Task| {
        other.descriptor_table == table && world.sharing(process, Shared::Table).makes
    };
    let mut tasks = world.tasks.iter().enumerate();
    let opener =
        tasks.find_map(|(process, other)| Some((process, other.filter(|other| makes(process, other))?)));
    let (process, opener) = opener.ok_or(MISSING)?;
    let mut patience = Patience::default();
    while matches!(world.control.progress(process), Progress::Building | Progress::ThreadsWait) {
        world.check_others()?;
        world.control.wait_progress(process, world.control.progress(process), &mut patience);
    }
    world.check_others()?;
    let failed = |error| Error::step(format!("take a pidfd from process {}", opener.pid), error);
    let holder = sys::open_process(world.id_now(task, opener.pid).cast_signed()).map_err(failed)?;
    let holder_number = holder.as_raw_fd().unsigned_abs();
    let got = sys::call(libc::SYS_pidfd_getfd, [holder_number.into(), number.into(), 0, 0, 0, 0]);
    let got = got.and_then(|fd| RawFd::try_from(fd).map_err(|_| Errno::EBADF)).map_err(failed)?;
    dup_above(sys::adopt(got).as_raw_fd(), above).map_err(failed)
}

fn put_all(image: &Image, task: &Task, pidfd: &Pidfd, fd: &OwnedFd) -> Result<()> {
    let mut entries = entries(image, task.descriptor_table, pidfd.description);
    entries.try_for_each(|entry| put(fd.as_fd(), entry.number, entry.close_on_exec))
}
