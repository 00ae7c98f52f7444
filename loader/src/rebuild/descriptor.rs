//! The table of descriptors: every description opened once, by the file of its kind, then put at its numbers.

pub mod late;
mod place;

use crate::error::{Error, Result};
use crate::rebuild::{
    epoll, eventfd, file, inotify, io_uring, made, memfd, mqueue, pipe, signalfd, socket, terminal, timerfd,
    tun,
};
use crate::shelf::Shelf;
use crate::stage::Identity;
use binfmt::image::Image;
use binfmt::note::FromNote;
use binfmt::note::descriptor::{Description, DescriptionKind, DescriptorTable};
use binfmt::note::epoll::Epoll;
use binfmt::note::eventfd::Eventfd;
use binfmt::note::file::OpenFile;
use binfmt::note::io_uring::IoUring;
use binfmt::note::memfd::OpenMemfd;
use binfmt::note::pipe::Pipe;
use binfmt::note::signalfd::Signalfd;
use binfmt::note::task::Task;
use binfmt::note::terminal::OpenTerminal;
use binfmt::note::timerfd::Timerfd;
use binfmt::note::tun::Tun;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::stat::Mode;
use std::collections::{BTreeMap, BTreeSet};
use std::io::IsTerminal;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

pub use place::{close_others, place, place_shared};

/// How many numbers above all of the image's the loader needs for itself.
pub const RESERVE: RawFd = 64;

/// Opened descriptions by their id, out of the way of the task's numbers.
pub type Opened = BTreeMap<u32, OwnedFd>;

/// The loader's own descriptors 0, 1 and 2, out of the way; /dev/null where the caller had closed one.
#[derive(Debug)]
pub struct OwnStdio([OwnedFd; 3]);

impl OwnStdio {
    /// Keeps them at or above number `above`.
    pub fn keep(above: RawFd) -> Result<OwnStdio> {
        let keep = |number: RawFd| {
            let failed = |error| Error::step(format!("keep descriptor {number}"), error);
            dup_above(number, above).or_else(|_| {
                let null =
                    open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed)?;
                dup_above(null.as_raw_fd(), above).map_err(failed)
            })
        };
        Ok(OwnStdio([keep(0)?, keep(1)?, keep(2)?]))
    }

    /// The one of this number; for any other number the first.
    pub fn get(&self, number: u32) -> BorrowedFd<'_> {
        let [first, ..] = &self.0;
        usize::try_from(number).ok().and_then(|index| self.0.get(index)).unwrap_or(first).as_fd()
    }

    /// All three.
    pub fn all(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().map(AsFd::as_fd)
    }

    /// The first that is a terminal.
    pub fn terminal(&self) -> Option<BorrowedFd<'_>> {
        self.0.iter().find(|fd| fd.is_terminal()).map(AsFd::as_fd)
    }
}

/// What `--plan` says of the descriptions that several tasks have, or none: those are on their way through a socket.
pub fn shared_steps(image: &Image) -> Vec<String> {
    let shared = image.all::<Description>().filter(|description| holders(image, description.id) != 1);
    let is_opened = |description: &&Description| {
        !matches!(
            description.kind,
            DescriptionKind::Outside | DescriptionKind::Terminal | DescriptionKind::Closed
        )
    };
    let line = |description: &Description| {
        let whose = if holders(image, description.id) == 0 { "on its way" } else { "once for all" };
        match socket::step(image, description) {
            Some(calls) => format!("ckpt: {calls}  # {whose}"),
            None => format!("ckpt: open({})  # {whose}", description.label),
        }
    };
    shared.filter(is_opened).map(line).collect()
}

/// How many descriptor tables have a description.
fn holders(image: &Image, description: u32) -> usize {
    let has =
        |table: &&DescriptorTable| table.descriptors.iter().any(|entry| entry.description == description);
    image.all::<DescriptorTable>().filter(has).count()
}

/// The first table that has each description, and its number there.
pub fn first_holders(image: &Image) -> BTreeMap<u32, (u32, u32)> {
    let mut first = BTreeMap::new();
    for table in image.all::<DescriptorTable>() {
        for entry in &table.descriptors {
            first.entry(entry.description).or_insert((table.id, entry.number));
        }
    }
    first
}

/// The descriptions that no table has: they are on their way through sockets.
pub fn without_holder(image: &Image) -> impl Iterator<Item = &Description> {
    let held = first_holders(image);
    image.all::<Description>().filter(move |description| !held.contains_key(&description.id))
}

/// What `--plan` says of the descriptors of a task.
pub fn steps(image: &Image, task: &Task) -> Vec<String> {
    let table = image.all::<DescriptorTable>().find(|table| table.id == task.descriptor_table);
    let mut numbers: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for entry in table.into_iter().flat_map(|table| &table.descriptors) {
        numbers.entry(entry.description).or_default().push(entry.number.to_string());
    }
    let line = |description: &Description, numbers: String| match description.kind {
        DescriptionKind::Outside | DescriptionKind::Terminal => {
            format!("dup2()  # {numbers} takes the loader's own (it was {})", description.label)
        }
        DescriptionKind::Closed => format!("# {numbers} stays closed"),
        DescriptionKind::Epoll => {
            format!("epoll_ctl()  # {numbers} watches {}", epoll::targets(image, description.id))
        }
        DescriptionKind::Inotify => {
            format!("inotify_add_watch()  # {numbers} watches {}", inotify::watched(image, description.id))
        }
        DescriptionKind::MessageQueue => format!("mq_open({})  # descriptor {numbers}", description.label),
        DescriptionKind::IoUring => format!("io_uring_setup()  # descriptor {numbers}"),
        _ if holders(image, description.id) > 1 => format!("dup2()  # {numbers}: {}", description.label),
        _ => match socket::step(image, description) {
            Some(calls) => format!("{calls}  # descriptor {numbers}"),
            None => format!("open({})  # descriptor {numbers}", description.label),
        },
    };
    let all = image.all::<Description>();
    let opened =
        all.filter_map(|description| Some(line(description, numbers.get(&description.id)?.join(", "))));
    opened.chain(terminal::pseudo::steps(image, task)).collect()
}

/// A duplicate of `number`, which must be open, at or above `above`, closed on exec.
pub fn dup_above(number: RawFd, above: RawFd) -> std::result::Result<OwnedFd, Errno> {
    let (duplicate, above) = (libc::F_DUPFD_CLOEXEC.unsigned_abs(), above.unsigned_abs());
    made(libc::SYS_fcntl, [number.unsigned_abs().into(), duplicate.into(), above.into(), 0, 0, 0])
}

/// A duplicate of `fd` at or above `above`, where the image has no numbers, unless it is there. If too few of them are
/// left under the limit, some must stay among the image's, but not where the loader's standard streams are.
pub fn out_of_way(fd: &OwnedFd, above: RawFd) -> std::result::Result<Option<OwnedFd>, Errno> {
    let number = fd.as_raw_fd();
    if number >= above {
        return Ok(None);
    }
    let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let end = RawFd::try_from(limit).unwrap_or(RawFd::MAX).saturating_sub(RESERVE);
    match dup_above(number, above) {
        Ok(moved) if moved.as_raw_fd() < end => Ok(Some(moved)),
        Ok(_) | Err(Errno::EMFILE) if number >= 3 => Ok(None),
        Ok(_) | Err(Errno::EMFILE) => dup_above(number, 3).map(Some),
        Err(error) => Err(error),
    }
}

/// The note that completes a description.
fn completing<'a, T: FromNote + 'a>(
    image: &'a Image,
    description: u32,
    missing: &'static str,
) -> Result<&'a T> {
    image.about::<T>(description).next().ok_or(Error::Internal(missing))
}

/// Opens every description of the image, each once, all at or above `above` if there is room.
pub fn open_all(
    image: &Image,
    identity: Identity,
    shelf: &Shelf,
    own: &OwnStdio,
    above: RawFd,
) -> Result<Opened> {
    let mut opened = Opened::new();
    for pipe in image.all::<Pipe>() {
        pipe::rebuild(image, pipe, &mut opened)?;
    }
    terminal::pseudo::make_all(image, &mut opened)?;
    mqueue::open_all(image, &mut opened)?;
    for description in image.all::<Description>() {
        let id = description.id;
        let fd = match description.kind {
            DescriptionKind::File => {
                let note: &OpenFile = completing(image, id, "a file's note is missing")?;
                file::reopen(shelf, note, description)?
            }
            DescriptionKind::Memfd => {
                let note: &OpenMemfd = completing(image, id, "a memfd's note is missing")?;
                memfd::reopen(note, description, shelf)?
            }
            DescriptionKind::Terminal => {
                let note: &OpenTerminal = completing(image, id, "a terminal's note is missing")?;
                terminal::take(note, first_number(image, id), own, above)?
            }
            DescriptionKind::Eventfd => {
                let note: &Eventfd = completing(image, id, "an eventfd's note is missing")?;
                eventfd::make(note, description)?
            }
            DescriptionKind::Timerfd => {
                let note: &Timerfd = completing(image, id, "a timerfd's note is missing")?;
                timerfd::make(image, note, description)?
            }
            DescriptionKind::Signalfd => {
                let note: &Signalfd = completing(image, id, "a signalfd's note is missing")?;
                signalfd::make(note, description)?
            }
            DescriptionKind::Epoll => {
                let note: &Epoll = completing(image, id, "an epoll set's note is missing")?;
                epoll::make(note, description)?
            }
            DescriptionKind::Tun => {
                let note: &Tun = completing(image, id, "a network interface's note is missing")?;
                tun::reopen(note, description)?
            }
            DescriptionKind::Inotify => inotify::make(description)?,
            DescriptionKind::IoUring => {
                let note: &IoUring = completing(image, id, "an io_uring's note is missing")?;
                io_uring::make(image, note, description)?
            }
            // The loader's own descriptor of the same number is put there by `place`.
            DescriptionKind::Pipe
            | DescriptionKind::PseudoTerminal
            | DescriptionKind::MessageQueue
            | DescriptionKind::Outside
            | DescriptionKind::Closed => continue,
            // All together, when what may be on the way through them stands.
            DescriptionKind::Socket => continue,
            // When there are tasks.
            DescriptionKind::Pidfd | DescriptionKind::ProcessFile | DescriptionKind::Userfaultfd => continue,
        };
        opened.insert(id, fd);
    }
    socket::rebuild_all(image, identity, own, &mut opened)?;
    for (id, fd) in &mut opened {
        if let Some(moved) = out_of_way(fd, above)
            .map_err(|error| Error::step(format!("move description {id} out of the way"), error))?
        {
            *fd = moved;
        }
    }
    Ok(opened)
}

/// The lowest descriptor of a description; beyond all others for one that is on its way only.
pub fn first_number(image: &Image, description: u32) -> u32 {
    let entries = image.all::<DescriptorTable>().flat_map(|table| &table.descriptors);
    entries
        .filter(|entry| entry.description == description)
        .map(|entry| entry.number)
        .min()
        .unwrap_or(u32::MAX)
}

/// Who gets SIGIO from a description, and as which signal. `now` says which id a saved one has. One that has ended, or
/// a group that is not here, can get nothing and is left out. The root does it for those that no table has, too.
pub fn set_owners(
    image: &Image,
    table: &DescriptorTable,
    is_root: bool,
    shelf: &Shelf,
    now: impl Fn(u32) -> u32,
) -> Result<()> {
    const F_SETSIG: u64 = 10;
    const F_SETOWN_EX: u64 = 15;
    let mut held: BTreeSet<u32> = table.descriptors.iter().map(|entry| entry.description).collect();
    if is_root {
        held.extend(without_holder(image).map(|description| description.id));
    }
    let held = held.into_iter().flat_map(|id| image.about::<Description>(id));
    for description in held.filter(|description| description.owner != 0 || description.owner_signal != 0) {
        let Some(fd) = shelf.description(description.id) else { continue };
        let number: u64 = fd.as_raw_fd().unsigned_abs().into();
        let failed = |error| Error::step(format!("set the owner of {}", description.label), error);
        if description.owner != 0 {
            // struct f_owner_ex is two 32-bit words, the type and the id.
            let owner = [description.owner_type, now(description.owner)];
            // Another holder sees it.
            if owner.last() == Some(&0) {
                continue;
            }
            let owner = owner.as_ptr().addr() as u64;
            match crate::sys::call(libc::SYS_fcntl, [number, F_SETOWN_EX, owner, 0, 0, 0]) {
                Ok(_) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        if description.owner_signal != 0 {
            crate::sys::call(libc::SYS_fcntl, [number, F_SETSIG, description.owner_signal.into(), 0, 0, 0])
                .map_err(failed)?;
        }
    }
    Ok(())
}

/// What stands on the shelf for a description at a number: the loader's own standard streams take the place of those that
/// led elsewhere.
pub fn source<'a>(image: &Image, shelf: &'a Shelf, description: u32, number: u32) -> Option<BorrowedFd<'a>> {
    let found = image.about::<Description>(description).next();
    match found.map(|description| description.kind) {
        Some(DescriptionKind::Outside) => shelf.stdio(number),
        Some(DescriptionKind::Terminal) if number < 3 => shelf.stdio(number),
        _ => shelf.description(description),
    }
}

/// Puts a duplicate of `from` at a number, or leaves it there if that is its own.
pub fn put(from: BorrowedFd<'_>, number: u32, close_on_exec: bool) -> Result<()> {
    let failed = |error| Error::step(format!("make descriptor {number}"), error);
    if from.as_raw_fd().unsigned_abs() == number {
        let flags = if close_on_exec { FdFlag::FD_CLOEXEC } else { FdFlag::empty() };
        return fcntl(from, FcntlArg::F_SETFD(flags)).map(drop).map_err(failed);
    }
    let flags = if close_on_exec { libc::O_CLOEXEC.unsigned_abs() } else { 0 };
    let args = [from.as_raw_fd().unsigned_abs().into(), number.into(), flags.into(), 0, 0, 0];
    crate::sys::call(libc::SYS_dup3, args).map(drop).map_err(failed)
}
