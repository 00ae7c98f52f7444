//! The `ckpt` command: registers the loader, and shows, verifies and resumes images.

mod cmd;

use std::process::ExitCode;

fn main() -> ExitCode {
    cmd::run()
}
