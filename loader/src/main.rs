//! The loader that `binfmt_misc` runs for a checkpoint.

use std::process::ExitCode;

fn main() -> ExitCode {
    loader::run(
        &std::env::args_os().map(|argument| argument.to_string_lossy().into_owned()).collect::<Vec<_>>(),
    )
}
