//! A process and all its descendants: what `/proc` says of each, and what they share with each other.
//!
//! Every process is one [`Snapshot`], by its process id, with these besides:
//!
//! ```text
//! task/N/stat/ppid, status/PPid    `outside` where the parent is none of the tree
//! pgrp, session, tpgid             `the caller's` where the root is in it and no process of the tree leads it
//! shared/memory, descriptors, ...  the first process of the tree that has the same one
//! shared/fd/N                      the first process and descriptor with the same open file description
//! ```

mod joined;

use crate::difference::{Between, unexplained};
use crate::namespace::View;
use crate::snapshot::{self, Letters, Snapshot};
use crate::sys::Common;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// A tree at one moment.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    /// Every process of it, by its id.
    pub members: BTreeMap<u32, Snapshot>,
    /// The proportional size of all anonymous memory, each page counted once whoever maps it.
    anonymous_kb: u64,
}

/// By how many parts of a hundred the proportional size may be larger after a resume.
const GROWTH_PERCENT: u64 = 5;
/// And how much each process may add to it by its own next steps.
const GROWTH_KB: u64 = 96;

/// What two processes can share apart from descriptions.
const COMMON: [(&str, Common); 4] = [
    ("memory", Common::Memory),
    ("descriptors", Common::Descriptors),
    ("filesystem", Common::Filesystem),
    ("handlers", Common::Handlers),
];

/// Ids of these roots and of all their descendants, those that have ended too.
pub fn ids(proc: &Path, roots: &[u32]) -> io::Result<Vec<u32>> {
    let mut found = roots.to_vec();
    let mut next = 0;
    while let Some(pid) = found.get(next).copied() {
        next += 1;
        let tasks = match fs::read_dir(proc.join(format!("{pid}/task"))) {
            // A descendant that was taken meanwhile.
            Err(error) if !roots.contains(&pid) && error.kind() == io::ErrorKind::NotFound => continue,
            tasks => tasks?,
        };
        for task in tasks {
            let children = fs::read_to_string(task?.path().join("children")).unwrap_or_default();
            found.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
    }
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Takes a snapshot of every process of the tree under `root`.
pub fn take(root: u32) -> io::Result<Tree> {
    take_all(&View::own(), &[root])
}

/// The same from another point of view, and for a tree with several roots, the first of which is the one that is in the
/// caller's group and session.
pub fn take_all(view: &View, roots: &[u32]) -> io::Result<Tree> {
    let ids = ids(&view.proc, roots)?;
    let mut letters = Letters::default();
    let mut tree = Tree::default();
    for pid in &ids {
        tree.members.insert(*pid, snapshot::take(&view.proc, *pid, &mut letters)?);
        tree.anonymous_kb += anonymous_kb(view.ours(*pid));
    }
    tree.place(roots.first().copied().unwrap_or_default());
    for member in tree.members.values_mut().filter(|member| is_forked(member)) {
        joined::join(member);
    }
    tree.share(view, &ids)?;
    Ok(tree)
}

impl Tree {
    /// Says of parents, groups and sessions what does not depend on who resumes the tree.
    fn place(&mut self, root: u32) {
        let ids: Vec<String> = self.members.keys().map(u32::to_string).collect();
        let callers = |field: &str| {
            let value = self.members.get(&root)?.get(&format!("task/0/stat/{field}"))?;
            (value != "self" && !ids.contains(value)).then(|| value.clone())
        };
        let (group, session) = (callers("pgrp"), callers("session"));
        for (key, value) in self.members.values_mut().flat_map(BTreeMap::iter_mut) {
            let Some((_, field)) = key.strip_prefix("task/").and_then(|rest| rest.split_once('/')) else {
                continue;
            };
            // Inside of a pid namespace of the tree it is another one.
            let (value, inner) = (value.split(' ').next().unwrap_or_default().to_owned(), value);
            let is_callers = |ids: &Option<String>| ids.as_ref() == Some(&value);
            match field {
                "stat/ppid" | "status/PPid" if !ids.contains(&value) => "outside".clone_into(inner),
                "stat/pgrp" | "stat/tpgid" | "status/NSpgid" if is_callers(&group) => {
                    *inner = inner.replacen(&value, "the caller's", 1);
                }
                "stat/session" | "status/NSsid" if is_callers(&session) => {
                    *inner = inner.replacen(&value, "the caller's", 1);
                }
                _ => {}
            }
        }
    }

    /// Says who has what in common with whom.
    fn share(&mut self, view: &View, ids: &[u32]) -> io::Result<()> {
        let living: Vec<u32> = ids.iter().copied().filter(|pid| self.is_alive(*pid)).collect();
        // The first holders of descriptions, by what their descriptors are links to.
        let mut held: BTreeMap<String, Vec<(u32, u32)>> = BTreeMap::new();
        for pid in &living {
            let Some(member) = self.members.get_mut(pid) else { continue };
            for (name, what) in COMMON {
                let first = first_with(&living, |other| view.have_in_common(*other, *pid, what))?;
                member.insert(format!("shared/{name}"), named(*first.unwrap_or(pid), *pid));
            }
            for (number, link) in descriptors(member) {
                let holders = held.entry(link).or_default();
                let same = |(other, theirs): &(u32, u32)| {
                    view.have_in_common(*other, *pid, Common::Description(*theirs, number))
                };
                let first = first_with(holders, same)?.copied();
                if first.is_none() {
                    holders.push((*pid, number));
                }
                let (other, theirs) = first.unwrap_or((*pid, number));
                member.insert(format!("shared/fd/{number}"), format!("{}/{theirs}", named(other, *pid)));
            }
        }
        Ok(())
    }

    fn is_alive(&self, pid: u32) -> bool {
        self.members.get(&pid).is_some_and(|member| member.contains_key("exe"))
    }

    /// What is not as it was `before` and nothing explains, one line each. A tree of one may have got a new id.
    pub fn unexplained(&self, before: &Tree, between: Between, extra: &[(String, String)]) -> Vec<String> {
        let mut lines = Vec::new();
        let told = |pid: u32, line: &str| format!("{pid}: {line}");
        let pairs: Vec<_> = match (self.members.len(), before.members.len()) {
            (1, 1) => before.members.iter().zip(self.members.values()).collect(),
            _ => {
                let gone = before.members.keys().filter(|pid| !self.members.contains_key(pid));
                lines.extend(gone.map(|pid| told(*pid, "is gone")));
                let new = self.members.keys().filter(|pid| !before.members.contains_key(pid));
                lines.extend(new.map(|pid| told(*pid, "is new")));
                let both = before.members.iter();
                both.filter_map(|was| Some((was, self.members.get(was.0)?))).collect()
            }
        };
        for ((pid, was), is) in pairs {
            lines.extend(unexplained(was, is, between, extra).iter().map(|line| told(*pid, line)));
        }
        let room_kb = GROWTH_KB * u64::try_from(self.members.len()).unwrap_or(1);
        if self.anonymous_kb > before.anonymous_kb * (100 + GROWTH_PERCENT) / 100 + room_kb {
            lines.push(format!(
                "all anonymous memory takes {} kB and took {} kB",
                self.anonymous_kb, before.anonymous_kb
            ));
        }
        lines
    }
}

/// Whether it has not called execve since a process of the tree forked it.
fn is_forked(member: &Snapshot) -> bool {
    const PF_FORKNOEXEC: u64 = 0x40;
    let flags = member.get("task/0/stat/flags").and_then(|flags| flags.parse::<u64>().ok()).unwrap_or(0);
    let parent = member.get("task/0/stat/ppid");
    flags & PF_FORKNOEXEC != 0 && parent.is_some_and(|parent| parent != "outside")
}

/// Who it is, as process `own` sees it.
fn named(pid: u32, own: u32) -> String {
    if pid == own { "self".to_owned() } else { pid.to_string() }
}

/// The first that `same` says yes to.
fn first_with<T>(all: &[T], same: impl Fn(&T) -> nix::Result<bool>) -> io::Result<Option<&T>> {
    for one in all {
        if same(one)? {
            return Ok(Some(one));
        }
    }
    Ok(None)
}

/// Numbers of descriptors, and what they are links to.
fn descriptors(member: &Snapshot) -> Vec<(u32, String)> {
    let entry = |(key, link): (&String, &String)| {
        let number = key.strip_prefix("fd/")?.strip_suffix("/link")?;
        Some((number.parse().ok()?, link.clone()))
    };
    let mut found: Vec<_> = member.iter().filter_map(entry).collect();
    found.sort_unstable();
    found
}

fn anonymous_kb(pid: u32) -> u64 {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss_Anon:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    /// A shell that has a child, which has ended, and one that sleeps.
    fn tree() -> (Child, Tree) {
        let mut shell = Command::new("bash");
        shell.args(["-c", "sleep 0.2 & sleep 60 & exec sleep 60"]).stdin(Stdio::null()).stdout(Stdio::null());
        let shell = shell.spawn().unwrap();
        for _ in 0..1000 {
            let names = |tree: &Tree| {
                let name = |member: &Snapshot| {
                    (member["task/0/stat/comm"].clone(), member["task/0/stat/state"].clone())
                };
                tree.members.values().map(name).collect::<Vec<_>>()
            };
            let wanted = [("sleep", "awake"), ("sleep", "Z"), ("sleep", "awake")];
            match take(shell.id()) {
                Ok(tree)
                    if names(&tree) == wanted.map(|(name, state)| (name.to_owned(), state.to_owned())) =>
                {
                    return (shell, tree);
                }
                _ => std::thread::sleep(std::time::Duration::from_millis(10)),
            }
        }
        panic!("the shell has not made its tree");
    }

    fn end(mut shell: Child, tree: &Tree) {
        for pid in tree.members.keys().filter(|pid| **pid != shell.id()) {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(i32::try_from(*pid).unwrap()),
                nix::sys::signal::Signal::SIGKILL,
            );
        }
        shell.kill().unwrap();
        shell.wait().unwrap();
    }

    #[test]
    fn a_tree_says_who_belongs_to_whom() {
        let (shell, tree) = tree();
        let again = take(shell.id()).unwrap();
        end(shell, &tree);
        assert_eq!(again.unexplained(&tree, Between::Resume, &[]), Vec::<String>::new());
        let mut members = tree.members.values();
        let (root, zombie, child) =
            (members.next().unwrap(), members.next().unwrap(), members.next().unwrap());
        assert_eq!(root["task/0/stat/ppid"], "outside");
        assert_eq!(child["task/0/stat/ppid"], root["pid"]);
        assert_eq!(zombie["task/0/stat/ppid"], root["pid"]);
        assert_eq!(root["task/0/stat/session"], "the caller's");
        assert_eq!(child["shared/memory"], "self");
        assert_eq!(root["shared/fd/1"], "self/1");
        assert_eq!(child["shared/fd/1"], format!("{}/1", root["pid"]));
        assert!(!zombie.contains_key("exe"));
    }

    #[test]
    fn a_member_that_is_gone_or_changed_is_told() {
        let (shell, before) = tree();
        end(shell, &before);
        let mut after = before.clone();
        let (first, last) =
            (*before.members.keys().next().unwrap(), *before.members.keys().next_back().unwrap());
        after.members.remove(&last);
        after.members.get_mut(&first).unwrap().insert("shared/fd/0".to_owned(), "1/1".to_owned());
        after.members.insert(7, Snapshot::new());
        let lines = after.unexplained(&before, Between::Resume, &[]);
        assert_eq!(lines.len(), 3, "{lines:?}");
        let grown = Tree { anonymous_kb: before.anonymous_kb * 2 + 10_000, ..before.clone() };
        assert_eq!(grown.unexplained(&before, Between::Resume, &[]).len(), 1);
    }
}
