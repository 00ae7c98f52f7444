//! `ckpt verify`: everything that can be checked without resuming.

use super::{Failure, open};
use binfmt::human;
use clap::Args;
use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;

/// Arguments of `ckpt verify`.
#[derive(Debug, Args)]
pub(super) struct Verify {
    /// The checkpoint
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    /// Print nothing if it is sound
    #[arg(short, long)]
    quiet: bool,
}

impl Verify {
    pub(super) fn run(self, out: &mut impl Write) -> Result<(), Failure> {
        let path = self.file.display();
        let image = open("verify", &self.file)?;
        let mut wrong: Vec<String> = binfmt::consistency::check(&image);
        let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        wrong.extend(image.check_segments(threads).iter().map(ToString::to_string));
        if let [first, others @ ..] = wrong.as_slice() {
            others.iter().try_for_each(|each| writeln!(out, "{path}: {each}"))?;
            let more =
                if others.is_empty() { String::new() } else { format!(" (and {} above)", others.len()) };
            return Err(Failure::no(format!("cannot verify {path}: {first}{more}"))
                .advise("copy it again from where it is whole, or dump again"));
        }
        if !self.quiet {
            let stored = binfmt::human::bytes(image.stored_bytes());
            let notes = human::counted(image.notes.len(), "note", "notes");
            let segments = human::counted(image.segments.len(), "segment", "segments");
            writeln!(out, "{path}: sound; {notes}, {stored} in {segments}")?;
        }
        Ok(())
    }
}
