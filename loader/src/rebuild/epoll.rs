//! Epoll sets. All are made with the other descriptions, and filled when those stand and hold what they held, each target
//! under the number by which it was added: for a moment it stands at that number, whatever the loader has there itself.
//!
//! Inner sets come before those that watch them, so that nothing becomes ready later. In each set, first what has fired
//! and is disarmed (EPOLLONESHOT): it fires again. Then, if nothing was ready, what tells edges, all of which had been
//! told; they are told again, to the loader. Last what may be ready.
//!
//! A signalfd is added by a task that has the set, when its descriptors are put in place: it tells of signals to who added
//! it (fs/signalfd.c waits at the handlers of that process), and a dead loader has none. A pidfd is added by a task that has
//! both, when it has been opened.

use crate::error::{Error, Refusal, Result};
use crate::rebuild::descriptor::{dup_above, put, source};
use crate::rebuild::{fd_path, inet, set_status};
use crate::shelf::Shelf;
use crate::sys;
use binfmt::image::Image;
use binfmt::note::descriptor::{Description, DescriptionKind, Descriptor, DescriptorTable};
use binfmt::note::epoll::{Epoll, EpollTarget};
use binfmt::note::task::Task;
use binfmt::note::unix::UnixSocket;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::sys::epoll::{Epoll as Set, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::stat::Mode;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Makes an epoll set that watches nothing yet.
pub fn make(note: &Epoll, description: &Description) -> Result<OwnedFd> {
    let failed = |error| Error::step("make an epoll set", error);
    let set = Set::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?.0;
    set_status(&set, description).map_err(failed)?;
    if note.busy_poll_us != 0 || note.busy_poll_budget != 0 || note.prefer_busy_poll {
        let budget = u16::try_from(note.busy_poll_budget).unwrap_or(u16::MAX);
        sys::set_busy_poll(set.as_fd(), note.busy_poll_us, budget, note.prefer_busy_poll)
            .map_err(|error| Error::step("set how an epoll set polls network devices", error))?;
    }
    Ok(set)
}

/// What `--plan` says of what a set watches.
pub fn targets(image: &Image, description: u32) -> String {
    let all = image.about::<Epoll>(description).flat_map(|set| &set.targets);
    all.map(|target| target.number.to_string()).collect::<Vec<_>>().join(", ")
}

/// Has every epoll set on the shelf watch what it watched, but for signalfds. Numbers from `above` on are the loader's.
pub fn fill_all(image: &Image, shelf: &Shelf, above: RawFd) -> Result<()> {
    refuse_late(image)?;
    for note in inner_first(image) {
        if let Some(filling) = Filling::of(image, shelf, above, note)? {
            filling.fill()?;
        }
    }
    Ok(())
}

/// Adds the signalfds to the sets for which the task that makes `table` is to do it: the first table that has the set, and
/// if there is such a one, the signalfd at its number.
pub fn add_signalfds(image: &Image, shelf: &Shelf, table: &DescriptorTable, above: RawFd) -> Result<()> {
    for note in inner_first(image) {
        let is_signalfd = |target: &&EpollTarget| {
            kind(image, target.description) == Some(DescriptionKind::Signalfd)
                && adder(image, note, target) == Some(table.id)
        };
        let mut own = note.targets.iter().filter(is_signalfd).peekable();
        if own.peek().is_some()
            && let Some(filling) = Filling::of(image, shelf, above, note)?
        {
            own.try_for_each(|target| filling.add(target, target.events))?;
        }
    }
    Ok(())
}

/// Adds what was opened when there are tasks, which `opened` is, to the sets for which the task with `table`, whose descriptors are in place, is to do it.
pub fn add_late(
    image: &Image,
    table: u32,
    description: u32,
    opened: BorrowedFd<'_>,
    above: RawFd,
) -> Result<()> {
    let failed = |error| Error::step("have an epoll set watch a pidfd or a file of a process", error);
    for note in inner_first(image) {
        let is_it = |target: &&EpollTarget| {
            target.description == description && adder(image, note, target) == Some(table)
        };
        let tables = image.about::<DescriptorTable>(table);
        let mut entries = tables.flat_map(|table| &table.descriptors);
        let Some(own) = entries.find(|entry| entry.description == note.description) else { continue };
        let own = RawFd::try_from(own.number).map_err(|_| failed(Errno::EBADF))?;
        for target in note.targets.iter().filter(is_it) {
            let set = Set(dup_above(own, above).map_err(failed)?);
            let add = |at: BorrowedFd<'_>| set.add(at, event(target.events, target.data));
            at_number(opened, target.number, above, add)?.map_err(failed)?;
        }
    }
    Ok(())
}

/// What is opened when there are tasks can be added only by one that has the set too.
fn refuse_late(image: &Image) -> Result<()> {
    for note in image.all::<Epoll>() {
        let is_lost = |target: &&EpollTarget| {
            is_late(image, target.description) && adder(image, note, target).is_none()
        };
        if let Some(target) = note.targets.iter().find(is_lost) {
            return Err(Error::Refused(vec![Refusal {
                reason: format!(
                    "an epoll set watches a pidfd or a file of a process, once descriptor {}, that no task with the set has",
                    target.number
                ),
                remedy: "such a set cannot be made again yet".to_owned(),
            }]));
        }
    }
    Ok(())
}

/// The table of the task that adds a target to a set: the first with the set and the target at its number, or at another one;
/// for a signalfd, which only tells of whose signals it tells, also the first with the set, or the root's.
fn adder(image: &Image, set: &Epoll, target: &EpollTarget) -> Option<u32> {
    let has =
        |table: &DescriptorTable, is_it: &dyn Fn(&Descriptor) -> bool| table.descriptors.iter().any(is_it);
    let is_target = |entry: &Descriptor| entry.description == target.description;
    let is_there = |entry: &Descriptor| is_target(entry) && entry.number == target.number;
    let is_set = |entry: &Descriptor| entry.description == set.description;
    let with_set = || image.all::<DescriptorTable>().filter(|table| has(table, &is_set));
    let with_target = with_set()
        .find(|table| has(table, &is_there))
        .or_else(|| with_set().find(|table| has(table, &is_target)));
    let any = || {
        let needs_target = is_late(image, target.description);
        // For a set that is only on its way the root does it.
        let root = || image.all::<Task>().next().and_then(|root| image.about(root.descriptor_table).next());
        let is_held = with_set().next().is_some();
        let any = if is_held { with_set().next() } else { root() };
        any.filter(|_| !needs_target)
    };
    with_target.or_else(any).map(|table: &DescriptorTable| table.id)
}

/// The sets of the image, each after those that it watches. Among sets that watch each other there is no order, and the
/// kernel refuses them.
fn inner_first(image: &Image) -> Vec<&Epoll> {
    fn visit<'a>(image: &'a Image, set: &'a Epoll, seen: &mut BTreeSet<u32>, sorted: &mut Vec<&'a Epoll>) {
        // Deeper ones than the kernel permits (EP_MAX_NESTS) need no order.
        const NESTS_MAX: usize = 64;
        if !seen.insert(set.description) || seen.len() - sorted.len() > NESTS_MAX {
            return;
        }
        for target in &set.targets {
            image.about::<Epoll>(target.description).for_each(|inner| visit(image, inner, seen, sorted));
        }
        sorted.push(set);
    }
    let (mut seen, mut sorted) = (BTreeSet::new(), Vec::new());
    let is_set = |set: &&Epoll| kind(image, set.description) == Some(DescriptionKind::Epoll);
    image.all::<Epoll>().filter(is_set).for_each(|set| visit(image, set, &mut seen, &mut sorted));
    sorted
}

/// Whether it is opened when there are tasks.
fn is_late(image: &Image, description: u32) -> bool {
    matches!(kind(image, description), Some(DescriptionKind::Pidfd | DescriptionKind::ProcessFile))
}

fn kind(image: &Image, description: u32) -> Option<DescriptionKind> {
    image.about::<Description>(description).next().map(|description| description.kind)
}

/// One set that is being filled.
struct Filling<'a> {
    image: &'a Image,
    shelf: &'a Shelf,
    above: RawFd,
    note: &'a Epoll,
    set: Set,
}

impl<'a> Filling<'a> {
    fn of(image: &'a Image, shelf: &'a Shelf, above: RawFd, note: &'a Epoll) -> Result<Option<Filling<'a>>> {
        let Some(fd) = shelf.description(note.description) else { return Ok(None) };
        let set =
            dup_above(fd.as_raw_fd(), above).map_err(|error| Error::step("fill an epoll set", error))?;
        Ok(Some(Filling { image, shelf, above, note, set: Set(set) }))
    }

    fn fill(&self) -> Result<()> {
        // What was left closed cannot be watched, and signalfds and what takes tasks come later.
        let is_meant = |target: &&EpollTarget| {
            !matches!(
                kind(self.image, target.description),
                None | Some(
                    DescriptionKind::Closed
                        | DescriptionKind::Signalfd
                        | DescriptionKind::Pidfd
                        | DescriptionKind::ProcessFile
                )
            )
        };
        let (disarmed, armed): (Vec<_>, Vec<_>) =
            self.note.targets.iter().filter(is_meant).partition(|target| target.is_disarmed());
        let (told, rest): (Vec<_>, Vec<_>) = armed.into_iter().partition(|target| self.was_told(target));
        disarmed.into_iter().try_for_each(|target| self.add_disarmed(target))?;
        told.iter().try_for_each(|target| self.add(target, target.events))?;
        while !told.is_empty() && self.take()? {}
        rest.iter().try_for_each(|target| self.add(target, target.events))
    }

    /// Whether a target tells edges, all of which were told. What can become ready by itself, now, is another matter: it
    /// had better be told twice than not at all.
    fn was_told(&self, target: &EpollTarget) -> bool {
        let has = |flag: i32| target.events & flag.cast_unsigned() != 0;
        let is_as_it_was = match kind(self.image, target.description) {
            Some(DescriptionKind::Pipe | DescriptionKind::Eventfd) => true,
            // An IP socket may come back in another state than it had.
            Some(DescriptionKind::Socket) => {
                self.image.about::<UnixSocket>(target.description).next().is_some()
            }
            _ => false,
        };
        // One that fires once has not fired yet: it would be disarmed.
        self.note.quiet && has(libc::EPOLLET) && !has(libc::EPOLLONESHOT) && is_as_it_was
    }

    /// Takes what is ready; whether anything was.
    fn take(&self) -> Result<bool> {
        let mut events = [EpollEvent::empty(); 64];
        match self.set.wait(&mut events, EpollTimeout::ZERO) {
            Ok(count) => Ok(count > 0),
            Err(error) => Err(Error::step("read an epoll set", error)),
        }
    }

    fn add(&self, target: &EpollTarget, events: u32) -> Result<()> {
        self.at_its_number(target, |at| self.set.add(at, event(events, target.data)))
    }

    /// Adds a target that has fired. Events that it does not tell while it is disarmed are told when it is armed, so which
    /// of them fires does not matter. Where none does, EPOLLERR and EPOLLHUP remain, which only pipes, terminals and
    /// sockets know.
    fn add_disarmed(&self, target: &EpollTarget) -> Result<()> {
        let anything = libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLPRI | libc::EPOLLRDHUP;
        self.add(target, target.events | anything.cast_unsigned())?;
        if self.take()? {
            return Ok(());
        }
        if kind(self.image, target.description) == Some(DescriptionKind::Pipe)
            && let Some(pipe) = self.shelf.description(target.description)
            && self.take_with_ready(pipe)?
        {
            return Ok(());
        }
        if let Some(socket) = self.shelf.description(target.description)
            && inet::is_ready_once(self.image, target.description, socket, self.above, || self.take())?
        {
            return Ok(());
        }
        self.at_its_number(target, |at| self.set.modify(at, &mut event(target.events, target.data)))
    }

    /// Makes a pipe's end ready that is not, for a moment; whether it was taken.
    fn take_with_ready(&self, pipe: BorrowedFd<'_>) -> Result<bool> {
        let failed = |error| Error::step("make a pipe ready that is watched", error);
        let flags = fcntl(pipe, FcntlArg::F_GETFL).map_err(failed)?;
        let other = |mode: OFlag| {
            let path = fd_path(pipe);
            let flags = mode | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let opened = open(path.as_str(), flags, Mode::empty()).map_err(failed)?;
            dup_above(opened.as_raw_fd(), self.above).map_err(failed)
        };
        if flags & libc::O_ACCMODE == libc::O_WRONLY {
            // It is full: a little more room.
            let capacity = fcntl(pipe, FcntlArg::F_GETPIPE_SZ).map_err(failed)?;
            if fcntl(pipe, FcntlArg::F_SETPIPE_SZ(capacity.saturating_mul(2))).is_err() {
                return Ok(false);
            }
            let taken = self.take();
            fcntl(pipe, FcntlArg::F_SETPIPE_SZ(capacity)).map_err(failed)?;
            return taken;
        }
        // It is empty: a byte, which is taken back.
        let (writer, reader) = (other(OFlag::O_WRONLY)?, other(OFlag::O_RDONLY)?);
        nix::unistd::write(&writer, &[0]).map_err(failed)?;
        let taken = self.take();
        nix::unistd::read(&reader, &mut [0]).map_err(failed)?;
        taken
    }

    /// Does something while a target stands at its number.
    fn at_its_number(
        &self,
        target: &EpollTarget,
        work: impl FnOnce(BorrowedFd<'_>) -> nix::Result<()>,
    ) -> Result<()> {
        let from = self.file(target).ok_or(Error::Internal("what an epoll set watches was not opened"))?;
        at_number(from, target.number, self.above, work)?.map_err(|error| self.refusal(target, error))
    }

    /// The file that will stand at the target's number, or at another one if that is closed.
    fn file(&self, target: &EpollTarget) -> Option<BorrowedFd<'_>> {
        let entries = || self.image.all::<DescriptorTable>().flat_map(|table| &table.descriptors);
        let is_it = |number: u32| {
            entries().any(|entry| entry.number == number && entry.description == target.description)
        };
        // Only of those that lead out of the tree several files may stand for one description.
        let has_many = matches!(
            kind(self.image, target.description),
            Some(DescriptionKind::Outside | DescriptionKind::Terminal)
        );
        let number = if !has_many || is_it(target.number) {
            target.number
        } else {
            let numbers = entries().filter(|entry| entry.description == target.description);
            numbers.map(|entry| entry.number).min().unwrap_or(target.number)
        };
        source(self.image, self.shelf, target.description, number)
    }

    fn refusal(&self, target: &EpollTarget, error: Errno) -> Error {
        let what = self.image.about::<Description>(target.description).next();
        let label = what.map_or_else(String::new, |description| description.label.to_string());
        let number = target.number;
        if error != Errno::EPERM {
            return Error::step(format!("have an epoll set watch {label} as descriptor {number}"), error);
        }
        Error::Refused(vec![Refusal {
            reason: format!(
                "an epoll set watches {label} as descriptor {number}, and what is there now cannot be watched"
            ),
            remedy: "give it a pipe or a terminal there, not a file: `sleep infinity | ./FILE`".to_owned(),
        }])
    }
}

/// Does something while a duplicate of `from` stands at a number, and what is there stands aside.
fn at_number(
    from: BorrowedFd<'_>,
    number: u32,
    above: RawFd,
    work: impl FnOnce(BorrowedFd<'_>) -> nix::Result<()>,
) -> Result<nix::Result<()>> {
    let failed = |error| Error::step(format!("make descriptor {number} for an epoll set"), error);
    let at = RawFd::try_from(number).map_err(|_| failed(Errno::EBADF))?;
    let borrowed = sys::borrow(at);
    if from.as_raw_fd() == at {
        return Ok(work(borrowed));
    }
    let own = fcntl(borrowed, FcntlArg::F_GETFD).ok();
    let own = own.map(|flags| Ok::<_, Errno>((dup_above(at, above)?, FdFlag::from_bits_retain(flags))));
    let own = own.transpose().map_err(failed)?;
    put(from, number, false)?;
    let done = work(borrowed);
    match own {
        Some((own, flags)) => put(own.as_fd(), number, flags.contains(FdFlag::FD_CLOEXEC))?,
        None => drop(sys::adopt(at)),
    }
    Ok(done)
}

fn event(events: u32, data: u64) -> EpollEvent {
    EpollEvent::new(EpollFlags::from_bits_retain(events.cast_signed()), data)
}
