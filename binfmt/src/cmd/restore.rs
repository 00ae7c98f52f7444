//! `ckpt restore` and `ckpt plan`: the loader by another name. Its options exist once, there.

use super::Failure;
use binfmt::installation;
use clap::Args;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Arguments of `ckpt restore` and `ckpt plan`.
#[derive(Debug, Args)]
#[command(after_help = "All options are those of the loader: `ckpt restore -- --help` tells them.")]
pub(super) struct Loader {
    /// The checkpoint, and options of ckpt-loader
    #[arg(
        value_name = "FILE [OPTION]",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    #[arg(value_hint = clap::ValueHint::FilePath)]
    arguments: Vec<OsString>,
}

impl Loader {
    pub(super) fn restore(self) -> Result<(), Failure> {
        Err(become_loader(self.arguments))
    }

    pub(super) fn plan(self) -> Result<(), Failure> {
        Err(become_loader([OsString::from("--plan")].into_iter().chain(self.arguments)))
    }
}

/// Runs the loader in our place; returns only if that fails.
fn become_loader(arguments: impl IntoIterator<Item = OsString>) -> Failure {
    match installation::loader() {
        Ok(loader) => {
            let error = Command::new(&loader).args(arguments).exec();
            Failure::cannot(format!("cannot run {}: {error}", loader.display()))
        }
        Err(error) => Failure::cannot(format!("cannot find the loader: {error}"))
            .advise("install all three programs together"),
    }
}
