//! Pseudo-terminals with both ends in the tree. They are made with the other descriptions, under their old numbers: the kernel
//! gives the lowest that is free, so those below are taken for a moment. In namespaces there is an instance of devpts for
//! the tree alone, where all are free.
//!
//! A session gets its terminal when its leader has made it, before anybody else is in it, and the terminal its foreground
//! group when all groups are there.

use super::encode;
use crate::error::{Error, Refusal, Result};
use crate::rebuild::descriptor::{Opened, dup_above, put};
use crate::rebuild::{as_far_as_permitted, set_status};
use crate::sys;
use crate::world::World;
use binfmt::image::Image;
use binfmt::note::descriptor::{Description, DescriptorTable};
use binfmt::note::epoll::Epoll;
use binfmt::note::task::Task;
use binfmt::note::terminal::PseudoTerminal;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};

/// The controlling terminal, whichever that is.
const ALIAS: &str = "/dev/tty";
const TIOCGPTN: u64 = 0x8004_5430;
const TIOCSPTLCK: u64 = 0x4004_5431;
/// Flags by which an end was opened.
const OPEN_FLAGS: i32 = libc::O_ACCMODE | libc::O_NONBLOCK | libc::O_APPEND | libc::O_NOATIME | libc::O_SYNC;

fn slave_path(note: &PseudoTerminal) -> PathBuf {
    PathBuf::from(format!("/dev/pts/{}", note.index))
}

/// Why the pseudo-terminals of an image cannot have their numbers, if they cannot.
pub fn taken(image: &Image) -> Option<String> {
    let taken = |note: &&PseudoTerminal| slave_path(note).exists();
    let note = image.all::<PseudoTerminal>().find(taken)?;
    Some(format!("the pseudo-terminal /dev/pts/{} is another one's", note.index))
}

/// Whether the terminal of the session of this leader is one of the tree's.
pub fn has_own(image: &Image, leader: u32) -> bool {
    image.all::<PseudoTerminal>().any(|note| note.session == leader)
}

/// Mounts an instance of devpts for the tree alone, if it needs one.
pub fn mount_own(image: &Image) -> Result<()> {
    if image.all::<PseudoTerminal>().next().is_none() {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let options = "newinstance,ptmxmode=0666,mode=0620";
    mount(Some("devpts"), "/dev/pts", Some("devpts"), flags, Some(options))
        .map_err(|error| Error::step("mount a /dev/pts of its own", error))
}

/// An `ioctl(2)` with a number, or with the address of a word.
fn control(fd: BorrowedFd<'_>, request: u64, argument: u64) -> nix::Result<()> {
    sys::call(libc::SYS_ioctl, [fd.as_raw_fd().unsigned_abs().into(), request, argument, 0, 0, 0]).map(drop)
}

/// Makes all pseudo-terminals of an image, and opens both ends of each.
pub fn make_all(image: &Image, opened: &mut Opened) -> Result<()> {
    let notes: BTreeMap<u32, &PseudoTerminal> =
        image.all::<PseudoTerminal>().map(|note| (note.index, note)).collect();
    let mut below = Vec::new();
    for note in notes.values() {
        let master = make(image, note, &mut below)?;
        let slaves = prepare(image, note, master.as_fd());
        let slaves = slaves
            .map_err(|error| Error::step(format!("make pseudo-terminal {} as it was", note.index), error))?;
        opened.extend(slaves);
        opened.insert(note.master, master);
    }
    Ok(())
}

fn flags_of(image: &Image, description: u32) -> i32 {
    let found = image.about::<Description>(description).next();
    found.map_or(libc::O_RDWR, |description| description.flags.cast_signed())
}

/// Opens the master that gets the number. Those that come before are kept `below` until all have been made.
fn make(image: &Image, note: &PseudoTerminal, below: &mut Vec<OwnedFd>) -> Result<OwnedFd> {
    let failed = |error| Error::step(format!("make pseudo-terminal {}", note.index), error);
    let flags =
        OFlag::from_bits_retain(flags_of(image, note.master) & OPEN_FLAGS | libc::O_NOCTTY | libc::O_CLOEXEC);
    loop {
        let master = open(note.master_path.as_path(), flags, Mode::empty()).map_err(failed)?;
        let mut index = [u32::MAX];
        control(master.as_fd(), TIOCGPTN, index.as_mut_ptr().addr() as u64).map_err(failed)?;
        match index.first().copied().unwrap_or(u32::MAX) {
            index if index == note.index => return Ok(master),
            index if index < note.index => below.push(master),
            _ => {
                return Err(Error::Refused(vec![Refusal {
                    reason: format!("the pseudo-terminal /dev/pts/{} is another one's", note.index),
                    remedy: "end who has it, or resume with --pid namespace".to_owned(),
                }]));
            }
        }
    }
}

/// Opens the slaves, and sets everything.
fn prepare(image: &Image, note: &PseudoTerminal, master: BorrowedFd<'_>) -> nix::Result<Vec<(u32, OwnedFd)>> {
    let path = slave_path(note);
    let lock = |locked: u32| control(master, TIOCSPTLCK, [locked].as_ptr().addr() as u64);
    lock(0)?;
    let open_slave = |flags: i32| {
        let flags = OFlag::from_bits_retain(flags & OPEN_FLAGS | libc::O_NOCTTY | libc::O_CLOEXEC);
        open(&path, flags, Mode::empty())
    };
    if note.closed && note.slaves.is_empty() {
        drop(open_slave(libc::O_RDWR)?);
    }
    let mut slaves = Vec::new();
    for id in &note.slaves {
        let slave = open_slave(flags_of(image, *id))?;
        for description in image.about::<Description>(*id).take(1) {
            set_status(&slave, description)?;
        }
        slaves.push((*id, slave));
    }
    set_node(note, &path)?;
    let wanted = encode(&note.settings);
    control(master, libc::TCSETS2, wanted.as_ptr().addr() as u64)?;
    let short = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
    let size = [note.rows, note.columns, note.pixels_wide, note.pixels_high].map(short);
    control(master, libc::TIOCSWINSZ, size.as_ptr().addr() as u64)?;
    if note.packet_mode {
        control(master, libc::TIOCPKT, [1_u32].as_ptr().addr() as u64)?;
    }
    if note.master_exclusive {
        control(master, libc::TIOCEXCL, 0)?;
    }
    if let Some((_, slave)) = slaves.first().filter(|_| note.exclusive) {
        control(slave.as_fd(), libc::TIOCEXCL, 0)?;
    }
    lock(note.locked.into())?;
    Ok(slaves)
}

/// Owner and mode of the slave's node.
fn set_node(note: &PseudoTerminal, path: &Path) -> nix::Result<()> {
    as_far_as_permitted(nix::unistd::chown(
        path,
        Some(Uid::from_raw(note.user)),
        Some(Gid::from_raw(note.group)),
    ))?;
    let mode = Mode::from_bits_truncate(note.mode);
    nix::sys::stat::fchmodat(nix::fcntl::AT_FDCWD, path, mode, nix::sys::stat::FchmodatFlags::FollowSymlink)
}

/// What `--plan` says of the terminal of the session that a task leads.
pub fn steps(image: &Image, task: &Task) -> Vec<String> {
    let own = image.all::<PseudoTerminal>().filter(|note| note.session == task.pid);
    let step = |note: &PseudoTerminal| {
        let PseudoTerminal { index, foreground, .. } = note;
        format!("ioctl(TIOCSCTTY)  # /dev/pts/{index} is its session's, with group {foreground} in front")
    };
    own.map(step).collect()
}

/// In the new leader of a session: makes its terminal the controlling one, if that is one of the tree's.
pub fn take_control(world: &World<'_>, leader: u32) -> Result<()> {
    let Some(note) = world.image.all::<PseudoTerminal>().find(|note| note.session == leader) else {
        return Ok(());
    };
    let failed =
        |error| Error::step(format!("make /dev/pts/{} the terminal of session {leader}", note.index), error);
    let open_slave = || {
        let slave =
            open(&slave_path(note), OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC, Mode::empty())?;
        dup_above(slave.as_raw_fd(), world.stage.report)
    };
    let on_shelf = note.slaves.iter().find_map(|id| world.shelf.description(*id));
    match on_shelf {
        Some(slave) => control(slave, libc::TIOCSCTTY, 0).map_err(failed)?,
        None => {
            open_slave().and_then(|slave| control(slave.as_fd(), libc::TIOCSCTTY, 0)).map_err(failed)?;
        }
    }
    note.slaves.iter().try_for_each(|id| rename(world, *id))
}

/// Opens a slave anew that was opened as `/dev/tty`, which leads to it only in its session. All who will have it come from
/// here. If an epoll set watches it already, or it may not be opened again, it keeps the name that it has.
fn rename(world: &World<'_>, id: u32) -> Result<()> {
    let failed = |error| Error::step("open /dev/tty", error);
    let Some(standing) = world.shelf.description(id) else { return Ok(()) };
    let mut all = world.image.about::<Description>(id);
    let Some(description) = all.next().filter(|found| found.label.0 == ALIAS.as_bytes()) else {
        return Ok(());
    };
    if world.image.all::<Epoll>().flat_map(|set| &set.targets).any(|target| target.description == id) {
        return Ok(());
    }
    let flags = description.flags.cast_signed() & OPEN_FLAGS | libc::O_CLOEXEC;
    let Ok(opened) = open(ALIAS, OFlag::from_bits_retain(flags), Mode::empty()) else { return Ok(()) };
    set_status(&opened, description).map_err(failed)?;
    put(opened.as_fd(), standing.as_raw_fd().unsigned_abs(), false)
}

/// In the leader of a session, when all groups are there and its descriptors are in place: gives its terminal the foreground
/// group that it had.
pub fn set_foreground(world: &World<'_>, task: &Task) -> Result<()> {
    let Some(note) = world.image.all::<PseudoTerminal>().find(|note| note.session == task.pid) else {
        return Ok(());
    };
    let has_members = world.tasks.iter().flatten().any(|other| other.process_group == note.foreground);
    if note.foreground == task.pid || !has_members {
        return Ok(());
    }
    let failed = |error| {
        Error::step(format!("give /dev/pts/{} the foreground group {}", note.index, note.foreground), error)
    };
    let tables = world.image.about::<DescriptorTable>(task.descriptor_table);
    let is_end = |id: u32| id == note.master || note.slaves.contains(&id);
    let own = tables.flat_map(|table| &table.descriptors).find(|entry| is_end(entry.description));
    let group = [world.id_now(task, note.foreground)];
    let set = |fd: BorrowedFd<'_>| control(fd, libc::TIOCSPGRP, group.as_ptr().addr() as u64);
    let done = match own.and_then(|entry| RawFd::try_from(entry.number).ok()) {
        Some(number) => set(sys::borrow(number)),
        None => {
            let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
            open(ALIAS, flags, Mode::empty()).and_then(|terminal| set(terminal.as_fd()))
        }
    };
    done.map_err(failed)
}
