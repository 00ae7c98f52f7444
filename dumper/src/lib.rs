//! Makes a checkpoint from a frozen tree of processes.
//!
//! Read [`checkpoint`] first: freeze, collect, write, release. Each is a file: [`freeze`], [`collect`] (with [`asking`]
//! and [`hatch`], by which a process is asked about itself, and [`sharing`] and [`io_context`], what processes have in common), [`write`],
//! [`parting`].

pub mod allow;
pub mod asking;
pub mod collect;
pub mod collected;
pub mod diag;
pub mod error;
pub mod freeze;
pub mod hatch;
pub mod io_context;
pub mod ipc;
pub mod memory;
pub mod mounts;
mod parse;
mod parting;
mod parts;
pub mod procdir;
pub mod sharing;
mod sys;
pub mod underway;
pub mod write;

use allow::Allow;
use binfmt::address::Pid;
use binfmt::image::{Layout, Segment};
use collect::inet::{Hold, Tcp};
use collect::{Collected, Outcome, namespace};
use error::{Error, Findings};
use freeze::Tree;
use procdir::ProcDir;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use write::{Job, Sink};

/// What becomes of the processes when they have been saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Afterwards {
    /// They run on.
    #[default]
    RunOn,
    /// They are stopped (SIGSTOP).
    Stop,
    /// They are killed.
    Kill,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which processes, each with all its descendants.
    pub pids: Vec<Pid>,
    /// Where the image goes; standard output if nowhere.
    pub output: Option<PathBuf>,
    /// What becomes of the processes.
    pub afterwards: Afterwards,
    /// What may be lost.
    pub allow: Vec<Allow>,
    /// What becomes of TCP connections, if they need not stand in the way.
    pub tcp: Option<Tcp>,
    /// How long to wait for a thread to stand still.
    pub timeout: Duration,
}

/// What was done.
#[derive(Clone, Debug)]
pub struct Report {
    /// How many processes were saved.
    pub processes: usize,
    /// How many threads were saved.
    pub threads: usize,
    /// How long the image is in bytes.
    pub image_bytes: u64,
    /// How long they stood still.
    pub frozen: Duration,
    /// What was saved otherwise than it is.
    pub remarks: Vec<String>,
}

/// Saves a tree of processes.
pub fn checkpoint(options: &Options) -> Result<Report, Error> {
    options.pids.iter().try_for_each(|pid| refuse(*pid))?;
    sys::ignore_file_size_signal();
    let sink = match &options.output {
        Some(path) => Sink::named(path)?,
        None => Sink::stdout()?,
    };
    sink.reserve(memory_bytes(&options.pids));
    let (tree, collected) = freeze_and_collect(options)?;
    let root = tree.root().unwrap_or(Pid(0));
    if !collected.can_be_saved() {
        let name = ProcDir::new(root).name();
        return Err(Error::Unsupported { pid: root, name, findings: collected.findings });
    }
    let image_bytes = write(root, &collected, &sink)?;
    collect::aio::check(&collected)?;
    let (processes, threads) = (tree.order().len(), tree.thread_count());
    let mut remarks: Vec<String> = collected.findings.remark_lines().collect();
    if options.afterwards == Afterwards::Stop {
        remarks.extend(collected.hold.as_ref().map(Hold::remark));
    }
    let frozen = parting::release(tree, sink, options.afterwards, &collected)?;
    Ok(Report { processes, threads, image_bytes, frozen, remarks })
}

/// Says what keeps a tree of processes from being saved, and saves nothing.
pub fn check(options: &Options) -> Result<Findings, Error> {
    options.pids.iter().try_for_each(|pid| refuse(*pid))?;
    let (tree, collected) = freeze_and_collect(options)?;
    tree.thaw()?;
    Ok(collected.findings)
}

/// About how many bytes of memory there will be to save. Of pages that several processes share, each counts its part.
///
/// The processes run on meanwhile: what can be made ready for the time when they stand still is done by the way.
fn memory_bytes(roots: &[Pid]) -> u64 {
    let sum = |text: &str, keys: &[&str]| -> u64 {
        keys.iter().map(|key| parse::decimal(text, key).unwrap_or(0) << 10).sum()
    };
    let pids = freeze::descendants(roots);
    parts::in_parts(&pids, |pid| ProcDir::new(*pid).make_ready());
    if let [alone] = pids.as_slice() {
        let status = ProcDir::new(*alone).text("status").unwrap_or_default();
        return sum(&status, &["RssAnon", "RssShmem", "VmSwap"]);
    }
    let parts = parts::in_parts(&pids, |pid| {
        let rollup = ProcDir::new(*pid).text("smaps_rollup").unwrap_or_default();
        sum(&rollup, &["Pss_Anon", "Pss_Shmem", "SwapPss"])
    });
    parts.into_iter().sum()
}

fn freeze_and_collect(options: &Options) -> Result<(Tree, Collected), Error> {
    const PAUSE: Duration = Duration::from_millis(1);
    const MOMENT: Duration = Duration::from_millis(500);
    let first = options.pids.first().copied().unwrap_or(Pid(0));
    sys::hold_child_signal().map_err(|error| Error::question(first, "blocking SIGCHLD", error))?;
    let own = namespace::Own::look();
    let deadline = Instant::now() + options.timeout;
    let soon = Instant::now() + MOMENT;
    loop {
        let mut tree = Tree::freeze(&options.pids, options.timeout)?;
        match collect::everything(&mut tree, &own, options).map_err(died_or)? {
            Outcome::Done(collected) if collected.is_passing() && Instant::now() < soon => drop(tree),
            Outcome::Done(collected) => return Ok((tree, *collected)),
            Outcome::Busy if Instant::now() < deadline => drop(tree),
            Outcome::Busy => {
                return Err(Error::target(
                    first,
                    "a thread is still on its way back from an earlier ckpt-dump that was killed",
                    "if it is stopped, let it go on (SIGCONT), then try again",
                ));
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// A question to a process that has ended was answered by its end, and so was one to a process that is ending: who is
/// frozen and stands still no more was killed.
fn died_or(error: Error) -> Error {
    match error {
        Error::Question { pid, .. }
            if ProcDir::new(pid).state().is_none_or(|state| !"tT".contains(state)) =>
        {
            Error::Died { pid }
        }
        error => error,
    }
}

fn write(root: Pid, collected: &Collected, sink: &Sink) -> Result<u64, Error> {
    let segments: Vec<Segment> = collected.contents.iter().map(|(segment, _)| *segment).collect();
    let placed_as: Vec<Option<usize>> = collected.contents.iter().map(|(_, source)| source.same()).collect();
    let layout = Layout::sharing(&collected.standard, &collected.notes, &segments, &placed_as)
        .map_err(|error| Error::question(root, "laying out the image", error))?;
    let job = Job { layout: &layout, contents: &collected.contents, memories: &collected.memories };
    job.write(root, sink).map_err(died_or)?;
    Ok(layout.total_bytes)
}

/// Refuses what is no process that could be frozen.
fn refuse(pid: Pid) -> Result<(), Error> {
    let proc = ProcDir::new(pid);
    let refused = |cause: &str, advice: String| Err(Error::target(pid, cause, advice));
    let Ok(status) = proc.text("status") else {
        return refused("there is no such process", "see `ps -e` for those there are".to_owned());
    };
    let group = parse::decimal(&status, "Tgid").unwrap_or_default();
    if pid.0.cast_unsigned() == std::process::id() {
        return refused("that is ckpt-dump itself", "name another process".to_owned());
    }
    if group != u64::from(pid.0.cast_unsigned()) {
        return refused("it is a thread", format!("give its process: {group}"));
    }
    // The kernel says it since 6.8; memory it has none, and neither has who is about to end.
    let kernel_thread = parse::decimal(&status, "Kthread");
    if kernel_thread == Some(1) || parse::value(&status, "VmSize").is_none() {
        return match parse::value(&status, "State").is_some_and(|state| state.starts_with(['Z', 'X'])) {
            true if proc.threads().is_ok_and(|threads| threads.len() > 1) => refused(
                "its main thread has ended while others run",
                "such a process cannot be saved".to_owned(),
            ),
            true => refused("it has ended already", "its parent has yet to wait for it".to_owned()),
            false if kernel_thread == Some(0) => {
                refused("it is ending", "there is nothing left to save".to_owned())
            }
            false => {
                refused("it is a thread of the kernel", "it has no memory of its own to save".to_owned())
            }
        };
    }
    match underway::objection(proc) {
        Some((cause, advice)) => refused(cause, advice),
        None => Ok(()),
    }
}
