//! Trees that one meets, and what their plans read like.

use super::super::{Member, SIGCHLD, plan};

/// A living task that has exec'd.
fn task(pid: u32, parent: u32, group: u32, session: u32) -> Member {
    Member {
        pid,
        parent,
        group,
        session,
        exit_signal: SIGCHLD,
        has_execed: true,
        memory: pid,
        ..Member::default()
    }
}

fn read(tasks: &[Member]) -> String {
    plan(tasks).expect("a plan").to_string()
}

#[test]
fn a_pipeline_of_an_interactive_shell() {
    let tasks = [
        task(10, 0, 10, 10),
        task(21, 10, 21, 10),
        task(22, 10, 21, 10),
        Member { zombie: true, memory: 0, ..task(20, 10, 21, 10) },
    ];
    println!("{}", read(&tasks));
}

#[test]
fn a_daemon() {
    let tasks = [
        task(10, 0, 10, 9),
        task(30, 0, 29, 29),
        Member { has_execed: false, ..task(31, 30, 29, 29) },
        Member { has_execed: false, ..task(12, 10, 11, 11) },
    ];
    println!("{}", read(&tasks));
}

#[test]
fn a_child_of_an_earlier_session() {
    let tasks = [
        task(10, 0, 10, 9),
        Member { has_execed: false, ..task(11, 10, 11, 11) },
        Member { has_execed: false, ..task(12, 11, 12, 9) },
        Member { has_execed: false, ..task(13, 11, 11, 11) },
        task(14, 11, 14, 9),
    ];
    println!("{}", read(&tasks));
}
