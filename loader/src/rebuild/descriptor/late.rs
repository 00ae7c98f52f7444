//! What can only be opened when all tasks are there, which is after the shelf and the forks: pidfds, and files of processes in
//! `/proc`. So the first process that has one in its table opens it, and the others take it from there.

use super::{dup_above, first_holders, put};
use crate::control::{Patience, ProcessWord, Progress};
use crate::error::{Error, Result};
use crate::rebuild::{epoll, file, made, pidfd};
use crate::sys;
use crate::world::{Shared, World};
use binfmt::image::Image;
use binfmt::note::descriptor::{Description, DescriptionKind, Descriptor, DescriptorTable};
use binfmt::note::task::Task;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Opens those in the table of `task`, which this process makes.
pub fn rebuild(world: &World<'_>, process: usize, task: &Task) -> Result<()> {
    let image = world.image;
    if all(image).next().is_none() {
        return Ok(());
    }
    let holders = first_holders(image);
    let first = |late: &Description| holders.get(&late.id).copied().unwrap_or_default();
    let entries = entries(world, task);
    let above = world.stage.report;
    let place = |late: &Description, fd: OwnedFd| {
        put_all(&entries, late, &fd)?;
        epoll::add_late(image, task.descriptor_table, late.id, fd.as_fd(), above)
    };
    for late in all(image).filter(|late| first(late).0 == task.descriptor_table) {
        place(late, open(world, task, late)?)?;
    }
    world.control.set_of(process, ProcessWord::Progress, Progress::LateOpen.word());
    for late in all(image).filter(|late| first(late).0 != task.descriptor_table) {
        if entries.contains_key(&late.id) {
            place(late, take(world, task, first(late))?)?;
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

/// All of them.
fn all(image: &Image) -> impl Iterator<Item = &Description> {
    let is_late = |kind| matches!(kind, DescriptionKind::Pidfd | DescriptionKind::ProcessFile);
    image.all::<Description>().filter(move |description| is_late(description.kind))
}

fn open(world: &World<'_>, task: &Task, description: &Description) -> Result<OwnedFd> {
    let opened = match description.kind {
        DescriptionKind::Pidfd => pidfd::open(world, task, description)?,
        _ => file::process::open_of_task(world, task, description)?,
    };
    // The number may be one of the program's.
    dup_above(opened.as_raw_fd(), world.stage.report)
        .map_err(|error| Error::step(format!("keep {}", description.label), error))
}

/// A duplicate of the one that the process that makes a table has opened at a number.
fn take(world: &World<'_>, task: &Task, (table, number): (u32, u32)) -> Result<OwnedFd> {
    let makes = |process: usize, other: &Task| {
        other.descriptor_table == table && world.sharing(process, Shared::Table).makes
    };
    let mut tasks = world.tasks.iter().enumerate();
    let opener =
        tasks.find_map(|(process, other)| Some((process, other.filter(|other| makes(process, other))?)));
    let (process, opener) = opener.ok_or(Error::Internal("nobody opens what all have"))?;
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
    taken().map_err(|error| Error::step(format!("take a descriptor from process {}", opener.pid), error))
}

fn put_all(entries: &BTreeMap<u32, Vec<&Descriptor>>, late: &Description, fd: &OwnedFd) -> Result<()> {
    let mut entries = entries.get(&late.id).into_iter().flatten();
    entries.try_for_each(|entry| put(fd.as_fd(), entry.number, entry.close_on_exec))
}
