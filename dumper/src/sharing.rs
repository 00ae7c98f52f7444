//! What the tasks of a tree have in common (CLONE_VM, CLONE_FILES, CLONE_FS, CLONE_SIGHAND), as kcmp(2) tells it.

use crate::error::Error;
use crate::sys::{self, Kind};
use binfmt::address::Pid;
use nix::errno::Errno;
use std::cmp::Ordering;

/// A thing of the kernel's that a task has, maybe together with others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its id in the image: 1 for that of the root.
    pub id: u32,
    /// Whether this task is the first that has it: it is collected from there.
    pub is_first: bool,
}

/// What one task has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Its address space.
    pub memory: Share,
    /// Its table of descriptors.
    pub descriptors: Share,
    /// Its root, working directory and umask.
    pub filesystem: Share,
    /// Its dispositions of signals.
    pub handlers: Share,
}

/// What each of these tasks has, in their order.
pub fn among(tasks: &[Pid]) -> Result<Vec<Shares>, Error> {
    let of = |kind| {
        classes(tasks.len(), |first, second| match (tasks.get(first), tasks.get(second)) {
            (Some(first), Some(second)) => sys::compare(kind, (first.0, 0), (second.0, 0)),
            _ => Err(Errno::EINVAL),
        })
        .map_err(|error| {
            let pid = tasks.first().copied().unwrap_or(Pid(0));
            Error::question(pid, "comparing it with its descendants (kcmp)", error)
        })
    };
    let all = (of(Kind::Memory)?, of(Kind::Descriptors)?, of(Kind::Filesystem)?, of(Kind::Handlers)?);
    let (memories, tables, filesystems, handlers) = all;
    let shares = memories.into_iter().zip(tables).zip(filesystems).zip(handlers);
    Ok(shares
        .map(|(((memory, descriptors), filesystem), handlers)| Shares {
            memory,
            descriptors,
            filesystem,
            handlers,
        })
        .collect())
}

/// Numbers the classes of equal ones among `count`, in the order of their first members. An order makes that n log n.
pub fn classes(
    count: usize,
    mut order: impl FnMut(usize, usize) -> Result<Ordering, Errno>,
) -> Result<Vec<Share>, Errno> {
    let mut shares = Vec::with_capacity(count);
    // The first of every class and its id, in the given order.
    let mut firsts: Vec<(usize, u32)> = Vec::new();
    for index in 0..count {
        let (mut from, mut to) = (0, firsts.len());
        let mut same = None;
        while let Some((first, id)) = firsts.get(from..to).and_then(|left| left.get(left.len() / 2)) {
            let middle = from + (to - from) / 2;
            match order(*first, index)? {
                Ordering::Equal => {
                    same = Some(*id);
                    break;
                }
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
            }
        }
        shares.push(match same {
            Some(id) => Share { id, is_first: false },
            None => {
                let id = u32::try_from(firsts.len() + 1).unwrap_or(u32::MAX);
                firsts.insert(from, (index, id));
                Share { id, is_first: true }
            }
        });
    }
    Ok(shares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_numbered_by_their_first_members() {
        let kinds = [7, 3, 7, 9, 3, 1];
        let shares = classes(kinds.len(), |a, b| Ok(kinds[a].cmp(&kinds[b]))).expect("an order");
        let ids: Vec<u32> = shares.iter().map(|share| share.id).collect();
        assert_eq!(ids, [1, 2, 1, 3, 2, 4]);
        let firsts: Vec<bool> = shares.iter().map(|share| share.is_first).collect();
        assert_eq!(firsts, [true, true, false, true, false, true]);
        assert_eq!(classes(0, |_, _| Err(Errno::EPERM)), Ok(Vec::new()));
        assert_eq!(classes(1, |_, _| Ok(Ordering::Equal)).map(|all| all.len()), Ok(1));
        assert_eq!(classes(2, |_, _| Err(Errno::EPERM)), Err(Errno::EPERM));
    }
}
