//! The loader's own options, and how it was called.

use crate::error::{Error, Result};
use crate::sys;
use clap::{Parser, ValueEnum};
use std::fs::File;
use std::os::fd::RawFd;

const AT_EXECFD: u64 = 2;
const AT_FLAGS: u64 = 8;
/// The kernel kept argv[0]: we were called by a `binfmt_misc` handler with flag P.
const AT_FLAGS_PRESERVE_ARGV0: u64 = 1;

/// Resumes the program in a checkpoint. Its exit status is the program's; 125 means that it could not be resumed.
#[derive(Parser, Clone, Debug, Default)]
#[command(version, max_term_width = 100)]
pub struct Options {
    /// Return as soon as the program runs, and print its process id
    #[arg(long)]
    pub detach: bool,
    /// Under which process ids it comes back [default: keep if possible, else fresh if that will do, else namespace]
    #[arg(long, value_name = "HOW")]
    pub pid: Option<PidChoice>,
    /// Leave it stopped, as by SIGSTOP
    #[arg(long)]
    pub stopped: bool,
    /// Print what would be done, and do nothing
    #[arg(long)]
    pub plan: bool,
    /// Print every step of that plan when it is taken
    #[arg(short, long)]
    pub verbose: bool,
    /// Have descriptor N of the program lead to the file PATH (repeatable)
    #[arg(long = "fd", value_name = "N=PATH")]
    pub descriptors: Vec<String>,
    /// Find at NEW what was at OLD: a file, or everything below a directory (repeatable)
    #[arg(long = "path", value_name = "OLD=NEW")]
    pub paths: Vec<String>,
    /// Start in another working directory
    #[arg(long = "cwd", value_name = "DIR")]
    pub directory: Option<String>,
    /// Change an environment variable, for what reads it later; a longer value than it had does not fit (repeatable)
    #[arg(long = "env", value_name = "K=V")]
    pub environment: Vec<String>,
    /// Give the program the ids of the caller
    #[arg(long)]
    pub as_me: bool,
    /// What becomes of TCP connections [default: they go on]
    #[arg(long, value_name = "HOW")]
    pub tcp: Option<TcpChoice>,
    /// In which control groups it comes back [default: its own where they are there and may be joined]
    #[arg(long, value_name = "HOW")]
    pub cgroup: Option<CgroupChoice>,
    /// In which namespaces it comes back [default: its own where they still exist, else new ones like them]
    #[arg(long, value_name = "HOW")]
    pub namespaces: Option<NamespaceChoice>,
    /// Go on in spite of something (repeatable)
    #[arg(long, value_name = "WHAT")]
    pub allow: Vec<Allow>,
}

/// Under which process ids a program comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PidChoice {
    /// Its original one; needs CAP_CHECKPOINT_RESTORE, and every id must be free
    Keep,
    /// A new one: this process (with --detach, a child) becomes the program, which must be one process with a single
    /// thread
    Fresh,
    /// Its original ones, in a pid namespace of its own with its own /proc; an ordinary user gets a user namespace as well
    Namespace,
}

/// What becomes of TCP connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TcpChoice {
    /// They are lost, as after a fault of the network: the program reads what it has received, then ECONNRESET
    Reset,
}

/// In which control groups a program comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CgroupChoice {
    /// In its own, or not at all
    Keep,
    /// In its own; those that are not there are made
    Make,
    /// In those of the caller
    Here,
}

/// In which namespaces a program comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum NamespaceChoice {
    /// In new ones like its own
    Make,
    /// In those of the caller; only processes that lived elsewhere than the first one do so again
    Here,
}

/// What a resume may go on in spite of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Allow {
    /// Files that changed since the checkpoint
    ChangedFile,
}

#[derive(Parser, Debug)]
#[command(name = "ckpt-loader", version, max_term_width = 100)]
struct Direct {
    /// The checkpoint
    file: String,
    #[command(flatten)]
    options: Options,
}

/// Whether the kernel called us for an image, through the handler.
fn is_by_handler() -> bool {
    sys::auxiliary_value(AT_FLAGS) & AT_FLAGS_PRESERVE_ARGV0 != 0
}

/// The descriptor of the image that the kernel opened for a later start, which has one already.
pub fn close_second_image() {
    if is_by_handler()
        && let Ok(fd) = RawFd::try_from(sys::auxiliary_value(AT_EXECFD))
    {
        drop(sys::adopt(fd));
    }
}

/// A call of the loader: which image, how it is named in messages, and what is asked.
#[derive(Debug)]
pub struct Call {
    /// The opened image.
    pub file: File,
    /// Its name for people.
    pub name: String,
    /// What is asked.
    pub options: Options,
    /// Whether the kernel called us for the image, through the handler.
    pub by_handler: bool,
}

impl Call {
    /// Understands the arguments: `ckpt-loader FILE [OPTIONS]`, or what `binfmt_misc` makes of `./FILE [OPTIONS]` with
    /// flags O and P: `loader, path, argv[0], arguments...` and the opened image in AT_EXECFD.
    pub fn from_arguments(arguments: &[String]) -> Result<Call> {
        if !is_by_handler() {
            let direct = Direct::parse_from(arguments);
            let file = File::open(&direct.file).map_err(|error| Error::Open(direct.file.clone(), error))?;
            return Ok(Call { file, name: direct.file, options: direct.options, by_handler: false });
        }
        let name = arguments.get(2).or(arguments.get(1)).cloned().unwrap_or_default();
        let options = Options::parse_from(arguments.iter().skip(2));
        let fd = RawFd::try_from(sys::auxiliary_value(AT_EXECFD));
        let fd = fd.map_err(|_| Error::Internal("the kernel gave no descriptor of the image"))?;
        Ok(Call { file: File::from(sys::adopt(fd)), name, options, by_handler: true })
    }
}
