//! A process: its place in the tree, what belongs to the whole thread group, and why it may not be saved at all.

use super::{Collected, Subject, ThreadFacts, namespace, pid_namespace};
use crate::error::Error;
use crate::freeze::{Frozen, Stopped, Zombie};
use crate::hatch::{Answers, Arg, Question, Questions};
use crate::procdir::ProcDir;
use crate::{parse, sys};
use binfmt::core_note;
use binfmt::note::task::{RunState, Task};
use binfmt::system_call;

/// The code segment of 64-bit programs.
const USER_CS: u64 = 0x33;
/// linux/membarrier.h, 6.3.
const MEMBARRIER_CMD_GET_REGISTRATIONS: u64 = 1 << 9;

/// What the process is asked.
#[derive(Debug)]
pub struct Asked {
    dumpable: Question,
    subreaper: Question,
    membarrier: Question,
}

impl Asked {
    /// Puts the questions.
    pub fn put(questions: &mut Questions) -> Asked {
        let registrations = [Arg::Value(MEMBARRIER_CMD_GET_REGISTRATIONS)];
        Asked {
            dumpable: questions.prctl(libc::PR_GET_DUMPABLE, "whether it is dumpable"),
            subreaper: questions.prctl_into(libc::PR_GET_CHILD_SUBREAPER, 4, "whether it is a subreaper"),
            membarrier: questions.ask(system_call!(SYS_membarrier), &registrations, 0, "membarrier"),
        }
    }
}

/// What the kernel says of the process.
#[derive(Debug)]
pub struct Seen {
    /// Fields of `/proc/PID/stat`, numbered from 0.
    pub stat: Vec<String>,
    /// The name of its leader.
    pub name: Vec<u8>,
    personality: u64,
    coredump_filter: u64,
    oom_score_adj: i32,
    /// Its other namespaces.
    pub namespaces: namespace::Seen,
    /// Its pid namespaces.
    pub pids: pid_namespace::Seen,
}

/// Looks at it.
pub fn look(proc: ProcDir) -> Result<Seen, Error> {
    let hexadecimal = |name| -> Result<u64, Error> {
        Ok(u64::from_str_radix(proc.text(name)?.trim_end(), 16).unwrap_or_default())
    };
    let stat = proc.bytes("stat")?;
    Ok(Seen {
        name: parse::stat_name(&stat).to_vec(),
        stat: parse::owned_stat(&String::from_utf8_lossy(&stat)),
        personality: hexadecimal("personality")?,
        coredump_filter: hexadecimal("coredump_filter")?,
        oom_score_adj: proc.text("oom_score_adj")?.trim().parse().unwrap_or_default(),
        namespaces: namespace::look(proc),
        pids: pid_namespace::look(proc),
    })
}

/// The note of the process.
pub fn note(subject: &Subject<'_>, asked: &Asked, answers: &Answers) -> Task {
    let seen = &subject.seen.task;
    let stop_signal =
        subject.threads.iter().map(Stopped::group_stop).find(|signal| *signal != 0).unwrap_or(0);
    let process_group: u32 = subject.stat(5);
    Task {
        pid: subject.pid_number(),
        parent: subject.parent,
        parent_thread: subject.parent_thread,
        process_group,
        session: subject.stat(6),
        group_has_leader: exists(process_group),
        session_has_leader: exists(subject.stat(6)),
        exit_signal: subject.stat(38),
        has_execed: subject.stat::<u64>(9) & parse::PF_FORKNOEXEC == 0,
        child_subreaper: answers.u32(asked.subreaper, 0) != 0,
        state: if stop_signal == 0 { RunState::Running } else { RunState::Stopped },
        stop_signal: stop_signal.cast_unsigned(),
        wait_status: if stop_signal == 0 { 0 } else { subject.stat(52) },
        controlling_terminal: subject.stat(7),
        in_foreground: subject.stat::<i64>(8) == i64::from(process_group),
        personality: seen.personality,
        dumpable: u32::try_from(answers.result_or_zero(asked.dumpable)).unwrap_or_default(),
        oom_score_adj: seen.oom_score_adj,
        coredump_filter: seen.coredump_filter,
        name: seen.name.as_slice().into(),
        memory: subject.shares.memory.id,
        descriptor_table: subject.shares.descriptors.id,
        filesystem: subject.shares.filesystem.id,
        signal_handlers: subject.shares.handlers.id,
        modes: Vec::new(),
        membarrier_registrations: u32::try_from(answers.result_or_zero(asked.membarrier)).unwrap_or_default(),
    }
}

/// The note of a task that has ended: what its parent will learn, and where it stands.
pub fn zombie(zombie: Zombie, out: &mut Collected) -> Result<Task, Error> {
    let proc = ProcDir::new(zombie.pid);
    out.look_at(zombie.pid);
    let stat = parse::owned_stat(&proc.text("stat").map_err(|_| Error::Died { pid: zombie.pid })?);
    let mut name = proc.bytes("comm")?;
    name.pop_if(|last| *last == b'\n');
    // Who may not ask is told 0. The same right is needed for this link, which a zombie still has.
    if proc.link("ns/user").is_err() {
        out.unsupported(
            "the exit status of this zombie cannot be read",
            "run ckpt-dump as its user, or as root",
        );
    }
    Ok(Task { name: name.into(), ..ended(&stat) })
}

/// Whether there is a process with this id; it may have ended.
fn exists(pid: u32) -> bool {
    pid != 0 && std::fs::exists(format!("/proc/{pid}")).unwrap_or(false)
}

/// What the fields of `/proc/PID/stat` say of a task that has ended.
fn ended(stat: &[String]) -> Task {
    Task {
        pid: parse::stat_field(stat, 1),
        parent: parse::stat_field(stat, 4),
        process_group: parse::stat_field(stat, 5),
        session: parse::stat_field(stat, 6),
        group_has_leader: exists(parse::stat_field(stat, 5)),
        session_has_leader: exists(parse::stat_field(stat, 6)),
        exit_signal: parse::stat_field(stat, 38),
        has_execed: parse::stat_field::<u64>(stat, 9) & parse::PF_FORKNOEXEC == 0,
        state: RunState::Zombie,
        wait_status: parse::stat_field(stat, 52),
        ..Task::default()
    }
}

/// The note by which debuggers know the process.
pub fn standard(subject: &Subject<'_>, task: &Task, out: &mut Collected) {
    if !subject.is_root() {
        return;
    }
    let id = |key| -> u32 {
        let ids = parse::value(subject.status, key).unwrap_or_default();
        ids.split_whitespace().next().and_then(|id| id.parse().ok()).unwrap_or_default()
    };
    let mut arguments = subject.proc.bytes("cmdline").unwrap_or_default();
    arguments.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
    out.standard.push(core_note::process(task, id("Uid"), id("Gid"), subject.stat(19), &arguments));
}

/// Names what keeps the process from being asked or saved at all.
pub fn refuse(frozen: &Frozen, facts: &[ThreadFacts], out: &mut Collected) {
    for thread in frozen.threads() {
        let tid = thread.tid();
        if thread.registers().cs != USER_CS {
            out.unsupported(format!("thread {tid} runs 32-bit code"), "only 64-bit programs can be saved");
        }
        if sys::syscall_user_dispatch(tid).unwrap_or(0) != 0 {
            out.unsupported(
                format!("thread {tid} has syscall user dispatch switched on"),
                "a program under such an emulator cannot be asked about itself",
            );
        }
    }
    for facts in facts {
        let features = parse::value(&facts.status, "x86_Thread_features").unwrap_or_default();
        if features.split_whitespace().any(|feature| feature == "shstk") {
            out.unsupported(
                format!("thread {} has a shadow stack", facts.tid),
                "start it with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off",
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_by_the_last_field() {
        let text = "77 (a b) Z 70 60 50 0 -1 4194368 0 0 0 0 0 0 0 0 20 0 1 0 999 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 17 1 0 0 \
                    0 0 0 0 0 0 0 0 0 0 768\n";
        let task = ended(&parse::owned_stat(text));
        assert_eq!((task.pid, task.parent, task.process_group, task.session), (77, 70, 60, 50));
        assert_eq!((task.exit_signal, task.has_execed, task.wait_status), (17, false, 768));
        assert_eq!((task.state, task.memory), (RunState::Zombie, 0));
    }
}
