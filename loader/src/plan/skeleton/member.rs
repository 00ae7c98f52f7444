//! What the skeleton needs to know of a task.

use binfmt::note::task::{RunState, Task};

/// The session or the group of the founder: no process has such an id (PID_MAX_LIMIT is 2^22).
pub const CALLERS: u32 = u32::MAX;

/// A task of the image, as far as its place in the tree goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Member {
    /// Process id.
    pub pid: u32,
    /// Process id of the parent; 0 if it is not in the image.
    pub parent: u32,
    /// Process group id, or [`CALLERS`].
    pub group: u32,
    /// Session id, or [`CALLERS`].
    pub session: u32,
    /// The signal the parent gets when it ends.
    pub exit_signal: u32,
    /// Whether it has called execve since its fork.
    pub has_execed: bool,
    /// Whether it has ended and waits to be waited for.
    pub zombie: bool,
    /// Whether it is a child subreaper.
    pub child_subreaper: bool,
    /// Its address space: tasks with the same one share it. 0 for a zombie.
    pub memory: u32,
}

impl From<&Task> for Member {
    fn from(task: &Task) -> Member {
        Member {
            pid: task.pid,
            parent: task.parent,
            group: task.process_group,
            session: task.session,
            exit_signal: task.exit_signal,
            has_execed: task.has_execed,
            zombie: task.state == RunState::Zombie,
            child_subreaper: task.child_subreaper,
            memory: task.memory,
        }
    }
}
