//! Pid namespaces inside of the tree. Everywhere else an image names processes and threads by the ids that the dumper saw.

use crate::wire::record;

record! {
    /// A pid namespace inside of the tree.
    pub struct PidNamespace {
        /// Its number, from 1.
        id: u32,
        /// Which `PidNamespace` it was made in, one with a smaller number; 0 for the dumper's.
        parent: u32,
        /// Process id of its init.
        init: u32,
        /// What lives in it, and in none inside of it.
        dwellers: Vec<InnerIds>,
        /// Process ids of those that live elsewhere and whose next child will live here (after unshare(2) or setns(2);
        /// `/proc/PID/ns/pid_for_children`).
        makers: Vec<u32>,
    }

    /// The ids of a process, a thread, or the dead leader of a group or session that lives in a `PidNamespace`.
    pub struct InnerIds {
        /// The id that the dumper saw.
        id: u32,
        /// Its ids in the namespaces inside of the dumper's, the innermost last.
        inner: Vec<u32>,
    }
}
