//! Where a guest runs: its folder, its user, and its terminal if it has one.

use crate::Outcome;
use crate::tools::{self, User};
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{PtyMaster, grantpt, posix_openpt, ptsname_r, unlockpt};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Where a guest runs.
#[derive(Debug)]
pub struct Stage {
    /// Its working directory, with everything that guest and runner tell each other.
    pub folder: PathBuf,
    /// As whom it runs.
    pub user: User,
    /// Its controlling terminal.
    pub terminal: Option<Terminal>,
}

/// A terminal that we sit at.
#[derive(Debug)]
pub struct Terminal {
    master: PtyMaster,
    path: String,
}

impl Terminal {
    /// A new one.
    pub fn new() -> Outcome<Terminal> {
        let master = posix_openpt(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)?;
        grantpt(&master)?;
        unlockpt(&master)?;
        let path = ptsname_r(&master)?;
        Ok(Terminal { master, path })
    }

    /// The other end, for a program.
    pub fn open(&self) -> Outcome<File> {
        Ok(File::options().read(true).write(true).custom_flags(libc::O_NOCTTY).open(&self.path)?)
    }

    /// What a person types.
    pub fn type_in(&self, text: &str) -> Outcome<()> {
        (&self.master).write_all(text.as_bytes())?;
        Ok(())
    }

    /// The process group in the foreground.
    pub fn front(&self) -> Outcome<nix::unistd::Pid> {
        Ok(nix::unistd::tcgetpgrp(&self.master)?)
    }

    /// Appends to `heard` what is printed until `text` is in it from `from` on; says where that ends, if it comes in time.
    pub fn read_until(
        &self,
        heard: &mut String,
        from: usize,
        text: &str,
        patience: Duration,
    ) -> Outcome<Option<usize>> {
        let start = Instant::now();
        loop {
            if let Some(at) = heard.get(from..).and_then(|rest| rest.find(text)) {
                return Ok(Some(from + at + text.len()));
            }
            let Some(left) = patience.checked_sub(start.elapsed()) else { return Ok(None) };
            let mut ready = [PollFd::new(self.master.as_fd(), PollFlags::POLLIN)];
            if poll(&mut ready, PollTimeout::try_from(left)?)? == 0 {
                return Ok(None);
            }
            let mut buffer = [0; 4096];
            match (&self.master).read(&mut buffer) {
                Ok(count) => {
                    heard.push_str(&String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()))
                }
                // Nobody has it open any more.
                Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl Stage {
    /// A command that runs `program` as a shell runs a job: in a process group of its own, and at a terminal by a
    /// shell indeed, in the foreground. What it prints goes to `log` in the folder, unless that is the terminal.
    pub fn command(&self, program: &Path, args: &[String], log: &str) -> Outcome<Command> {
        let output = || tools::log(&self.folder, log);
        let mut command = match &self.terminal {
            None => {
                let mut command = Command::new(program);
                command.stdin(Stdio::null()).stdout(output()?).stderr(output()?).process_group(0);
                command
            }
            Some(terminal) => {
                let mut command = Command::new("setsid");
                // The shell must stay: with a single command it would execute that in its own place.
                command.args(["--ctty", "bash", "-c", "set -m; \"$@\"; exit $?", "bash"]).arg(program);
                command.stdin(terminal.open()?).stdout(terminal.open()?).stderr(terminal.open()?);
                command
            }
        };
        command.args(args).current_dir(&self.folder);
        tools::as_user(&mut command, self.user);
        Ok(command)
    }
}
