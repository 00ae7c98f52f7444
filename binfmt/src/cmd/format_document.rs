//! `ckpt format-document`: how `binfmt/FORMAT.md` is made.

use super::Failure;
use clap::Args;
use std::io::Write;

/// Arguments of `ckpt format-document`.
#[derive(Debug, Args)]
pub(super) struct FormatDocument {}

impl FormatDocument {
    pub(super) fn run(self, out: &mut impl Write) -> Result<(), Failure> {
        Ok(out.write_all(binfmt::document::document().as_bytes())?)
    }
}
