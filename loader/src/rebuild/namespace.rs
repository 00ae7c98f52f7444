//! Namespaces but those of pids: each is entered if it still exists, and made anew otherwise, before anything else is made.
//!
//! The order: the first start opens all of them, as descriptors that everybody inherits (see `shelf`). Those that do not exist
//! are made by children of its own (see [`make`]), in the user namespace that owns them, and given what they had. Then the
//! first start itself goes where the root lived, so that whatever it looks up and makes (ports, System V objects, names) is
//! looked up and made there, as are all processes that it makes. A task that lived elsewhere than who makes it goes there
//! when it begins; only its user namespace comes last, after which it has no right any more over anything outside of it.
//!
//! The root's user namespace takes the right to choose ids out of it: such a tree comes back with new ids or in a pid
//! namespace of its own.

mod find;
mod make;

use crate::error::{Error, Refusal, Result};
use crate::plan::skeleton::Role;
use crate::shelf::Item;
use crate::sys;
use crate::world::World;
use binfmt::image::Image;
use binfmt::note::credential::Credential;
use binfmt::note::namespace::{Namespace, NamespaceKind};
use binfmt::note::task::Task;
use binfmt::note::thread::Thread;
use find::Existing;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

/// What becomes of a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is that in which the loader was started.
    Here,
    /// It still exists, and is entered by this path.
    Enter(String),
    /// It is made anew.
    Make,
}

#[derive(Debug)]
struct Opened {
    id: u32,
    fate: Fate,
    fd: OwnedFd,
}

/// The namespaces of an image.
#[derive(Debug, Default)]
pub struct Namespaces {
    opened: Vec<Opened>,
    /// Why they cannot be had.
    pub refusals: Vec<Refusal>,
    /// Whether this process has entered another user namespace.
    pub has_entered_user: bool,
    /// Whether supplementary groups cannot be set there.
    pub denies_groups: bool,
}

/// The flag by which clone(2), unshare(2) and setns(2) know a kind.
fn flag(kind: NamespaceKind) -> CloneFlags {
    /// linux/sched.h
    const CLONE_NEWTIME: i32 = 0x80;
    match kind {
        NamespaceKind::Uts => CloneFlags::CLONE_NEWUTS,
        NamespaceKind::Ipc => CloneFlags::CLONE_NEWIPC,
        NamespaceKind::Net => CloneFlags::CLONE_NEWNET,
        NamespaceKind::Mount => CloneFlags::CLONE_NEWNS,
        NamespaceKind::Time => CloneFlags::from_bits_retain(CLONE_NEWTIME),
        NamespaceKind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        NamespaceKind::User => CloneFlags::CLONE_NEWUSER,
    }
}

/// The task that stands for everybody outside of the tree: where it lives the loader does its work.
fn root(image: &Image) -> u32 {
    image.all::<Task>().next().map_or(0, |task| task.pid)
}

/// In which namespace a task lives, if the image speaks of the kind.
fn home(image: &Image, pid: u32, kind: NamespaceKind) -> Option<&Namespace> {
    image.all::<Namespace>().find(|note| note.kind == kind && note.members.contains(&pid))
}

impl Namespaces {
    /// Opens or makes all of them, and goes where the root lived. What stands against it is told by the plan.
    pub fn enter(image: &Image) -> Result<Namespaces> {
        let mut all = Namespaces::default();
        if image.all::<Namespace>().next().is_none() {
            return Ok(all);
        }
        let existing = Existing::of(image)?;
        for note in image.all::<Namespace>() {
            match all.open(image, note, &existing) {
                Ok(opened) => all.opened.push(opened),
                Err(refusal) => all.refusals.push(refusal),
            }
        }
        all.refusals.extend(threads_inside(image));
        if all.refusals.is_empty() {
            all.go_home(image)?;
        }
        Ok(all)
    }

    fn open(
        &self,
        image: &Image,
        note: &Namespace,
        existing: &Existing,
    ) -> std::result::Result<Opened, Refusal> {
        let opened = |fate, fd| Opened { id: note.id, fate, fd };
        if let Some((fate, fd)) = existing.find(note) {
            return Ok(opened(fate, fd));
        }
        let elsewhere = |id: u32| {
            let found = self.opened.iter().find(|opened| opened.id == id && opened.fate != Fate::Here);
            found.map(|opened| opened.fd.as_fd())
        };
        let member = note.members.first().copied().unwrap_or(0);
        let net = home(image, member, NamespaceKind::Net).and_then(|net| elsewhere(net.id));
        make::make(note, elsewhere(note.owner), net).map(|fd| opened(Fate::Make, fd))
    }

    fn go_home(&mut self, image: &Image) -> Result<()> {
        for kind in NamespaceKind::ALL {
            let Some(note) = home(image, root(image), kind) else { continue };
            let Some(opened) = self.opened.iter().find(|opened| opened.id == note.id) else { continue };
            if opened.fate == Fate::Here {
                continue;
            }
            move_to(kind, opened.fd.as_fd(), root(image))?;
            if kind == NamespaceKind::User {
                (self.has_entered_user, self.denies_groups) = (true, note.denies_groups);
                be_somebody(image)?;
            }
        }
        Ok(())
    }

    /// The descriptors, by the numbers of their notes.
    pub fn descriptors(&self) -> impl Iterator<Item = (u32, &OwnedFd)> {
        self.opened.iter().map(|opened| (opened.id, &opened.fd))
    }

    /// Whether the root's namespace of this kind is a new one.
    pub fn is_new(&self, image: &Image, kind: NamespaceKind) -> bool {
        let id = home(image, root(image), kind).map(|note| note.id);
        self.opened.iter().any(|opened| Some(opened.id) == id && opened.fate == Fate::Make)
    }

    /// Whether tasks live in several namespaces of this kind.
    pub fn has_several(&self, image: &Image, kind: NamespaceKind) -> bool {
        image.all::<Namespace>().filter(|note| note.kind == kind).count() > 1
    }

    /// The root's IPC namespace has been left for a new one: it gets the limits of the old one, and takes its place.
    pub fn renew_ipc(&mut self, image: &Image) -> Result<()> {
        let Some(note) = home(image, root(image), NamespaceKind::Ipc) else { return Ok(()) };
        make::set(note).map_err(|(what, error)| Error::step(what, error))?;
        let own =
            File::open("/proc/self/ns/ipc").map_err(|error| Error::io("open its IPC namespace", &error))?;
        if let Some(opened) = self.opened.iter_mut().find(|opened| opened.id == note.id) {
            opened.fd = own.into();
        }
        Ok(())
    }

    /// What `--plan` says of them.
    pub fn steps(&self, image: &Image) -> Vec<String> {
        let step = |note: &Namespace| {
            let opened = self.opened.iter().find(|opened| opened.id == note.id)?;
            let (noun, members) = (note.kind.noun(), list(&note.members));
            Some(match &opened.fate {
                Fate::Here => return None,
                Fate::Enter(path) => {
                    format!("setns({path})  # the {noun} namespace of {members}, still there")
                }
                Fate::Make => format!(
                    "unshare({}){}  # the {noun} namespace of {members}",
                    flag_name(note.kind),
                    make::deeds(note)
                ),
            })
        };
        image.all::<Namespace>().filter_map(step).collect()
    }
}

fn flag_name(kind: NamespaceKind) -> &'static str {
    match kind {
        NamespaceKind::Uts => "CLONE_NEWUTS",
        NamespaceKind::Ipc => "CLONE_NEWIPC",
        NamespaceKind::Net => "CLONE_NEWNET",
        NamespaceKind::Mount => "CLONE_NEWNS",
        NamespaceKind::Time => "CLONE_NEWTIME",
        NamespaceKind::Cgroup => "CLONE_NEWCGROUP",
        NamespaceKind::User => "CLONE_NEWUSER",
    }
}

/// Processes, for a person.
fn list(pids: &[u32]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = pids.iter().take(SHOWN).map(ToString::to_string).collect();
    let noun = if pids.len() == 1 { "process" } else { "processes" };
    let more = if pids.len() > SHOWN { ", ..." } else { "" };
    format!("{noun} {}{more}", shown.join(", "))
}

/// Tasks with several threads in a user namespace that is not the root's: who is there can choose no ids out here, and who has
/// threads cannot go there.
fn threads_inside(image: &Image) -> Vec<Refusal> {
    let root_home = home(image, root(image), NamespaceKind::User).map(|note| note.id);
    let inner = image
        .all::<Namespace>()
        .filter(|note| note.kind == NamespaceKind::User && Some(note.id) != root_home);
    let pids = inner.flat_map(|note| &note.members);
    let has_threads = pids.filter(|pid| image.about::<Thread>(**pid).count() > 1);
    let refusal = |pid: &u32| Refusal {
        reason: format!("process {pid} has several threads in another user namespace than the first process"),
        remedy: "save it without the processes outside of its user namespace".to_owned(),
    };
    has_threads.map(refusal).collect()
}

fn move_to(kind: NamespaceKind, namespace: impl AsFd, pid: u32) -> Result<()> {
    let directory = std::env::current_dir();
    let moved = setns(namespace.as_fd(), flag(kind));
    if let (NamespaceKind::Mount, Ok(directory)) = (kind, directory) {
        // Who has come to other mounts stands at their root. Where there is no such directory nothing is named from it.
        let _ = std::env::set_current_dir(directory);
    }
    moved.map_err(|error| Error::step(format!("enter the {} namespace of process {pid}", kind.noun()), error))
}

/// In a user namespace just entered: becomes the user and group that the root was, with all rights in it, also after an exec.
fn be_somebody(image: &Image) -> Result<()> {
    const NO_SETUID_FIXUP: u64 = 1 << 2;
    let failed = |error| Error::step("be a user of its user namespace", error);
    let root = root(image);
    let wanted = image.all::<Credential>().find(|credential| credential.tid == root);
    let (user, group) = wanted.map_or((0, 0), |wanted| (wanted.user.effective, wanted.group.effective));
    let bits = crate::rebuild::prctl(libc::PR_GET_SECUREBITS, [0; 4]).map_err(failed)?;
    crate::rebuild::prctl(libc::PR_SET_SECUREBITS, [bits | NO_SETUID_FIXUP, 0, 0, 0]).map_err(failed)?;
    for (call, id) in [(libc::SYS_setresgid, group), (libc::SYS_setresuid, user)] {
        let id = u64::from(id);
        match sys::call(call, [id, id, id, 0, 0, 0]) {
            // An id that the namespace does not have.
            Ok(_) | Err(Errno::EINVAL) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    crate::rebuild::prctl(libc::PR_SET_SECUREBITS, [bits, 0, 0, 0]).map_err(failed)?;
    // Who has changed its ids may not look at itself otherwise.
    crate::rebuild::prctl(libc::PR_SET_DUMPABLE, [1, 0, 0, 0]).map_err(failed)?;
    crate::namespace::keep_capabilities()
}

impl World<'_> {
    /// In which namespace a process of the skeleton lives when it has begun.
    fn home(&self, process: usize, kind: NamespaceKind) -> Option<u32> {
        let mut at = Some(process);
        // Helpers, and who has ended, are where their makers are.
        while let Some(place) = at {
            let made = self.skeleton.processes.get(place)?;
            if made.role == Role::Task
                && let Some(note) = home(self.image, made.pid, kind)
            {
                return Some(note.id);
            }
            at = self.makers.get(place).copied().flatten();
        }
        home(self.image, root(self.image), kind).map(|note| note.id)
    }

    /// Goes where a process lives that has just been made, from where its maker does.
    pub fn go_home(&self, process: usize) -> Result<()> {
        let before_last = |kind: &NamespaceKind| *kind != NamespaceKind::User;
        NamespaceKind::ALL.into_iter().filter(before_last).try_for_each(|kind| self.go_to(process, kind))
    }

    /// The last of it: its user namespace. Whether it has changed.
    pub fn go_to_users(&self, process: usize) -> Result<Option<&Namespace>> {
        let kind = NamespaceKind::User;
        // Makers, too, go there when they make nobody any more.
        let there = self
            .home(process, kind)
            .filter(|id| home(self.image, root(self.image), kind).is_some_and(|it| it.id != *id));
        let Some(id) = there else { return Ok(None) };
        self.enter(process, kind, id)?;
        Ok(self.image.all::<Namespace>().find(|note| note.id == id))
    }

    fn go_to(&self, process: usize, kind: NamespaceKind) -> Result<()> {
        let Some(wanted) = self.home(process, kind) else { return Ok(()) };
        let maker = self.makers.get(process).copied().flatten();
        let now = match maker {
            Some(maker) => self.home(maker, kind),
            None => home(self.image, root(self.image), kind).map(|note| note.id),
        };
        if now == Some(wanted) { Ok(()) } else { self.enter(process, kind, wanted) }
    }

    fn enter(&self, process: usize, kind: NamespaceKind, id: u32) -> Result<()> {
        let namespace = self.shelf.namespace(id).ok_or(Error::Internal("a namespace is missing"))?;
        move_to(kind, namespace, self.process(process)?.pid)
    }
}

/// What stands on the shelf.
pub fn items(image: &Image) -> impl Iterator<Item = Item> {
    image.all::<Namespace>().map(|note| Item::Namespace(note.id))
}
