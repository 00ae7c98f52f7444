//! A process: its place in the tree and what belongs to the whole thread group.

use crate::wire::{Text, enumeration, record};

enumeration! {
    /// What a process does.
    pub enum RunState: u8 {
        /// It runs, or waits in a system call.
        Running = 0,
        /// It is stopped by a job-control signal (state T).
        Stopped = 1,
        /// It has ended and waits to be waited for.
        Zombie = 2,
    }
}

record! {
    /// A process: its place in the tree and what belongs to the whole thread group.
    pub struct Task {
        /// Process id in the dumper's pid namespace.
        pid: u32,
        /// Process id of the parent; 0 if it is not in the image.
        parent: u32,
        /// Which thread of the parent has it as its child (`/proc/PID/task/TID/children`); 0 for the main thread. At the end of
        /// that thread it gets its signal (PR_SET_PDEATHSIG).
        parent_thread: u32,
        /// Process group id.
        process_group: u32,
        /// Session id.
        session: u32,
        /// Whether there is a process of the group's id. If that is not in the image, the group is one that the root came out
        /// of, as a rule, and not one whose leader is dead.
        group_has_leader: bool,
        /// The same of the session.
        session_has_leader: bool,
        /// The signal the parent gets when it ends (field 38 of `/proc/PID/stat`).
        exit_signal: u32,
        /// Whether it has called execve since its fork (PF_FORKNOEXEC not set in field 9 of `/proc/PID/stat`).
        has_execed: bool,
        /// Whether it is a child subreaper (PR_GET_CHILD_SUBREAPER).
        child_subreaper: bool,
        /// What it does.
        state: RunState,
        /// The signal that stopped it, if it is stopped; 0 otherwise.
        stop_signal: u32,
        /// What its parent has not yet been told by wait(2): the status if it is a zombie; if it is stopped, the signal that
        /// stopped it, and 0 if that was told (field 52 of `/proc/PID/stat`).
        wait_status: u32,
        /// Device number of the controlling terminal (field 7 of `/proc/PID/stat`); 0 for none.
        controlling_terminal: u64,
        /// Whether its process group was the terminal's foreground group.
        in_foreground: bool,
        /// Execution domain (personality(2)).
        personality: u64,
        /// Whether other users may look at it (PR_GET_DUMPABLE: 0, 1 or 2).
        dumpable: u32,
        /// Badness adjustment of the out-of-memory killer, -1000 to 1000.
        oom_score_adj: i32,
        /// Which mappings a core dump would hold (`/proc/PID/coredump_filter`).
        coredump_filter: u64,
        /// Name of the leader, at most 15 bytes.
        name: Text,
        /// Which `Memory` note is its address space.
        memory: u32,
        /// Which `DescriptorTable` note is its table of descriptors.
        descriptor_table: u32,
        /// Which `Filesystem` note has its root and working directory.
        filesystem: u32,
        /// Which `SignalHandlers` note has its dispositions.
        signal_handlers: u32,
        /// Speculation, timestamp-counter and machine-check modes that prctl can read: pairs of option and value.
        modes: Vec<Mode>,
        /// Registrations of membarrier(2), as MEMBARRIER_CMD_GET_REGISTRATIONS gives them.
        membarrier_registrations: u32,
    }

    /// A mode of a process that prctl(2) can read with one option and set with another.
    pub struct Mode {
        /// The option that sets it (PR_SET_...).
        option: u32,
        /// The value.
        value: u64,
    }
}
