//! A thread: registers and everything the kernel keeps for it alone.

use super::{Collected, Subject, ThreadFacts};
use crate::error::Error;
use crate::freeze::Stopped;
use crate::hatch::{self, Answers, Arg, Question, Questions};
use crate::{parse, sys};
use binfmt::address::Tid;
use binfmt::core_note;
use binfmt::note::task::{Mode, Task};
use binfmt::note::thread::{AlternateStack, ExtendedState, Rseq, Thread};
use binfmt::system_call;
use nix::errno::Errno;

const NT_X86_XSTATE: u32 = 0x202;
/// Length of stack_t.
const STACK_BYTES: u64 = 24;
/// sigaltstack(2) says this of a thread that is on its alternate stack; it is no setting.
const SS_ONSTACK: u32 = 1;
/// linux/prctl.h, 5.6.
const PR_SET_IO_FLUSHER: i32 = 57;
const PR_GET_IO_FLUSHER: i32 = 58;
/// The kinds of speculation of PR_GET_SPECULATION_CTRL (linux/prctl.h).
const SPECULATION_KINDS: u64 = 3;
/// PR_SPEC_PRCTL, the bit that says that the answer can be set.
const SPECULATION_SETTABLE: u64 = 1;
const SPECULATION_ENABLED: u64 = 2;

/// What the kernel lets threads decide of its mitigations.
#[derive(Debug)]
pub struct Mitigations {
    flushes_l1d_on_demand: bool,
}

impl Mitigations {
    /// Finds out.
    pub fn probe() -> Mitigations {
        let line = std::fs::read_to_string("/proc/cmdline");
        Mitigations { flushes_l1d_on_demand: line.is_ok_and(|line| line.contains("l1d_flush=on")) }
    }
}

/// Whether a thread may have changed a kind of speculation: `/proc/PID/status` says so for the first two, and for the third
/// the kernel's command line (Documentation/userspace-api/spec_ctrl.rst). Every question costs a thousand threads 30 ms.
fn may_be_controlled(kind: u64, mitigations: &Mitigations, status: &str) -> bool {
    let line = |key| parse::value(status, key).unwrap_or_default();
    let changed = |line: &str| {
        let unchanged = [
            "",
            "not affected",
            "not vulnerable",
            "vulnerable",
            "unknown",
            "thread vulnerable",
            "globally mitigated",
        ];
        let fixed = line.starts_with("always") || line.starts_with("conditional enabled");
        !unchanged.contains(&line) && !fixed
    };
    match kind {
        0 => changed(line("Speculation_Store_Bypass")),
        1 => changed(line("SpeculationIndirectBranch")),
        _ => mitigations.flushes_l1d_on_demand,
    }
}

/// What a thread is asked.
#[derive(Debug)]
pub struct Asked {
    alternate_stack: Question,
    clear_tid_address: Question,
    parent_death_signal: Question,
    timestamp_counter: Question,
    machine_checks: Question,
    io_flusher: Question,
    speculation: Vec<(u64, Question)>,
}

impl Asked {
    /// Puts the questions.
    pub fn put(questions: &mut Questions, mitigations: &Mitigations, status: &str) -> Asked {
        let speculation = |questions: &mut Questions, kind| {
            let option = u64::from(libc::PR_GET_SPECULATION_CTRL.cast_unsigned());
            let args = [Arg::Value(option), Arg::Value(kind)];
            questions.ask(system_call!(SYS_prctl), &args, 0, "speculation")
        };
        Asked {
            alternate_stack: questions.ask(
                system_call!(SYS_sigaltstack),
                &[Arg::Value(0), Arg::Answer],
                STACK_BYTES,
                "the alternate stack",
            ),
            clear_tid_address: questions.prctl_into(libc::PR_GET_TID_ADDRESS, 8, "the tid address"),
            parent_death_signal: questions.prctl_into(libc::PR_GET_PDEATHSIG, 4, "the parent-death signal"),
            timestamp_counter: questions.prctl_into(libc::PR_GET_TSC, 4, "the timestamp counter"),
            machine_checks: questions.prctl(libc::PR_MCE_KILL_GET, "machine checks"),
            io_flusher: questions.prctl(PR_GET_IO_FLUSHER, "whether it is an I/O flusher"),
            speculation: (0..SPECULATION_KINDS)
                .filter(|kind| may_be_controlled(*kind, mitigations, status))
                .map(|kind| (kind, speculation(questions, kind)))
                .collect(),
        }
    }

    fn modes(&self, answers: &Answers) -> Vec<Mode> {
        let mut modes = Vec::new();
        let mut add = |option: i32, value: u64| modes.push(Mode { option: option.cast_unsigned(), value });
        let timestamp_counter = answers.u32(self.timestamp_counter, 0);
        if timestamp_counter == libc::PR_TSC_SIGSEGV.cast_unsigned() {
            add(libc::PR_SET_TSC, timestamp_counter.into());
        }
        let machine_checks = answers.result_or_zero(self.machine_checks);
        if matches!(answers.result(self.machine_checks), Ok(policy) if policy != u64::from(libc::PR_MCE_KILL_DEFAULT.cast_unsigned()))
        {
            add(libc::PR_MCE_KILL, machine_checks);
        }
        if answers.result_or_zero(self.io_flusher) != 0 {
            add(PR_SET_IO_FLUSHER, 1);
        }
        for (kind, question) in &self.speculation {
            let state = answers.result_or_zero(*question);
            let control = state & !SPECULATION_SETTABLE;
            if state & SPECULATION_SETTABLE != 0 && control != SPECULATION_ENABLED && control != 0 {
                add(libc::PR_SET_SPECULATION_CTRL, kind << 32 | control);
            }
        }
        modes
    }
}

/// Collects one thread, and the notes by which debuggers know it.
pub fn collect(
    subject: &Subject<'_>,
    task: &Task,
    thread: &Stopped,
    facts: &ThreadFacts,
    asked: &Asked,
    answers: &Answers,
    out: &mut Collected,
) -> Result<(), Error> {
    let tid = thread.tid();
    let failed = |error: Errno| match error {
        Errno::ESRCH => Error::Died { pid: subject.pid() },
        error => Error::question(subject.pid(), format!("reading the state of thread {tid}"), error),
    };
    let registers = hatch::outside_rseq(thread, subject.memory);
    let (robust_list, robust_list_bytes) = sys::robust_list(tid).map_err(failed)?;
    let (address, len_bytes, signature, flags) = match sys::rseq_configuration(tid) {
        // Linux before 5.13, or without rseq(2).
        Err(Errno::EIO | Errno::EINVAL) => (0, 0, 0, 0),
        answer => answer.map_err(failed)?,
    };
    let name = match tid == subject.pid().leader() {
        true => subject.seen.task.name.clone(),
        false => {
            let mut name = subject.proc.thread_bytes(facts.tid, "comm")?;
            name.pop_if(|last| *last == b'\n');
            name
        }
    };
    let note = Thread {
        pid: subject.pid_number(),
        tid: tid.0.cast_unsigned(),
        in_system_call: registers.system_call().is_some(),
        registers,
        signal_mask: thread.signal_mask(),
        alternate_stack: AlternateStack {
            address: answers.u64(asked.alternate_stack, 0),
            flags: answers.u32(asked.alternate_stack, 8) & !SS_ONSTACK,
            len_bytes: answers.u64(asked.alternate_stack, 16),
        },
        clear_tid_address: answers.u64(asked.clear_tid_address, 0),
        robust_list,
        robust_list_bytes,
        rseq: Rseq { address, len_bytes, signature, flags },
        name: name.into(),
        parent_death_signal: answers.u32(asked.parent_death_signal, 0),
        modes: asked.modes(answers),
    };
    let area = extended_state(tid).map_err(failed)?;
    if subject.is_root() {
        out.standard.extend(core_note::thread(task, &note, &area));
    } else {
        out.note(ExtendedState { tid: note.tid, area: area.into() });
    }
    out.note(note);
    Ok(())
}

/// The XSAVE area of a thread. Its size is an answer: the buffer grows until there is room to spare.
fn extended_state(tid: Tid) -> Result<Vec<u8>, Errno> {
    let mut area = vec![0; 4096];
    loop {
        let len = sys::regset(tid, NT_X86_XSTATE, &mut area)?;
        if len < area.len() {
            area.truncate(len);
            return Ok(area);
        }
        area.resize(area.len() * 2, 0);
    }
}

/// The notes of a core file that follow those of the threads.
pub fn standard_end(subject: &Subject<'_>, out: &mut Collected) -> Result<(), Error> {
    if !subject.is_root() {
        return Ok(());
    }
    out.standard.push(core_note::signal());
    out.standard.push(core_note::auxv(&subject.proc.bytes("auxv")?));
    let files: Vec<(u64, u64, u64, &[u8])> = subject
        .areas
        .iter()
        .filter(|area| area.path.starts_with(b"/"))
        .map(|area| (area.start, area.end, area.offset, area.path.as_slice()))
        .collect();
    out.standard.push(core_note::files(&files));
    Ok(())
}
