//! Asking namespaces (ioctl_ns(2)), and a child that enters one.

use super::Result;
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{ForkResult, fork, pipe2};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn from_io(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

fn ask(path: &Path, request: libc::c_ulong) -> Result<OwnedFd> {
    let namespace = File::open(path).map_err(|error| from_io(&error))?;
    // SAFETY: these requests take no argument and answer with a new descriptor.
    let found = Errno::result(unsafe { libc::ioctl(namespace.as_raw_fd(), request) })?;
    // SAFETY: the kernel has just made it, for us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(found) })
}

/// The inode of the namespace in which the pid or user namespace at `path` was made (NS_GET_PARENT).
pub(crate) fn parent_namespace(path: &Path) -> Result<u64> {
    const NS_GET_PARENT: libc::c_ulong = 0xb702;
    inode_of(&ask(path, NS_GET_PARENT)?)
}

/// The user namespace that owns the namespace at `path` (NS_GET_USERNS).
pub(crate) fn owner_of_namespace(path: &Path) -> Result<OwnedFd> {
    const NS_GET_USERNS: libc::c_ulong = 0xb701;
    ask(path, NS_GET_USERNS)
}

/// The inode of a namespace.
pub(crate) fn inode_of(namespace: &OwnedFd) -> Result<u64> {
    let own = namespace.try_clone().map_err(|error| from_io(&error))?;
    Ok(File::from(own).metadata().map_err(|error| from_io(&error))?.ino())
}

/// What a child says that does `work` and ends.
pub(crate) fn answer_of_child(work: impl FnOnce() -> Result<Vec<u8>>) -> Result<Vec<u8>> {
    let (theirs, ours) = pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    // SAFETY: threads of this program end before whoever started them goes on: there is one, and the child has all of it.
    match unsafe { fork() }? {
        ForkResult::Child => {
            drop(theirs);
            let status = match work() {
                Ok(answer) => File::from(ours).write_all(&answer).map_or(libc::EIO, |()| 0),
                Err(error) => error as i32,
            };
            // SAFETY: nothing of this process is needed any more.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => {
            drop(ours);
            let mut answer = Vec::new();
            let read = File::from(theirs).read_to_end(&mut answer);
            let status = loop {
                match waitpid(child, Some(WaitPidFlag::__WALL)) {
                    Err(Errno::EINTR) => {}
                    status => break status?,
                }
            };
            match status {
                nix::sys::wait::WaitStatus::Exited(_, 0) => {
                    read.map(|_| answer).map_err(|error| from_io(&error))
                }
                nix::sys::wait::WaitStatus::Exited(_, error) => Err(Errno::from_raw(error)),
                _ => Err(Errno::ECHILD),
            }
        }
    }
}
