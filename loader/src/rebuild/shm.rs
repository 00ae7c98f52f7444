//! System V shared memory: segments are made, with their content, before any task needs them, by a process of their own
//! (see `keeper`), and attached by the tasks.
//!
//! What becomes of a segment is decided by what the host has: see [`Fate`]. Its id is chosen through `shm_next_id`, which the
//! next shmget(2) of anybody consumes: so it is looked at which id came.

use crate::error::{Error, Result};
use crate::fill;
use crate::rebuild::{mapping, prctl};
use crate::sys;
use crate::world::World;
use binfmt::image::{Image, Owner};
use binfmt::note::mapping::{MappedObject, Mapping};
use binfmt::note::shm::{Listed, SharedSegment};
use nix::errno::Errno;
use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;

/// Where the id of the next segment is chosen.
const NEXT_ID: &str = "/proc/sys/kernel/shm_next_id";
const OWN_ACCESS: u32 = 0o600;
const HUGE_SHIFT: u32 = 26;

/// What becomes of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is made, with its id.
    Make,
    /// It is made, with whatever id the kernel gives: this user may not choose one.
    MakeAnyhow,
    /// It is still there and nobody has it attached: it gets the content of the image.
    Reuse,
    /// It is still there and others use it: it is attached as it is.
    Join,
}

/// What the host says of segments.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The segments that there are.
    pub listed: Vec<Listed>,
    /// Whether ids may be chosen.
    pub may_choose: bool,
}

/// Why a segment cannot be had as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    /// Its id or its key is another one's.
    Taken(String),
    /// Its id cannot be chosen.
    NoRight(String),
}

impl Host {
    /// Looks at what there is, if the image has segments.
    pub fn look(image: &Image) -> Host {
        if image.all::<SharedSegment>().next().is_none() {
            return Host::default();
        }
        Host { listed: listed(), may_choose: File::options().write(true).open(NEXT_ID).is_ok() }
    }

    /// What becomes of a segment in this IPC namespace.
    pub fn fate(&self, segment: &SharedSegment) -> std::result::Result<Fate, Objection> {
        let SharedSegment { id, key, .. } = segment;
        if let Some(there) = self.listed.iter().find(|there| segment.is_same(there)) {
            return Ok(if there.attached == 0 { Fate::Reuse } else { Fate::Join });
        }
        let taken = |there: &Listed| {
            let users = match there.attached {
                0 => format!("which nobody has attached (`ipcrm -m {}` removes it)", there.id),
                1 => "which somebody has attached".to_owned(),
                count => format!("which is attached {count} times"),
            };
            Objection::Taken(format!(
                "System V segment {id} (key {key:#x}) would be in the way of segment {} (key {:#x}), {users}",
                there.id, there.key
            ))
        };
        let same_place = self.listed.iter().find(|there| segment.has_place_of(there.id));
        let same_key = self.listed.iter().find(|there| *key != 0 && there.key == *key);
        match same_place.or(same_key) {
            Some(there) => Err(taken(there)),
            None if self.may_choose => Ok(Fate::Make),
            None => Err(Objection::NoRight(format!(
                "the id of System V segment {id} cannot be chosen without CAP_CHECKPOINT_RESTORE"
            ))),
        }
    }

    /// Why the segments of an image cannot all be had as they were, if they cannot.
    pub fn against(&self, image: &Image) -> Option<Objection> {
        image.all::<SharedSegment>().find_map(|segment| self.fate(segment).err())
    }

    /// A segment that others use.
    pub fn in_use(&self, image: &Image) -> Option<String> {
        let used = image.all::<SharedSegment>().find(|segment| self.fate(segment) == Ok(Fate::Join))?;
        Some(format!("System V segment {} is in use by others, who would share it", used.id))
    }
}

/// What `--plan` says of the segments.
pub fn steps(image: &Image, fates: &[Fate]) -> Vec<String> {
    let step = |(segment, fate): (&SharedSegment, &Fate)| {
        let SharedSegment { id, key, size_bytes, mode, .. } = segment;
        let asked = format!("shmget({key:#x}, {size_bytes}, {mode:#o})");
        match fate {
            Fate::Make => format!("{asked} = {id}  # System V shared memory"),
            Fate::MakeAnyhow => {
                format!(
                    "{asked}  # it was segment {id}: this user may not choose the id, and gets another one"
                )
            }
            Fate::Reuse => format!("shmat({id})  # still there, gets its content anew"),
            Fate::Join => format!("shmat({id})  # still there and in use by others: attached as it is"),
        }
    };
    image.all::<SharedSegment>().zip(fates).map(step).collect()
}

/// A segment that stands.
#[derive(Debug)]
pub struct Standing<'a> {
    segment: &'a SharedSegment,
    /// Its id now.
    pub id: u32,
    fate: Fate,
    /// Where it is attached.
    at: Option<u64>,
}

fn failed(what: &str, segment: &SharedSegment, error: Errno) -> Error {
    let SharedSegment { id, key, size_bytes, .. } = segment;
    Error::step(format!("{what} System V segment {id} (key {key:#x}, {size_bytes} bytes)"), error)
}

fn object<'a>(image: &'a Image, segment: &SharedSegment) -> Result<&'a MappedObject> {
    let object = image.all::<MappedObject>().find(|object| object.id == segment.object);
    object.ok_or(Error::Internal("a segment refers to no object"))
}

impl<'a> Standing<'a> {
    /// Makes a segment, or takes the one that is there. What was made before a failure is in `made`.
    pub fn make(
        image: &Image,
        segment: &'a SharedSegment,
        fate: Fate,
        made: &mut Vec<Standing<'a>>,
    ) -> Result<()> {
        let object = object(image, segment)?;
        let id = match fate {
            Fate::Make | Fate::MakeAnyhow => create(segment, object, fate)?,
            Fate::Reuse | Fate::Join => segment.id,
        };
        made.push(Standing { segment, id, fate, at: None });
        let Some(standing) = made.last_mut().filter(|_| fate != Fate::Join) else { return Ok(()) };
        standing.fill(image, object)
    }

    /// Gives it its content. It stays attached here: one that is to go when nobody has it any more goes with us.
    fn fill(&mut self, image: &Image, object: &MappedObject) -> Result<()> {
        let segment = self.segment;
        let failed = |what| move |error| failed(what, segment, error);
        let attached = match (sys::attach_shared(self.id, 0, 0), self.fate) {
            (Err(Errno::EACCES), Fate::Reuse) => {
                let set =
                    sys::set_shared_owner(self.id, self.segment.owner, self.segment.owner_group, OWN_ACCESS);
                set.and_then(|()| sys::attach_shared(self.id, 0, 0))
            }
            (attached, _) => attached,
        };
        let at = attached.map_err(failed("attach"))?;
        self.at = Some(at);
        if self.fate == Fate::Reuse {
            if sys::shared_attached(self.id) != Ok(1) {
                return Err(failed("take (somebody else has attached it meanwhile)")(Errno::EBUSY));
            }
            let len_bytes = length_bytes(object);
            sys::advise(at, len_bytes, libc::MADV_REMOVE).map_err(failed("clear"))?;
        }
        if self.segment.locked {
            sys::control_shared(self.id, libc::SHM_LOCK).map_err(failed("lock"))?;
        }
        if self.segment.marked_for_removal {
            sys::control_shared(self.id, libc::IPC_RMID).map_err(failed("mark for removal"))?;
        }
        fill::fill_owner(image, Owner::Object(object.id), at)
    }

    /// When all tasks have attached it: it gets its owner and permissions, and we leave it. In a user namespace of the tree's
    /// own the owner stays its user, who is all that there is.
    pub fn settle(&mut self, own_user: bool) -> Result<()> {
        if self.fate == Fate::Join {
            return Ok(());
        }
        let SharedSegment { owner, owner_group, mode, .. } = self.segment;
        let failed = |error| failed("give to its owner", self.segment, error);
        // Who may not read it need not look: nothing was changed then.
        let own = sys::shared_owner(self.id).unwrap_or_default();
        let wanted = match own_user {
            true => (own.0, own.1, *mode),
            false => (*owner, *owner_group, *mode),
        };
        if (own.0, own.1, own.2 & 0o777) != wanted {
            sys::set_shared_owner(self.id, wanted.0, wanted.1, wanted.2).map_err(failed)?;
        }
        self.at.take().map_or(Ok(()), sys::detach_shared).map_err(failed)
    }

    /// What others must know of who has another id now.
    pub fn remark(&self) -> Option<String> {
        let SharedSegment { id, .. } = self.segment;
        (self.id != *id).then(|| {
            format!(
                "System V segment {id} is {} now: this user may not choose its id (try --pid namespace)",
                self.id
            )
        })
    }

    /// Undoes the making.
    pub fn remove(self) {
        if matches!(self.fate, Fate::Make | Fate::MakeAnyhow) {
            // It may have gone by itself.
            let _ = sys::control_shared(self.id, libc::IPC_RMID);
        }
        if let Some(at) = self.at {
            let _ = sys::detach_shared(at);
        }
    }
}

/// Removes what a process has made that was killed.
pub fn remove_all_of(pid: u32) {
    for listed in listed().into_iter().filter(|listed| listed.creator_pid == pid) {
        // It may go by itself.
        let _ = sys::control_shared(listed.id, libc::IPC_RMID);
    }
}

fn listed() -> Vec<Listed> {
    binfmt::note::shm::parse_list(&std::fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default())
}

/// How long a segment is where it is mapped.
fn length_bytes(object: &MappedObject) -> u64 {
    object.file.size_bytes.next_multiple_of(object.huge_page_bytes.max(binfmt::address::PAGE_BYTES))
}

fn create(segment: &SharedSegment, object: &MappedObject, fate: Fate) -> Result<u32> {
    const TRIES: u32 = 5;
    let failed = |error| failed("make", segment, error);
    let huge = match object.huge_page_bytes {
        0 => 0,
        bytes => libc::SHM_HUGETLB | (bytes.trailing_zeros() << HUGE_SHIFT).cast_signed(),
    };
    let flags = (segment.mode | OWN_ACCESS).cast_signed() | huge;
    let get = || {
        let made =
            as_creator(segment, || sys::create_shared(segment.original_key, segment.size_bytes, flags));
        match made {
            // The name alone bears a key that was given up: it may be somebody else's now.
            Err(Errno::EEXIST) if segment.marked_for_removal => {
                as_creator(segment, || sys::create_shared(0, segment.size_bytes, flags))
            }
            made => made,
        }
    };
    if fate == Fate::MakeAnyhow {
        return get().map_err(failed);
    }
    for _ in 0..TRIES {
        let chooser =
            Chooser::choose(segment.id).map_err(|error| Error::io(format!("write {NEXT_ID}"), &error))?;
        let made = get();
        drop(chooser);
        let id = made.map_err(failed)?;
        if id == segment.id {
            return Ok(id);
        }
        // Somebody else's shmget came between.
        sys::control_shared(id, libc::IPC_RMID).map_err(failed)?;
    }
    Err(failed(Errno::EEXIST))
}

/// The right to choose the next id, as far as other resumes are concerned.
struct Chooser(File);

impl Chooser {
    fn choose(id: u32) -> std::io::Result<Chooser> {
        let file = File::options().write(true).open(NEXT_ID)?;
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

/// Does something as the creator of a segment, as far as this user may; the kernel notes the effective ids.
fn as_creator<T>(segment: &SharedSegment, make: impl FnOnce() -> T) -> T {
    const KEEP: u64 = u32::MAX as u64;
    /// SECBIT_NO_SETUID_FIXUP: what is done needs the capabilities still.
    const NO_FIXUP: u64 = 1 << 2;
    let own = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let wanted = (segment.creator, segment.creator_group);
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

/// Whether a mapping shows all of its segment.
pub fn is_whole(mapping: &Mapping, object: &MappedObject) -> bool {
    mapping.offset == 0 && mapping.len_bytes == length_bytes(object)
}

/// Attaches a segment where a mapping shows it, or a part of it, or more than there is.
pub fn attach(world: &World<'_>, mapping: &Mapping, object: &MappedObject, protection: u32) -> Result<()> {
    let id = world.shared_segment(object.id)?;
    let failed = |what| move |error| mapping::failed(what, mapping, error);
    // Attached with SHM_RDONLY, it can never be written.
    let flags = if mapping::has_flag(mapping, "mw") { 0 } else { libc::SHM_RDONLY };
    if is_whole(mapping, object) {
        sys::attach_shared(id, mapping.start, flags).map_err(failed("attach System V segment at"))?;
    } else {
        let at = world.places.views.get(&object.id).copied();
        let at = at.ok_or(Error::Internal("there is no room for a segment"))?;
        sys::attach_shared(id, at, flags).map_err(failed("attach System V segment for"))?;
        let (is, wanted) = (length_bytes(object), mapping.offset.saturating_add(mapping.len_bytes));
        if wanted > is {
            sys::grow(at, is, wanted).map_err(failed("make room in"))?;
        }
        sys::remap(at + mapping.offset, mapping.len_bytes, mapping.len_bytes, mapping.start)
            .map_err(failed("move a part of a System V segment to"))?;
        for (start, end) in [(0, mapping.offset), (wanted, is)] {
            if start < end {
                sys::unmap(at + start, end - start).map_err(failed("unmap what surrounds"))?;
            }
        }
    }
    sys::protect(mapping.start, mapping.len_bytes, protection, 0).map_err(failed("protect"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment() -> SharedSegment {
        SharedSegment { id: 32_773, key: 7, size_bytes: 4096, change_time: 100, ..SharedSegment::default() }
    }

    fn listed() -> Listed {
        Listed { id: 32_773, key: 7, size_bytes: 4096, change_time: 100, ..Listed::default() }
    }

    fn fate(listed: Vec<Listed>, may_choose: bool) -> std::result::Result<Fate, Objection> {
        Host { listed, may_choose }.fate(&segment())
    }

    #[test]
    fn a_segment_is_taken_again_only_if_it_is_the_same() {
        assert_eq!(fate(vec![], true), Ok(Fate::Make));
        assert!(matches!(fate(vec![], false), Err(Objection::NoRight(_))));
        assert_eq!(fate(vec![listed()], false), Ok(Fate::Reuse));
        assert_eq!(fate(vec![Listed { attached: 2, ..listed() }], false), Ok(Fate::Join));
        let others = [
            Listed { change_time: 101, ..listed() },
            Listed { id: 5, key: 9, ..listed() },
            Listed { id: 6, ..listed() },
        ];
        for other in others {
            assert!(matches!(fate(vec![other.clone()], true), Err(Objection::Taken(_))), "{other:?}");
        }
        assert_eq!(fate(vec![Listed { id: 6, key: 8, ..listed() }], true), Ok(Fate::Make));
    }
}
