//! System V shared memory (shmget(2)). What is in it belongs to a `MappedObject` of the kind `SystemV`.

use crate::ipc::{self, IpcKind, IpcObject};
use crate::wire::record;

record! {
    /// A System V shared memory segment that a task has attached.
    pub struct SharedSegment {
        /// Which `MappedObject`.
        object: u32,
        /// Its id, key, owner and permissions.
        ipc: IpcObject,
        /// The key that it was made with, which its name in `/proc/PID/maps` bears.
        original_key: u32,
        /// Its size in bytes, as it was asked for.
        size_bytes: u64,
        /// Whether it goes when nobody has it attached any more (SHM_DEST).
        marked_for_removal: bool,
        /// Whether it is never swapped out (SHM_LOCKED).
        locked: bool,
        /// Process id of the creator; a resume does not bring it back.
        creator_pid: u32,
        /// Process id of whoever attached or detached it last; a resume does not bring it back.
        last_pid: u32,
        /// How often it was attached (shm_nattch), by whomever.
        attached: u64,
        /// When it was last attached, in seconds since 1970. Linux lets nobody set this time, nor the one below.
        attach_time: u64,
        /// When it was last detached.
        detach_time: u64,
    }
}

/// A line of `/proc/sysvipc/shm`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// What all System V objects have; `mode` with flags.
    pub ipc: IpcObject,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// Process id of the creator.
    pub creator_pid: u32,
    /// Process id of whoever attached or detached it last.
    pub last_pid: u32,
    /// How often it is attached.
    pub attached: u64,
    /// When it was last attached.
    pub attach_time: u64,
    /// When it was last detached.
    pub detach_time: u64,
    /// How much of it is swapped out.
    pub swapped_bytes: u64,
}

impl Listed {
    /// SHM_DEST
    pub fn is_marked_for_removal(&self) -> bool {
        self.ipc.mode & 0o1000 != 0
    }

    /// SHM_LOCKED
    pub fn is_locked(&self) -> bool {
        self.ipc.mode & 0o2000 != 0
    }
}

/// All segments of `/proc/sysvipc/shm`.
pub fn list() -> Vec<Listed> {
    IpcKind::Segment.list().iter().map(Listed::from).collect()
}

impl From<&ipc::Listed> for Listed {
    fn from(line: &ipc::Listed) -> Listed {
        Listed {
            ipc: line.object.clone(),
            size_bytes: line.column(0),
            creator_pid: line.pid(1),
            last_pid: line.pid(2),
            attached: line.column(3),
            attach_time: line.column(4),
            detach_time: line.column(5),
            swapped_bytes: line.column(7),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
       key      shmid perms                  size  cpid  lpid nattch   uid   gid  cuid  cgid      atime      dtime      ctime                   rss                  swap
         0          4  1600                 10000 12345 12346      2  1000   100     0     0 1700000001          0 1700000000                 12288                  4096
-559038737      32769  2666            4294967296     7     7      0 65534 65534 65534 65534          0          0 1700000002                     0                     0
";

    #[test]
    fn lines_are_taken_apart() {
        let all: Vec<Listed> = IpcKind::Segment.parse_list(LIST).iter().map(Listed::from).collect();
        assert_eq!(all.len(), 2);
        let first = &all[0];
        assert_eq!((first.ipc.id, first.size_bytes, first.attached), (4, 10000, 2));
        assert!(first.is_marked_for_removal() && !first.is_locked());
        assert_eq!((first.creator_pid, first.last_pid, first.swapped_bytes), (12345, 12346, 4096));
        assert_eq!((first.attach_time, first.detach_time), (1_700_000_001, 0));
        assert!(all[1].is_locked() && !all[1].is_marked_for_removal());
    }
}
