//! The names of sockets: a path in a filesystem, or an abstract one.
//!
//! A socket's file that is still there is a dead one's: who connects to it is refused. It gives way. One at which somebody
//! listens does not, and nothing that is no socket.

use super::agent::{Agents, Call, Who};
use super::failed;
use crate::error::{Error, Refusal, Result};
use crate::rebuild::as_far_as_permitted;
use binfmt::image::Image;
use binfmt::note::file::{FileType, Presence};
use binfmt::note::unix::UnixSocket;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, connect, socket};
use nix::sys::stat::{FchmodatFlags, Mode, fchmodat};
use nix::unistd::{Gid, Uid, fchdir, unlink};
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// The files that were made, which go again if anything fails.
#[derive(Default)]
pub(super) struct Names {
    made: Vec<PathBuf>,
    /// Those that had lost their names, which lose them when all sockets stand.
    deleted: Vec<PathBuf>,
}

/// The address of a name; it says where it leads only together with [`stand_for`].
pub(super) fn address(name: &[u8]) -> std::result::Result<UnixAddr, Errno> {
    match name.split_first() {
        Some((0, rest)) => UnixAddr::new_abstract(rest),
        _ => UnixAddr::new(binfmt::wire::Text::from(name).as_path()),
    }
}

impl Names {
    /// Gives a socket its name.
    pub(super) fn give(&mut self, image: &Image, note: &UnixSocket, fd: BorrowedFd<'_>) -> Result<()> {
        let name = note.name.0.as_slice();
        if name.is_empty() {
            return Ok(());
        }
        let address = address(name).map_err(|error| failed(image, note, "name", error))?;
        if name.first() == Some(&0) {
            return match bind(fd.as_raw_fd(), &address) {
                Err(Errno::EADDRINUSE) => Err(in_use(note)),
                done => done.map_err(|error| failed(image, note, "name", error)),
            };
        }
        let path = note.file.path.as_path();
        make_way(note, path)?;
        let back = stand_for(note)?;
        let bound = bind(fd.as_raw_fd(), &address);
        go_back(back)?;
        match bound {
            Ok(()) => {}
            Err(Errno::EADDRINUSE) => return Err(in_use(note)),
            Err(error) => {
                let reason = format!("the unix socket {} cannot be made: {error}", note.file.path);
                let remedy = "make its directory, or resume as who may write there".to_owned();
                return Err(Error::Refused(vec![Refusal { reason, remedy }]));
            }
        }
        self.made.push(path.to_owned());
        let made = fchmodat(
            nix::fcntl::AT_FDCWD,
            path,
            Mode::from_bits_truncate(note.file.mode),
            FchmodatFlags::FollowSymlink,
        );
        made.map_err(|error| failed(image, note, "name", error))?;
        let (user, group) = (Uid::from_raw(note.file.user), Gid::from_raw(note.file.group));
        as_far_as_permitted(nix::unistd::chown(path, Some(user), Some(group)))
            .map_err(|error| failed(image, note, "name", error))?;
        if note.file.presence == Presence::Deleted {
            self.deleted.push(path.to_owned());
        }
        Ok(())
    }

    /// Takes the names that had been lost.
    pub(super) fn forget_deleted(&mut self) {
        for path in std::mem::take(&mut self.deleted) {
            let _ = unlink(&path);
            self.made.retain(|made| *made != path);
        }
    }

    /// All sockets stand: their files stay.
    pub(super) fn keep(mut self) {
        self.made.clear();
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        for path in &self.made {
            let _ = unlink(path);
        }
    }
}

/// Has `who` connect to the socket of `note` by its name.
pub(super) fn reach(agents: &Agents, who: Option<Who>, note: &UnixSocket, fd: BorrowedFd<'_>) -> Result<()> {
    let failed = |error| match error {
        Errno::EAGAIN => Error::Refused(vec![Refusal {
            reason: format!(
                "{} connections waited at the unix socket {}, more than this host permits",
                note.pending.len(),
                note.name
            ),
            remedy: format!("set net.core.somaxconn to {} at least", note.pending.len()),
        }]),
        error => Error::step(format!("connect to the unix socket {}", note.name), error),
    };
    let back = stand_for(note)?;
    let done = agents.call(who, Call::Connect(fd.as_raw_fd(), &note.name.0));
    go_back(back)?;
    done?.map(drop).map_err(failed)
}

/// Goes to the directory from which the name of a socket leads to its file, if it is a relative one. Returns how to get back.
pub(super) fn stand_for(note: &UnixSocket) -> Result<Option<OwnedFd>> {
    let name = note.name.0.as_slice();
    if matches!(name.first(), None | Some(0 | b'/')) {
        return Ok(None);
    }
    let path = note.file.path.0.as_slice();
    let plain = name.strip_prefix(b"./").unwrap_or(name);
    let directory = path.strip_suffix(plain).filter(|rest| rest.ends_with(b"/"));
    let Some(directory) = directory else {
        return Err(Error::Refused(vec![Refusal {
            reason: format!(
                "the unix socket {} was named {}, which does not lead there from any directory",
                note.file.path, note.name
            ),
            remedy: "such a socket cannot be made again yet".to_owned(),
        }]));
    };
    let failed = |error| Error::step(format!("go to where the unix socket {} is", note.file.path), error);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let back = open(".", flags, Mode::empty()).map_err(failed)?;
    nix::unistd::chdir(binfmt::wire::Text::from(directory).as_path()).map_err(failed)?;
    Ok(Some(back))
}

pub(super) fn go_back(back: Option<OwnedFd>) -> Result<()> {
    match back {
        Some(back) => fchdir(&back).map_err(|error| Error::step("go back to its own directory", error)),
        None => Ok(()),
    }
}

/// Removes the file that was made for a socket.
pub(super) fn remove_file(note: &UnixSocket) {
    let path = note.file.path.as_path();
    if !note.file.path.0.is_empty()
        && fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
    {
        let _ = unlink(path);
    }
}

/// Removes the file of a socket if nobody has it any more; whether there is none.
pub(super) fn remove_dead_file(note: &UnixSocket) -> bool {
    let path = note.file.path.as_path();
    let is_there = fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket());
    if is_there && !is_used(path) {
        let _ = unlink(path);
        return true;
    }
    !is_there
}

/// Removes a socket's file that nobody uses any more.
fn make_way(note: &UnixSocket, path: &Path) -> Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else { return Ok(()) };
    if !found.file_type().is_socket() || note.file.file_type != FileType::Socket || is_used(path) {
        return Err(in_use(note));
    }
    unlink(path)
        .map_err(|error| Error::step(format!("remove the dead unix socket {}", note.file.path), error))
}

/// Whether a socket has this file: one of another type than it is asked for by is refused for that alone.
fn is_used(path: &Path) -> bool {
    let asks = |kind| {
        let asking =
            socket(AddressFamily::Unix, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
        connect(asking.as_raw_fd(), &UnixAddr::new(path)?)
    };
    // Nobody sees that a datagram socket was connected.
    asks(SockType::Datagram) != Err(Errno::ECONNREFUSED)
}

fn in_use(note: &UnixSocket) -> Error {
    let name = if note.file.path.0.is_empty() { &note.name } else { &note.file.path };
    Error::Refused(vec![Refusal {
        reason: format!("the name of a unix socket is in use: {name}"),
        remedy: "end who uses it, or remove what is there".to_owned(),
    }])
}
