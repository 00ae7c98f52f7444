//! `ckpt tree`: the processes of an image as pstree would draw them.

use super::{Failure, open};
use binfmt::human;
use binfmt::image::{Image, Owner};
use binfmt::note::pid_namespace::PidNamespace;
use binfmt::note::task::{RunState, Task};
use binfmt::note::thread::Thread;
use clap::Args;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::PathBuf;

/// A branch that is longer than this is drawn no further to the right.
const DEPTH_MAX: usize = 60;

/// Arguments of `ckpt tree`.
#[derive(Debug, Args)]
pub(super) struct Tree {
    /// The checkpoint
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
}

impl Tree {
    pub(super) fn run(self, out: &mut impl Write) -> Result<(), Failure> {
        let image = open("read", &self.file)?;
        Ok(put(&image, out)?)
    }
}

/// A line of the drawing: what stands before the name, and whose it is.
struct Line<'a> {
    branch: String,
    task: &'a Task,
}

fn put(image: &Image, out: &mut impl Write) -> io::Result<()> {
    let mut threads: BTreeMap<u32, usize> = BTreeMap::new();
    image.all::<Thread>().for_each(|thread| *threads.entry(thread.pid).or_default() += 1);
    let mut stored: BTreeMap<u32, u64> = BTreeMap::new();
    for (segment, _) in &image.segments {
        if let Owner::Memory(id) = segment.owner {
            let sum = stored.entry(id).or_default();
            *sum = sum.saturating_add(segment.len_bytes);
        }
    }
    let inner: BTreeMap<u32, &Vec<u32>> = image
        .all::<PidNamespace>()
        .flat_map(|namespace| &namespace.dwellers)
        .map(|dweller| (dweller.id, &dweller.inner))
        .collect();
    writeln!(out, "    PID SESSION   GROUP THREADS     MEMORY STATE    NAME")?;
    for Line { branch, task } in lines(image) {
        let Task { pid, session, process_group, .. } = task;
        let (count, memory) = match task.state {
            RunState::Zombie => ("-".to_owned(), "-".to_owned()),
            _ => {
                let count = threads.get(pid).copied().unwrap_or_default();
                let memory = stored.get(&task.memory).copied().unwrap_or_default();
                (count.to_string(), human::bytes(memory))
            }
        };
        let state = match task.state {
            RunState::Running => "running",
            RunState::Stopped => "stopped",
            RunState::Zombie => "ended",
        };
        let name = &task.name;
        // The process's ids in pid namespaces inside of the tree, as `NSpid:` of /proc/PID/status has them.
        let inner: Vec<String> = inner.get(pid).into_iter().copied().flatten().map(u32::to_string).collect();
        let inner = if inner.is_empty() { String::new() } else { format!(" (inside {})", inner.join(" ")) };
        writeln!(
            out,
            "{pid:>7} {session:>7} {process_group:>7} {count:>7} {memory:>10} {state:<8} {branch}{name}{inner}"
        )?;
    }
    Ok(())
}

/// All tasks, each followed by its children, in the order of the image. A stranger's image may not be a tree: what no root
/// leads to is drawn as if it were one.
fn lines(image: &Image) -> Vec<Line<'_>> {
    let known: BTreeSet<u32> = image.all::<Task>().map(|task| task.pid).collect();
    let mut children: BTreeMap<u32, Vec<&Task>> = BTreeMap::new();
    for task in image.all::<Task>() {
        let parent = if known.contains(&task.parent) { task.parent } else { 0 };
        children.entry(parent).or_default().push(task);
    }
    let mut lines = Vec::new();
    let roots = children.remove(&0).unwrap_or_default();
    roots.into_iter().for_each(|root| grow(root, &mut children, &mut lines));
    for task in image.all::<Task>() {
        if children.get(&task.parent).is_some_and(|all| all.iter().any(|child| std::ptr::eq(*child, task))) {
            grow(task, &mut children, &mut lines);
        }
    }
    lines
}

/// Adds a task and what hangs on it. Whose children were drawn has none any more, so that every line is drawn once or, in
/// an image that is no tree, as often as it has parents.
fn grow<'a>(root: &'a Task, children: &mut BTreeMap<u32, Vec<&'a Task>>, lines: &mut Vec<Line<'a>>) {
    // What stands before a task's own mark, the mark, and the task.
    let mut waiting = vec![(String::new(), "", root, 0)];
    while let Some((before, mark, task, depth)) = waiting.pop() {
        lines.push(Line { branch: format!("{before}{mark}"), task });
        let below = match mark {
            _ if depth >= DEPTH_MAX => before,
            "├─" => format!("{before}│ "),
            "└─" => format!("{before}  "),
            _ => before,
        };
        let mine = children.remove(&task.pid).unwrap_or_default();
        for (index, child) in mine.into_iter().rev().enumerate() {
            waiting.push((below.clone(), if index == 0 { "└─" } else { "├─" }, child, depth + 1));
        }
    }
}
