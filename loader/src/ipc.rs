//! System V objects: shared memory, message queues and semaphores are made, with what is in them, before any task needs them,
//! by a process of their own (see `keeper`).
//!
//! What becomes of one is decided by what the host has: see [`Fate`]. Its id is chosen through `*_next_id`, which the next
//! call of anybody consumes: so it is looked at which id came.

use crate::rebuild::sem;
use binfmt::image::Image;
use binfmt::ipc::{self, IpcKind, IpcObject};
use binfmt::note::msg::{SystemVQueue, Traffic};
use binfmt::note::sem::SemaphoreSet;
use binfmt::note::shm::{Listed, SharedSegment};
use std::fs::File;
use std::path::Path;

mod standing;

pub use standing::{Standing, ToMake, Whole};

/// Set beside an id in the control pages: others use the object. Ids are less.
const JOINED: u32 = 1 << 31;

/// The id of an object that stands, and whether others use it, as the control pages have them.
pub fn of_word(word: u32) -> (u32, bool) {
    (word & !JOINED, word & JOINED != 0)
}

/// What becomes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is made, with its id.
    Make,
    /// It is made, with whatever id the kernel gives: this user may not choose one.
    MakeAnyhow,
    /// It is still there and nobody uses it: it gets the content of the image.
    Reuse,
    /// It is still there and others use it: it is used as it is.
    Join,
}

/// Why an object cannot be had as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Objection {
    /// Its id or its key is another one's.
    Taken(String),
    /// Its id cannot be chosen.
    NoRight(String),
}

/// An object of the image, or one that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Known {
    object: IpcObject,
    /// How large it is, where that never changes: in bytes, or how many semaphores.
    size: u64,
    /// Process id of its maker, if the kernel tells.
    maker: u32,
    /// How many use it.
    users: u64,
    /// Whether its time need not be the same: values of semaphores change it, and in one boot no id is given twice.
    time_may_differ: bool,
}

impl Known {
    fn is_same(&self, there: &Known) -> bool {
        // A process of another pid namespace has no id.
        let same_maker = self.maker == there.maker || self.maker == 0 || there.maker == 0;
        let same_time = self.time_may_differ || self.object.change_time == there.object.change_time;
        self.object.is_alike(&there.object) && same_time && self.size == there.size && same_maker
    }
}

/// The objects of an image, each as a resume knows it.
fn wanted(image: &Image) -> Vec<(IpcKind, Known)> {
    if ipc::objects(image).next().is_none() {
        return Vec::new();
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let same_boot =
        image.all::<binfmt::note::host::Host>().any(|host| host.boot_id.0 == boot.trim().as_bytes());
    let segments = image.all::<SharedSegment>().map(|segment| Known {
        object: segment.ipc.clone(),
        size: segment.size_bytes,
        maker: segment.creator_pid,
        ..Known::default()
    });
    let queues =
        image.all::<SystemVQueue>().map(|queue| Known { object: queue.ipc.clone(), ..Known::default() });
    let sets = image.all::<SemaphoreSet>().map(|set| Known {
        object: set.ipc.clone(),
        size: set.semaphores.len() as u64,
        time_may_differ: same_boot,
        ..Known::default()
    });
    let segments = segments.map(|known| (IpcKind::Segment, known));
    let queues = queues.map(|known| (IpcKind::Queue, known));
    segments.chain(queues).chain(sets.map(|known| (IpcKind::Semaphores, known))).collect()
}

/// An object that is there. Who used a queue or semaphores last, and lives, uses them still.
fn there(kind: IpcKind, line: &ipc::Listed) -> Known {
    let object = line.object.clone();
    let living = |pids: &[u32]| {
        let lives = |pid: &&u32| **pid != 0 && Path::new(&format!("/proc/{pid}")).exists();
        pids.iter().filter(lives).count() as u64
    };
    match kind {
        IpcKind::Segment => {
            let Listed { size_bytes, creator_pid, attached, .. } = Listed::from(line);
            Known { object, size: size_bytes, maker: creator_pid, users: attached, time_may_differ: false }
        }
        IpcKind::Queue => {
            let traffic = Traffic::from(line);
            let users = living(&[traffic.last_sender, traffic.last_receiver]);
            Known { object, users, ..Known::default() }
        }
        IpcKind::Semaphores => {
            let count = binfmt::note::sem::count(line);
            // Whom it is not readable to it is in use by others.
            let pids = (0..count).map(|number| sem::last_user(object.id, number).unwrap_or(1));
            let users = living(&pids.collect::<Vec<_>>());
            Known { object, size: count as u64, users, ..Known::default() }
        }
    }
}

/// What becomes of `wanted` where there are these objects of its kind.
fn fate(
    kind: IpcKind,
    wanted: &Known,
    listed: &[Known],
    may_choose: bool,
) -> std::result::Result<Fate, Objection> {
    if let Some(there) = listed.iter().find(|there| wanted.is_same(there)) {
        return Ok(if there.users == 0 { Fate::Reuse } else { Fate::Join });
    }
    let IpcObject { id, key, .. } = wanted.object;
    let noun = kind.noun();
    let taken = |there: &Known| {
        let (id, key) = (there.object.id, there.object.key);
        let users = match there.users {
            0 => format!("which nobody uses (`ipcrm {} {id}` removes it)", kind.removes()),
            1 => "which somebody uses".to_owned(),
            count => format!("which is used {count} times"),
        };
        let wanted = &wanted.object;
        Objection::Taken(format!(
            "{noun} {id} (key {key:#x}) would be in the way of {} (key {:#x}), {users}",
            wanted.id, wanted.key
        ))
    };
    let same_place = listed.iter().find(|there| wanted.object.has_place_of(there.object.id));
    let same_key = listed.iter().find(|there| key != 0 && there.object.key == key);
    match same_place.or(same_key) {
        Some(there) => Err(taken(there)),
        None if may_choose => Ok(Fate::Make),
        None => Err(Objection::NoRight(format!(
            "the id of {noun} {id} cannot be chosen without CAP_CHECKPOINT_RESTORE"
        ))),
    }
}

/// What the host has for the objects of an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    fates: Vec<std::result::Result<Fate, Objection>>,
    in_use: Option<String>,
}

impl Host {
    /// Looks at what there is, if the image has such objects.
    pub fn look(image: &Image) -> Host {
        let wanted = wanted(image);
        let look = |kind: IpcKind| -> Vec<Known> {
            match wanted.iter().any(|(of, _)| *of == kind) {
                true => kind.list().iter().map(|line| there(kind, line)).collect(),
                false => Vec::new(),
            }
        };
        let listed = IpcKind::ALL.map(|kind| (kind, look(kind)));
        let decide = |(kind, wanted): &(IpcKind, Known)| {
            let may_choose = File::options().write(true).open(next_id(*kind)).is_ok();
            let listed = listed.iter().find(|(of, _)| of == kind).map_or(&[][..], |(_, all)| all);
            fate(*kind, wanted, listed, may_choose)
        };
        let fates: Vec<_> = wanted.iter().map(decide).collect();
        let used = wanted.iter().zip(&fates).find(|(_, fate)| **fate == Ok(Fate::Join));
        let in_use = used.map(|((kind, it), _)| {
            format!("{} {} is in use by others, who would share it", kind.noun(), it.object.id)
        });
        Host { fates, in_use }
    }

    /// Why the objects cannot all be had as they were, if they cannot.
    pub fn against(&self) -> Option<&Objection> {
        self.fates.iter().find_map(|fate| fate.as_ref().err())
    }

    /// An object that others use.
    pub fn in_use(&self) -> Option<&str> {
        self.in_use.as_deref()
    }

    /// What becomes of each object in this IPC namespace; what stands against it was told before.
    pub fn fates(&self) -> Vec<Fate> {
        self.fates.iter().map(|fate| fate.clone().unwrap_or(Fate::MakeAnyhow)).collect()
    }
}

/// What `--plan` says of the objects.
pub fn steps(image: &Image, fates: &[Fate]) -> Vec<String> {
    let step = |((kind, known), fate): ((IpcKind, Known), &Fate)| {
        let IpcObject { id, key, mode, .. } = known.object;
        let (label, noun, size) = (kind.label(), kind.noun(), known.size);
        let asked = match kind {
            IpcKind::Queue => format!("msgget({key:#x}, {mode:#o})"),
            _ => format!("{label}get({key:#x}, {size}, {mode:#o})"),
        };
        match fate {
            Fate::Make => format!("{asked} = {id}  # {noun}"),
            Fate::MakeAnyhow => {
                format!(
                    "{asked}  # it was {noun} {id}: this user may not choose the id, and gets another one"
                )
            }
            Fate::Reuse => format!("{label}ctl({id})  # {noun}, still there, gets its content anew"),
            Fate::Join => format!("{label}ctl({id})  # {noun}, still there and in use by others: as it is"),
        }
    };
    wanted(image).into_iter().zip(fates).map(step).collect()
}

/// Where the id of the next object is chosen.
fn next_id(kind: IpcKind) -> String {
    format!("/proc/sys/kernel/{}_next_id", kind.label())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let object = IpcObject { id: 32_773, key: 7, change_time: 100, ..IpcObject::default() };
        Known { object, size: 4096, ..Known::default() }
    }

    fn of(change: impl FnOnce(&mut Known)) -> Known {
        let mut known = known();
        change(&mut known);
        known
    }

    fn decide(listed: &[Known], may_choose: bool) -> std::result::Result<Fate, Objection> {
        fate(IpcKind::Segment, &known(), listed, may_choose)
    }

    #[test]
    fn an_object_is_taken_again_only_if_it_is_the_same() {
        assert_eq!(decide(&[], true), Ok(Fate::Make));
        assert!(matches!(decide(&[], false), Err(Objection::NoRight(_))));
        assert_eq!(decide(&[known()], false), Ok(Fate::Reuse));
        assert_eq!(decide(&[of(|it| it.users = 2)], false), Ok(Fate::Join));
        assert_eq!(decide(&[of(|it| it.maker = 5)], false), Ok(Fate::Reuse), "of whom nothing was known");
        let made = of(|it| it.maker = 5);
        let of_segment = |there: Known| fate(IpcKind::Segment, &made, &[there], true);
        assert_eq!(of_segment(known()), Ok(Fate::Reuse), "of whom nothing is known");
        assert_eq!(of_segment(made.clone()), Ok(Fate::Reuse));
        assert!(of_segment(of(|it| it.maker = 6)).is_err());
        assert_eq!(
            decide(&[of(|it| (it.object.mode, it.object.owner) = (0o1600, 5))], true),
            Ok(Fate::Reuse)
        );
        assert_eq!(decide(&[of(|it| it.object.change_time = 101)], true).ok(), None);
        let semaphores = of(|it| it.time_may_differ = true);
        let changed = [of(|it| it.object.change_time = 101)];
        assert_eq!(fate(IpcKind::Semaphores, &semaphores, &changed, true), Ok(Fate::Reuse));
        let others = [
            of(|it| it.object.change_time = 101),
            of(|it| (it.object.id, it.object.key) = (5, 9)),
            of(|it| it.object.id = 6),
            of(|it| it.size = 1),
            of(|it| it.object.creator = 1),
        ];
        for other in others {
            assert!(
                matches!(decide(std::slice::from_ref(&other), true), Err(Objection::Taken(_))),
                "{other:?}"
            );
        }
        assert_eq!(decide(&[of(|it| (it.object.id, it.object.key) = (6, 8))], true), Ok(Fate::Make));
    }
}
