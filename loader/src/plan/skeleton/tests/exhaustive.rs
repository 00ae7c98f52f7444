//! Every tree that a few processes can come to.

use super::super::{Member, SIGCHLD, plan};
use super::execute::{Dice, Stage};
use super::kernel::{INIT, Kernel};
use super::tell;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

const SHELL: u32 = 2;
const ROOT: u32 = 3;

/// What makes two states different. Not who is a subreaper: that can be changed at any time.
fn key(kernel: &Kernel) -> Vec<(u32, u32, u32, u32, bool)> {
    let all = kernel.processes.iter();
    all.map(|(pid, of)| (*pid, of.parent, of.session, of.signal, of.has_execed)).collect()
}

/// All states that one call leads to.
fn nexts(kernel: &Kernel, most: u32, signals: &[u32]) -> Vec<Kernel> {
    let mut nexts = Vec::new();
    let mut push = |change: &dyn Fn(&mut Kernel) -> bool| {
        let mut next = kernel.clone();
        if change(&mut next) {
            nexts.push(next);
        }
    };
    let living = kernel.processes.iter().filter(|(pid, process)| **pid >= ROOT && !process.zombie);
    for (pid, process) in living {
        let pid = *pid;
        if kernel.next_pid() < most {
            for signal in signals.iter().copied() {
                push(&|next| {
                    let child = next.unused_pid();
                    next.fork(pid, child, signal).is_ok()
                });
            }
            if pid != ROOT {
                push(&|next| {
                    let child = next.unused_pid();
                    next.fork_sibling(pid, child).is_ok()
                });
            }
        }
        push(&|next| next.setsid(pid).is_ok());
        if process.signal != SIGCHLD {
            push(&|next| {
                next.exec(pid);
                true
            });
        }
        let mut heir = pid;
        while pid != ROOT && heir != INIT {
            heir = if heir == ROOT { INIT } else { kernel.processes[&heir].parent };
            push(&|next| {
                next.exit_for(pid, heir);
                true
            });
        }
    }
    nexts
}

fn image(kernel: &Kernel) -> Vec<Member> {
    let mut order: Vec<u32> = kernel.processes.keys().copied().filter(|pid| *pid >= ROOT).collect();
    order.sort_unstable();
    let member = |pid: &u32| {
        let process = &kernel.processes[pid];
        let is_orphan = *pid == ROOT || process.parent == INIT;
        Member {
            pid: *pid,
            parent: if is_orphan { 0 } else { process.parent },
            group: process.group,
            session: process.session,
            exit_signal: process.signal,
            has_execed: process.has_execed,
            memory: *pid,
            ..Member::default()
        }
    };
    order.iter().map(member).collect()
}

/// How many processes are made, the root among them: more than usual, for those who have time.
fn most(usual: u32) -> u32 {
    std::env::var("CKPT_PROCESSES").map_or(usual, |most| most.parse().expect("a number of processes"))
}

/// Plans and plays every tree that `most` processes can come to; says how many these are.
fn try_all(most: u32, signals: &[u32]) -> usize {
    let mut kernel = Kernel::new();
    for (maker, pid) in [(INIT, SHELL), (SHELL, ROOT)] {
        assert_eq!(kernel.unused_pid(), pid);
        kernel.fork(maker, pid, SIGCHLD).expect("a new one");
        kernel.setsid(SHELL).unwrap_or_default();
    }
    // Two states with the same hash would only leave one tree out.
    let hash = |kernel: &Kernel| {
        let mut hasher = DefaultHasher::new();
        key(kernel).hash(&mut hasher);
        hasher.finish()
    };
    let mut seen = HashSet::from([hash(&kernel)]);
    let mut waiting = vec![kernel];
    while let Some(kernel) = waiting.pop() {
        let tasks = image(&kernel);
        let skeleton = plan(&tasks).unwrap_or_else(|reasons| panic!("{tasks:#?}\n{reasons:?}"));
        let played = Stage::new(&tasks, &skeleton).play(&mut Dice(1 + seen.len() as u64));
        assert_eq!(played, Ok(()), "{}", tell(&tasks, &skeleton));
        let nexts = nexts(&kernel, ROOT + most, signals);
        waiting.extend(nexts.into_iter().filter(|next| seen.insert(hash(next))));
    }
    seen.len()
}

#[test]
fn all_trees_of_a_few_processes_are_reached() {
    let trees = try_all(most(5), &[SIGCHLD]);
    println!("{trees} trees");
    assert!(trees > 5_000);
}

#[test]
fn all_trees_of_fewer_processes_with_exit_signals_are_reached() {
    let trees = try_all(most(4), &[SIGCHLD, 10]);
    println!("{trees} trees");
    assert!(trees > 7_000);
}
