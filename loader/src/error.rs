//! What a person is told when a resume does not happen.

use binfmt::image::ImageError;
use binfmt::program::Failed;
use nix::errno::Errno;
use std::fmt;

/// Exit status of the loader itself when it cannot resume. Every other status is the program's own.
pub const EXIT_CANNOT_RESUME: u8 = 125;

/// One thing that stands against a resume, and what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What it is.
    pub reason: String,
    /// What to do.
    pub remedy: String,
}

/// Why a resume did not happen.
#[derive(Debug)]
pub enum Error {
    /// The image cannot be used.
    Image(ImageError),
    /// The image cannot be opened.
    Open(String, std::io::Error),
    /// This host or these options do not permit it; all reasons.
    Refused(Vec<Refusal>),
    /// A step of the rebuilding failed.
    Step {
        /// What was to be done, and to whom.
        what: String,
        /// What the kernel said.
        error: Errno,
    },
    /// A system call of a program failed.
    Program(Failed),
    /// Something that the plan has excluded.
    Internal(&'static str),
    /// Already told by the task that was being built.
    Told,
}

/// The result of a step.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A step that failed.
    pub fn step(what: impl Into<String>, error: Errno) -> Error {
        Error::Step { what: what.into(), error }
    }

    /// A step that failed in the standard library.
    pub fn io(what: impl Into<String>, error: &std::io::Error) -> Error {
        Error::Step { what: what.into(), error: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)) }
    }
}

impl From<ImageError> for Error {
    fn from(error: ImageError) -> Error {
        Error::Image(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Image(error) => write!(out, "cannot resume: {error}\n  {}", error.advice()),
            Error::Open(path, error) => {
                write!(
                    out,
                    "cannot open {path}: {error}\n  name a file that ckpt-dump has made, and that you may read"
                )
            }
            Error::Refused(refusals) => {
                for (index, refusal) in refusals.iter().enumerate() {
                    let newline = if index == 0 { "" } else { "\n" };
                    write!(out, "{newline}cannot resume: {}\n  {}", refusal.reason, refusal.remedy)?;
                }
                Ok(())
            }
            Error::Step { what, error } => write!(out, "cannot resume: cannot {what}: {error}"),
            Error::Program(failed) => write!(out, "cannot resume: {failed}"),
            Error::Internal(what) => write!(out, "cannot resume: {what}; please report this"),
            Error::Told => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
