//! System V semaphores (semget(2)).

use crate::ipc::{self, IpcObject};
use crate::wire::record;

record! {
    /// A set of System V semaphores that the tree uses.
    pub struct SemaphoreSet {
        /// Its id, key, owner and permissions.
        ipc: IpcObject,
        /// The semaphores.
        semaphores: Vec<Semaphore>,
        /// When somebody last did something with one (semop(2)), in seconds since 1970. Linux lets nobody set it.
        operation_time: u64,
    }

    /// A semaphore of a set.
    pub struct Semaphore {
        /// Its value.
        value: u32,
        /// Process id of who changed it last; 0 for nobody. A resume brings it back if that is a process of the tree.
        last_pid: u32,
    }

    /// What is undone to a set when a process ends (SEM_UNDO).
    pub struct SemaphoreUndo {
        /// Which process.
        pid: u32,
        /// The id of the set.
        set: u32,
        /// By how much which semaphores change.
        adjustments: Vec<SemaphoreAdjustment>,
    }

    /// How one semaphore changes when a process ends.
    pub struct SemaphoreAdjustment {
        /// Its number in the set.
        number: u32,
        /// What is added to its value (semadj).
        by: i32,
    }
}

/// The highest value of a semaphore (SEMVMX).
pub const VALUE_MAX: i32 = 32767;

/// How many semaphores a set of a line of `/proc/sysvipc/sem` has.
pub fn count(line: &ipc::Listed) -> usize {
    usize::try_from(line.column(0)).unwrap_or(0)
}

/// When somebody last did something with one of them.
pub fn operation_time(line: &ipc::Listed) -> u64 {
    line.column(1)
}
