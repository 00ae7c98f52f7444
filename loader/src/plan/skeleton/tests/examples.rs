//! Trees that one meets, and what their plans read like.

use super::super::text::Words;
use super::super::{CALLERS, Member, SIGCHLD, plan};

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

fn read(tasks: &[Member]) -> Vec<String> {
    let name = |pid| (pid == 21).then(|| "sort".to_owned());
    plan(tasks).expect("a plan").lines(&Words { name: &name, ..Words::default() })
}

#[test]
fn the_job_of_a_shell_whose_leader_is_a_zombie() {
    let tasks = [
        task(10, 0, 10, 10),
        task(21, 10, 20, 10),
        task(22, 10, 20, 10),
        Member { zombie: true, memory: 0, ..task(20, 10, 20, 10) },
    ];
    let expected = [
        "ckpt: clone3(set_tid=10)  # exec'd",
        "10: execve(loader)",
        "10: setsid()",
        "10: clone3(set_tid=21)  # sort, exec'd",
        "10: clone3(set_tid=22)  # exec'd",
        "10: clone3(set_tid=20)  # exec'd",
        "10: mmap(...)  # its memory stands",
        "21: execve(loader)",
        "22: execve(loader)",
        "20: execve(loader)",
        "20: setpgid(0, 0)",
        "# 21, 22, 20 have waited for each other",
        "20: exit()  # stays a zombie",
        "10: waitid(20, WNOWAIT)",
        "21: setpgid(0, 20)",
        "21: mmap(...)  # its memory stands",
        "22: setpgid(0, 20)",
        "22: mmap(...)  # its memory stands",
    ];
    assert_eq!(read(&tasks), expected);
}

#[test]
fn daemons_of_init_and_of_a_subreaper() {
    let tasks = [
        task(10, 0, 10, CALLERS),
        task(30, 0, 29, 29),
        Member { has_execed: false, ..task(31, 30, 29, 29) },
        Member { has_execed: false, ..task(12, 10, 11, 11) },
    ];
    let expected = [
        "ckpt: clone3(set_tid=10)  # exec'd",
        "ckpt: clone3(set_tid=29, exit_signal=0)  # a helper, for the group or session it led",
        "10: execve(loader)",
        "10: setpgid(0, 0)",
        "10: mmap(...)  # its memory stands",
        "10: clone3(set_tid=11)  # a helper, for the group or session it led",
        "29: setsid()",
        "29: clone3(set_tid=30)  # exec'd",
        "29: exit(0)",
        "11: setsid()",
        "11: clone3(set_tid=12, CLONE_PARENT)",
        "11: exit(0)",
        "ckpt: wait4(29, __WALL)",
        "10: wait4(11, __WALL)",
        "30: execve(loader)",
        "30: mmap(...)  # its memory stands",
        "30: clone3(set_tid=31)",
        "# ckpt, 30 have waited for each other",
        "31: mmap(...)  # its memory stands",
        "12: mmap(...)  # its memory stands",
    ];
    assert_eq!(read(&tasks), expected);
}

#[test]
fn children_of_an_earlier_session() {
    let tasks = [
        task(10, 0, 10, CALLERS),
        Member { has_execed: false, ..task(11, 10, 11, 11) },
        Member { has_execed: false, exit_signal: 10, ..task(12, 11, 12, CALLERS) },
        Member { has_execed: false, ..task(13, 11, 11, 11) },
        task(14, 11, 14, CALLERS),
    ];
    let expected = [
        "ckpt: clone3(set_tid=10)  # exec'd",
        "10: execve(loader)",
        "10: setpgid(0, 0)",
        "10: mmap(...)  # its memory stands",
        "10: clone3(set_tid=11)",
        "11: clone3(set_tid=14)  # exec'd",
        "11: mmap(...)  # its memory stands",
        "11: clone3(set_tid=12, exit_signal=SIGUSR1)",
        "11: setsid()",
        "11: clone3(set_tid=13)",
        "12: setpgid(0, 0)",
        "12: mmap(...)  # its memory stands",
        "13: mmap(...)  # its memory stands",
        "14: execve(loader)",
        "14: setpgid(0, 0)",
        "14: mmap(...)  # its memory stands",
    ];
    assert_eq!(read(&tasks), expected);
}

/// An orphan that was made in a session below its subreaper.
#[test]
fn an_orphan_of_a_living_session() {
    let tasks = [
        task(10, 0, 10, 10),
        task(11, 10, 11, 10),
        task(12, 11, 12, 12),
        Member { has_execed: false, ..task(13, 10, 12, 12) },
    ];
    let expected = [
        "ckpt: clone3(set_tid=10)  # exec'd",
        "10: execve(loader)",
        "10: setsid()",
        "10: clone3(set_tid=11)  # exec'd",
        "10: prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans come here",
        "11: execve(loader)",
        "11: setpgid(0, 0)",
        "11: clone3(set_tid=12)  # exec'd",
        "11: mmap(...)  # its memory stands",
        "12: execve(loader)",
        "12: setsid()",
        "12: mmap(...)  # its memory stands",
        "12: clone3(exit_signal=0)  # helper 1",
        "helper 1: clone3(set_tid=13)",
        "# 10, helper 1 have waited for each other",
        "helper 1: exit(0)",
        "12: wait4(helper 1, __WALL)",
        "# 10, 12, 13 have waited for each other",
        "13: mmap(...)  # its memory stands",
        "10: prctl(PR_SET_CHILD_SUBREAPER, 0)",
        "10: mmap(...)  # its memory stands",
    ];
    assert_eq!(read(&tasks), expected);
}

#[test]
fn what_no_kernel_makes_is_refused_by_name() {
    let refused = |tasks: &[Member]| plan(tasks).expect_err("no plan").join("\n");
    let inside = [
        task(10, 0, 10, 10),
        task(11, 10, 10, 10),
        task(12, 11, 12, 12),
        task(13, 12, 10, 10),
        task(14, 13, 12, 12),
    ];
    assert_eq!(
        refused(&inside),
        "no order of forks leads to the parents, sessions and exit signals of processes 12, 13, 14"
    );
    let zombies = [
        task(10, 0, 10, 10),
        Member { zombie: true, memory: 0, ..task(11, 0, 10, 10) },
        Member { exit_signal: 10, ..task(12, 10, 10, 10) },
    ];
    assert_eq!(refused(&zombies), "process 12 has exec'd, which made its exit signal SIGCHLD, and not 10");
    let groups = [
        task(10, 0, 10, 10),
        task(11, 10, 11, 11),
        task(12, 11, 10, 11),
        task(13, 10, 14, 12),
        task(14, 7, 14, 10),
    ];
    let reasons = [
        "the parent of process 14, 7, is not in the image",
        "process 13 is in session 12, but process 12 leads none",
        "group 10 lies in two sessions",
        "process 12 is in group 10 of a session that process 10 is not in",
        "process 13 is in group 14 of a session that process 14 is not in",
        "group 14 lies in two sessions",
    ];
    assert_eq!(refused(&groups), reasons.join("\n"));
    let family = [
        task(10, 0, 10, 10),
        task(11, 10, 10, 10),
        Member { has_execed: false, memory: 10, ..task(12, 11, 10, 10) },
    ];
    assert_eq!(
        refused(&family),
        "processes 10, 12 share memory, but are neither parents nor siblings of each other"
    );
}
