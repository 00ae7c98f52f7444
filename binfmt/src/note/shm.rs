//! System V shared memory (shmget(2)). What is in it belongs to a `MappedObject` of the kind `SystemV`.

use crate::wire::record;

record! {
    /// A System V shared memory segment that a task has attached.
    pub struct SharedSegment {
        /// Which `MappedObject`.
        object: u32,
        /// Its id (shmget(2)).
        id: u32,
        /// Its key; 0 (IPC_PRIVATE) for none, and for one that was marked for removal.
        key: u32,
        /// The key that it was made with, which its name in `/proc/PID/maps` bears.
        original_key: u32,
        /// Its size in bytes, as it was asked for.
        size_bytes: u64,
        /// Permissions, nine bits.
        mode: u32,
        /// Whether it goes when nobody has it attached any more (SHM_DEST).
        marked_for_removal: bool,
        /// Whether it is never swapped out (SHM_LOCKED).
        locked: bool,
        /// User id of the owner.
        owner: u32,
        /// Group id of the owner.
        owner_group: u32,
        /// User id of the creator.
        creator: u32,
        /// Group id of the creator.
        creator_group: u32,
        /// Process id of the creator; a resume does not bring it back.
        creator_pid: u32,
        /// Process id of whoever attached or detached it last; a resume does not bring it back.
        last_pid: u32,
        /// How often it was attached (shm_nattch), by whomever.
        attached: u64,
        /// When it was last attached, in seconds since 1970. Linux lets nobody set this time, nor the two below.
        attach_time: u64,
        /// When it was last detached.
        detach_time: u64,
        /// When it was made or its owner or mode were set; by this a resume knows whether it still is the same one.
        change_time: u64,
    }
}

/// How many bits of an id are the segment's place in the kernel's table (IPCMNI_SHIFT): two ids with the same place exclude
/// each other.
const PLACE_BITS: u32 = 15;

impl SharedSegment {
    /// Whether another id has this one's place in the kernel's table.
    pub fn has_place_of(&self, id: u32) -> bool {
        let mask = (1 << PLACE_BITS) - 1;
        self.id & mask == id & mask
    }

    /// Whether `found`, which is there now, is this very segment: whatever sets its owner or mode changes the time.
    pub fn is_same(&self, found: &Listed) -> bool {
        let own = (self.id, self.key, self.size_bytes, self.change_time, self.creator, self.creator_group);
        let its =
            (found.id, found.key, found.size_bytes, found.change_time, found.creator, found.creator_group);
        // A process of another pid namespace has no id.
        let same_maker =
            self.creator_pid == found.creator_pid || self.creator_pid == 0 || found.creator_pid == 0;
        own == its && same_maker
    }
}

/// A line of `/proc/sysvipc/shm`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub key: u32,
    /// Its id.
    pub id: u32,
    /// Permissions and flags.
    pub mode: u32,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Process id of the creator.
    pub creator_pid: u32,
    /// Process id of whoever attached or detached it last.
    pub last_pid: u32,
    /// How often it is attached.
    pub attached: u64,
    /// User id of the owner.
    pub owner: u32,
    /// Group id of the owner.
    pub owner_group: u32,
    /// User id of the creator.
    pub creator: u32,
    /// Group id of the creator.
    pub creator_group: u32,
    /// When it was last attached.
    pub attach_time: u64,
    /// When it was last detached.
    pub detach_time: u64,
    /// When it was made or changed.
    pub change_time: u64,
    /// How much of it is swapped out.
    pub swapped_bytes: u64,
}

impl Listed {
    /// SHM_DEST
    pub fn is_marked_for_removal(&self) -> bool {
        self.mode & 0o1000 != 0
    }

    /// SHM_LOCKED
    pub fn is_locked(&self) -> bool {
        self.mode & 0o2000 != 0
    }
}

/// All segments of `/proc/sysvipc/shm` (proc_sysvipc_shm in ipc/shm.c); lines that are no such ones are left out.
pub fn parse_list(text: &str) -> Vec<Listed> {
    text.lines().skip(1).filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Listed> {
    let mut words = line.split_whitespace();
    let key: i32 = words.next()?.parse().ok()?;
    let id = words.next()?.parse().ok()?;
    let mode = u32::from_str_radix(words.next()?, 8).ok()?;
    let mut number = || words.next()?.parse::<u64>().ok();
    let short = |number: u64| u32::try_from(number).ok();
    let (size_bytes, creator_pid, last_pid) = (number()?, short(number()?)?, short(number()?)?);
    let attached = number()?;
    let (owner, owner_group) = (short(number()?)?, short(number()?)?);
    let (creator, creator_group) = (short(number()?)?, short(number()?)?);
    let (attach_time, detach_time, change_time) = (number()?, number()?, number()?);
    let _resident = number()?;
    let swapped_bytes = number()?;
    Some(Listed {
        key: key.cast_unsigned(),
        id,
        mode,
        size_bytes,
        creator_pid,
        last_pid,
        attached,
        owner,
        owner_group,
        creator,
        creator_group,
        attach_time,
        detach_time,
        change_time,
        swapped_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap
         0          4  1600                 10000 12345 12346      2  1000   100     0     0 1700000001          0 1700000000                 12288                  4096
-559038737      32769  2666            4294967296     7     7      0 65534 65534 65534 65534          0          0 1700000002                     0                     0
 nonsense
";

    #[test]
    fn lines_are_taken_apart() {
        let all = parse_list(LIST);
        assert_eq!(all.len(), 2);
        let first = &all[0];
        assert_eq!((first.key, first.id, first.size_bytes, first.attached), (0, 4, 10000, 2));
        assert!(first.is_marked_for_removal() && !first.is_locked());
        assert_eq!((first.owner, first.owner_group, first.creator, first.creator_group), (1000, 100, 0, 0));
        assert_eq!((first.creator_pid, first.last_pid, first.swapped_bytes), (12345, 12346, 4096));
        assert_eq!(
            (first.attach_time, first.detach_time, first.change_time),
            (1_700_000_001, 0, 1_700_000_000)
        );
        assert_eq!((all[1].key, all[1].size_bytes), (0xdead_beef, 1 << 32));
        assert!(all[1].is_locked() && !all[1].is_marked_for_removal());
        assert_eq!(parse_list(""), []);
    }

    #[test]
    fn the_same_segment_is_known_by_its_time() {
        let found = parse_list(LIST).remove(0);
        let note = SharedSegment {
            id: 4,
            size_bytes: 10000,
            creator_pid: 12345,
            change_time: 1_700_000_000,
            ..SharedSegment::default()
        };
        assert!(note.is_same(&found));
        assert!(note.is_same(&Listed { creator_pid: 0, ..found.clone() }));
        assert!(!note.is_same(&Listed { change_time: 1_700_000_005, ..found.clone() }));
        assert!(!note.is_same(&Listed { creator_pid: 1, ..found }));
        assert!(note.has_place_of(4 + (3 << 15)) && !note.has_place_of(5));
    }
}
