//! A process: its place in the tree, what belongs to the whole thread group, and why it may not be saved at all.

use super::{Collected, Subject, ThreadFacts, descriptor, filesystem, signal};
use crate::Options;
use crate::allow::Allow;
use crate::error::Error;
use crate::freeze::Stopped;
use crate::hatch::{Answers, Arg, Question, Questions};
use crate::procdir::ProcDir;
use crate::{parse, sys};
use binfmt::core_note;
use binfmt::image::ROOT_MEMORY;
use binfmt::note::task::{RunState, Task};
use binfmt::system_call;

/// The flag in field 9 of `/proc/PID/stat` that execve clears (include/linux/sched.h).
const PF_FORKNOEXEC: u64 = 0x40;
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

/// The note of the process.
pub fn note(subject: &Subject<'_>, asked: &Asked, answers: &Answers) -> Result<Task, Error> {
    let proc = subject.proc;
    let stop_signal =
        subject.threads.iter().map(Stopped::group_stop).find(|signal| *signal != 0).unwrap_or(0);
    let hexadecimal = |name| -> Result<u64, Error> {
        Ok(u64::from_str_radix(proc.text(name)?.trim_end(), 16).unwrap_or_default())
    };
    let process_group: u32 = subject.stat(5);
    let mut name = proc.bytes("comm")?;
    name.pop_if(|last| *last == b'\n');
    Ok(Task {
        pid: subject.pid_number(),
        parent: 0,
        process_group,
        session: subject.stat(6),
        exit_signal: subject.stat(38),
        has_execed: subject.stat::<u64>(9) & PF_FORKNOEXEC == 0,
        child_subreaper: answers.u32(asked.subreaper, 0) != 0,
        state: if stop_signal == 0 { RunState::Running } else { RunState::Stopped },
        stop_signal: stop_signal.cast_unsigned(),
        wait_status: 0,
        controlling_terminal: subject.stat(7),
        in_foreground: subject.stat::<i64>(8) == i64::from(process_group),
        personality: hexadecimal("personality")?,
        dumpable: u32::try_from(answers.result_or_zero(asked.dumpable)).unwrap_or_default(),
        oom_score_adj: proc.text("oom_score_adj")?.trim().parse().unwrap_or_default(),
        coredump_filter: hexadecimal("coredump_filter")?,
        name: name.into(),
        memory: ROOT_MEMORY,
        descriptor_table: descriptor::TABLE,
        filesystem: filesystem::FILESYSTEM,
        signal_handlers: signal::HANDLERS,
        modes: Vec::new(),
        membarrier_registrations: u32::try_from(answers.result_or_zero(asked.membarrier)).unwrap_or_default(),
    })
}

/// The note by which debuggers know the process.
pub fn standard(subject: &Subject<'_>, task: &Task, out: &mut Collected) {
    let id = |key| -> u32 {
        let ids = parse::value(&subject.status, key).unwrap_or_default();
        ids.split_whitespace().next().and_then(|id| id.parse().ok()).unwrap_or_default()
    };
    let mut arguments = subject.proc.bytes("cmdline").unwrap_or_default();
    arguments.iter_mut().filter(|byte| **byte == 0).for_each(|byte| *byte = b' ');
    out.standard.push(core_note::process(task, id("Uid"), id("Gid"), subject.stat(19), &arguments));
}

/// Names what keeps the process from being asked or saved at all.
pub fn refuse(
    proc: ProcDir,
    threads: &[Stopped],
    facts: &[ThreadFacts],
    options: &Options,
    out: &mut Collected,
) -> Result<(), Error> {
    for thread in threads {
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
    refuse_namespaces(proc, out);
    if !options.allow.contains(&Allow::Children) {
        refuse_children(proc, threads, out);
    }
    Ok(())
}

/// Paths, pids and clocks of another namespace are not those that we see.
fn refuse_namespaces(proc: ProcDir, out: &mut Collected) {
    for kind in ["mnt", "pid", "user", "ipc", "net", "time", "uts"] {
        let its = proc.link(&format!("ns/{kind}"));
        let ours = std::fs::read_link(format!("/proc/self/ns/{kind}"));
        if let (Ok(its), Ok(ours)) = (its, ours)
            && its != ours
        {
            out.unsupported(
                format!("it lives in another {kind} namespace than this program"),
                format!("run ckpt-dump inside it: nsenter --target {} --all ckpt-dump ...", proc.pid()),
            );
        }
    }
}

fn refuse_children(proc: ProcDir, threads: &[Stopped], out: &mut Collected) {
    let children: Vec<String> = threads
        .iter()
        .filter_map(|thread| proc.thread_text(thread.tid(), "children").ok())
        .flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    if !children.is_empty() {
        let shown = children.iter().take(8).cloned().collect::<Vec<_>>().join(", ");
        let more = if children.len() > 8 { ", ..." } else { "" };
        out.unsupported(
            format!("it has child processes (pid {shown}{more})"),
            "wait until they have ended; `--allow children` saves it without them",
        );
    }
}
