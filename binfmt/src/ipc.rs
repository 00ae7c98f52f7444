//! What System V shared memory, message queues and semaphores have in common: a number and a key in an IPC namespace, and
//! no process to which they belong.

use crate::image::Image;
use crate::note::msg::SystemVQueue;
use crate::note::sem::SemaphoreSet;
use crate::note::shm::SharedSegment;
use crate::wire::record;

record! {
    /// Identity and permissions of a System V object (struct ipc64_perm).
    pub struct IpcObject {
        /// Its id.
        id: u32,
        /// Its key; 0 (IPC_PRIVATE) for none, and for a segment that was marked for removal.
        key: u32,
        /// Permissions, nine bits.
        mode: u32,
        /// User id of the owner.
        owner: u32,
        /// Group id of the owner.
        owner_group: u32,
        /// User id of the creator.
        creator: u32,
        /// Group id of the creator.
        creator_group: u32,
        /// When it was made or its owner or mode (or a semaphore's value, by SETVAL) were set, in seconds since 1970; by this a resume knows whether it still is
        /// the same one. Linux lets nobody set it.
        change_time: u64,
    }
}

/// Permissions without flags.
pub const MODE: u32 = 0o777;

/// How many bits of an id are the object's place in the kernel's table (IPCMNI_SHIFT): two ids with the same place exclude
/// each other.
const PLACE_BITS: u32 = 15;

impl IpcObject {
    /// Whether another id has this one's place in the kernel's table.
    pub fn has_place_of(&self, id: u32) -> bool {
        let mask = (1 << PLACE_BITS) - 1;
        self.id & mask == id & mask
    }

    /// Whether `found`, which is there now, is this very object as far as it can be told without the time of its change.
    pub fn is_alike(&self, found: &IpcObject) -> bool {
        let of = |it: &IpcObject| (it.id, it.key, it.creator, it.creator_group);
        of(self) == of(found)
    }
}

/// Which kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum IpcKind {
    /// Shared memory.
    Segment,
    /// A message queue.
    Queue,
    /// A set of semaphores.
    Semaphores,
}

impl IpcKind {
    /// All of them.
    pub const ALL: [IpcKind; 3] = [IpcKind::Segment, IpcKind::Queue, IpcKind::Semaphores];

    /// Its name in files of `/proc`.
    pub fn label(self) -> &'static str {
        match self {
            IpcKind::Segment => "shm",
            IpcKind::Queue => "msg",
            IpcKind::Semaphores => "sem",
        }
    }

    /// What people call one.
    pub fn noun(self) -> &'static str {
        match self {
            IpcKind::Segment => "System V segment",
            IpcKind::Queue => "System V message queue",
            IpcKind::Semaphores => "System V semaphore set",
        }
    }

    /// The option of ipcrm(1) that removes one.
    pub fn removes(self) -> &'static str {
        match self {
            IpcKind::Segment => "-m",
            IpcKind::Queue => "-q",
            IpcKind::Semaphores => "-s",
        }
    }

    /// How many columns of its list stand before the owner, and after the creator's group up to `ctime`.
    fn columns(self) -> (usize, usize) {
        match self {
            IpcKind::Segment => (4, 2),
            IpcKind::Queue => (4, 2),
            IpcKind::Semaphores => (1, 1),
        }
    }

    /// All objects of the caller's IPC namespace (`/proc/sysvipc/`, proc_sysvipc_*_show in ipc/); none if there is no such
    /// list.
    pub fn list(self) -> Vec<Listed> {
        let text = std::fs::read_to_string(format!("/proc/sysvipc/{}", self.label()));
        self.parse_list(&text.unwrap_or_default())
    }

    /// The lines of such a list; what is no such line is left out.
    pub fn parse_list(self, text: &str) -> Vec<Listed> {
        text.lines().skip(1).filter_map(|line| self.parse_line(line)).collect()
    }

    fn parse_line(self, line: &str) -> Option<Listed> {
        let (before, after) = self.columns();
        let mut words = line.split_whitespace();
        let key: i32 = words.next()?.parse().ok()?;
        let id = words.next()?.parse().ok()?;
        let mode = u32::from_str_radix(words.next()?, 8).ok()?;
        let numbers: Vec<u64> = words.map(str::parse).collect::<Result<_, _>>().ok()?;
        let (first, rest) = numbers.split_at_checked(before)?;
        let [owner, owner_group, creator, creator_group, rest @ ..] = rest else { return None };
        let (second, rest) = rest.split_at_checked(after)?;
        let (change_time, rest) = rest.split_first()?;
        let short = |number: &u64| u32::try_from(*number).ok();
        let object = IpcObject {
            id,
            key: key.cast_unsigned(),
            mode,
            owner: short(owner)?,
            owner_group: short(owner_group)?,
            creator: short(creator)?,
            creator_group: short(creator_group)?,
            change_time: *change_time,
        };
        Some(Listed { object, others: [first, second, rest].concat() })
    }
}

/// All objects of an image: segments, then queues, then semaphores, each in the order of the file.
pub fn objects(image: &Image) -> impl Iterator<Item = (IpcKind, &IpcObject)> {
    let segments = image.all::<SharedSegment>().map(|segment| (IpcKind::Segment, &segment.ipc));
    let queues = image.all::<SystemVQueue>().map(|queue| (IpcKind::Queue, &queue.ipc));
    let sets = image.all::<SemaphoreSet>().map(|set| (IpcKind::Semaphores, &set.ipc));
    segments.chain(queues).chain(sets)
}

/// A line of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// What all kinds have; `mode` with the flags that stand beside the permissions.
    pub object: IpcObject,
    /// The other columns, in their order.
    others: Vec<u64>,
}

impl Listed {
    /// A column that only this kind has.
    pub(crate) fn column(&self, index: usize) -> u64 {
        self.others.get(index).copied().unwrap_or_default()
    }

    /// The same of a process id.
    pub(crate) fn pid(&self, index: usize) -> u32 {
        u32::try_from(self.column(index)).unwrap_or_default()
    }

    /// The object, with its permissions alone.
    pub fn note(&self) -> IpcObject {
        IpcObject { mode: self.object.mode & MODE, ..self.object.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let queues = "       key      msqid perms      cbytes       qnum lspid lrpid   uid   gid  cuid  cgid      stime      rtime      ctime\n\
            -559038737          3   600          24          2   100   200  1000   100     0     7        501        502        503\n\
            nonsense\n 1 2 600 3\n";
        let all = IpcKind::Queue.parse_list(queues);
        assert_eq!(all.len(), 1);
        let object = &all[0].object;
        assert_eq!((object.key, object.id, object.mode), (0xdead_beef, 3, 0o600));
        assert_eq!(
            (object.owner, object.owner_group, object.creator, object.creator_group),
            (1000, 100, 0, 7)
        );
        assert_eq!((object.change_time, &all[0].others), (503, &vec![24, 2, 100, 200, 501, 502]));
        let sets = "key semid perms nsems uid gid cuid cgid otime ctime\n 0 5 1600 4 1 2 3 4 77 78\n";
        let all = IpcKind::Semaphores.parse_list(sets);
        assert_eq!((all[0].object.change_time, &all[0].others), (78, &vec![4, 77]));
        assert_eq!((all[0].object.mode, all[0].note().mode), (0o1600, 0o600));
    }

    #[test]
    fn places_exclude_each_other() {
        let object = IpcObject { id: 4, key: 7, change_time: 100, ..IpcObject::default() };
        assert!(object.is_alike(&IpcObject { mode: 0o1600, owner: 5, ..object.clone() }));
        assert!(!object.is_alike(&IpcObject { creator: 1, ..object.clone() }));
        assert!(object.has_place_of(4 + (3 << 15)) && !object.has_place_of(5));
    }
}
