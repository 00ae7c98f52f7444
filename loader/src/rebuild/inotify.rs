//! Inotify instances. They are made with the other descriptions, and what they watch is added by the midwife when all tasks
//! are whole: whatever the loader opens and closes on the way is none of their business.
//!
//! The kernel gives watch descriptors in ascending order, each once. So those before a wanted one are given to something of
//! ours and removed again. What that tells is read away, before any watch has its events: until then each has been added with one
//! that does not happen (IN_UNMOUNT), and the second call only changes its mask.
//!
//! Events that nobody had read come back as the one that says that events were lost (IN_Q_OVERFLOW; inotify(7): look at
//! everything anew). The kernel makes it when more wait than may, and those are read away.

use crate::error::{Error, Refusal, Result};
use crate::rebuild::descriptor::dup_above;
use crate::rebuild::{fd_path, file, made, set_status};
use crate::shelf::Shelf;
use crate::sys;
use binfmt::image::Image;
use binfmt::note::descriptor::{Description, DescriptionKind};
use binfmt::note::file::Presence;
use binfmt::note::inotify::{Inotify, NUMBER_MAX, Watch};
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// An event without a name.
const EVENT_BYTES: usize = 16;
/// An event with the longest name.
const LONGEST_BYTES: usize = EVENT_BYTES + 256;
/// Not more events than these are made to have too many; the kernel's own limit is 16,384.
const EVENTS_MAX: u32 = 1 << 22;

/// Makes an instance that watches nothing yet.
pub fn make(description: &Description) -> Result<OwnedFd> {
    let failed = |error| match error {
        Errno::EMFILE => Error::Refused(vec![Refusal {
            reason: "this user has too many inotify instances".to_owned(),
            remedy: "raise /proc/sys/fs/inotify/max_user_instances".to_owned(),
        }]),
        error => Error::step("make an inotify instance", error),
    };
    let flags = libc::IN_CLOEXEC.unsigned_abs().into();
    let fd = made(libc::SYS_inotify_init1, [flags, 0, 0, 0, 0, 0]).map_err(failed)?;
    set_status(&fd, description).map_err(failed)?;
    Ok(fd)
}

/// What `--plan` says of what an instance watches.
pub fn watched(image: &Image, description: u32) -> String {
    let all = image.about::<Inotify>(description).flat_map(|instance| &instance.watches);
    let all = all.map(|watch| format!("{} ({})", watch.file.path, watch.number));
    all.collect::<Vec<_>>().join(", ")
}

/// What the midwife keeps of the shelf, and does with it.
#[derive(Debug)]
pub struct Watching<'a> {
    instances: Vec<(&'a Inotify, OwnedFd)>,
    /// Watched files without a name, by device and inode.
    nameless: BTreeMap<(u64, u64), OwnedFd>,
}

impl<'a> Watching<'a> {
    /// Keeps what is needed of the shelf, which is closed afterwards.
    pub fn of(image: &'a Image, shelf: &Shelf) -> Result<Watching<'a>> {
        let keep = |fd: BorrowedFd<'_>| {
            dup_above(fd.as_raw_fd(), 0).map_err(|error| Error::step("keep an inotify instance", error))
        };
        let (mut instances, mut nameless) = (Vec::new(), BTreeMap::new());
        for instance in image.all::<Inotify>() {
            let kind = image.about::<Description>(instance.description).next().map(|found| found.kind);
            let fd = shelf.description(instance.description);
            let Some(fd) = fd.filter(|_| kind == Some(DescriptionKind::Inotify)) else { continue };
            instances.push((instance, keep(fd)?));
            for Watch { file, .. } in &instance.watches {
                if let Some(fd) = shelf.deleted(file.device, file.inode) {
                    nameless.insert((file.device, file.inode), keep(fd)?);
                }
            }
        }
        Ok(Watching { instances, nameless })
    }

    /// Has every instance watch what it watched.
    pub fn begin(self) -> Result<()> {
        let mut all = Vec::new();
        for (note, fd) in &self.instances {
            let beginning = Beginning { note, instance: Instance(fd.as_fd()), nameless: &self.nameless };
            beginning.take_numbers()?;
            if note.unread_bytes > 0 {
                beginning.lose_events().map_err(failed)?;
            }
            all.push(beginning);
        }
        all.iter().try_for_each(Beginning::set_masks)
    }
}

fn failed(error: Errno) -> Error {
    Error::step("make an inotify instance as it was", error)
}

/// An instance on its way.
struct Beginning<'a> {
    note: &'a Inotify,
    instance: Instance<'a>,
    nameless: &'a BTreeMap<(u64, u64), OwnedFd>,
}

impl Beginning<'_> {
    fn add(&self, watch: &Watch, mask: u32) -> Result<u32> {
        let Watch { file, .. } = watch;
        let failed = |error| match error {
            Errno::ENOSPC => Error::Refused(vec![Refusal {
                reason: format!(
                    "{} cannot be watched (inotify): this user watches too many files",
                    file.path
                ),
                remedy: "raise /proc/sys/fs/inotify/max_user_watches".to_owned(),
            }]),
            error => Error::step(format!("watch {} (inotify)", file.path), error),
        };
        let added = match file.presence {
            Presence::Deleted | Presence::Unnamed => {
                let made = self.nameless.get(&(file.device, file.inode));
                let made = made.ok_or(Error::Internal("a file without a name was not made"))?;
                self.instance.add(Path::new(&fd_path(made)), mask)
            }
            Presence::Linked | Presence::LinkedElsewhere => {
                let path = file::place(file).ok_or(Error::Internal("a watched file has no place"))?;
                self.instance.add(path, mask | libc::IN_DONT_FOLLOW)
            }
        };
        added.map_err(failed)
    }

    /// Gives every watch its number, and no events yet.
    fn take_numbers(&self) -> Result<()> {
        let filler = filler().map_err(failed)?;
        let mut next = 1;
        for watch in &self.note.watches {
            if watch.number > NUMBER_MAX {
                return Err(Error::Internal("a watch has too high a number"));
            }
            while next < watch.number {
                self.skip(&filler).map_err(failed)?;
                next += 1;
            }
            let file = &watch.file.path;
            let added = self.add(watch, libc::IN_UNMOUNT | libc::IN_MASK_CREATE)?;
            if added != watch.number {
                let reason = format!("{file} cannot be watched as number {}", watch.number);
                return Err(Error::Refused(vec![Refusal { reason, remedy: "try again".to_owned() }]));
            }
            next += 1;
        }
        self.read_away(0).map_err(failed)
    }

    /// Lets a number pass.
    fn skip(&self, filler: &OwnedFd) -> nix::Result<()> {
        const EVENTS: u32 = 4096;
        let passed = self.instance.add(Path::new(&fd_path(filler)), libc::IN_UNMOUNT)?;
        self.instance.remove(passed)?;
        // The removal was told.
        if passed % EVENTS == 0 { self.read_away(0) } else { Ok(()) }
    }

    /// Reads all events but the last so many bytes.
    fn read_away(&self, but_bytes: usize) -> nix::Result<()> {
        let mut events = vec![0; 64 << 10];
        loop {
            let waiting = self.instance.waiting_bytes()?.saturating_sub(but_bytes);
            if waiting == 0 {
                return Ok(());
            }
            let room = events.len().min(waiting);
            let room = events.get_mut(..room).unwrap_or_default();
            match nix::unistd::read(self.instance.0, room) {
                // The next one is longer than what is to be read away.
                Err(Errno::EINVAL) if waiting < LONGEST_BYTES => return Ok(()),
                read => read?,
            };
        }
    }

    /// Makes so many events that the last says that some were lost, and reads the others away.
    fn lose_events(&self) -> nix::Result<()> {
        let filler = filler()?;
        let passed = self.instance.add(Path::new(&fd_path(&filler)), libc::IN_ATTRIB | libc::IN_MODIFY)?;
        let mut before = None;
        for _ in 0..EVENTS_MAX {
            let mode = nix::sys::stat::Mode::S_IRUSR;
            nix::sys::stat::fchmod(&filler, mode)?;
            nix::unistd::ftruncate(&filler, 1)?;
            let now = self.instance.waiting_bytes()?;
            if before.replace(now) == Some(now) {
                // That this one is removed finds no room.
                self.instance.remove(passed)?;
                return self.read_away(EVENT_BYTES);
            }
        }
        Err(Errno::EOVERFLOW)
    }

    fn set_masks(&self) -> Result<()> {
        self.note.watches.iter().try_for_each(|watch| self.add(watch, watch.mask).map(drop))
    }
}

/// An instance.
struct Instance<'a>(BorrowedFd<'a>);

impl Instance<'_> {
    fn number(&self) -> u64 {
        self.0.as_raw_fd().unsigned_abs().into()
    }

    /// inotify_add_watch(2)
    fn add(&self, path: &Path, mask: u32) -> nix::Result<u32> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::ENOENT)?;
        let args = [self.number(), path.as_ptr().addr() as u64, mask.into(), 0, 0, 0];
        let added = sys::call(libc::SYS_inotify_add_watch, args)?;
        u32::try_from(added).map_err(|_| Errno::EOVERFLOW)
    }

    /// inotify_rm_watch(2)
    fn remove(&self, watch: u32) -> nix::Result<()> {
        sys::call(libc::SYS_inotify_rm_watch, [self.number(), watch.into(), 0, 0, 0, 0]).map(drop)
    }

    /// How many bytes of events wait.
    fn waiting_bytes(&self) -> nix::Result<usize> {
        sys::bytes_waiting(self.0)
    }
}

/// A file of nobody's.
fn filler() -> nix::Result<OwnedFd> {
    nix::sys::memfd::memfd_create(c"ckpt", nix::sys::memfd::MFdFlags::MFD_CLOEXEC)
}
