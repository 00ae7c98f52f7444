//! `ckpt register`, `unregister` and `status`: the loader and the kernel.

use super::Failure;
use binfmt::installation;
use binfmt::registration::{Handler, NAME, Registered, Registry, RegistryError, State, line};
use clap::Args;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What works without any registration.
const WITHOUT: &str = "`ckpt restore FILE` resumes a checkpoint without it";

/// Arguments of `ckpt register`.
#[derive(Debug, Args)]
#[command(
    after_help = "It lasts until the next boot; scripts/install makes it last. The kernel's registry is mounted at \
    /proc/sys/fs/binfmt_misc if it is not."
)]
pub(super) struct Register {
    /// The loader [default: ckpt-loader beside this program, or in ../libexec/ckpt]
    #[arg(long, value_hint = clap::ValueHint::FilePath)]
    loader: Option<PathBuf>,
    /// Name of the registration
    #[arg(long, default_value = NAME)]
    name: String,
    /// Print the line for /proc/sys/fs/binfmt_misc/register or binfmt.d(5), and register nothing
    #[arg(long)]
    print: bool,
}

/// Arguments of `ckpt unregister`.
#[derive(Debug, Args)]
pub(super) struct Unregister {
    /// Name of the registration
    #[arg(long, default_value = NAME)]
    name: String,
    /// Unmount the kernel's registry too; without it, other programs' handlers are not touched
    #[arg(long)]
    unmount: bool,
}

/// Arguments of `ckpt status`.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Name of the registration
    #[arg(long, default_value = NAME)]
    name: String,
}

impl Register {
    pub(super) fn run(self, out: &mut impl Write) -> Result<(), Failure> {
        let loader = self.loader()?;
        if self.print {
            let line = line(&self.name, &loader);
            let unfit = || RegistryError::Line { name: self.name.clone(), loader: loader.clone() };
            out.write_all(line.ok_or_else(|| failure("register", &self.name, unfit()))?.as_bytes())?;
            return Ok(writeln!(out)?);
        }
        let registered = Registry::default().register(&self.name, &loader);
        let (name, loader) = (&self.name, loader.display());
        match registered.map_err(|error| failure("register", name, error))? {
            Registered::New => writeln!(out, "{name}: registered with {loader}")?,
            Registered::Already => writeln!(out, "{name}: already registered with {loader}")?,
            Registered::Replaced(reason) => writeln!(out, "{name}: registered anew with {loader}; {reason}")?,
        }
        Ok(())
    }

    /// The loader's path, absolute. One that was given for `--print` need not exist yet.
    fn loader(&self) -> Result<PathBuf, Failure> {
        let found = match &self.loader {
            Some(given) if self.print => std::path::absolute(given),
            Some(given) => given.canonicalize(),
            None => installation::loader().and_then(|found| found.canonicalize()),
        };
        found.map_err(|error| {
            let given = self.loader.as_deref().unwrap_or(Path::new(installation::LOADER)).display();
            Failure::cannot(format!("cannot register {given}: {error}"))
                .advise("name the loader with --loader")
        })
    }
}

impl Unregister {
    pub(super) fn run(self, out: &mut impl Write) -> Result<(), Failure> {
        let registry = Registry::default();
        let removed = registry.unregister(&self.name);
        match removed.map_err(|error| failure("unregister", &self.name, error))? {
            true => writeln!(out, "{}: unregistered", self.name)?,
            false => writeln!(out, "{}: was not registered", self.name)?,
        }
        if self.unmount && registry.is_mounted() {
            registry.unmount().map_err(|error| failure("unmount", "binfmt_misc", error))?;
        }
        Ok(())
    }
}

impl Status {
    pub(super) fn run(self, out: &mut impl Write) -> Result<(), Failure> {
        let name = &self.name;
        let state = Registry::default().state(name).map_err(|error| failure("look up", name, error))?;
        let no = |reason: &str| {
            Failure::no(format!("{name} is not registered: {reason}"))
                .advise(format!("`ckpt register` as root makes checkpoints executable; {WITHOUT}"))
        };
        match state {
            State::NotMounted => Err(no("binfmt_misc is not mounted")),
            State::Absent => Err(no("binfmt_misc does not know it")),
            State::Present { handler, stale } => {
                let loader = handler.loader.display();
                match handler.difference(&Handler::ours(&handler.loader)).or(stale) {
                    None => Ok(writeln!(out, "{name}: registered with {loader}, flags {}", handler.flags)?),
                    Some(reason) => Err(Failure::no(format!("{name} is registered, but {reason}"))
                        .advise("`ckpt register` as root registers it anew")),
                }
            }
        }
    }
}

fn failure(verb: &str, whom: &str, error: RegistryError) -> Failure {
    let failure = Failure::cannot(format!("cannot {verb} {whom}: {error}"));
    match error {
        RegistryError::Rights(_) => failure.advise(format!("use sudo; {WITHOUT}")),
        RegistryError::Missing => failure.advise(format!("try `modprobe binfmt_misc`; {WITHOUT}")),
        RegistryError::Off => failure.advise(format!(
            "it is registered, and `echo 1 > /proc/sys/fs/binfmt_misc/status` as root switches it on; {WITHOUT}"
        )),
        RegistryError::Loader { .. } => failure.advise("name the loader with --loader"),
        RegistryError::Line { .. } => failure.advise("use a name without slashes, and a loader with a short path"),
        RegistryError::Io { .. } => failure.advise(WITHOUT),
    }
}
