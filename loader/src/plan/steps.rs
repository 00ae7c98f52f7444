//! What will be done, for people: `--plan` prints all of it beforehand, `--verbose` each step of the tree when it is taken.

use super::skeleton::text::Words;
use super::skeleton::{Skeleton, Step};
use super::{memory, thread_ids};
use crate::cli::CgroupChoice;
use crate::error::Result;
use crate::ipc::{self, Fate};
use crate::rebuild::{cgroup, descriptor, mapping};
use crate::stage::{Identity, Stage};
use crate::sys;
use binfmt::image::Image;
use binfmt::note::task::Task;
use binfmt::note::thread::Thread;

/// Tells a step that is taken.
pub fn tell(image: &Image, skeleton: &Skeleton, place: usize, step: &Step, stage: &Stage) {
    if !stage.verbose {
        return;
    }
    let name = |pid: u32| image.about::<Task>(pid).next().map(|task| task.name.to_string());
    if let Some(line) = skeleton.line(place, step, &Words { name: &name, ..Words::default() }) {
        // Nobody may be there to read it.
        let _ = nix::unistd::write(sys::borrow(stage.report), format!("{line}\n").as_bytes());
    }
}

/// One line for each call, as strace would print them, in a possible order.
pub(super) fn all(
    image: &Image,
    root: &Task,
    identity: Identity,
    skeleton: &Skeleton,
    (fates, groups): (&[Fate], Option<CgroupChoice>),
) -> Result<Vec<String>> {
    let mut steps = Vec::new();
    match identity {
        Identity::Namespace => {
            let ipc = if fates.is_empty() { "" } else { ", System V IPC" };
            steps.push(format!("ckpt: unshare(pids, mounts{ipc})  # init of its own, which mounts /proc"));
        }
        Identity::Fresh => steps.push(format!("# this process becomes the program (it was {})", root.pid)),
        Identity::Keep => {}
    }
    steps.extend(cgroup::steps(image, groups));
    steps.extend(ipc::steps(image, fates));
    steps.extend(descriptor::shared_steps(image));
    let task_of = |pid: u32| image.about::<Task>(pid).next();
    let memory_of = |pid: u32| task_of(pid).and_then(|task| memory(image, task).ok());
    let name = |pid: u32| task_of(pid).map(|task| task.name.to_string());
    let made = |pid: u32| {
        let Some((task, own)) = task_of(pid).zip(memory_of(pid)) else { return Vec::new() };
        let inherited = memory_of(task.parent).filter(|_| !task.has_execed);
        mapping::steps(image, own, inherited)
    };
    let rest = |pid: u32| {
        let Some(task) = task_of(pid) else { return Vec::new() };
        let mut steps = descriptor::steps(image, task);
        let others = thread_ids(image, task).into_iter().skip(1);
        steps.extend(others.map(|tid| format!("clone3(CLONE_THREAD, set_tid={tid})  # a thread")));
        steps
    };
    let words = Words { name: &name, memory: &made, rest: &rest };
    match identity {
        // Nobody is made but the founder, who becomes the root.
        Identity::Fresh => steps.extend(made(root.pid).into_iter().chain(rest(root.pid))),
        Identity::Keep | Identity::Namespace => steps.extend(skeleton.lines(&words)),
    }
    steps.push(format!("rt_sigreturn() x {}  # all threads go", image.all::<Thread>().count()));
    Ok(steps)
}
