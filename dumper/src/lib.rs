//! Makes a checkpoint from a frozen process.
//!
//! Read [`checkpoint`] first: freeze, collect, write, release. Each is a file: [`freeze`], [`collect`] (with [`hatch`],
//! by which the process is asked about itself), [`write`].

pub mod allow;
pub mod collect;
pub mod error;
pub mod freeze;
pub mod hatch;
pub mod memory;
mod parse;
pub mod procdir;
mod sys;
pub mod underway;
pub mod write;

use allow::Allow;
use binfmt::address::Pid;
use binfmt::image::{Layout, Segment};
use collect::{Collected, Outcome};
use error::{Error, Unsupported};
use freeze::Frozen;
use memory::TaskMemory;
use nix::sys::signal::{Signal, kill};
use procdir::ProcDir;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use write::{Job, Sink};

/// What becomes of the process when it has been saved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Afterwards {
    /// It runs on.
    #[default]
    RunOn,
    /// It is stopped (SIGSTOP).
    Stop,
    /// It is killed.
    Kill,
}

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which process.
    pub pid: Pid,
    /// Where the image goes; standard output if nowhere.
    pub output: Option<PathBuf>,
    /// What becomes of the process.
    pub afterwards: Afterwards,
    /// What may be lost.
    pub allow: Vec<Allow>,
    /// How long to wait for a thread to stand still.
    pub timeout: Duration,
}

/// What was done.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// How many threads were saved.
    pub threads: usize,
    /// How long the image is in bytes.
    pub image_bytes: u64,
    /// How long the process stood still.
    pub frozen: Duration,
}

/// Saves a process.
pub fn checkpoint(options: &Options) -> Result<Report, Error> {
    refuse(options.pid)?;
    sys::ignore_file_size_signal();
    let sink = match &options.output {
        Some(path) => Sink::named(path)?,
        None => Sink::stdout()?,
    };
    sink.reserve(memory_bytes(options.pid));
    let (frozen, collected) = freeze_and_collect(options)?;
    if !collected.unsupported.is_empty() {
        return Err(Error::Unsupported {
            pid: options.pid,
            name: ProcDir::new(options.pid).name(),
            items: collected.unsupported,
        });
    }
    let image_bytes = write(&frozen, &collected, &sink)?;
    let threads = frozen.threads().len();
    release(frozen, sink, options.afterwards).map(|frozen| Report { threads, image_bytes, frozen })
}

/// Says what keeps a process from being saved, and saves nothing.
pub fn check(options: &Options) -> Result<Vec<Unsupported>, Error> {
    refuse(options.pid)?;
    let (frozen, collected) = freeze_and_collect(options)?;
    frozen.thaw()?;
    Ok(collected.unsupported)
}

/// About how many bytes of memory there will be to save.
fn memory_bytes(pid: Pid) -> u64 {
    let status = ProcDir::new(pid).text("status").unwrap_or_default();
    let kib = |key| parse::decimal(&status, key).unwrap_or(0);
    ["RssAnon", "RssShmem", "VmSwap"].into_iter().map(|key| kib(key) << 10).sum()
}

fn freeze_and_collect(options: &Options) -> Result<(Frozen, Collected), Error> {
    const PAUSE: Duration = Duration::from_millis(1);
    sys::hold_child_signal().map_err(|error| Error::question(options.pid, "blocking SIGCHLD", error))?;
    let deadline = Instant::now() + options.timeout;
    loop {
        let mut frozen = Frozen::freeze(options.pid, options.timeout)?;
        match collect::everything(&mut frozen, options).map_err(|error| died_or(options.pid, error))? {
            Outcome::Done(collected) => return Ok((frozen, *collected)),
            Outcome::Busy if Instant::now() < deadline => drop(frozen),
            Outcome::Busy => {
                return Err(Error::Target {
                    pid: options.pid,
                    cause: "a thread is still on its way back from an earlier ckpt-dump that was killed"
                        .to_owned(),
                    advice: "if it is stopped, let it go on (SIGCONT), then try again".to_owned(),
                });
            }
        }
        std::thread::sleep(PAUSE);
    }
}

/// A question to a process that is gone was answered by its end.
fn died_or(pid: Pid, error: Error) -> Error {
    let status = ProcDir::new(pid).text("status").unwrap_or_default();
    let gone = parse::value(&status, "State").is_none_or(|state| state.starts_with(['Z', 'X']));
    if gone { Error::Died { pid } } else { error }
}

fn write(frozen: &Frozen, collected: &Collected, sink: &Sink) -> Result<u64, Error> {
    let pid = frozen.pid();
    let segments: Vec<Segment> = collected.contents.iter().map(|(segment, _)| *segment).collect();
    let layout = Layout::new(&collected.standard, &collected.notes, &segments)
        .map_err(|error| Error::question(pid, "laying out the image", error))?;
    let memory = TaskMemory::open(pid)
        .map_err(|error| died_or(pid, Error::question(pid, "opening its memory", error)))?;
    let job = Job { layout: &layout, contents: &collected.contents, memory: &memory };
    job.write(sink).map_err(|error| match error {
        error @ Error::Output { .. } => error,
        error => died_or(pid, error),
    })?;
    Ok(layout.total_bytes)
}

/// Lets the process go, and the image appear. It is killed only when the image is safe.
fn release(frozen: Frozen, sink: Sink, afterwards: Afterwards) -> Result<Duration, Error> {
    let pid = frozen.pid();
    let signal = |signal| {
        kill(nix::unistd::Pid::from_raw(pid.0), signal)
            .map_err(|error| Error::question(pid, format!("sending it {signal}"), error))
    };
    match afterwards {
        Afterwards::RunOn => {
            let stood_still = frozen.thaw()?;
            sink.commit()?;
            Ok(stood_still)
        }
        Afterwards::Stop => {
            signal(Signal::SIGSTOP)?;
            let stood_still = frozen.thaw()?;
            sink.commit()?;
            Ok(stood_still)
        }
        Afterwards::Kill => {
            sink.commit()?;
            signal(Signal::SIGKILL)?;
            frozen.thaw()
        }
    }
}

/// Refuses what is no process that could be frozen.
fn refuse(pid: Pid) -> Result<(), Error> {
    let proc = ProcDir::new(pid);
    let refused = |cause: &str, advice: String| Err(Error::Target { pid, cause: cause.to_owned(), advice });
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
    if parse::decimal(&status, "Kthread") == Some(1) || parse::value(&status, "VmSize").is_none() {
        return match parse::value(&status, "State").is_some_and(|state| state.starts_with(['Z', 'X'])) {
            true if proc.threads().is_ok_and(|threads| threads.len() > 1) => refused(
                "its main thread has ended while others run",
                "such a process cannot be saved".to_owned(),
            ),
            true => refused("it has ended already", "its parent has yet to wait for it".to_owned()),
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
