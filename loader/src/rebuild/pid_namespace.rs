//! Pid namespaces inside of the tree: the ids that everything has there, and how a process comes to live in one.
//!
//! The init of one is made with it (CLONE_NEWPID). Whoever else is made by a process that lives elsewhere is made when that
//! one has turned to the namespace with setns(2), which moves only the children of a process.

use crate::error::{Error, Result};
use crate::plan::skeleton::{Inside, Process};
use crate::rebuild::descriptor::first_holders;
use crate::sys;
use binfmt::image::Image;
use binfmt::note::descriptor::{Description, DescriptorTable};
use binfmt::note::pid_namespace::PidNamespace;
use binfmt::note::task::Task;
use nix::sched::{CloneFlags, setns};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::fd::{AsFd, AsRawFd};

/// The ids that everything has in the namespaces inside of the tree.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Who lives where.
    pub inside: Inside,
    inner: BTreeMap<u32, Vec<u32>>,
    /// Ids of the image, each with the namespace where it is one.
    wanted: BTreeSet<(u32, u32)>,
    /// Whose children will live elsewhere.
    makers: BTreeMap<u32, u32>,
}

impl Levels {
    /// Those of `image`.
    pub fn of(image: &Image) -> Levels {
        let mut levels = Levels::default();
        for note in image.all::<PidNamespace>() {
            levels.inside.namespaces.insert(note.id, (note.parent, note.init));
            levels.makers.extend(note.makers.iter().map(|maker| (*maker, note.id)));
            let way = levels.way(note.id);
            for dweller in &note.dwellers {
                levels.inside.homes.insert(dweller.id, note.id);
                levels.inner.insert(dweller.id, dweller.inner.clone());
                levels.wanted.extend(way.iter().copied().zip(dweller.inner.iter().copied()));
            }
        }
        levels
    }

    /// Whether there are no such namespaces.
    pub fn is_empty(&self) -> bool {
        self.inside.namespaces.is_empty()
    }

    /// The namespaces from the outermost inside of the tree's to `namespace`.
    fn way(&self, mut namespace: u32) -> Vec<u32> {
        let mut way = Vec::new();
        while let Some((parent, _)) = self.inside.namespaces.get(&namespace).filter(|(up, _)| *up < namespace)
        {
            way.push(namespace);
            namespace = *parent;
        }
        way.reverse();
        way
    }

    /// What the id of the image `id` is for who lives in `namespace`; 0 if he does not see it.
    pub fn seen(&self, id: u32, namespace: u32) -> u32 {
        if namespace == 0 {
            return id;
        }
        let is_seen = self.inside.sees(namespace, self.inside.home(id));
        let inner = self.inner.get(&id).filter(|_| is_seen);
        let depth = self.way(namespace).len();
        inner.and_then(|inner| inner.get(depth.checked_sub(1)?)).copied().unwrap_or(0)
    }

    /// All ids of `id`, the innermost first, as clone3(2) wants them.
    pub fn set_tid(&self, id: u32) -> Vec<i32> {
        let inner = self.inner.get(&id).into_iter().flatten().rev();
        inner.chain([&id]).map(|id| id.cast_signed()).collect()
    }

    /// What takes an id of the image from those to whom it belongs: whether one of these, from the tree's own namespace to
    /// `namespace`, is wanted.
    fn is_wanted(&self, ids: &[u32], namespace: u32) -> bool {
        let inner = ids.iter().skip(1).copied();
        self.way(namespace).into_iter().zip(inner).any(|place| self.wanted.contains(&place))
    }

    /// To which namespace the children of a process turn at last, if it is not its own.
    pub fn children_of(&self, pid: u32) -> Option<u32> {
        self.makers.get(&pid).copied()
    }

    /// How who lives in `maker` makes a process.
    pub fn manner(&self, process: &Process, maker: u32) -> Manner {
        let flag = u64::from(libc::CLONE_NEWPID.unsigned_abs());
        let is_elsewhere = process.namespace != maker;
        let is_init = self.inside.is_init(process.pid);
        Manner {
            ids: if process.pid == 0 { Vec::new() } else { self.set_tid(process.pid) },
            flags: if is_elsewhere && is_init { flag } else { 0 },
            turn: (is_elsewhere && !is_init).then_some(process.namespace),
        }
    }

    /// Every description that tells a process of what happens which no task that holds it can name. One that is only on its way
    /// is the root's to tell.
    pub fn unseen_owners<'a>(&self, image: &'a Image) -> Vec<&'a Description> {
        let held = first_holders(image);
        let root = image.all::<Task>().next().map_or(0, |root| root.pid);
        let sees = |description: &Description| {
            let is_held = held.contains_key(&description.id);
            let holds = |table: &DescriptorTable| {
                table.descriptors.iter().any(|entry| entry.description == description.id)
            };
            image.all::<Task>().any(|task| {
                self.seen(description.owner, self.inside.home(task.pid)) != 0
                    && (image.about::<DescriptorTable>(task.descriptor_table).any(holds)
                        || !is_held && task.pid == root)
            })
        };
        let owned = image.all::<Description>().filter(|description| description.owner != 0);
        owned.filter(|description| !self.is_empty() && !sees(description)).collect()
    }
}

/// How a process is made where it shall live.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Its ids, the innermost first; none if the kernel shall choose.
    pub ids: Vec<i32>,
    /// Flags of clone3(2).
    pub flags: u64,
    /// The namespace to which its maker must turn for the time.
    pub turn: Option<u32>,
}

/// Lets the children that this process makes from now on live where process `pid` does.
pub fn turn_to(pid: i32) -> Result<()> {
    let process = sys::open_process(pid);
    process
        .and_then(|process| setns(process, CloneFlags::CLONE_NEWPID))
        .map_err(|error| Error::step(format!("turn to the pid namespace of process {pid}"), error))
}

/// The ids of a process, from the tree's own namespace inwards: `None` for this one.
fn ids_now(child: Option<i32>) -> Result<Vec<u32>> {
    let failed = |error| Error::step("ask for the ids of a process", error);
    let child = child.map(sys::open_process).transpose().map_err(failed)?;
    let path = match &child {
        Some(child) => format!("/proc/self/fdinfo/{}", child.as_fd().as_raw_fd()),
        None => "/proc/self/status".to_owned(),
    };
    let text = fs::read_to_string(&path).map_err(|error| Error::io(format!("read {path}"), &error))?;
    let line = text.lines().find_map(|line| line.strip_prefix("NSpid:")).unwrap_or_default();
    Ok(line.split_whitespace().filter_map(|id| id.parse().ok()).collect())
}

/// The id of a child for which the kernel has chosen, as the tree's own namespace sees it, if none of its ids is `wanted`
/// or one of the image's inside: what this process knows of its child (`made`) the child knows of itself (0).
pub fn chosen(levels: &Levels, namespace: u32, made: i32, wanted: &BTreeSet<u32>) -> Result<Option<u32>> {
    let ids = ids_now((made != 0).then_some(made))?;
    let outer = ids.first().copied().ok_or(Error::Internal("a process has no id"))?;
    Ok((!wanted.contains(&outer) && !levels.is_wanted(&ids, namespace)).then_some(outer))
}

/// Whether a process has ended that who asks may not see, but `/proc` does, which belongs to the tree's own namespace.
pub fn has_ended(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_none_or(|(_, fields)| [" Z", " X"].iter().any(|state| fields.starts_with(state)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::skeleton::Role;

    fn levels() -> Levels {
        Levels {
            inside: Inside {
                namespaces: BTreeMap::from([(1, (0, 11)), (2, (1, 13))]),
                homes: BTreeMap::from([(11, 1), (12, 1), (13, 2), (14, 2)]),
            },
            inner: BTreeMap::from([(11, vec![1]), (12, vec![2]), (13, vec![3, 1]), (14, vec![4, 2])]),
            wanted: BTreeSet::from([(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2)]),
            makers: BTreeMap::new(),
        }
    }

    #[test]
    fn everybody_sees_what_is_inside() {
        let levels = levels();
        assert_eq!([0, 1, 2].map(|from| levels.seen(14, from)), [14, 4, 2]);
        assert_eq!([0, 1, 2].map(|from| levels.seen(12, from)), [12, 2, 0]);
        assert_eq!([0, 1, 2].map(|from| levels.seen(10, from)), [10, 0, 0]);
        assert_eq!(levels.set_tid(14), [2, 4, 14]);
        assert_eq!(levels.set_tid(10), [10]);
        assert!(levels.is_wanted(&[900, 4, 300], 2) && !levels.is_wanted(&[900, 5, 300], 2));
    }

    #[test]
    fn an_init_is_made_with_its_namespace() {
        let made = |pid, namespace, maker| {
            let (role, exit_signal, steps) = (Role::Task, 17, Vec::new());
            let process = Process { pid, role, namespace, exit_signal, shares_memory: false, steps };
            let manner = levels().manner(&process, maker);
            (manner.ids, manner.flags != 0, manner.turn)
        };
        assert_eq!(made(13, 2, 1), (vec![1, 3, 13], true, None));
        assert_eq!(made(14, 2, 2), (vec![2, 4, 14], false, None));
        assert_eq!(made(14, 2, 0), (vec![2, 4, 14], false, Some(2)));
        assert_eq!(made(0, 1, 1), (vec![], false, None));
    }
}
