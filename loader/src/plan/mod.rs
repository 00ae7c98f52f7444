//! What a resume will do, decided before anything is done.
//!
//! A plan is a pure function of the image, the host's facts and the options. It fails with *all* reasons at once, each
//! with what to do, and it can be printed (`--plan`).

mod common;
mod host;
pub mod skeleton;
mod steps;

pub use host::Host;
pub use steps::tell;

use crate::arena::{HEAP_BYTES, Hole, PARKING_BYTES, STACK_BYTES};
use crate::cli::{Options, PidChoice};
use crate::error::{Error, Refusal, Result};
use crate::ipc::{Fate, Objection};
use crate::midwife::{Stop, Ward};
use crate::namespace;
use crate::rebuild::pid_namespace::Levels;
use crate::rebuild::terminal::pseudo;
use crate::stage::Identity;
use crate::world::shape;
use binfmt::address::{HUGE_PAGE_BYTES, PAGE_BYTES, TASK_END};
use binfmt::image::Image;
use binfmt::ipc;
use binfmt::note::mapping::{Backing, Memory};
use binfmt::note::pid_namespace::PidNamespace;
use binfmt::note::task::{RunState, Task};
use binfmt::note::thread::Thread;
use nix::unistd::Pid;
use skeleton::{CALLERS, Member, Process, Role, Skeleton, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Which process of every skeleton is the root of the tree.
pub const ROOT: usize = 1;

/// What a resume will do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Under which process ids.
    pub identity: Identity,
    /// Why not a better one, if there is a reason.
    pub identity_reason: Option<String>,
    /// Where the loader stands meanwhile.
    pub hole: Hole,
    /// Process id of the root in the image.
    pub pid: u32,
    /// Who makes whom.
    pub skeleton: Skeleton,
    /// The ids in pid namespaces inside of the tree.
    pub levels: Levels,
    /// The tasks that the midwife lets go, parents before their children.
    pub wards: Vec<Ward>,
    /// Descriptors of the loader's own are kept at or above this number.
    pub first_own_descriptor: u32,
    /// Whether the root stays in the caller's session, although it led one.
    pub joins_session: bool,
    /// Where the root will stand in the tree.
    pub root: Member,
    /// Whether the image was exec'd through its handler.
    pub by_handler: bool,
    /// What becomes of each System V object, in the order of [`ipc::objects`].
    pub ipc: Vec<Fate>,
    /// As which user and group the caller appears, if that takes a user namespace.
    pub inner_ids: Option<(u32, u32)>,
    /// What will be done, if that is to be shown.
    steps: Vec<String>,
}

impl Plan {
    /// Decides, or says everything that stands against it.
    pub fn new(image: &Image, host: &Host, options: &Options, by_handler: bool) -> Result<Plan> {
        let task = root_task(image)?;
        let mut refusals = host.refusals(image, options);
        let levels = Levels::of(image);
        refusals.extend(levels.unseen_owners(image).into_iter().map(|description| Refusal {
            reason: format!(
                "{} tells process {} of what happens, whom nobody sees that has it open",
                description.label, description.owner
            ),
            remedy: "dump it when that is not so".to_owned(),
        }));
        // The leader of a session that had a terminal gets ours, and so cannot leave our session for one of its own.
        let joins_session = task.controlling_terminal != 0
            && !pseudo::has_own(image, task.pid)
            && host.in_foreground
            && !options.detach;
        let mut kept = place(image, joins_session, Identity::Keep);
        let ids = kept.as_ref().map_or_else(|_| all_ids(image), |(skeleton, _)| ids_of(image, skeleton));
        let (identity, identity_reason) = match identity(image, host, options, &ids) {
            Ok(chosen) => chosen,
            Err(refusal) => {
                refusals.push(refusal);
                (Identity::Keep, None)
            }
        };
        match &mut kept {
            Err(Error::Refused(reasons)) => refusals.append(reasons),
            Ok((skeleton, _)) => refusals.extend(common::refusals(image, skeleton)),
            Err(_) => {}
        }
        if !refusals.is_empty() {
            return Err(Error::Refused(refusals));
        }
        let joins_session = joins_session || identity == Identity::Fresh && !options.detach;
        let (skeleton, members) = match identity {
            Identity::Keep => kept?,
            _ => place(image, joins_session, identity)?,
        };
        let control_bytes = shape(image, &skeleton).len_bytes();
        let hole = find_hole(image, control_bytes, &host.own_ranges)
            .ok_or(Error::Internal("there is no free range for the loader to stand in"))?;
        let wards = wards(image, host, options, &skeleton, &levels)?;
        let first_own_descriptor = first_own_descriptor(image);
        let ipc = match identity {
            // In an IPC namespace of its own there is nothing yet.
            Identity::Namespace => ipc::objects(image).map(|_| Fate::Make).collect(),
            _ => host.ipc.fates(),
        };
        let steps = match options.plan {
            true => {
                let mut steps = host.namespaces.steps(image);
                steps.extend(steps::all(image, task, identity, &skeleton, (&ipc, options.cgroup))?);
                steps
            }
            false => Vec::new(),
        };
        let pid = task.pid;
        Ok(Plan {
            identity,
            identity_reason,
            hole,
            pid,
            skeleton,
            levels,
            wards,
            first_own_descriptor,
            joins_session,
            root: members.first().copied().unwrap_or_default(),
            by_handler,
            ipc,
            inner_ids: if host.is_admin() { None } else { namespace::only_ids(image) },
            steps,
        })
    }
}

impl Plan {
    /// Every id that must be free for it to be kept.
    pub fn ids_of(&self, image: &Image) -> BTreeSet<u32> {
        ids_of(image, &self.skeleton)
    }
}

/// The process at the root of the tree.
pub fn root_task(image: &Image) -> Result<&Task> {
    image.all::<Task>().next().ok_or(Error::Internal("the image has no task"))
}

/// Who makes whom. A pure function of the image and these two decisions, so that every start finds the same.
pub fn skeleton_of(image: &Image, joins_session: bool, identity: Identity) -> Result<Skeleton> {
    place(image, joins_session, identity).map(|(skeleton, _)| skeleton)
}

/// The same with the tasks as they stand in it.
fn place(image: &Image, joins_session: bool, identity: Identity) -> Result<(Skeleton, Vec<Member>)> {
    let members = members(image, joins_session, identity)?;
    let remedy =
        "no kernel can make such a tree anew: resume it where this is not so, or without that process";
    let refusal = |reason| Refusal { reason, remedy: remedy.to_owned() };
    let inside = Levels::of(image).inside;
    let (mut skeleton, members) = skeleton::find(&members, &elsewhere(image), &inside)
        .map_err(|reasons| Error::Refused(reasons.into_iter().map(refusal).collect()))?;
    if identity == Identity::Namespace {
        if skeleton.processes.first().is_some_and(|founder| founder.steps.contains(&Step::BecomeSubreaper)) {
            let reason = "in a pid namespace of its own orphans cannot come to whom they had for a parent";
            return Err(Error::Refused(vec![refusal(reason.to_owned())]));
        }
        let founded = skeleton::founded(&skeleton);
        if founded.into_iter().any(|process| process.namespace != 0) {
            let reason = "in a pid namespace of its own nobody can make the init of another one as its root";
            return Err(Error::Refused(vec![refusal(reason.to_owned())]));
        }
        name_helpers(image, &mut skeleton);
    }
    Ok((skeleton, members))
}

/// The tasks as the tree needs them: with all in the caller's session that come into it in any case.
fn members(image: &Image, joins_session: bool, identity: Identity) -> Result<Vec<Member>> {
    let mut members: Vec<Member> = image.all::<Task>().map(Member::from).collect();
    let root = members.first().copied().ok_or(Error::Internal("the image has no task"))?;
    for member in &mut members {
        if identity == Identity::Fresh {
            // Who was started stays where the shell has it as a job; a child that is detached can lead a session again.
            if joins_session || member.session != member.pid {
                (member.session, member.group) = (CALLERS, CALLERS);
            }
        } else if joins_session && member.session == root.pid {
            member.session = CALLERS;
        }
    }
    Ok(members)
}

/// Gives every helper an id that nobody has, where all ids are known: the founder sees other ones than a helper has there.
fn name_helpers(image: &Image, skeleton: &mut Skeleton) {
    /// Of init.
    const FIRST: u32 = 1;
    let mut ids = ids_of(image, skeleton);
    ids.extend(image.all::<Task>().flat_map(|task| [task.process_group, task.session]));
    let mut free = (FIRST + 1..).filter(|id| !ids.contains(id));
    let is_unnamed =
        |process: &&mut Process| process.role == Role::Helper && process.pid == 0 && process.namespace == 0;
    for helper in skeleton.processes.iter_mut().filter(is_unnamed) {
        helper.pid = free.next().unwrap_or(0);
    }
}

/// The numbers of sessions and groups whose leaders live, but not in the image, or are in another pid namespace (0).
fn elsewhere(image: &Image) -> BTreeSet<u32> {
    let here: BTreeSet<u32> = image.all::<Task>().map(|task| task.pid).collect();
    let session = |task: &Task| (task.session, task.session_has_leader);
    let group = |task: &Task| (task.process_group, task.group_has_leader);
    let all = image.all::<Task>().flat_map(|task| [session(task), group(task)]);
    all.filter(|(id, has_leader)| *id == 0 || *has_leader && !here.contains(id)).map(|(id, _)| id).collect()
}

/// Every process and thread id of the image.
fn all_ids(image: &Image) -> BTreeSet<u32> {
    let tasks = image.all::<Task>().map(|task| task.pid);
    tasks.chain(image.all::<Thread>().map(|thread| thread.tid)).collect()
}

/// Every id that must be free for it to be kept.
pub fn ids_of(image: &Image, skeleton: &Skeleton) -> BTreeSet<u32> {
    let helpers = skeleton.processes.iter().map(|process| process.pid).filter(|pid| *pid != 0);
    all_ids(image).into_iter().chain(helpers).collect()
}

/// The tasks that are let go at the end, parents before their children.
fn wards(
    image: &Image,
    host: &Host,
    options: &Options,
    skeleton: &Skeleton,
    levels: &Levels,
) -> Result<Vec<Ward>> {
    let tasks: BTreeMap<u32, &Task> = image.all::<Task>().map(|task| (task.pid, task)).collect();
    let depth = |task: &Task| {
        let mut at = task;
        // An image may be hostile: no more steps than there are tasks.
        for depth in 0..tasks.len() {
            match tasks.get(&at.parent) {
                Some(parent) => at = parent,
                None => return depth,
            }
        }
        tasks.len()
    };
    let mut living: Vec<(usize, usize, &Task)> = Vec::new();
    for (process, made) in skeleton.processes.iter().enumerate() {
        let task = tasks.get(&made.pid).copied().filter(|task| task.state != RunState::Zombie);
        if let (Role::Task, Some(task)) = (made.role, task) {
            living.push((depth(task), process, task));
        }
    }
    living.sort_by_key(|(depth, process, _)| (*depth, *process));
    let place_of: BTreeMap<u32, usize> =
        living.iter().enumerate().map(|(place, (.., task))| (task.pid, place)).collect();
    let mut wards = Vec::new();
    for (_, process, task) in &living {
        let root = *process == ROOT;
        let tids = thread_ids(image, task).into_iter().map(|tid| Pid::from_raw(tid.cast_signed()));
        wards.push(Ward {
            process: *process,
            pid: Pid::from_raw(task.pid.cast_signed()),
            pid_as_child: Pid::from_raw(levels.seen(task.pid, levels.inside.home(task.parent)).cast_signed()),
            tids: tids.collect(),
            syscall_at: syscall_address(memory(image, task)?, host)?,
            stop: stop_of(image, task, root && options.stopped),
            parent: place_of.get(&task.parent).copied(),
            owns_memory: !skeleton.processes.get(*process).is_some_and(|process| process.shares_memory),
            awaits_child_signal: awaits(image, task.pid, skeleton::SIGCHLD),
        });
    }
    Ok(wards)
}

/// How a task is stopped, if it is.
fn stop_of(image: &Image, task: &Task, asked: bool) -> Stop {
    let due = awaits(image, task.pid, libc::SIGSTOP.cast_unsigned());
    match task.state {
        RunState::Stopped => Stop::Stands { told: task.wait_status == 0, again: due },
        _ if asked => Stop::Stands { told: true, again: false },
        _ if due => Stop::Due,
        _ => Stop::None,
    }
}

/// Whether a signal waited for a process when it was saved.
fn awaits(image: &Image, pid: u32, signal: u32) -> bool {
    use binfmt::note::signal::PendingSignals;
    let queues = image.about::<PendingSignals>(pid).filter(|queue| queue.tid == 0);
    let mut signals = queues.flat_map(|queue| &queue.signals);
    signals.any(|info| info.signal == signal)
}

/// Where a `syscall` instruction will stand in a task.
fn syscall_address(memory: &Memory, host: &Host) -> Result<u64> {
    let vdso = memory.mappings.iter().find(|mapping| mapping.backing == Backing::Vdso);
    let offset = host.vdso.windows(2).position(|bytes| bytes == [0x0f, 0x05]);
    match (vdso, offset) {
        (Some(vdso), Some(offset)) => Ok(vdso.start + offset as u64),
        _ => Err(Error::Internal("the program has no vdso through which the loader could leave it")),
    }
}

/// A task's address space.
pub fn memory<'a>(image: &'a Image, task: &Task) -> Result<&'a Memory> {
    image.about::<Memory>(task.memory).next().ok_or(Error::Internal("the image has no memory map"))
}

fn thread_ids(image: &Image, task: &Task) -> Vec<u32> {
    let mut tids: Vec<u32> = image.about::<Thread>(task.pid).map(|thread| thread.tid).collect();
    tids.sort_by_key(|tid| (*tid != task.pid, *tid));
    tids
}

fn identity(
    image: &Image,
    host: &Host,
    options: &Options,
    ids: &BTreeSet<u32>,
) -> std::result::Result<(Identity, Option<String>), Refusal> {
    let against_ipc = host.ipc.against();
    let told = |objection: &Objection| match objection {
        Objection::Taken(text) | Objection::NoRight(text) => text.clone(),
    };
    let against_keep = host.against_keep(ids).or_else(|| against_ipc.map(told));
    let against_keep = against_keep.or_else(|| host.terminals.clone());
    let (tasks, threads) = (image.all::<Task>().count(), image.all::<Thread>().count());
    let has_inside = image.all::<PidNamespace>().next().is_some();
    let against_fresh = match (tasks, threads) {
        _ if has_inside => Some("it has a pid namespace inside, whose ids must stay".to_owned()),
        _ if host.terminals.is_some() => host.terminals.clone(),
        _ if image.all::<Task>().any(|task| pseudo::has_own(image, task.pid)) => {
            Some("it leads the session of a terminal of its own".to_owned())
        }
        (1, 1) => None,
        (1, threads) => Some(format!("it has {threads} threads, whose ids must stay")),
        (tasks, _) => Some(format!("it has {tasks} processes, whose ids must stay")),
    };
    // Whoever asks for it may have another id for an object, or share one that is in use.
    let against_fresh = against_fresh.or_else(|| match (against_ipc, options.pid) {
        (Some(Objection::NoRight(_)), Some(_)) => None,
        (Some(objection), _) => Some(told(objection)),
        (None, Some(_)) => None,
        (None, None) => host.ipc.in_use().map(str::to_owned),
    });
    let chosen = match options.pid {
        Some(PidChoice::Keep) => {
            against_keep.map_or(Ok(Identity::Keep), |reason| Err(("keep its process id", reason)))
        }
        Some(PidChoice::Fresh) => {
            against_fresh.map_or(Ok(Identity::Fresh), |reason| Err(("get a fresh process id", reason)))
        }
        Some(PidChoice::Namespace) => match host.against_namespace.clone() {
            None => Ok(Identity::Namespace),
            Some(reason) => Err(("have namespaces of its own", reason)),
        },
        None => return default_identity(against_keep, against_fresh, host.against_namespace.clone()),
    };
    chosen.map(|identity| (identity, None)).map_err(|(what, reason)| Refusal {
        reason: format!("it cannot {what}: {reason}"),
        remedy: "leave out --pid, or end what is in the way".to_owned(),
    })
}

/// The first that will do: the old ids, a new one, the old ones in a namespace; and why not the ones before.
fn default_identity(
    keep: Option<String>,
    fresh: Option<String>,
    namespace: Option<String>,
) -> std::result::Result<(Identity, Option<String>), Refusal> {
    match (keep, fresh, namespace) {
        (None, ..) => Ok((Identity::Keep, None)),
        (Some(keep), None, _) => Ok((Identity::Fresh, Some(keep))),
        (Some(keep), Some(fresh), None) => Ok((Identity::Namespace, Some(format!("{keep}; {fresh}")))),
        (Some(keep), Some(fresh), Some(namespace)) => Err(Refusal {
            reason: format!(
                "it can neither keep its process ids ({keep}), nor get a fresh one ({fresh}), nor have namespaces of its \
                 own ({namespace})"
            ),
            remedy: "resume it as root or with CAP_CHECKPOINT_RESTORE, when its ids are free".to_owned(),
        }),
    }
}

/// Own descriptors stand above all of the image's, also those by which something was added to an epoll set, with room for
/// one per open file description.
pub fn first_own_descriptor(image: &Image) -> u32 {
    use binfmt::note::descriptor::DescriptorTable;
    use binfmt::note::epoll::Epoll;
    let numbers =
        image.all::<DescriptorTable>().flat_map(|table| &table.descriptors).map(|entry| entry.number);
    let watched = image.all::<Epoll>().flat_map(|set| &set.targets).map(|target| target.number);
    numbers.chain(watched).max().unwrap_or(2).max(2).saturating_add(1)
}

/// Bytes of the hole that each thread takes: its program, its signal frame and what they point to.
pub const PER_THREAD_BYTES: usize = 48 << 10;
/// Distance to keep from other mappings: a stack must be able to grow, and has a guard gap of a mebibyte.
const MARGIN_BYTES: u64 = 16 << 20;

/// A range that neither any task of the image nor the loader uses.
fn find_hole(image: &Image, control_bytes: u64, own: &[(u64, u64)]) -> Option<Hole> {
    let metadata = image.segments.first().map_or(image.tail_offset, |(_, offset)| *offset);
    let threads = image.all::<Thread>().count() as u64;
    let hole = Hole {
        start: 0,
        heap_bytes: (HEAP_BYTES + lodgers(image) * (1 << 20) + metadata * 16)
            .next_multiple_of(HUGE_PAGE_BYTES),
        control_bytes,
        arena_bytes: ((4 << 20)
            + tasks_sharing(image) * (2 << 20)
            + metadata * 2
            + threads * PER_THREAD_BYTES as u64
            + PARKING_BYTES)
            .next_multiple_of(PAGE_BYTES),
    };
    let mut busy = busy_ranges(image);
    busy.extend_from_slice(own);
    free_range(&mut busy, hole.len_bytes()).map(|start| Hole { start, ..hole })
}

/// How many threads are made early, with a stack, because they have children.
fn lodgers(image: &Image) -> u64 {
    let threads: BTreeSet<u32> = image.all::<Task>().map(|task| task.parent_thread).collect();
    threads.iter().filter(|tid| **tid != 0).count() as u64
}

/// How many tasks share the memory of another one.
fn tasks_sharing(image: &Image) -> u64 {
    let memories: BTreeSet<u32> = image.all::<Task>().map(|task| task.memory).collect();
    (image.all::<Task>().count() - memories.len()) as u64
}

/// Everything that any task of the image has mapped.
pub fn busy_ranges(image: &Image) -> Vec<(u64, u64)> {
    let mappings = image.all::<Memory>().flat_map(|memory| &memory.mappings);
    mappings.map(|mapping| (mapping.start, mapping.start.saturating_add(mapping.len_bytes))).collect()
}

/// The lowest start, from 16 TiB up and then from 1 MiB up, of `len_bytes` that keep their distance from all `busy`
/// ranges, at a multiple of 2 MiB.
pub fn free_range(busy: &mut [(u64, u64)], len_bytes: u64) -> Option<u64> {
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

impl fmt::Display for Plan {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reason) = &self.identity_reason {
            let what = match self.identity {
                Identity::Namespace => "namespaces of its own",
                _ => "a fresh process id",
            };
            writeln!(out, "# {what}, because {reason}")?;
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
