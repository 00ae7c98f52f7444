//! Namespaces but those of pids: in which of each kind every task lives, and what must be known to make it anew.
//!
//! What the kernel tells only of the namespace of whoever asks (names, settings, lists) is asked by a child of ours that enters
//! it. For what is collected elsewhere, System V objects and sockets, this program itself lives, from then on, where the first
//! task does: see [`Own::go_home`].

mod inside;
mod mounts;

use super::Collected;
use crate::error::Error;
use crate::freeze::Frozen;
use crate::parts::in_parts;
use crate::procdir::ProcDir;
use crate::sys;
use binfmt::address::{Pid, Tid};
use binfmt::ipc::IpcKind;
use binfmt::note::Note;
use binfmt::note::cgroup::{self, CgroupMembership};
use binfmt::note::credential::{Credential, Identity};
use binfmt::note::namespace::{self, Namespace, NamespaceKind};
use binfmt::note::thread::Thread;
use nix::fcntl::readlinkat;
use nix::sched::{CloneFlags, setns};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// A namespace, by the number of its inode.
type Inode = u64;

/// In which namespace of each kind a task lives; kinds that the kernel does not have, or does not tell, are missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    homes: BTreeMap<NamespaceKind, Inode>,
    /// Whether its children will live with other clocks.
    children_elsewhere: bool,
}

/// Looks at a task. A zombie lives nowhere any more.
pub fn look(proc: ProcDir) -> Seen {
    let inode = |file: &str| inode(proc.link(&format!("ns/{file}")).ok()?.to_str()?);
    let homes: BTreeMap<_, _> =
        NamespaceKind::ALL.into_iter().filter_map(|kind| Some((kind, inode(kind.file())?))).collect();
    let of_children = inode("time_for_children");
    let children_elsewhere =
        of_children.is_some_and(|its| homes.get(&NamespaceKind::Time).is_some_and(|own| *own != its));
    Seen { homes, children_elsewhere }
}

/// Refuses threads that live elsewhere than the leader of their process: setns(2) and unshare(2) move but who calls them.
pub fn refuse_threads(processes: &[(&Frozen, &Seen)], out: &mut Collected) {
    /// What programs have a thread change alone. (Users and clocks only who has no other thread; a cgroup namespace of one
    /// thread is not looked for: each look takes its time for each thread.)
    const KINDS: [NamespaceKind; 4] =
        [NamespaceKind::Net, NamespaceKind::Mount, NamespaceKind::Uts, NamespaceKind::Ipc];
    let others: Vec<(Pid, &Seen, Tid)> = processes
        .iter()
        .flat_map(|(frozen, seen)| frozen.threads().iter().skip(1).map(|it| (frozen.pid(), *seen, it.tid())))
        .collect();
    let elsewhere = in_parts(&others, |(pid, seen, tid)| {
        let folder = File::open(ProcDir::new(*pid).thread_path(*tid, "ns")).ok()?;
        KINDS.into_iter().find(|kind| {
            let home = readlinkat(&folder, kind.file()).ok().and_then(|link| inode(link.to_str()?));
            home.is_some() && home != seen.homes.get(kind).copied()
        })
    });
    for ((pid, _, tid), kind) in others.into_iter().zip(elsewhere) {
        let Some(kind) = kind else { continue };
        out.look_at(pid);
        out.unsupported(
            format!("its thread {tid} lives in another {} namespace than its first thread", kind.noun()),
            "wait until it has come back or ended",
        );
    }
}

/// The inode in what a link says: `uts:[4026531838]`.
fn inode(link: &str) -> Option<Inode> {
    link.split_once(":[")?.1.strip_suffix(']')?.parse().ok()
}

/// Where this program lived when it was started.
#[derive(Clone, Debug)]
pub struct Own(Seen);

impl Own {
    /// Looks where that is.
    pub fn look() -> Own {
        Own(look(ProcDir::new(Pid(std::process::id().cast_signed()))))
    }

    /// Lets this program live where `root` does, as far as it matters and it may: what cannot be seen from elsewhere is told
    /// when there is such a thing.
    pub fn go_home(&self, root: ProcDir) {
        let there = look(root);
        for (kind, flag) in
            [(NamespaceKind::Ipc, CloneFlags::CLONE_NEWIPC), (NamespaceKind::Net, CloneFlags::CLONE_NEWNET)]
        {
            if there.homes.get(&kind) != self.0.homes.get(&kind)
                && let Ok(home) = File::open(root.path(&format!("ns/{}", kind.file())))
            {
                let _ = setns(home, flag);
            }
        }
    }
}

/// A task of the tree.
#[derive(Clone, Copy, Debug)]
pub struct Dweller<'a> {
    /// Which.
    pub pid: Pid,
    /// What [`look`] found.
    pub seen: &'a Seen,
}

/// Collects the namespaces that `tasks` live in, the root first, or says which of them cannot be saved.
pub fn collect(tasks: &[Dweller<'_>], own: &Own, out: &mut Collected) -> Result<(), Error> {
    for task in tasks.iter().filter(|task| task.seen.children_elsewhere) {
        out.look_at(task.pid);
        out.unsupported(
            "its next child would have other clocks (unshare --time)",
            "wait until it has made one",
        );
    }
    let mut found: Vec<Namespace> = Vec::new();
    for kind in NamespaceKind::ALL {
        let ours = own.0.homes.get(&kind).copied();
        let lives = |task: &Dweller<'_>| task.seen.homes.get(&kind).copied();
        if tasks.iter().all(|task| lives(task).is_none() || lives(task) == ours) {
            continue;
        }
        let mut homes: Vec<(Inode, Vec<Pid>)> = Vec::new();
        for (inode, pid) in tasks.iter().filter_map(|task| Some((lives(task)?, task.pid))) {
            match homes.iter_mut().find(|(of, _)| *of == inode) {
                Some((_, members)) => members.push(pid),
                None => homes.push((inode, vec![pid])),
            }
        }
        for (inode, members) in homes {
            let Some(first) = members.first().copied() else { continue };
            out.look_at(first);
            let note = Namespace {
                id: u32::try_from(found.len() + 1).unwrap_or(u32::MAX),
                kind,
                inode,
                unique: unique(ProcDir::new(first), kind),
                dumpers: Some(inode) == ours,
                members: members.iter().map(|pid| pid.0.cast_unsigned()).collect(),
                ..Namespace::default()
            };
            let note = if note.dumpers { note } else { describe(note, ProcDir::new(first), out)? };
            found.push(note);
        }
    }
    own_each_other(&mut found, own, out)?;
    objects(&found, out);
    found.into_iter().for_each(|note| out.note(note));
    Ok(())
}

/// What must be known of a namespace to make it anew, as one task in it sees it.
fn describe(note: Namespace, proc: ProcDir, out: &mut Collected) -> Result<Namespace, Error> {
    match note.kind {
        NamespaceKind::Mount => mounts::describe(note, proc, out),
        NamespaceKind::User => Ok(Namespace {
            user_ids: namespace::parse_ids(&proc.text("uid_map")?),
            group_ids: namespace::parse_ids(&proc.text("gid_map")?),
            denies_groups: proc.text_if_there("setgroups")?.trim() == "deny",
            ..note
        }),
        NamespaceKind::Time => {
            let (monotonic_ns, boottime_ns) = inside::clocks(proc)?;
            Ok(Namespace { monotonic_ns, boottime_ns, ..note })
        }
        NamespaceKind::Cgroup => {
            let seen = cgroup::parse(&proc.text("cgroup")?);
            let its = inside::read(proc, note.kind, &[proc.path("cgroup")])?;
            let its = cgroup::parse(its.first().map_or("", String::as_str));
            let roots =
                seen.iter().zip(&its).filter_map(|(seen, its)| root_of(seen, its)).collect::<Vec<_>>();
            if roots.len() != seen.len() {
                out.unsupported(
                    "it lives in a cgroup namespace, but above its root",
                    "move it to a control group below",
                );
            }
            Ok(Namespace { roots, ..note })
        }
        NamespaceKind::Uts => inside::names(note, proc),
        NamespaceKind::Ipc => inside::ipc(note, proc),
        NamespaceKind::Net => inside::net(note, proc),
    }
}

/// The id of a task's namespace that is given once.
fn unique(proc: ProcDir, kind: NamespaceKind) -> u64 {
    let file = File::open(proc.path(&format!("ns/{}", kind.file()))).ok();
    file.and_then(|file| namespace::unique_id(&file).ok()).unwrap_or(0)
}

/// The root of a cgroup namespace in which a group is called otherwise than here.
fn root_of(seen: &CgroupMembership, its: &CgroupMembership) -> Option<CgroupMembership> {
    let root = seen.path.0.strip_suffix(its.path.0.as_slice()).filter(|_| its.path.0 != b"/");
    let root = if its.path.0 == b"/" { Some(seen.path.0.as_slice()) } else { root };
    let root = root.filter(|_| !its.path.0.starts_with(b"/.."))?;
    let root = if root.is_empty() { b"/".as_slice() } else { root };
    Some(CgroupMembership { hierarchy: seen.hierarchy.clone(), path: root.into() })
}

/// Says of each namespace which one of users owns it.
fn own_each_other(found: &mut [Namespace], own: &Own, out: &mut Collected) -> Result<(), Error> {
    let users: BTreeMap<Inode, u32> = found
        .iter()
        .filter(|note| note.kind == NamespaceKind::User && !note.dumpers)
        .map(|note| (note.inode, note.id))
        .collect();
    let ours = own.0.homes.get(&NamespaceKind::User).copied();
    for note in found.iter_mut().filter(|note| !note.dumpers) {
        let Some(member) = note.members.first().map(|pid| Pid(pid.cast_signed())) else { continue };
        out.look_at(member);
        let path = ProcDir::new(member).path(&format!("ns/{}", note.kind.file()));
        let owner = match note.kind {
            NamespaceKind::User => sys::parent_namespace(&path),
            _ => sys::owner_of_namespace(&path).and_then(|owner| sys::inode_of(&owner)),
        };
        match owner {
            Ok(owner) if Some(owner) == ours => {}
            Ok(owner) if users.contains_key(&owner) => note.owner = users.get(&owner).copied().unwrap_or(0),
            _ => out.unsupported(
                format!(
                    "its {} namespace belongs to a user namespace in which no task of the tree lives",
                    note.kind.noun()
                ),
                "save the processes of that user namespace, too",
            ),
        }
    }
    Ok(())
}

/// System V objects are looked at where the root lives. Whose they are elsewhere is not asked.
fn objects(found: &[Namespace], out: &mut Collected) {
    let here = std::fs::metadata("/proc/thread-self/ns/ipc").ok();
    let here = here.map(|found| std::os::unix::fs::MetadataExt::ino(&found));
    for note in found.iter().filter(|note| note.kind == NamespaceKind::Ipc && Some(note.inode) != here) {
        let Some(member) = note.members.first().map(|pid| Pid(pid.cast_signed())) else { continue };
        out.look_at(member);
        let lists = IpcKind::ALL.map(|kind| Path::new("/proc/sysvipc").join(kind.label()));
        let is_empty = inside::read(ProcDir::new(member), NamespaceKind::Ipc, &lists).is_ok_and(|texts| {
            texts.iter().zip(IpcKind::ALL).all(|(text, kind)| kind.parse_list(text).is_empty())
        });
        if !is_empty && !note.dumpers {
            out.unsupported(
                "it lives in another IPC namespace than the first process of the tree, and there are System V objects",
                format!("save it alone, as root or inside: nsenter --target {member} --ipc ckpt-dump ..."),
            );
        }
    }
}

/// Makes the ids of credentials, which were read from here, those that the threads have in their user namespaces.
pub fn lead_ids_inside(out: &mut Collected) {
    let is_of_users = |note: &&Namespace| note.kind == NamespaceKind::User && !note.dumpers;
    let users: Vec<Namespace> = all::<Namespace>(out).filter(is_of_users).cloned().collect();
    if users.is_empty() {
        return;
    }
    let processes: BTreeMap<u32, u32> = all::<Thread>(out).map(|thread| (thread.tid, thread.pid)).collect();
    for note in &mut out.notes {
        let Note::Credential(Credential { tid, user, group, groups, .. }) = note else { continue };
        let lives = |users: &&Namespace| processes.get(tid).is_some_and(|pid| users.members.contains(pid));
        let Some(home) = users.iter().find(lives) else { continue };
        for (ids, ranges) in [(user, &home.user_ids), (group, &home.group_ids)] {
            let Identity { real, effective, saved, filesystem } = ids;
            for id in [real, effective, saved, filesystem] {
                *id = namespace::inside(ranges, *id);
            }
        }
        groups.iter_mut().for_each(|id| *id = namespace::inside(&home.group_ids, *id));
    }
}

fn all<'a, T: binfmt::note::FromNote + 'a>(out: &'a Collected) -> impl Iterator<Item = &'a T> {
    out.notes.iter().filter_map(T::from_note)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_a_cgroup_namespace_is_what_is_not_told_inside() {
        let at = |path: &str| CgroupMembership { hierarchy: "".into(), path: path.into() };
        let root = |seen, its| root_of(&at(seen), &at(its)).map(|root| root.path.to_string());
        assert_eq!(root("/a/b", "/b").as_deref(), Some("/a"));
        assert_eq!(root("/a/b", "/").as_deref(), Some("/a/b"));
        assert_eq!(root("/b", "/b").as_deref(), Some("/"));
        assert_eq!(root("/", "/../c"), None);
    }
}
