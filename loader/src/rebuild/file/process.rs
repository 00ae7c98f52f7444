//! Files of processes in `/proc`: of a task of the tree, by the id that it has now, and of a process that has ended.

use super::{OPEN_FLAGS, seek};
use crate::error::{Error, Refusal, Result};
use crate::rebuild::{fd_path, prctl};
use crate::sys;
use crate::world::World;
use binfmt::image::Image;
use binfmt::note::descriptor::Description;
use binfmt::note::file::{OpenFile, Presence};
use binfmt::note::task::Task;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs, statfs};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpid, getppid};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// What stands against them: the `/proc` that they are in must be one.
pub fn refusals(image: &Image) -> Vec<Refusal> {
    let notes = image.all::<OpenFile>().filter(|note| note.process != 0);
    let refused = notes.filter_map(|note| {
        let at = root(note.file.path.as_path());
        if statfs(&at).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC) {
            return None;
        }
        Some(Refusal {
            reason: format!("{} is a process's file, and {} is no /proc", note.file.path, at.display()),
            remedy: format!("mount it: mount -t proc proc {}", at.display()),
        })
    });
    refused.collect()
}

/// Where the `/proc` of a path is mounted.
fn root(path: &Path) -> PathBuf {
    path.iter().take_while(|part| part.to_str().is_none_or(|part| part.parse::<u32>().is_err())).collect()
}

/// Opens that of a description, when the tasks are there.
pub fn open_of_task(world: &World<'_>, task: &Task, description: &Description) -> Result<OwnedFd> {
    let note = world.image.about::<OpenFile>(description.id).next();
    let note = note.ok_or(Error::Internal("a file's note is missing"))?;
    if note.file.presence == Presence::Deleted {
        return open_of_dead(note, description);
    }
    let path = with_ids(note.file.path.as_path(), |id| Some(world.id_now(task, id)).filter(|now| *now != 0));
    reopen(&path, note, description)
}

/// Opens one of a process that has ended: that of a child, which then ends.
fn open_of_dead(note: &OpenFile, description: &Description) -> Result<OwnedFd> {
    let failed = |error| Error::step(format!("make a process of which {} can be", note.file.path), error);
    let own = getpid();
    // The old id, if it is nobody's.
    let old = i32::try_from(note.process).map_err(|_| Errno::EINVAL);
    let child =
        old.and_then(|id| sys::fork(&[id], 0, 0)).or_else(|_| sys::fork(&[], 0, 0)).map_err(failed)?;
    if child == 0 {
        let signal = libc::SIGKILL.unsigned_abs().into();
        if prctl(libc::PR_SET_PDEATHSIG, [signal, 0, 0, 0]).is_err() || getppid() != own {
            sys::exit_now(0);
        }
        loop {
            nix::unistd::pause();
        }
    }
    let path = with_ids(note.file.path.as_path(), |_| Some(child.unsigned_abs()));
    // What it had open or mapped, nobody has: whatever file of it there is answers alike.
    let opened = reopen(&path, note, description).or_else(|error| {
        let parts: Vec<_> =
            path.iter().take_while(|part| part.to_str() != Some(&child.to_string())).collect();
        let status = parts.iter().collect::<PathBuf>().join(child.to_string()).join("status");
        reopen(&status, note, description).map_err(|_| error)
    });
    let child = Pid::from_raw(child);
    let _ = kill(child, Signal::SIGKILL);
    while waitpid(child, Some(WaitPidFlag::__WALL)) == Err(Errno::EINTR) {}
    opened
}

fn reopen(path: &Path, note: &OpenFile, description: &Description) -> Result<OwnedFd> {
    let flags = description.flags.cast_signed() & OPEN_FLAGS;
    let flags = OFlag::from_bits_retain(flags | libc::O_CLOEXEC | libc::O_NOCTTY);
    let fd =
        open_checked(path, flags).map_err(|error| Error::step(format!("open {}", note.file.path), error))?;
    seek(&fd, note, description)?;
    Ok(fd)
}

/// Opens a file of `/proc`; what else may be at that path (a FIFO, a device) is not even opened.
fn open_checked(path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let kept = OFlag::O_CLOEXEC | (flags & (OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW));
    let found = open(path, OFlag::O_PATH | kept, Mode::empty())?;
    if fstatfs(&found)?.filesystem_type() != PROC_SUPER_MAGIC {
        return Err(Errno::EMEDIUMTYPE);
    }
    if flags.contains(OFlag::O_PATH) {
        return Ok(found);
    }
    open(fd_path(&found).as_str(), flags - OFlag::O_NOFOLLOW, Mode::empty())
}

/// A path with other ids of process and thread, where `now` knows such.
fn with_ids(path: &Path, now: impl Fn(u32) -> Option<u32>) -> PathBuf {
    let mut parts: Vec<OsString> = path.iter().map(OsStr::to_owned).collect();
    let id = |part: &OsString| part.to_str().and_then(|part| part.parse::<u32>().ok());
    let process = parts.iter().position(|part| id(part).is_some());
    let thread = process.filter(|at| parts.get(at + 1).is_some_and(|part| part == "task")).map(|at| at + 2);
    for at in process.into_iter().chain(thread) {
        if let Some(part) = parts.get_mut(at)
            && let Some(new) = id(part).and_then(&now)
        {
            *part = new.to_string().into();
        }
    }
    parts.iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_of_proc_is_not_opened() {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let fifo = std::env::temp_dir().join(format!("ckpt-no-proc-{}", std::process::id()));
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        let opened = open_checked(&fifo, flags);
        std::fs::remove_file(&fifo).unwrap();
        assert_eq!(opened.map(drop), Err(Errno::EMEDIUMTYPE), "it would wait for a writer");
        let own = PathBuf::from(format!("/proc/{}/status", std::process::id()));
        assert!(open_checked(&own, flags).is_ok());
        assert_eq!(root(&own), Path::new("/proc"));
        assert_eq!(root(Path::new("/mnt/a/12/net/dev")), Path::new("/mnt/a"));
    }

    #[test]
    fn only_the_ids_of_process_and_thread_change() {
        let changed = |path: &str| with_ids(Path::new(path), |id| Some(id + 100)).display().to_string();
        assert_eq!(changed("/proc/12/status"), "/proc/112/status");
        assert_eq!(changed("/proc/12/task/13/stat"), "/proc/112/task/113/stat");
        assert_eq!(changed("/proc/12/fdinfo/13"), "/proc/112/fdinfo/13");
        assert_eq!(changed("/proc/12/task/13/fdinfo/14"), "/proc/112/task/113/fdinfo/14");
        assert_eq!(changed("/proc/12/net/task/13"), "/proc/112/net/task/13");
        assert_eq!(with_ids(Path::new("/proc/12/stat"), |_| None), Path::new("/proc/12/stat"));
    }
}
