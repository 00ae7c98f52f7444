//! What can go wrong, told to the person who asked, and the exit statuses.

use crate::procdir::ProcDir;
use binfmt::address::Pid;
use serde::Serialize;
use std::fmt;
use std::io;
use std::process::ExitCode;

/// Something of a process that an image cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unsupported {
    /// Whose it is.
    pub pid: i32,
    /// Its name.
    pub name: String,
    /// What, with its descriptor or address.
    pub what: String,
    /// What the person can do about it.
    pub advice: String,
}

/// Something of a process that is otherwise after a resume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Remark {
    /// Whose it is.
    pub pid: i32,
    /// Its name.
    pub name: String,
    /// What, with its descriptor.
    pub what: String,
}

/// What stands against a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Findings {
    /// How many processes were looked at.
    pub processes: usize,
    /// Everything that stands in the way.
    pub items: Vec<Unsupported>,
    /// What is saved otherwise than it is.
    pub remarks: Vec<Remark>,
}

impl Findings {
    /// What is saved otherwise than it is; whose it is, if there are several processes.
    pub fn remark_lines(&self) -> impl Iterator<Item = String> {
        self.remarks.iter().map(|remark| match self.processes {
            0 | 1 => remark.what.clone(),
            _ => format!("pid {} ({}): {}", remark.pid, remark.name, remark.what),
        })
    }

    /// What stands in the way and what to do, a pair each; whose it is, if there are several processes.
    pub fn lines(&self) -> impl Iterator<Item = (String, &str)> {
        self.items.iter().map(|item| {
            let what = match self.processes {
                0 | 1 => item.what.clone(),
                _ => format!("pid {} ({}): {}", item.pid, item.name, item.what),
            };
            (what, item.advice.as_str())
        })
    }
}

/// Why there is no checkpoint. The process runs on in every case but [`Error::Died`].
#[derive(Debug)]
pub enum Error {
    /// There is no such process, or it is one that cannot be frozen.
    Target {
        /// Who: process id and name.
        whom: String,
        /// Why not.
        cause: String,
        /// What to do.
        advice: String,
    },
    /// It holds state that an image cannot.
    Unsupported {
        /// Who.
        pid: Pid,
        /// Its name.
        name: String,
        /// What stands in the way.
        findings: Findings,
    },
    /// The kernel did not answer a question about it.
    Question {
        /// Who.
        pid: Pid,
        /// What was asked.
        what: String,
        /// What the kernel said.
        cause: String,
    },
    /// It ended while it was being saved.
    Died {
        /// Who.
        pid: Pid,
    },
    /// The image cannot be meant to go there.
    Destination {
        /// Where to.
        path: String,
        /// Why not.
        cause: String,
        /// What to do.
        advice: String,
    },
    /// The image could not be written.
    Output {
        /// Where to.
        path: String,
        /// What the kernel said.
        cause: String,
        /// What to do.
        advice: String,
    },
}

/// Exit statuses; 0 is success and 2 is clap's for a wrong command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The command line or the place to write to cannot be meant.
    Usage = 2,
    /// The process holds state that an image cannot.
    Unsupported = 3,
    /// No such process, or no right to it.
    Target = 4,
    /// The image could not be written.
    Output = 5,
    /// The process ended meanwhile.
    Died = 6,
    /// The kernel did not answer.
    Question = 7,
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        // The discriminants are small.
        ExitCode::from((status as u32).to_le_bytes()[0])
    }
}

impl Error {
    /// The exit status that goes with it.
    pub fn status(&self) -> Status {
        match self {
            Error::Target { .. } => Status::Target,
            Error::Unsupported { .. } => Status::Unsupported,
            Error::Question { .. } => Status::Question,
            Error::Died { .. } => Status::Died,
            Error::Destination { .. } => Status::Usage,
            Error::Output { .. } => Status::Output,
        }
    }

    /// `pid` cannot be frozen.
    pub fn target(pid: Pid, cause: impl Into<String>, advice: impl Into<String>) -> Error {
        let proc = ProcDir::new(pid);
        let whom = if proc.state().is_some() { proc.whom() } else { format!("pid {pid}") };
        Error::Target { whom, cause: cause.into(), advice: advice.into() }
    }

    /// The kernel refused `what` about `pid`.
    pub fn question(pid: Pid, what: impl Into<String>, cause: impl fmt::Display) -> Error {
        Error::Question { pid, what: what.into(), cause: cause.to_string() }
    }

    /// Writing to `path` failed.
    pub fn output(path: &str, error: &io::Error) -> Error {
        let advice = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                "make room, or write to another disk"
            }
            io::ErrorKind::BrokenPipe => "the reader ended early; see what it says",
            io::ErrorKind::FileTooLarge => "raise `ulimit -f`, or write to another filesystem",
            _ => "nothing is left under that name",
        };
        Error::Output { path: path.to_owned(), cause: error.to_string(), advice: advice.to_owned() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Target { whom, cause, advice } => {
                write!(out, "cannot checkpoint {whom}: {cause}\n  {advice}")
            }
            Error::Unsupported { pid, name, findings } => {
                write!(out, "cannot checkpoint pid {pid} ({name}): ")?;
                match findings.lines().collect::<Vec<_>>().as_slice() {
                    [(_, advice)] if findings.items.iter().all(|item| item.pid == pid.0) => {
                        findings
                            .items
                            .iter()
                            .try_for_each(|item| write!(out, "{}\n  {advice}", item.what))?;
                    }
                    [(what, advice)] => write!(out, "{what}\n  {advice}")?,
                    many => {
                        write!(out, "{} things stand in the way", many.len())?;
                        many.iter().try_for_each(|(what, advice)| write!(out, "\n  {what}; {advice}"))?;
                    }
                }
                write!(out, "\n  nothing was written and the process runs on")
            }
            Error::Question { pid, what, cause } => {
                write!(
                    out,
                    "cannot checkpoint pid {pid}: {what}: {cause}\n  nothing was written and the process runs on"
                )
            }
            Error::Died { pid } => {
                write!(
                    out,
                    "cannot checkpoint pid {pid}: it ended while it was being saved\n  nothing was written"
                )
            }
            Error::Destination { path, cause, advice } => {
                write!(out, "cannot write {path}: {cause}\n  {advice}")
            }
            Error::Output { path, cause, advice } => {
                write!(out, "cannot write {path}: {cause}\n  {advice}; the process runs on")
            }
        }
    }
}

impl std::error::Error for Error {}
