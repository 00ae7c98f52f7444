//! Objects as they are made, filled and given to their owners.

use super::{Fate, JOINED, next_id};
use crate::error::{Error, Result};
use crate::rebuild::{msg, prctl, sem, shm};
use crate::sys;
use binfmt::image::Image;
use binfmt::ipc::{self, IpcKind, IpcObject};
use binfmt::note::msg::SystemVQueue;
use binfmt::note::sem::SemaphoreSet;
use binfmt::note::shm::SharedSegment;
use nix::errno::Errno;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;

/// Permissions of what is being filled.
const OWN_ACCESS: u32 = 0o600;

/// What an object is, in full.
#[derive(Clone, Copy, Debug)]
pub enum Whole<'a> {
    /// Shared memory.
    Segment(&'a SharedSegment),
    /// A message queue.
    Queue(&'a SystemVQueue),
    /// A set of semaphores.
    Semaphores(&'a SemaphoreSet),
}

impl<'a> Whole<'a> {
    /// All of an image, in the order of [`ipc::objects`].
    pub fn all(image: &'a Image) -> Vec<Whole<'a>> {
        let segments = image.all::<SharedSegment>().map(Whole::Segment);
        let queues = image.all::<SystemVQueue>().map(Whole::Queue);
        segments.chain(queues).chain(image.all::<SemaphoreSet>().map(Whole::Semaphores)).collect()
    }

    fn kind(self) -> IpcKind {
        match self {
            Whole::Segment(_) => IpcKind::Segment,
            Whole::Queue(_) => IpcKind::Queue,
            Whole::Semaphores(_) => IpcKind::Semaphores,
        }
    }

    /// What all kinds have.
    fn object(self) -> &'a IpcObject {
        match self {
            Whole::Segment(segment) => &segment.ipc,
            Whole::Queue(queue) => &queue.ipc,
            Whole::Semaphores(set) => &set.ipc,
        }
    }

    /// Whether it gives up its key at once, which another one may have.
    pub fn gives_up_its_key(self) -> bool {
        matches!(self, Whole::Segment(segment) if segment.marked_for_removal)
    }

    fn failed(self, what: &str, error: Errno) -> Error {
        let IpcObject { id, key, .. } = self.object();
        Error::step(format!("{what} {} {id} (key {key:#x})", self.kind().noun()), error)
    }
}

/// An object that stands.
#[derive(Debug)]
pub struct Standing<'a> {
    what: Whole<'a>,
    /// Its id now.
    id: u32,
    fate: Fate,
    /// Where a segment is attached: one that is to go when nobody has it any more goes with us.
    at: Option<u64>,
}

impl<'a> Standing<'a> {
    /// Makes an object, or takes the one that is there. What was made before a failure is in `made`.
    pub fn make(image: &Image, what: Whole<'a>, fate: Fate, made: &mut Vec<Standing<'a>>) -> Result<()> {
        let id = match fate {
            Fate::Make | Fate::MakeAnyhow => create(image, what, fate)?,
            Fate::Reuse | Fate::Join => what.object().id,
        };
        made.push(Standing { what, id, fate, at: None });
        let Some(standing) = made.last_mut().filter(|_| fate != Fate::Join) else { return Ok(()) };
        let reused = fate == Fate::Reuse;
        if reused {
            standing.open()?;
        }
        let failed = |what_failed: &str, error| what.failed(what_failed, error);
        match what {
            Whole::Segment(segment) => {
                let at = sys::attach_shared(id, 0, 0).map_err(|error| failed("attach", error))?;
                standing.at = Some(at);
                shm::fill(image, segment, id, at, reused, &failed)
            }
            Whole::Queue(queue) => msg::fill(queue, id, reused, &failed),
            Whole::Semaphores(set) => sem::fill(set, id, &failed),
        }
    }

    /// Lets us into an object that is there.
    fn open(&self) -> Result<()> {
        let kind = self.what.kind();
        let IpcObject { owner, owner_group, mode, .. } = self.what.object();
        if mode & OWN_ACCESS != OWN_ACCESS {
            sys::set_ipc_permissions(kind, self.id, (*owner, *owner_group, mode | OWN_ACCESS))
                .map_err(|error| self.what.failed("take", error))?;
        }
        Ok(())
    }

    /// What the control pages say of it.
    pub fn word(&self) -> u32 {
        if self.fate == Fate::Join { self.id | JOINED } else { self.id }
    }

    /// When all tasks have what they need of it: it gets its owner and permissions, and we leave it. In a user namespace of the
    /// tree's own the owner stays its user, who is all that there is.
    pub fn settle(&mut self, own_user: bool) -> Result<()> {
        if self.fate == Fate::Join {
            return Ok(());
        }
        let kind = self.what.kind();
        let IpcObject { owner, owner_group, mode, .. } = self.what.object();
        let failed = |error| self.what.failed("give to its owner", error);
        // Who may not read it need not look: nothing was changed then.
        let own = sys::ipc_permissions(kind, self.id).unwrap_or_default();
        let wanted = match own_user {
            true => (own.0, own.1, *mode),
            false => (*owner, *owner_group, *mode),
        };
        if own != wanted {
            sys::set_ipc_permissions(kind, self.id, wanted).map_err(failed)?;
        }
        self.at.take().map_or(Ok(()), sys::detach_shared).map_err(failed)
    }

    /// What others must know of what has another id now.
    pub fn remark(&self) -> Option<String> {
        let IpcObject { id, .. } = self.what.object();
        let (noun, now) = (self.what.kind().noun(), self.id);
        (now != *id).then(|| {
            format!("{noun} {id} is {now} now: this user may not choose its id (try --pid namespace)")
        })
    }

    /// Undoes the making.
    pub fn remove(self) {
        if matches!(self.fate, Fate::Make | Fate::MakeAnyhow) {
            // It may have gone by itself.
            let _ = sys::remove_ipc(self.what.kind(), self.id);
        }
        if let Some(at) = self.at {
            let _ = sys::detach_shared(at);
        }
    }
}

/// What a process was to make, to be removed if it is killed.
#[derive(Clone, Debug, Default)]
pub struct ToMake(Vec<(IpcKind, IpcObject, Fate)>);

impl ToMake {
    /// Everything of an image that is to be made.
    pub fn of(image: &Image, fates: &[Fate]) -> ToMake {
        let made = |fate: &Fate| matches!(fate, Fate::Make | Fate::MakeAnyhow);
        let all = ipc::objects(image).zip(fates).filter(|(_, fate)| made(fate));
        ToMake(all.map(|((kind, object), fate)| (kind, object.clone(), *fate)).collect())
    }

    /// Removes what process `pid` has made: segments bear its id; the place and the key of all others were free.
    pub fn remove(&self, pid: u32) {
        if self.0.iter().any(|(kind, ..)| *kind == IpcKind::Segment) {
            for listed in binfmt::note::shm::list().into_iter().filter(|listed| listed.creator_pid == pid) {
                // It may go by itself.
                let _ = sys::remove_ipc(IpcKind::Segment, listed.ipc.id);
            }
        }
        for (kind, object, fate) in self.0.iter().filter(|(kind, ..)| *kind != IpcKind::Segment) {
            let is_it = |there: &IpcObject| match fate {
                Fate::Make => there.id == object.id && there.key == object.key,
                _ => object.key != 0 && there.key == object.key,
            };
            for there in kind.list().into_iter().filter(|there| is_it(&there.object)) {
                let _ = sys::remove_ipc(*kind, there.object.id);
            }
        }
    }
}

fn create(image: &Image, what: Whole<'_>, fate: Fate) -> Result<u32> {
    const TRIES: u32 = 5;
    let (kind, object) = (what.kind(), what.object());
    let failed = |error| what.failed("make", error);
    let mut flags = (object.mode | OWN_ACCESS).cast_signed();
    let (key, size) = match what {
        Whole::Segment(segment) => {
            flags |= shm::huge_flags(image, segment)?;
            (segment.original_key, segment.size_bytes)
        }
        Whole::Queue(_) => (object.key, 0),
        Whole::Semaphores(set) => (object.key, set.semaphores.len() as u64),
    };
    let get = || {
        let made = as_creator(object, || sys::create_ipc(kind, key, size, flags));
        match made {
            // The name alone bears a key that was given up: it may be somebody else's now.
            Err(Errno::EEXIST) if what.gives_up_its_key() => {
                as_creator(object, || sys::create_ipc(kind, 0, size, flags))
            }
            made => made,
        }
    };
    if fate == Fate::MakeAnyhow {
        return get().map_err(failed);
    }
    for _ in 0..TRIES {
        let chooser = Chooser::choose(kind, object.id)
            .map_err(|error| Error::io(format!("write {}", next_id(kind)), &error))?;
        let made = get();
        drop(chooser);
        let id = made.map_err(failed)?;
        if id == object.id {
            return Ok(id);
        }
        // Somebody else's call came between.
        sys::remove_ipc(kind, id).map_err(failed)?;
    }
    Err(failed(Errno::EEXIST))
}

/// The right to choose the next id, as far as other resumes are concerned.
struct Chooser(File);

impl Chooser {
    fn choose(kind: IpcKind, id: u32) -> std::io::Result<Chooser> {
        let file = File::options().write(true).open(next_id(kind))?;
        let lock = libc::LOCK_EX.unsigned_abs().into();
        sys::call(libc::SYS_flock, [file.as_raw_fd().unsigned_abs().into(), lock, 0, 0, 0, 0])?;
        let mut chooser = Chooser(file);
        chooser.0.write_all(id.to_string().as_bytes())?;
        Ok(chooser)
    }
}

impl Drop for Chooser {
    /// A choice that nobody has consumed is withdrawn.
    fn drop(&mut self) {
        let _ = self.0.write_all(b"-1");
    }
}

/// Does something as the creator of an object, as far as this user may; the kernel notes the effective ids.
fn as_creator<T>(object: &IpcObject, make: impl FnOnce() -> T) -> T {
    const KEEP: u64 = u32::MAX as u64;
    /// SECBIT_NO_SETUID_FIXUP: what is done needs the capabilities still.
    const NO_FIXUP: u64 = 1 << 2;
    let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let wanted = (object.creator, object.creator_group);
    if own == wanted {
        return make();
    }
    let bits = prctl(libc::PR_GET_SECUREBITS, [0; 4]).unwrap_or(0);
    let _ = prctl(libc::PR_SET_SECUREBITS, [bits | NO_FIXUP, 0, 0, 0]);
    let become_ids = |(user, group): (u32, u32)| {
        let _ = sys::call(libc::SYS_setresgid, [KEEP, group.into(), KEEP, 0, 0, 0]);
        let _ = sys::call(libc::SYS_setresuid, [KEEP, user.into(), KEEP, 0, 0, 0]);
    };
    become_ids(wanted);
    let made = make();
    become_ids(own);
    let _ = prctl(libc::PR_SET_SECUREBITS, [bits, 0, 0, 0]);
    made
}
