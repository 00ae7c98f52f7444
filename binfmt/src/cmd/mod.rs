//! The commands of `ckpt`. One file each; all print to the given output and end with a [`Failure`] or not.

mod completions;
mod format_document;
mod info;
mod register;
mod restore;
mod show;
mod tree;
mod verify;

use binfmt::image::{Image, ImageError};
use clap::{Parser, Subcommand};
use std::fs::OpenOptions;
use std::io::{self, BufWriter, ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::ExitCode;

/// Looks at checkpoints, verifies them, and registers the loader that resumes them.
///
/// `ckpt-dump PID > FILE` makes a checkpoint and `./FILE` resumes it.
#[derive(Debug, Parser)]
#[command(name = "ckpt", version, max_term_width = 100, after_help = STATUSES, arg_required_else_help = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const STATUSES: &str = "Exit status: 0 done; 1 the answer is no (not registered, not a sound image); \
     2 wrong usage; 3 it could not be done. `restore` and `plan` end as ckpt-loader does.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Make checkpoints executable: tell the kernel about the loader (binfmt_misc)
    Register(register::Register),
    /// Undo `register`
    Unregister(register::Unregister),
    /// Say whether checkpoints are executable here, and by which loader
    Status(register::Status),
    /// Summarize a checkpoint
    Info(info::Info),
    /// Draw the processes of a checkpoint as a tree
    Tree(tree::Tree),
    /// Print what a checkpoint says, every field of it
    Show(show::Show),
    /// Check everything in a checkpoint, also the stored memory
    Verify(verify::Verify),
    /// Print what a resume would do, and do nothing
    #[command(override_usage = "ckpt plan FILE [OPTION]...")]
    Plan(restore::Loader),
    /// Resume a checkpoint, registered or not
    #[command(override_usage = "ckpt restore FILE [OPTION]...")]
    Restore(restore::Loader),
    /// Print the completions for a shell
    Completions(completions::Completions),
    /// Print the description of the format that stands in binfmt/FORMAT.md
    #[command(hide = true)]
    FormatDocument(format_document::FormatDocument),
}

/// Why a command did not do what was asked: one line, then what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u8,
    message: String,
    advice: Option<String>,
}

impl Failure {
    /// The question was answered with no.
    fn no(message: impl Into<String>) -> Failure {
        Failure { status: 1, message: message.into(), advice: None }
    }

    /// It could not be done.
    fn cannot(message: impl Into<String>) -> Failure {
        Failure { status: 3, message: message.into(), advice: None }
    }

    fn advise(self, advice: impl Into<String>) -> Failure {
        Failure { advice: Some(advice.into()), ..self }
    }
}

impl From<io::Error> for Failure {
    /// Only printing fails like this. Whoever closed the pipe has read enough.
    fn from(error: io::Error) -> Failure {
        let status = if error.kind() == ErrorKind::BrokenPipe { 0 } else { 3 };
        Failure { status, message: format!("cannot print: {error}"), advice: None }
    }
}

pub(crate) fn run() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = BufWriter::new(io::stdout().lock());
    let done = match arguments.command {
        Command::Register(command) => command.run(&mut out),
        Command::Unregister(command) => command.run(&mut out),
        Command::Status(command) => command.run(&mut out),
        Command::Info(command) => command.run(&mut out),
        Command::Tree(command) => command.run(&mut out),
        Command::Show(command) => command.run(&mut out),
        Command::Verify(command) => command.run(&mut out),
        Command::Plan(command) => command.plan(),
        Command::Restore(command) => command.restore(),
        Command::Completions(command) => command.run(&mut out),
        Command::FormatDocument(command) => command.run(&mut out),
    };
    // What was found before a failure is said before it.
    match done.and(out.flush().map_err(Failure::from)).map_err(|failure| (out.flush(), failure)) {
        Ok(()) => ExitCode::SUCCESS,
        Err((_, Failure { status: 0, .. })) => ExitCode::SUCCESS,
        Err((_, Failure { status, message, advice })) => {
            let advice = advice.map(|advice| format!("\n  {advice}")).unwrap_or_default();
            // Nobody may be there to read it.
            let _ = writeln!(io::stderr(), "ckpt: {message}{advice}");
            ExitCode::from(status)
        }
    }
}

/// Opens the image at `path`; `verb` is what was to be done with it.
fn open(verb: &str, path: &Path) -> Result<Image, Failure> {
    let whom = path.display();
    // A FIFO without a writer would keep us waiting; for a regular file the flag means nothing.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = file.map_err(|error| Failure::cannot(format!("cannot open {whom}: {error}")))?;
    Image::open(file).map_err(|error| refusal(verb, path, &error))
}

fn refusal(verb: &str, path: &Path, error: &ImageError) -> Failure {
    let message = format!("cannot {verb} {}: {error}", path.display());
    match error {
        ImageError::Io { .. } => Failure::cannot(message),
        ImageError::Version { .. } | ImageError::UnknownNote { .. } => {
            Failure::no(message).advise("use the ckpt that wrote it, or a newer one")
        }
        ImageError::Truncated { .. } | ImageError::Damaged { .. } => {
            Failure::no(message).advise("copy it again from where it is whole, or dump again")
        }
        ImageError::Foreign(_) | ImageError::Architecture(_) => Failure::no(message),
    }
}
