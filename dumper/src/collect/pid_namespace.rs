//! Pid namespaces inside of the tree: which there are, and what every id is inside of them.
//!
//! A task can live in one only if its init is in the tree too: with the init all of them would end. Everything else that
//! is collected names tasks by the ids that we see.

use super::Collected;
use crate::error::Error;
use crate::parse;
use crate::procdir::ProcDir;
use crate::sys;
use binfmt::address::Pid;
use binfmt::note::pid_namespace::{InnerIds, PidNamespace};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;

/// A namespace, by the number of its inode.
type Inode = u64;

/// Where a task lives, and where its children will.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    own: Inode,
    of_children: Option<Inode>,
}

/// Looks at a task. A zombie has no children any more; who may not ask sees nothing.
pub fn look(proc: ProcDir) -> Seen {
    let inode = |name| std::fs::metadata(proc.path(name)).ok().map(|found| found.ino());
    let own = inode("ns/pid").unwrap_or_default();
    Seen { own, of_children: inode("ns/pid_for_children") }
}

/// A task of the tree, its leader first among the texts of its threads.
#[derive(Debug)]
pub struct Dweller<'a> {
    /// Which.
    pub pid: Pid,
    /// What [`look`] found.
    pub seen: Seen,
    /// `/proc/PID/task/TID/status` of every thread.
    pub statuses: Vec<&'a str>,
    /// Whether it has ended.
    pub zombie: bool,
}

/// A namespace inside of the tree.
#[derive(Clone, Copy, Debug)]
struct Inside {
    parent: Inode,
    init: Pid,
    depth: usize,
}

/// Collects the namespaces that `tasks` live in, or says which of them cannot be saved.
pub fn collect(tasks: &[Dweller<'_>], out: &mut Collected) -> Result<(), Error> {
    let ours = look(ProcDir::new(Pid(std::process::id().cast_signed()))).own;
    let is_elsewhere = |task: &Dweller<'_>| {
        task.seen.own != 0 && (task.seen.own != ours || task.seen.of_children.is_some_and(|its| its != ours))
    };
    // Who has unshared and made no child yet shows none.
    let lacks = |task: &Dweller<'_>| task.seen.own != 0 && !task.zombie && task.seen.of_children.is_none();
    for task in tasks.iter().filter(|task| lacks(task)) {
        out.look_at(task.pid);
        out.unsupported(
            "its next child would be the first process of a pid namespace",
            "wait until it has made one",
        );
    }
    if !tasks.iter().any(is_elsewhere) {
        return Ok(());
    }
    let inside = find(tasks, ours)?;
    for task in tasks {
        out.look_at(task.pid);
        object(task, ours, &inside, out);
        if out.can_be_saved() && has_entered(task, tasks, ours, &inside) {
            out.unsupported(
                "it has come into a pid namespace in another way than by fork",
                "start it there with a shell of that namespace, and not with nsenter(1)",
            );
        }
    }
    if out.can_be_saved() {
        notes(tasks, ours, &inside, out);
    }
    Ok(())
}

/// The namespaces whose init is among the tasks.
fn find(tasks: &[Dweller<'_>], ours: Inode) -> Result<BTreeMap<Inode, Inside>, Error> {
    let mut found = BTreeMap::new();
    for task in tasks.iter().filter(|task| !task.zombie && task.seen.own != ours && task.seen.own != 0) {
        let ids = ids(task.statuses.first().unwrap_or(&""), "NSpid");
        if ids.last() == Some(&1) {
            let failed = |error| Error::question(task.pid, "asking for its pid namespaces", error);
            let path = ProcDir::new(task.pid).path("ns/pid");
            let parent = sys::parent_namespace(&path).map_err(failed)?;
            found.insert(task.seen.own, Inside { parent, init: task.pid, depth: ids.len() - 1 });
        }
    }
    Ok(found)
}

/// Names what keeps a task from being saved.
fn object(task: &Dweller<'_>, ours: Inode, inside: &BTreeMap<Inode, Inside>, out: &mut Collected) {
    let Seen { own, of_children } = task.seen;
    let is_whole = |mut namespace: Inode| {
        while namespace != ours {
            match inside.get(&namespace) {
                Some(found) => namespace = found.parent,
                None => return false,
            }
        }
        true
    };
    if own != 0 && !is_whole(own) {
        let (what, advice) = match task.zombie {
            true => (
                "this zombie lived in a pid namespace whose init is not in the tree, or has ended",
                "wait until its parent has waited for it".to_owned(),
            ),
            false => (
                "it lives in another pid namespace than this program, and the init of that is not in the tree",
                format!(
                    "run ckpt-dump on the init too, or inside: nsenter --target {} --all ckpt-dump ...",
                    task.pid
                ),
            ),
        };
        out.unsupported(what, advice);
    } else if of_children.is_some_and(|children| !is_whole(children)) {
        out.unsupported(
            "its next child would live in a pid namespace whose init is not in the tree, or has ended",
            "run ckpt-dump on the init too, or end this process",
        );
    }
}

/// Whether its parent lives elsewhere, and has not made the init of its namespace.
fn has_entered(
    task: &Dweller<'_>,
    tasks: &[Dweller<'_>],
    ours: Inode,
    inside: &BTreeMap<Inode, Inside>,
) -> bool {
    let parent = |pid: Pid| {
        let task = tasks.iter().find(|other| other.pid == pid)?;
        let parent: i32 = parse::value(task.statuses.first()?, "PPid")?.parse().ok()?;
        Some(Pid(parent))
    };
    let own = parent(task.pid);
    let home = tasks.iter().find(|other| Some(other.pid) == own).map_or(ours, |parent| parent.seen.own);
    let is_elsewhere = task.seen.own != 0 && task.seen.own != home;
    let of_init = inside.get(&task.seen.own).map(|found| (found.init, parent(found.init)));
    is_elsewhere && of_init.is_none_or(|(init, parent)| task.pid != init && parent != own)
}

fn notes(tasks: &[Dweller<'_>], ours: Inode, inside: &BTreeMap<Inode, Inside>, out: &mut Collected) {
    let mut order: Vec<(usize, Inode)> =
        inside.iter().map(|(inode, namespace)| (namespace.depth, *inode)).collect();
    order.sort_unstable();
    let numbers: BTreeMap<Inode, u32> = order.iter().map(|(_, inode)| *inode).zip(1..).collect();
    let number = |inode: Inode| numbers.get(&inode).copied().unwrap_or_default();
    let mut dwellers = dwellers(tasks, ours, inside);
    for (_, inode) in &order {
        let Some(Inside { parent, init, .. }) = inside.get(inode) else { continue };
        let makes = |task: &&Dweller<'_>| task.seen.of_children == Some(*inode) && task.seen.own != *inode;
        out.note(PidNamespace {
            id: number(*inode),
            parent: number(*parent),
            init: init.0.cast_unsigned(),
            dwellers: dwellers.remove(inode).unwrap_or_default(),
            makers: tasks.iter().filter(makes).map(|task| task.pid.0.cast_unsigned()).collect(),
        });
    }
}

/// What lives in each namespace.
fn dwellers(
    tasks: &[Dweller<'_>],
    ours: Inode,
    inside: &BTreeMap<Inode, Inside>,
) -> BTreeMap<Inode, Vec<InnerIds>> {
    let (mut known, mut found) = (BTreeSet::new(), BTreeMap::<_, Vec<_>>::new());
    for task in tasks.iter().filter(|task| task.seen.own != ours) {
        let leader = task.statuses.first().copied().unwrap_or("");
        let threads = task.statuses.iter().map(|status| ids(status, "NSpid"));
        // The leaders of its group and session may be dead.
        let leaders = ["NSpgid", "NSsid"].map(|key| ids(leader, key));
        for ids in threads.chain(leaders) {
            let Some((id, inner)) = ids.split_first() else { continue };
            // Who is not there has no id.
            let inner: Vec<u32> = inner.iter().copied().take_while(|id| *id != 0).collect();
            if *id == 0 || inner.is_empty() || !known.insert(*id) {
                continue;
            }
            let mut namespace = task.seen.own;
            while let Some(deeper) = inside.get(&namespace).filter(|found| found.depth > inner.len()) {
                namespace = deeper.parent;
            }
            found.entry(namespace).or_default().push(InnerIds { id: *id, inner });
        }
    }
    found
}

/// The ids of one line, from our namespace inwards.
fn ids(status: &str, key: &str) -> Vec<u32> {
    let line = parse::value(status, key).unwrap_or_default();
    line.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use binfmt::note::Note;

    fn dweller<'a>(pid: i32, own: Inode, children: Inode, statuses: &[&'a str]) -> Dweller<'a> {
        let seen = Seen { own, of_children: Some(children) };
        Dweller { pid: Pid(pid), seen, statuses: statuses.to_vec(), zombie: false }
    }

    #[test]
    fn ids_are_noted_from_the_inside() {
        let tasks = [
            dweller(10, 1, 2, &["NSpid:\t10\nNSpgid:\t10\nNSsid:\t10\n"]),
            dweller(11, 2, 2, &["NSpid:\t11\t1\nNSpgid:\t10\t0\nNSsid:\t10\t0\n"]),
            dweller(12, 2, 2, &["NSpid:\t12\t2\nNSpgid:\t14\t4\nNSsid:\t10\t0\n", "NSpid:\t13\t3\n"]),
        ];
        let inside = BTreeMap::from([(2, Inside { parent: 1, init: Pid(11), depth: 1 })]);
        let mut out = Collected::default();
        tasks.iter().for_each(|task| object(task, 1, &inside, &mut out));
        assert!(out.can_be_saved());
        notes(&tasks, 1, &inside, &mut out);
        let inner = |(id, own)| InnerIds { id, inner: vec![own] };
        let dwellers = [(11, 1), (12, 2), (13, 3), (14, 4)].map(inner).to_vec();
        let expected: [Note; 1] =
            [PidNamespace { id: 1, parent: 0, init: 11, dwellers, makers: vec![10] }.into()];
        assert_eq!(out.notes, expected);
    }

    #[test]
    fn a_namespace_without_its_init_is_refused() {
        let tasks = [dweller(10, 1, 1, &[]), dweller(12, 2, 2, &["NSpid:\t12\t2\n"])];
        let mut out = Collected::default();
        tasks.iter().for_each(|task| object(task, 1, &BTreeMap::new(), &mut out));
        assert_eq!(out.findings.items.len(), 1);
    }
}
