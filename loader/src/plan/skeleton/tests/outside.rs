//! Sessions whose leaders live, but not in the image.

use super::super::text::Words;
use super::super::{CALLERS, Inside, Member, SIGCHLD, find, plan};
use super::execute::{Dice, Stage};
use super::kernel::{Errno, INIT, Kernel};
use std::collections::BTreeSet;

fn task(pid: u32, parent: u32, session: u32) -> Member {
    Member { pid, parent, group: session, session, exit_signal: SIGCHLD, memory: pid, ..Member::default() }
}

fn zombie(pid: u32, parent: u32, session: u32) -> Member {
    Member { zombie: true, memory: 0, ..task(pid, parent, session) }
}

/// Where the tasks stand in the plan, which leads there.
fn place(tasks: &[Member], elsewhere: &[u32]) -> Vec<Member> {
    let elsewhere: BTreeSet<u32> = elsewhere.iter().copied().collect();
    let (skeleton, members) = find(tasks, &elsewhere, &Inside::default()).expect("a plan");
    for seed in 1..20 {
        assert_eq!(Stage::new(&members, &skeleton).play(&mut Dice(seed)), Ok(()));
    }
    members
}

fn sessions(tasks: &[Member], elsewhere: &[u32]) -> Vec<u32> {
    place(tasks, elsewhere).iter().map(|member| member.session).collect()
}

#[test]
fn a_shells_becomes_the_callers() {
    let job = [task(10, 0, 5), task(11, 10, 5), task(12, 11, 12)];
    assert_eq!(sessions(&job, &[5]), [CALLERS, CALLERS, 12]);
    let leads_job = [Member { group: 10, ..task(10, 0, 5) }, Member { group: 5, ..task(11, 10, 5) }];
    let groups: Vec<u32> = place(&leads_job, &[5]).iter().map(|member| member.group).collect();
    assert_eq!(groups, [10, CALLERS]);
    // The root made one before it left the session.
    assert_eq!(sessions(&[task(10, 0, 10), task(11, 10, 5)], &[5]), [10, CALLERS]);
    // Its leader is dead.
    assert_eq!(sessions(&job, &[]), [5, 5, 12]);
}

/// By which calls a tree comes to have a task whose session began in the tree, and whose leader is no longer there.
fn tree_that_a_leader_has_left() -> Result<Kernel, Errno> {
    let mut kernel = Kernel::new();
    kernel.fork(INIT, 10, SIGCHLD)?;
    kernel.setsid(10)?;
    kernel.fork(10, 11, SIGCHLD)?;
    kernel.set_subreaper(11, true);
    kernel.fork(11, 12, SIGCHLD)?;
    kernel.fork(12, 20, SIGCHLD)?;
    kernel.setsid(20)?;
    kernel.fork(20, 21, SIGCHLD)?;
    kernel.fork(21, 22, SIGCHLD)?;
    // The daemon comes to the subreaper, ...
    kernel.exit(21);
    kernel.reap(20, 21)?;
    // ... and the leader, that is there no longer, to init.
    kernel.set_subreaper(11, false);
    kernel.exit(12);
    kernel.reap(11, 12)?;
    Ok(kernel)
}

#[test]
fn one_from_within_the_tree_is_made_anew() {
    let kernel = tree_that_a_leader_has_left().expect("the kernel allows it");
    let found = [10, 11, 22, 20].map(|pid| {
        let process = kernel.get(pid).expect("it lives");
        (process.parent, process.session)
    });
    assert_eq!(found, [(INIT, 10), (10, 10), (11, 20), (INIT, 20)]);

    let tasks = [task(10, 0, 10), task(11, 10, 10), task(22, 11, 20)];
    assert_eq!(sessions(&tasks, &[20]), [10, 10, 20]);
    let as_callers = [tasks[0], tasks[1], task(22, 11, CALLERS)];
    let reason = "no order of forks leads to the parents, sessions and exit signals of processes 10, 11, 22";
    assert_eq!(plan(&as_callers), Err(vec![reason.to_owned()]));
    let expected = [
        "ckpt: clone3(set_tid=10)",
        "10: setsid()",
        "10: mmap(...)  # its memory stands",
        "10: clone3(set_tid=11)",
        "11: mmap(...)  # its memory stands",
        "11: clone3(set_tid=20)  # a helper, for the group or session it led",
        "20: setsid()",
        "20: clone3(set_tid=22, CLONE_PARENT)",
        "20: exit(0)",
        "11: wait4(20, __WALL)",
        "22: mmap(...)  # its memory stands",
    ];
    let (skeleton, _) = find(&tasks, &BTreeSet::from([20]), &Inside::default()).expect("a plan");
    assert_eq!(skeleton.lines(&Words::default()), expected);
}

#[test]
fn one_from_within_is_not_taken_for_the_shells() {
    let tasks = [task(10, 0, 10), task(11, 10, 10), task(22, 11, 20), task(13, 10, 5)];
    assert_eq!(sessions(&tasks, &[20, 5]), [10, 10, 20, CALLERS]);
    let job = [task(10, 0, 5), task(11, 10, 11), task(12, 11, 11), task(22, 12, 20)];
    assert_eq!(sessions(&job, &[5, 20]), [CALLERS, 11, 11, 20]);
}

#[test]
fn one_above_this_pid_namespace_is_the_callers() {
    let tasks = [task(10, 0, 0), task(11, 10, 5)];
    assert_eq!(sessions(&tasks, &[0, 5]), [CALLERS, 5]);
    // Nobody could make it.
    let tasks = [task(10, 0, 10), task(11, 10, 10), task(22, 11, 0)];
    let reason = "no order of forks leads to the parents, sessions and exit signals of processes 10, 11, 22";
    assert_eq!(find(&tasks, &BTreeSet::from([0]), &Inside::default()), Err(vec![reason.to_owned()]));
}

/// Found by the random trees.
#[test]
fn of_a_child_and_its_child() {
    let tasks = [task(4, 0, 4), task(5, 4, 4), task(8, 5, 9), task(12, 8, 9), task(13, 4, 4), task(14, 4, 4)];
    assert_eq!(sessions(&tasks, &[9]), [4, 4, 9, 9, 4, 4]);
}

/// The same.
#[test]
fn of_a_zombie() {
    let subreaper = Member { child_subreaper: true, ..task(6, 4, 4) };
    let tasks =
        [task(4, 0, 4), subreaper, zombie(8, 6, 4), zombie(11, 6, 9), task(14, 4, 4), task(15, 14, 4)];
    assert_eq!(sessions(&tasks, &[9]), [4, 4, 4, 9, 4, 4]);
}

/// The same.
#[test]
fn of_children_of_init_too() {
    let tasks = [
        task(4, 0, 4),
        task(9, 4, 4),
        zombie(11, 9, 10),
        task(14, 9, 10),
        task(16, 9, 4),
        task(12, 0, 10),
        task(17, 0, 10),
    ];
    assert_eq!(sessions(&tasks, &[10]), [4, 4, 10, 10, 4, 10, 10]);
}
