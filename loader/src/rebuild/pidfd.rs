//! Pidfds: opened when all tasks are there, which is after the shelf and the forks. So the first process that has one in
//! its table opens it, and the others take it from there.

use crate::control::{Patience, ProcessWord, Progress};
use crate::error::{Error, Result};
use crate::rebuild::descriptor::{dup_above, first_holders, put};
use crate::rebuild::{epoll, made, set_status};
use crate::sys;
use crate::world::{Shared, World};
use binfmt::note::descriptor::{Description, Descriptor, DescriptorTable};
use binfmt::note::pidfd::Pidfd;
use binfmt::note::task::Task;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Opens the pidfds in the table of `task`, which this process makes.
pub fn rebuild(world: &World<'_>, process: usize, task: &Task) -> Result<()> {
    let image = world.image;
    if image.all::<Pidfd>().next().is_none() {
        return Ok(());
    }
    let holders = first_holders(image);
    let first = |pidfd: &Pidfd| holders.get(&pidfd.description).copied().unwrap_or_default();
    let entries = entries(world, task);
    let above = world.stage.report;
    let place = |pidfd: &Pidfd, fd: OwnedFd| {
        put_all(&entries, pidfd, &fd)?;
        epoll::add_pidfd(image, task.descriptor_table, pidfd.description, fd.as_fd(), above)
    };
    for pidfd in image.all::<Pidfd>().filter(|pidfd| first(pidfd).0 == task.descriptor_table) {
        place(pidfd, open(world, task, pidfd)?)?;
    }
    world.control.set_of(process, ProcessWord::Progress, Progress::PidfdsOpen.word());
    for pidfd in image.all::<Pidfd>().filter(|pidfd| first(pidfd).0 != task.descriptor_table) {
        if entries.contains_key(&pidfd.description) {
            place(pidfd, take(world, task, first(pidfd))?)?;
        }
    }
    Ok(())
}

/// The descriptors of a task by their descriptions.
fn entries<'a>(world: &World<'a>, task: &Task) -> BTreeMap<u32, Vec<&'a Descriptor>> {
    let mut entries: BTreeMap<u32, Vec<&Descriptor>> = BTreeMap::new();
    let tables = world.image.about::<DescriptorTable>(task.descriptor_table);
    for entry in tables.flat_map(|table| &table.descriptors) {
        entries.entry(entry.description).or_default().push(entry);
    }
    entries
}

fn open(world: &World<'_>, task: &Task, pidfd: &Pidfd) -> Result<OwnedFd> {
    let description = world.image.about::<Description>(pidfd.description).next();
    let description = description.ok_or(Error::Internal("a pidfd has no description"))?;
    let thread = description.flags & libc::PIDFD_THREAD;
    let pid = world.id_now(task, pidfd.pid);
    let opened = || {
        let opened = made(libc::SYS_pidfd_open, [pid.into(), thread.into(), 0, 0, 0, 0])?;
        set_status(&opened, description)?;
        // The number may be one of the program's.
        dup_above(opened.as_raw_fd(), world.stage.report)
    };
    opened().map_err(|error| Error::step(format!("open a pidfd of process {}", pidfd.pid), error))
}

/// A duplicate of the one that the process that makes a table has opened at a number.
fn take(world: &World<'_>, task: &Task, (table, number): (u32, u32)) -> Result<OwnedFd> {
    let makes = |process: usize, other: &Task| {
        other.descriptor_table == table && world.sharing(process, Shared::Table).makes
    };
    let mut tasks = world.tasks.iter().enumerate();
    let opener =
        tasks.find_map(|(process, other)| Some((process, other.filter(|other| makes(process, other))?)));
    let (process, opener) = opener.ok_or(Error::Internal("nobody opens a pidfd"))?;
    let mut patience = Patience::default();
    while matches!(world.control.progress(process), Progress::Building | Progress::ThreadsWait) {
        world.check_others()?;
        world.control.wait_progress(process, world.control.progress(process), &mut patience);
    }
    world.check_others()?;
    let taken = || {
        let holder = sys::open_process(world.id_now(task, opener.pid).cast_signed())?;
        let holder_number = holder.as_raw_fd().unsigned_abs();
        let args = [holder_number.into(), number.into(), 0, 0, 0, 0];
        let taken = made(libc::SYS_pidfd_getfd, args)?;
        dup_above(taken.as_raw_fd(), world.stage.report)
    };
    taken().map_err(|error| Error::step(format!("take a pidfd from process {}", opener.pid), error))
}

fn put_all(entries: &BTreeMap<u32, Vec<&Descriptor>>, pidfd: &Pidfd, fd: &OwnedFd) -> Result<()> {
    let mut entries = entries.get(&pidfd.description).into_iter().flatten();
    entries.try_for_each(|entry| put(fd.as_fd(), entry.number, entry.close_on_exec))
}
