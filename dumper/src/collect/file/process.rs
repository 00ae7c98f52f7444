//! Files of `/proc` that are a process's: of one of the tree, whose id may be another one at a resume, or of one that has
//! ended, which nobody can open any more. One of a process outside of the tree is refused: its id may be another's by then.

use super::{DELETED, Place, leads_to, mount_of};
use crate::collect::{Collected, Subject};
use binfmt::note::Note;
use binfmt::note::file::{FileIdentity, Presence};
use binfmt::wire::Text;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Whose file it is.
#[derive(Debug)]
pub(super) enum Owner {
    /// No process's: a file as any.
    Nobody,
    /// The file, and the id of a process or thread that is of the tree or has ended.
    Tree(FileIdentity, u32),
    /// The path, and the id of a process outside of the tree.
    Outsider(Text, u32),
}

/// Says whose file it is.
pub(super) fn identify(subject: &Subject<'_>, place: &Place, out: &mut Collected) -> Owner {
    let mount = mount_of(place, out);
    if !mount.is_proc {
        return Owner::Nobody;
    }
    let label = place.label.strip_suffix(DELETED).unwrap_or(&place.label);
    let named = PathBuf::from(OsStr::from_bytes(label));
    let Some((process, thread)) = owner(&named, mount.at.as_path()) else { return Owner::Nobody };
    let is_of_tree = |id: u32| {
        out.notes.iter().any(|note| match note {
            Note::Task(task) => task.pid == id,
            Note::Thread(thread) => thread.tid == id,
            _ => false,
        })
    };
    let file =
        FileIdentity { path: named.as_path().into(), mount: mount.id, ..FileIdentity::of(&place.metadata) };
    // A look at the files of a network would have the kernel forget the names of those that are open.
    let is_net = named.iter().any(|part| part == "net") && is_of_tree(process);
    if !is_net && !leads_to(&named, &place.metadata) {
        // It may have the id of one that lives.
        let ids = thread.into_iter().chain([process]);
        let process = ids.into_iter().find(|id| !is_of_tree(*id)).unwrap_or(u32::MAX);
        let file = FileIdentity { presence: Presence::Deleted, ..file };
        return Owner::Tree(file, process);
    }
    if !is_of_tree(process) {
        return Owner::Outsider(file.path, process);
    }
    if fs::read_link(subject.proc.path("root")).is_ok_and(|root| root != Path::new("/")) {
        out.unsupported(format!("{} is open in a root directory of its own", file.path), "close it before");
    }
    Owner::Tree(file, process)
}

/// The ids of process and thread in the path of a file of a `/proc` that is mounted at `at`.
fn owner(path: &Path, at: &Path) -> Option<(u32, Option<u32>)> {
    let parts: Vec<&str> = path.strip_prefix(at).ok()?.iter().filter_map(OsStr::to_str).collect();
    let id = |at: usize| parts.get(at).and_then(|part| part.parse::<u32>().ok());
    let thread = if parts.get(1) == Some(&"task") { id(2) } else { None };
    Some((id(0)?, thread))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_stands_in_the_path() {
        let of = |path: &str, at: &str| owner(Path::new(path), Path::new(at));
        assert_eq!(of("/proc/12/status", "/proc"), Some((12, None)));
        assert_eq!(of("/proc/12", "/proc"), Some((12, None)));
        assert_eq!(of("/proc/12/task/13/stat", "/proc"), Some((12, Some(13))));
        assert_eq!(of("/proc/12/fdinfo/13", "/proc"), Some((12, None)));
        assert_eq!(of("/mnt/a/12/net/dev", "/mnt/a"), Some((12, None)));
        for other in ["/proc/sys/kernel", "/proc", "/proc/meminfo", "/other/12/status"] {
            assert_eq!(of(other, "/proc"), None, "{other}");
        }
    }
}
