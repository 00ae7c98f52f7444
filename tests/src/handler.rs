//! A `binfmt_misc` handler of our own, for as long as it takes to execute an image.

use crate::{Outcome, Stopped};
use nix::fcntl::{Flock, FlockArg};
use nix::mount::{MsFlags, mount, umount};
use std::fs::{self, File};
use std::path::Path;

const PLACE: &str = "/proc/sys/fs/binfmt_misc";
/// Of all handlers for the same magic the youngest gets the file, so only one test at a time may have one.
const LOCK: &str = "/tmp/ckpt-binfmt.lock";

/// A registered handler. Dropping it removes it, and leaves the machine as it was.
#[derive(Debug)]
pub struct Handler {
    name: String,
    mounted: bool,
    _lock: Flock<File>,
}

impl Handler {
    /// Registers `loader`.
    pub fn register(loader: &Path) -> Outcome<Handler> {
        let file = File::options().create(true).truncate(false).write(true).open(LOCK)?;
        let lock = Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error)?;
        let register = Path::new(PLACE).join("register");
        let mounted = !register.exists();
        if mounted {
            mount(Some("binfmt_misc"), PLACE, Some("binfmt_misc"), MsFlags::empty(), None::<&str>)
                .map_err(|error| Stopped::Skipped(format!("cannot mount binfmt_misc: {error}")))?;
        }
        let name = format!("ckpt-tests-{}", std::process::id());
        let handler = Handler { name: name.clone(), mounted, _lock: lock };
        let line = binfmt::registration::line(&name, loader)
            .ok_or_else(|| Stopped::Failed(format!("no handler can have the loader {}", loader.display())))?;
        fs::write(register, std::os::unix::ffi::OsStrExt::as_bytes(line.as_os_str()))?;
        Ok(handler)
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        // It is not there if the registration failed.
        let _ = fs::write(Path::new(PLACE).join(&self.name), "-1");
        if self.mounted {
            let _ = umount(PLACE);
        }
    }
}
