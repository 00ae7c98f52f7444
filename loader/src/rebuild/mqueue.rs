//! POSIX message queues. One with a name must still be there, like a file; one without is made anew, under a name that is
//! removed at once.

use crate::error::{Error, Refusal, Result};
use crate::rebuild::descriptor::Opened;
use crate::rebuild::{as_far_as_permitted, made, set_status};
use crate::sys;
use binfmt::image::Image;
use binfmt::note::descriptor::Description;
use binfmt::note::mqueue::MessageQueue;
use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Opens the queue of every description.
pub fn open_all(image: &Image, opened: &mut Opened) -> Result<()> {
    let mut unlinked: BTreeMap<u64, Vec<(&MessageQueue, &Description)>> = BTreeMap::new();
    for note in image.all::<MessageQueue>() {
        let Some(description) = image.about::<Description>(note.description).next() else { continue };
        if note.unlinked {
            unlinked.entry(note.inode).or_default().push((note, description));
        } else {
            let fd = find(note, description)?;
            set_status(&fd, description).map_err(|error| failed(note, error))?;
            opened.insert(note.description, fd);
        }
    }
    for all in unlinked.values() {
        let Some((note, _)) = all.first() else { continue };
        opened.extend(make(note, all).map_err(|error| failed(note, error))?);
    }
    Ok(())
}

fn failed(note: &MessageQueue, error: Errno) -> Error {
    Error::step(format!("open the message queue /{}", note.name), error)
}

fn access(description: &Description) -> i32 {
    description.flags.cast_signed() & (libc::O_ACCMODE | libc::O_NONBLOCK)
}

/// mq_open(2)
fn open_queue(name: &[u8], flags: i32, mode: u32, attributes: Option<&[u64; 8]>) -> nix::Result<OwnedFd> {
    let name = CString::new(name).map_err(|_| Errno::ENOENT)?;
    let flags = (flags | libc::O_CLOEXEC).unsigned_abs().into();
    let attributes = attributes.map_or(0, |attributes| attributes.as_ptr().addr() as u64);
    made(libc::SYS_mq_open, [name.as_ptr().addr() as u64, flags, mode.into(), attributes, 0, 0])
}

/// How many messages a queue takes, and how long.
fn bounds(queue: BorrowedFd<'_>) -> nix::Result<(u64, u64)> {
    let mut found = [0_u64; 8];
    let number = queue.as_raw_fd().unsigned_abs().into();
    sys::call(libc::SYS_mq_getsetattr, [number, 0, found.as_mut_ptr().addr() as u64, 0, 0, 0])?;
    let [_, messages, bytes, ..] = found;
    Ok((messages, bytes))
}

/// The queue with this name, if it is such a one.
fn find(note: &MessageQueue, description: &Description) -> Result<OwnedFd> {
    let refused = |cause: String| {
        let reason = format!("the message queue /{} {cause}", note.name);
        let remedy = "a queue is no part of a checkpoint: make it again, or resume where it was dumped";
        Error::Refused(vec![Refusal { reason, remedy: remedy.to_owned() }])
    };
    let queue = open_queue(&note.name.0, access(description), 0, None)
        .map_err(|error| refused(format!("cannot be opened: {error}")))?;
    let (messages, bytes) =
        bounds(queue.as_fd()).map_err(|error| refused(format!("cannot be asked: {error}")))?;
    match (messages, bytes) == (note.max_messages, note.message_bytes) {
        true => Ok(queue),
        false => Err(refused(format!("is another one: it takes {messages} messages of {bytes} bytes"))),
    }
}

/// A queue without a name, opened for `all` its descriptions. For a moment it has its old one, if that is free, so that
/// `/proc/PID/fd` shows what it did.
fn make(note: &MessageQueue, all: &[(&MessageQueue, &Description)]) -> nix::Result<Vec<(u32, OwnedFd)>> {
    const OWN_ACCESS: u32 = 0o600;
    let attributes = [0, note.max_messages, note.message_bytes, 0, 0, 0, 0, 0];
    let flags = libc::O_RDWR | libc::O_CREAT | libc::O_EXCL;
    let mut name = note.name.0.clone();
    let made = match open_queue(&name, flags, OWN_ACCESS, Some(&attributes)) {
        Err(Errno::EEXIST) => {
            name = format!("ckpt-{}-{}", std::process::id(), note.inode).into_bytes();
            open_queue(&name, flags, OWN_ACCESS, Some(&attributes))
        }
        made => made,
    }?;
    let open = |(note, description): &(&MessageQueue, &Description)| {
        let fd = open_queue(&name, access(description), 0, None)?;
        set_status(&fd, description)?;
        Ok((note.description, fd))
    };
    let opened: nix::Result<Vec<_>> = all.iter().map(open).collect();
    let unlinked = CString::new(name.as_slice()).map_err(|_| Errno::ENOENT)?;
    sys::call(libc::SYS_mq_unlink, [unlinked.as_ptr().addr() as u64, 0, 0, 0, 0, 0])?;
    let (user, group) = (Uid::from_raw(note.user), Gid::from_raw(note.group));
    as_far_as_permitted(nix::unistd::fchown(&made, Some(user), Some(group)))?;
    nix::sys::stat::fchmod(&made, Mode::from_bits_truncate(note.mode))?;
    opened
}
