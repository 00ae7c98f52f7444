//! The kernel's registry of handlers, a filesystem.
//!
//! With flag F the kernel keeps the loader's *file* open, not its path: a loader that was installed anew is only used after
//! a new registration. The kernel does not tell which file it holds, but an entry bears the time at which it was made, and
//! a file that took the loader's place since then has a later change time.

use super::{Handler, line};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statfs::{FsType, statfs};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::{fs, time};
use thiserror::Error;

/// Where the kernel wants it.
const DIRECTORY: &str = "/proc/sys/fs/binfmt_misc";
/// BINFMTFS_MAGIC of linux/magic.h.
const FILESYSTEM_TYPE: FsType = FsType(0x4249_4e4d);

/// Why the registry does not do what was asked.
#[derive(Debug, Error)]
pub enum RegistryError {
    /// The kernel was built without it, or its module is not loaded.
    #[error("this kernel has no binfmt_misc")]
    Missing,
    /// It takes the rights of root.
    #[error("it takes the rights of root ({0})")]
    Rights(io::Error),
    /// The loader is not a program.
    #[error("{} is not a program: {cause}", loader.display())]
    Loader {
        /// Its path.
        loader: PathBuf,
        /// What is wrong.
        cause: String,
    },
    /// The name or the path cannot stand in the kernel's line.
    #[error("the kernel cannot take the name {name:?} with the loader {}", loader.display())]
    Line {
        /// The name.
        name: String,
        /// The loader.
        loader: PathBuf,
    },
    /// All handlers are switched off.
    #[error("binfmt_misc as a whole is switched off")]
    Off,
    /// Anything else.
    #[error("{path}: {error}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
}

/// What the kernel knows under a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The registry is not mounted, so nothing can be told.
    NotMounted,
    /// Nothing.
    Absent,
    /// A handler.
    Present {
        /// What the kernel says of it.
        handler: Handler,
        /// Why it will not run the loader that now stands at its path; `None` if it will.
        stale: Option<String>,
    },
}

/// What a registration did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registered {
    /// There was none.
    New,
    /// An equal one was left alone.
    Already,
    /// One was replaced, for this reason.
    Replaced(String),
}

/// The mounted registry, or the place for it.
#[derive(Debug)]
pub struct Registry {
    directory: PathBuf,
}

impl Default for Registry {
    fn default() -> Self {
        Registry { directory: DIRECTORY.into() }
    }
}

impl Registry {
    /// Whether the registry is mounted.
    pub fn is_mounted(&self) -> bool {
        statfs(&self.directory).is_ok_and(|found| found.filesystem_type() == FILESYSTEM_TYPE)
    }

    /// Mounts the registry unless it is; whether it was not.
    pub fn mount(&self) -> Result<bool, RegistryError> {
        if self.is_mounted() {
            return Ok(false);
        }
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        let kind = Some("binfmt_misc");
        match mount(kind, &self.directory, kind, flags, None::<&str>) {
            Ok(()) => Ok(true),
            Err(Errno::ENODEV | Errno::ENOENT) => Err(RegistryError::Missing),
            Err(errno) => Err(self.error(&self.directory, errno.into())),
        }
    }

    /// Takes the mount away.
    pub fn unmount(&self) -> Result<(), RegistryError> {
        umount2(&self.directory, MntFlags::empty()).map_err(|errno| self.error(&self.directory, errno.into()))
    }

    /// What stands under `name`.
    pub fn state(&self, name: &str) -> Result<State, RegistryError> {
        if !self.is_mounted() {
            return Ok(State::NotMounted);
        }
        let path = self.entry(name);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(State::Absent),
            Err(error) => return Err(self.error(&path, error)),
        };
        let unknown = || self.error(&path, io::Error::new(ErrorKind::InvalidData, "it is not a handler"));
        let handler = Handler::parse(&text).ok_or_else(unknown)?;
        let made = fs::metadata(&path).and_then(|found| found.modified());
        let made = made.map_err(|error| self.error(&path, error))?;
        let stale = staleness(&handler.loader, made);
        Ok(State::Present { handler, stale })
    }

    /// Registers `loader` under `name`, mounting the registry if need be; what stood there in its way is replaced.
    pub fn register(&self, name: &str, loader: &Path) -> Result<Registered, RegistryError> {
        check_loader(loader)?;
        let unfit = || RegistryError::Line { name: name.to_owned(), loader: loader.to_owned() };
        let line = line(name, loader).ok_or_else(unfit)?;
        self.mount()?;
        let done = match self.state(name)? {
            State::Present { handler, stale } => match handler.difference(&Handler::ours(loader)).or(stale) {
                None => Registered::Already,
                Some(reason) => {
                    self.write(&self.entry(name), b"-1")?;
                    Registered::Replaced(reason)
                }
            },
            State::NotMounted | State::Absent => Registered::New,
        };
        if done != Registered::Already {
            settle(loader);
            self.write(&self.directory.join("register"), line.as_bytes())?;
        }
        let status = self.directory.join("status");
        match fs::read(&status).map_err(|error| self.error(&status, error))?.starts_with(b"enabled") {
            true => Ok(done),
            false => Err(RegistryError::Off),
        }
    }

    /// Removes what stands under `name`; whether anything did.
    pub fn unregister(&self, name: &str) -> Result<bool, RegistryError> {
        match self.state(name)? {
            State::Present { .. } => self.write(&self.entry(name), b"-1").map(|()| true),
            State::NotMounted | State::Absent => Ok(false),
        }
    }

    fn entry(&self, name: &str) -> PathBuf {
        // The name is one component: it comes from the command line of someone who may write here anyway, but
        // `../../kernel/panic` is never what was meant.
        self.directory.join(name.replace('/', "\u{fffd}"))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), RegistryError> {
        let file = fs::OpenOptions::new().write(true).open(path);
        // One write: the kernel takes each as a whole line.
        file.and_then(|mut file| io::Write::write_all(&mut file, bytes))
            .map_err(|error| self.error(path, error))
    }

    fn error(&self, path: &Path, error: io::Error) -> RegistryError {
        match error.kind() {
            ErrorKind::PermissionDenied => RegistryError::Rights(error),
            _ => RegistryError::Io { path: path.to_owned(), error },
        }
    }
}

/// Waits until a loader that has just been put in its place is older than the registration to come, by the kernel's clock
/// for files, so that it is not taken for a later one.
fn settle(loader: &Path) {
    /// Longer than a tick of any kernel configuration (100 Hz), twice: two clocks are compared.
    const TICK: time::Duration = time::Duration::from_millis(20);
    let Ok(found) = fs::metadata(loader) else { return };
    let changed = i128::from(found.ctime()) * 1_000_000_000 + i128::from(found.ctime_nsec());
    let now = time::SystemTime::now().duration_since(time::UNIX_EPOCH).unwrap_or_default();
    let age = i128::try_from(now.as_nanos()).unwrap_or_default() - changed;
    let age = u64::try_from(age).map_or(time::Duration::ZERO, time::Duration::from_nanos);
    std::thread::sleep(TICK.saturating_sub(age));
}

/// Why the file that now stands at `loader` is not the one that was there at `made`.
fn staleness(loader: &Path, made: time::SystemTime) -> Option<String> {
    let found = match fs::metadata(loader) {
        Ok(found) => found,
        Err(error) => return Some(format!("its loader {} is gone ({error})", loader.display())),
    };
    let made = made.duration_since(time::UNIX_EPOCH).unwrap_or_default();
    let changed = (found.ctime(), found.ctime_nsec());
    // The kernel's file times advance by ticks: what happened in the same one is taken for later.
    let since = changed.0 >= 0
        && (changed.0.unsigned_abs(), changed.1.unsigned_abs())
            >= (made.as_secs(), made.subsec_nanos().into());
    since.then(|| format!("its loader {} was replaced since", loader.display()))
}

fn check_loader(loader: &Path) -> Result<(), RegistryError> {
    let refused = |cause: String| RegistryError::Loader { loader: loader.to_owned(), cause };
    let found = fs::metadata(loader).map_err(|error| refused(error.to_string()))?;
    if !found.is_file() || found.permissions().mode() & 0o111 == 0 {
        return Err(refused("it cannot be executed".to_owned()));
    }
    Ok(())
}
