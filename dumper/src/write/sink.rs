//! Where an image goes. A file appears under its name only whole; whatever fails leaves things as they were.

use crate::error::Error;
use nix::fcntl::{AT_FDCWD, AtFlags, FallocateFlags, FcntlArg, OFlag, fallocate, fcntl};
use nix::unistd::linkat;
use std::fs::{self, File, Permissions};
use std::io::{self, IsTerminal, Seek};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// An image is its owner's to run, and nobody else's to read: it holds a process's memory.
const MODE: u32 = 0o700;

/// Where an image goes.
#[derive(Debug)]
pub enum Sink {
    /// A file that gets its name when it is whole.
    Named {
        /// The file.
        file: File,
        /// The name it has until then; `None` if it has none (O_TMPFILE), or has its own.
        temporary: Option<PathBuf>,
        /// The name it will have.
        path: PathBuf,
        /// The same for messages.
        name: String,
    },
    /// A regular file as standard output.
    Redirected {
        /// The file.
        file: File,
        /// Its length when we came; `None` once the image is whole.
        old_len_bytes: Option<u64>,
        /// Whether it was empty.
        fresh: bool,
    },
    /// A pipe, a socket or a device as standard output.
    Stream,
}

impl Sink {
    /// A file that will be called `path`. Where the filesystem can, it has no name until then, so that even a killed
    /// dumper leaves nothing behind.
    pub fn named(path: &Path) -> Result<Sink, Error> {
        let name = path.display().to_string();
        let failed = |error: io::Error| Error::output(&name, &error);
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => {
                return Err(Error::Destination {
                    path: name,
                    cause: "it is a directory".to_owned(),
                    advice: "give the name of a file".to_owned(),
                });
            }
            Ok(metadata) if !metadata.is_file() => {
                return Err(Error::Destination {
                    path: name,
                    cause: "it is not a regular file, and would be replaced".to_owned(),
                    advice: "redirect standard output to it instead".to_owned(),
                });
            }
            _ => {}
        }
        let (file, temporary) = match nameless(path) {
            Ok(file) => (file, None),
            Err(_) => {
                let temporary = temporary_name(path);
                let mut options = File::options();
                options.read(true).write(true).create_new(true).mode(MODE);
                (options.open(&temporary).map_err(failed)?, Some(temporary))
            }
        };
        let permitted = file.set_permissions(Permissions::from_mode(MODE));
        let sink = Sink::Named { file, temporary, path: path.to_owned(), name };
        permitted.map_err(|error| Error::output(sink.name(), &error))?;
        Ok(sink)
    }

    /// Standard output. A terminal is refused.
    pub fn stdout() -> Result<Sink, Error> {
        let refused = |cause: &str| Error::Destination {
            path: "to standard output".to_owned(),
            cause: cause.to_owned(),
            advice: "redirect it (`> x.ckpt`), or give `-o x.ckpt`".to_owned(),
        };
        let stdout = io::stdout();
        if stdout.is_terminal() {
            return Err(refused("it is a terminal"));
        }
        let failed = |error: io::Error| refused(&error.to_string());
        let mut file = File::from(stdout.as_fd().try_clone_to_owned().map_err(failed)?);
        let metadata = file.metadata().map_err(failed)?;
        let flags = fcntl(&file, FcntlArg::F_GETFL).map_err(|error| failed(error.into()))?;
        let flags = OFlag::from_bits_truncate(flags);
        // So the runtime replaces a closed one.
        if metadata.rdev() == nix::sys::stat::makedev(1, 3) && !metadata.is_file() {
            return Err(refused("it is /dev/null, or closed, and nothing would be kept"));
        }
        if !metadata.is_file() {
            return Ok(Sink::Stream);
        }
        let at_start = file.stream_position().map_err(failed)? == 0;
        let appends = flags.contains(OFlag::O_APPEND);
        if !at_start || (appends && metadata.len() > 0) {
            return Err(refused("something was written there before"));
        }
        let permitted = file.set_permissions(Permissions::from_mode(MODE));
        permitted.map_err(|error| refused(&format!("it cannot be made private ({error})")))?;
        if appends {
            return Ok(Sink::Stream);
        }
        let len = metadata.len();
        Ok(Sink::Redirected { file, old_len_bytes: Some(len), fresh: len == 0 })
    }

    /// What to call it in a message.
    pub fn name(&self) -> &str {
        match self {
            Sink::Named { name, .. } => name,
            Sink::Redirected { .. } | Sink::Stream => "to standard output",
        }
    }

    /// The file, if it is one in which we may write anywhere.
    pub fn file(&self) -> Option<&File> {
        match self {
            Sink::Named { file, .. } | Sink::Redirected { file, .. } => Some(file),
            Sink::Stream => None,
        }
    }

    /// Takes room for about `len_bytes` before the process stands still, as that can take as long as writing. Whether
    /// there is enough is found out when the image is written.
    pub fn reserve(&self, len_bytes: u64) {
        if let (Some(file), true, Ok(len)) = (self.file(), self.is_fresh(), i64::try_from(len_bytes)) {
            let _ = fallocate(file, FallocateFlags::empty(), 0, len);
        }
    }

    /// Whether what is not written reads as zeros.
    pub fn is_fresh(&self) -> bool {
        match self {
            Sink::Named { .. } => true,
            Sink::Redirected { fresh, .. } => *fresh,
            Sink::Stream => false,
        }
    }

    /// The image is whole: on disk, and under its name.
    pub fn commit(mut self) -> Result<(), Error> {
        let committed = match &mut self {
            Sink::Named { file, temporary, path, .. } => file.sync_all().and_then(|()| {
                if temporary.is_none() {
                    // At once, if nothing has that name. A name that is taken can only be taken over by a file that has
                    // one itself: killed between those two steps, we leave the whole image under the other name.
                    match give_name(file, path) {
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                        named => return named,
                    }
                    let name = temporary_name(path);
                    give_name(file, &name)?;
                    *temporary = Some(name);
                }
                if let Some(from) = temporary.as_ref() {
                    fs::rename(from, path)?;
                    *temporary = None;
                }
                Ok(())
            }),
            Sink::Redirected { old_len_bytes, .. } => {
                *old_len_bytes = None;
                Ok(())
            }
            Sink::Stream => Ok(()),
        };
        committed.map_err(|error| Error::output(self.name(), &error))
    }
}

/// The directory that `path` is in.
fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    PathBuf::from(name)
}

/// A file without a name on the filesystem of `path`.
fn nameless(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).mode(MODE).custom_flags(libc::O_TMPFILE);
    options.open(directory(path))
}

/// Gives a nameless file a name that must be free.
fn give_name(file: &File, name: &Path) -> io::Result<()> {
    let link = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(AT_FDCWD, link.as_str(), AT_FDCWD, name, AtFlags::AT_SYMLINK_FOLLOW)?;
    Ok(())
}

impl Drop for Sink {
    fn drop(&mut self) {
        // An image that is not whole must not be taken for one. Nobody is left to tell if this fails as well.
        match self {
            Sink::Named { temporary: Some(temporary), .. } => drop(fs::remove_file(temporary)),
            Sink::Redirected { file, old_len_bytes: Some(len), .. } => drop(file.set_len(*len)),
            _ => {}
        }
    }
}
