//! Which System V message queues and semaphores are part of a tree. They belong to no process, and none has them open: the
//! kernel tells who used them last, and who waits at them. What only others used last is theirs, and stays where it is.

use crate::collect::Subject;
use binfmt::ipc::IpcKind;
use std::collections::BTreeSet;

/// Those that may have used an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Users {
    processes: BTreeSet<u32>,
    /// At which objects a thread waits.
    waits: BTreeSet<(IpcKind, u32)>,
}

impl Users {
    /// All of a tree.
    pub fn of(subjects: &[Subject<'_>]) -> Users {
        let mut found = Users::default();
        for subject in subjects {
            found.processes.insert(subject.pid_number());
            for thread in subject.threads {
                let registers = thread.registers();
                let call = registers.system_call().and_then(|call| i64::try_from(call).ok());
                let kind = match call {
                    Some(libc::SYS_msgrcv | libc::SYS_msgsnd) => IpcKind::Queue,
                    Some(libc::SYS_semop | libc::SYS_semtimedop) => IpcKind::Semaphores,
                    _ => continue,
                };
                found.waits.extend(u32::try_from(registers.rdi).ok().map(|id| (kind, id)));
            }
        }
        found
    }

    /// Whether an object, which `last` have used last (0 for nobody), is part of the tree.
    pub fn have(&self, kind: IpcKind, id: u32, last: &[u32]) -> bool {
        self.waits.contains(&(kind, id)) || last.iter().any(|pid| self.processes.contains(pid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_of_the_tree_that_uses_it() {
        let users = Users { processes: [77].into(), waits: [(IpcKind::Queue, 3)].into() };
        assert!(users.have(IpcKind::Queue, 1, &[0, 77]), "used last");
        assert!(users.have(IpcKind::Queue, 3, &[1]), "waited at");
        assert!(!users.have(IpcKind::Semaphores, 3, &[1]));
        assert!(!users.have(IpcKind::Queue, 2, &[0, 1]));
    }
}
