//! How each kind of kernel state is made again: one file for each, by the name it has in the image.

use crate::error::{Error, Result};
use crate::sys;
use binfmt::image::{Image, ImageError, Owner};
use binfmt::note::descriptor::Description;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

pub mod aio;
pub mod cgroup;
pub mod credential;
pub mod descriptor;
pub mod epoll;
pub mod eventfd;
pub mod file;
pub mod filesystem;
pub mod inet;
pub mod inotify;
pub mod io_uring;
pub mod limit;
pub mod lock;
pub mod mapping;
pub mod memfd;
pub mod mqueue;
pub mod msg;
pub mod namespace;
pub mod netlink;
pub mod packet;
pub mod pid_namespace;
pub mod pidfd;
pub mod pipe;
pub mod schedule;
pub mod seccomp;
pub mod sem;
pub mod shm;
pub mod signal;
pub mod signalfd;
pub mod socket;
pub mod task;
pub mod terminal;
pub mod thread;
pub mod timer;
pub mod timerfd;
pub mod tun;
pub mod unix;
pub mod userfaultfd;

/// The path by which a descriptor of ours can be opened again.
fn fd_path(fd: impl AsFd) -> String {
    format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())
}

/// The descriptor that a system call of this number makes.
fn made(number: libc::c_long, args: [u64; 6]) -> std::result::Result<OwnedFd, Errno> {
    let made = sys::call(number, args)?;
    RawFd::try_from(made).map(sys::adopt).map_err(|_| Errno::EBADF)
}

/// What a change of owner has come to: another user's becomes the resuming user's, and who is not in the user namespace cannot be
/// given anything.
fn as_far_as_permitted(changed: std::result::Result<(), Errno>) -> std::result::Result<(), Errno> {
    match changed {
        Err(Errno::EPERM | Errno::EINVAL) => Ok(()),
        changed => changed,
    }
}

/// Gives a description that was made anew, not opened, the status flags that it had.
fn set_status(fd: &OwnedFd, description: &Description) -> std::result::Result<(), Errno> {
    const SETTABLE: i32 = libc::O_APPEND | libc::O_NONBLOCK | libc::O_ASYNC | libc::O_NOATIME;
    let flags = OFlag::from_bits_retain(description.flags.cast_signed() & SETTABLE);
    fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags)).map(drop)
}

/// Writes the content of object `id` to `target`, whose length becomes `size_bytes`. What the image does not store
/// stays a hole. Every segment is compared with its digest on the way.
fn fill_object(image: &Image, id: u32, target: &OwnedFd, size_bytes: u64, name: &str) -> Result<()> {
    const PIECE_BYTES: u64 = 4 << 20;
    let failed = |error| Error::step(format!("fill {name}"), error);
    let size = i64::try_from(size_bytes).map_err(|_| failed(Errno::EFBIG))?;
    nix::unistd::ftruncate(target.as_fd(), size).map_err(failed)?;
    if id == 0 {
        return Ok(());
    }
    let file =
        std::fs::File::from(target.try_clone().map_err(|error| Error::io(format!("fill {name}"), &error))?);
    for ((segment, offset), expected) in image.digests_of(Owner::Object(id))? {
        let (mut at, mut found) = (0, binfmt::digest::EMPTY);
        while at < segment.len_bytes {
            let len =
                usize::try_from(PIECE_BYTES.min(segment.len_bytes - at)).map_err(|_| failed(Errno::EFBIG))?;
            let mut piece = vec![0; len];
            image
                .file
                .read_exact_at(&mut piece, offset + at)
                .map_err(|error| ImageError::Io { offset: offset + at, error })?;
            found = binfmt::digest::combine(found, binfmt::digest::digest(&piece), piece.len() as u64);
            file.write_all_at(&piece, segment.start + at)
                .map_err(|error| Error::io(format!("fill {name}"), &error))?;
            at += piece.len() as u64;
        }
        if found != expected {
            return Err(mismatch(segment, *offset).into());
        }
    }
    Ok(())
}

/// All bytes of a small object.
fn content(image: &Image, id: u32) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    for ((segment, offset), expected) in image.digests_of(Owner::Object(id))? {
        let mut bytes = vec![0; usize::try_from(segment.len_bytes).unwrap_or(0)];
        let read = image.file.read_exact_at(&mut bytes, *offset);
        read.map_err(|error| ImageError::Io { offset: *offset, error })?;
        if binfmt::digest::digest(&bytes) != expected {
            return Err(mismatch(segment, *offset).into());
        }
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

/// The error for a segment whose bytes are not those that were written.
pub(crate) fn mismatch(segment: &binfmt::image::Segment, offset: u64) -> ImageError {
    ImageError::Damaged { offset, what: segment.mismatch() }
}

/// A `prctl(2)` with numbers only.
pub(crate) fn prctl(option: i32, args: [u64; 4]) -> std::result::Result<u64, Errno> {
    let [a, b, c, d] = args;
    sys::call(libc::SYS_prctl, [option.unsigned_abs().into(), a, b, c, d, 0])
}
