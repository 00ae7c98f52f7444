//! What a resume will do, decided before anything is done.
//!
//! A plan is a pure function of the image, the host's facts and the options. It fails with *all* reasons at once, each
//! with what to do, and it can be printed (`--plan`).

mod host;
pub mod skeleton;

pub use host::Host;

use crate::arena::{Hole, PARKING_BYTES, STACK_BYTES};
use crate::cli::{Options, PidChoice};
use crate::error::{Error, Refusal, Result};
use crate::stage::Identity;
use binfmt::address::{HUGE_PAGE_BYTES, PAGE_BYTES, TASK_END};
use binfmt::image::Image;
use binfmt::note::mapping::Memory;
use binfmt::note::task::Task;
use binfmt::note::thread::Thread;
use std::fmt;

/// What a resume will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Under which process id.
    pub identity: Identity,
    /// Why not a better one, if there is a reason.
    pub identity_reason: Option<String>,
    /// Where the loader stands meanwhile.
    pub hole: Hole,
    /// Process id in the image.
    pub pid: u32,
    /// Thread ids in the image, the leader's first.
    pub tids: Vec<u32>,
    /// Descriptors of the loader's own are kept at or above this number.
    pub first_own_descriptor: u32,
    /// Whether the process must be stopped when it is back.
    pub stopped: bool,
    steps: Vec<String>,
}

impl Plan {
    /// Decides, or says everything that stands against it.
    pub fn new(image: &Image, host: &Host, options: &Options) -> Result<Plan> {
        let task = root_task(image)?;
        let tids = thread_ids(image, task);
        let mut refusals = host.refusals(image, options);
        let (identity, identity_reason) = match identity(host, options, &tids) {
            Ok(chosen) => chosen,
            Err(refusal) => {
                refusals.push(refusal);
                (Identity::Keep, None)
            }
        };
        if !refusals.is_empty() {
            return Err(Error::Refused(refusals));
        }
        let memory = memory(image, task)?;
        let hole = find_hole(image, memory, &host.own_ranges, tids.len())
            .ok_or(Error::Internal("there is no free range for the loader to stand in"))?;
        let stopped = options.stopped || task.state == binfmt::note::task::RunState::Stopped;
        let first_own_descriptor = first_own_descriptor(image);
        let steps = steps(image, task, memory, identity, &tids);
        let plan = Plan {
            identity,
            identity_reason,
            hole,
            pid: task.pid,
            tids,
            first_own_descriptor,
            stopped,
            steps,
        };
        Ok(plan)
    }
}

/// The process at the root of the tree.
pub fn root_task(image: &Image) -> Result<&Task> {
    let mut tasks = image.all::<Task>();
    let task = tasks.next().ok_or(Error::Internal("the image has no task"))?;
    match tasks.next() {
        None => Ok(task),
        Some(_) => Err(Error::Refused(vec![Refusal {
            reason: "the image holds several processes, which this version cannot resume".to_owned(),
            remedy: "use a newer ckpt".to_owned(),
        }])),
    }
}

/// A task's address space.
pub fn memory<'a>(image: &'a Image, task: &Task) -> Result<&'a Memory> {
    image
        .all::<Memory>()
        .find(|memory| memory.id == task.memory)
        .ok_or(Error::Internal("the image has no memory map"))
}

fn thread_ids(image: &Image, task: &Task) -> Vec<u32> {
    let mut tids: Vec<u32> =
        image.all::<Thread>().filter(|thread| thread.pid == task.pid).map(|thread| thread.tid).collect();
    tids.sort_by_key(|tid| (*tid != task.pid, *tid));
    tids
}

fn identity(
    host: &Host,
    options: &Options,
    tids: &[u32],
) -> std::result::Result<(Identity, Option<String>), Refusal> {
    let against_keep = host.against_keep(tids);
    let against_fresh =
        (tids.len() != 1).then(|| format!("it has {} threads, whose ids must stay", tids.len()));
    match (options.pid, against_keep, against_fresh) {
        (None | Some(PidChoice::Keep), None, _) => Ok((Identity::Keep, None)),
        (None, Some(reason), None) => Ok((Identity::Fresh, Some(reason))),
        (Some(PidChoice::Fresh), _, None) => Ok((Identity::Fresh, None)),
        (Some(PidChoice::Keep), Some(reason), _) => Err(Refusal {
            reason: format!("it cannot keep its process id: {reason}"),
            remedy: "leave out --pid, or end what is in the way".to_owned(),
        }),
        (Some(PidChoice::Fresh), _, Some(reason)) => Err(Refusal {
            reason: format!("it cannot get a fresh process id: {reason}"),
            remedy: "use --pid keep".to_owned(),
        }),
        (None, Some(keep), Some(fresh)) => Err(Refusal {
            reason: format!("it can neither keep its process id ({keep}) nor get a fresh one ({fresh})"),
            remedy: "resume it as root or with CAP_CHECKPOINT_RESTORE, when its ids are free".to_owned(),
        }),
    }
}

/// Own descriptors stand above all of the image's, with room for one per open file description.
fn first_own_descriptor(image: &Image) -> u32 {
    use binfmt::note::descriptor::DescriptorTable;
    let numbers =
        image.all::<DescriptorTable>().flat_map(|table| &table.descriptors).map(|entry| entry.number);
    numbers.max().unwrap_or(2).max(2) + 1
}

/// Bytes of the hole that each thread takes: its program, its signal frame and what they point to.
const PER_THREAD_BYTES: u64 = 48 << 10;
/// Distance to keep from other mappings: a stack must be able to grow, and has a guard gap of a mebibyte.
const MARGIN_BYTES: u64 = 16 << 20;

/// A range that neither the image nor the loader uses.
fn find_hole(image: &Image, memory: &Memory, own: &[(u64, u64)], threads: usize) -> Option<Hole> {
    let metadata = image.segments.first().map_or(image.tail_offset, |(_, offset)| *offset);
    let hole = Hole {
        start: 0,
        heap_bytes: ((64 << 20) + metadata * 16).next_multiple_of(HUGE_PAGE_BYTES),
        arena_bytes: ((4 << 20) + metadata * 2 + threads as u64 * PER_THREAD_BYTES + PARKING_BYTES)
            .next_multiple_of(PAGE_BYTES),
    };
    let mut busy: Vec<(u64, u64)> = memory
        .mappings
        .iter()
        .map(|mapping| (mapping.start, mapping.start.saturating_add(mapping.len_bytes)))
        .collect();
    busy.extend_from_slice(own);
    free_range(&mut busy, hole.len_bytes()).map(|start| Hole { start, ..hole })
}

/// A range of `len_bytes` that no mapping of `memory` uses, away from the hole, for something that is moved from there.
pub fn scratch_range(memory: &Memory, len_bytes: u64) -> Option<u64> {
    let mut busy: Vec<(u64, u64)> = memory
        .mappings
        .iter()
        .map(|mapping| (mapping.start, mapping.start.saturating_add(mapping.len_bytes)))
        .collect();
    // The hole lies at the lowest place that served; a quarter of the space above it is enough for it.
    busy.push((0, 48 << 40));
    free_range(&mut busy, len_bytes)
}

/// The lowest start, from 16 TiB up and then from 1 MiB up, of `len_bytes` that keep their distance from all `busy`
/// ranges, at a multiple of 2 MiB.
fn free_range(busy: &mut [(u64, u64)], len_bytes: u64) -> Option<u64> {
    busy.sort_unstable();
    [16 << 40, 1 << 20].into_iter().find_map(|from: u64| {
        let mut at = from.next_multiple_of(HUGE_PAGE_BYTES);
        for (start, end) in busy.iter() {
            if start.saturating_sub(MARGIN_BYTES) >= at.saturating_add(len_bytes) {
                break;
            }
            if end.saturating_add(MARGIN_BYTES) > at {
                at = end.saturating_add(MARGIN_BYTES).checked_next_multiple_of(HUGE_PAGE_BYTES)?;
            }
        }
        (at.checked_add(len_bytes)?.checked_add(STACK_BYTES)? <= TASK_END).then_some(at)
    })
}

fn steps(image: &Image, task: &Task, memory: &Memory, identity: Identity, tids: &[u32]) -> Vec<String> {
    let mut steps = Vec::new();
    match identity {
        Identity::Keep => {
            steps.push(format!("clone3(set_tid=[{}])  # the process", task.pid));
            if task.has_execed {
                steps.push("execve(loader)  # it had exec'd since its fork".to_owned());
            }
        }
        Identity::Fresh => steps.push(format!("# this process becomes the program (it was {})", task.pid)),
    }
    steps.extend(crate::rebuild::mapping::steps(image, memory));
    steps.extend(crate::rebuild::descriptor::steps(image));
    for tid in tids.iter().skip(1) {
        steps.push(format!("clone3(CLONE_THREAD, set_tid=[{tid}])  # a thread"));
    }
    steps.push(format!("rt_sigreturn() x {}  # all threads go", tids.len()));
    steps
}

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.identity_reason {
            writeln!(out, "# a fresh process id, because {reason}")?;
        }
        self.steps.iter().try_for_each(|step| writeln!(out, "{step}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_keeps_its_distance() {
        let base: u64 = 16 << 40;
        assert_eq!(free_range(&mut [], 1 << 30), Some(base));
        let mut busy = [(base + (1 << 20), base + (2 << 20)), (base + (40 << 20), base + (41 << 20))];
        let at = free_range(&mut busy, 64 << 20).expect("there is room above");
        assert!(at >= base + (41 << 20) + MARGIN_BYTES && at.is_multiple_of(HUGE_PAGE_BYTES));
        let mut everything = [(0, TASK_END)];
        assert_eq!(free_range(&mut everything, 1 << 20), None);
        let mut high = [(base - (1 << 30), TASK_END)];
        assert_eq!(free_range(&mut high, 1 << 20), Some(2 << 20), "below, when nothing is free above");
    }
}
