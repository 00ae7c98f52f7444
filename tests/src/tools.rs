//! The programs under test, and how they are run.
//!
//! They are copied to a folder that any user can read, together with the guests: an unprivileged guest must be able to
//! execute them, and a build that goes on meanwhile must not change them.

use crate::Outcome;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Who is nobody in particular: owns nothing, has no capability.
pub const NOBODY: u32 = 65534;
/// A command that takes longer hangs.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// As whom a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// The one who runs the tests.
    Own,
    /// One without any privilege; the same as `Own` if that one has none.
    Nobody,
}

/// Where everything is.
#[derive(Debug)]
pub struct Tools(());

impl Tools {
    /// Copies `ckpt`, `ckpt-dump` and `ckpt-loader` out of `built` into a new folder.
    pub fn gather(built: &Path) -> io::Result<Tools> {
        let root = Tools::root();
        fs::create_dir_all(root.join("bin"))?;
        for name in ["ckpt", "ckpt-dump", "ckpt-loader"] {
            let from = built.join(name);
            fs::copy(&from, root.join("bin").join(name))
                .map_err(|error| io::Error::other(format!("cannot copy {}: {error}", from.display())))?;
        }
        for folder in [root.clone(), root.join("bin")] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        }
        Ok(Tools(()))
    }

    /// The folder of everything that this run makes.
    pub fn root() -> PathBuf {
        std::env::temp_dir().join(format!("ckpt-tests-{}", std::process::id()))
    }

    /// A program of the project, or a compiled guest.
    pub fn program(&self, name: &str) -> PathBuf {
        Tools::root().join("bin").join(name)
    }

    /// A new folder that any user may write to, for one test.
    pub fn folder(&self, name: &str) -> io::Result<PathBuf> {
        self.subfolder(&Tools::root(), name)
    }

    /// The same inside of another folder.
    pub fn subfolder(&self, folder: &Path, name: &str) -> io::Result<PathBuf> {
        let folder = folder.join(name);
        fs::create_dir(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777))?;
        Ok(folder)
    }

    /// Removes the folder of a run that left nothing to look at.
    pub fn remove(&self) {
        // What remains is in the folder for temporary files.
        let _ = fs::remove_dir_all(Tools::root());
    }
}

/// Builds the programs under test as this test was built, and says where they are.
pub fn built() -> io::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("CKPT_BIN_DIR") {
        return Ok(folder.into());
    }
    let own = std::env::current_exe()?;
    let folder =
        own.ancestors().nth(2).ok_or_else(|| io::Error::other("the test is in no folder of a build"))?;
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build.args(["build", "--quiet", "--bins", "-p", "ckpt-binfmt", "-p", "ckpt-dumper", "-p", "ckpt-loader"]);
    if folder.ends_with("release") {
        build.arg("--release");
    }
    if !build.current_dir(env!("CARGO_MANIFEST_DIR")).status()?.success() {
        return Err(io::Error::other("the programs under test do not build"));
    }
    Ok(folder.to_owned())
}

/// What became of a command.
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it said on standard output.
    pub output: String,
    /// What it said on standard error.
    pub error: String,
}

/// Makes `command` run as `user`.
pub fn as_user(command: &mut Command, user: User) -> &mut Command {
    if user == User::Nobody && crate::machine::is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// A file in `folder` that any user may write to, opened for appending.
pub fn log(folder: &Path, name: &str) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(folder.join(name))?;
    file.set_permissions(fs::Permissions::from_mode(0o666))?;
    Ok(file)
}

/// Runs `command` to its end; what it prints goes to files in `folder` that are named `name`.
pub fn run(command: &mut Command, folder: &Path, name: &str, user: User) -> Outcome<Finished> {
    let [output, error] = ["out", "err"].map(|end| format!("{name}.{end}"));
    for file in [&output, &error] {
        // There may be one of an earlier command of the same name.
        let _ = fs::remove_file(folder.join(file));
    }
    as_user(command, user).stdin(Stdio::null());
    command.stdout(log(folder, &output)?).stderr(log(folder, &error)?).current_dir(folder);
    let mut child = command.spawn().map_err(|error| format!("cannot start {command:?}: {error}"))?;
    let status = wait(&mut child, PATIENCE)?.ok_or_else(|| {
        // It is ours, and it hangs.
        let _ = child.kill();
        format!("{name} did not end within {} s", PATIENCE.as_secs())
    })?;
    let read =
        |file: &str| Ok::<_, io::Error>(String::from_utf8_lossy(&fs::read(folder.join(file))?).into_owned());
    Ok(Finished { status, output: read(&output)?, error: read(&error)? })
}

/// Waits for the end of `child`, at most `patience`.
pub fn wait(child: &mut Child, patience: Duration) -> io::Result<Option<ExitStatus>> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > patience {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Field `number` of what `/proc/PID/stat` says, counted from 1 as in proc_pid_stat(5); from 3 on, behind the name, which may
/// be anything.
pub fn stat_field(stat: &str, number: usize) -> Option<&str> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(number.checked_sub(3)?)
}
