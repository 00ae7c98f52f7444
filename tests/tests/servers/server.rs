//! A server that runs: started, saved, resumed, told what to do.

use crate::kinds::{self, Kind, PAGE};
use ckpt_tests::tools::{self, Tools, User};
use ckpt_tests::{Outcome, Stopped, aftermath, flavour, tree};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const IMAGE: &str = "server.ckpt";
/// How long anything may take: other tests run at the same time.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A server and where it runs. Dropping it ends all that runs there.
pub(crate) struct Server<'a> {
    pub(crate) kind: &'static Kind,
    pub(crate) port: u16,
    pub(crate) tools: &'a Tools,
    pub(crate) folder: PathBuf,
    pub(crate) root: Pid,
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        aftermath::end_all_in(&self.folder);
        aftermath::remove_segments_of(self.root);
    }
}

impl Server<'_> {
    /// Starts it, and waits until it answers.
    pub(crate) fn start<'a>(
        kind: &'static Kind,
        port: u16,
        tools: &'a Tools,
        folder: PathBuf,
    ) -> Outcome<Server<'a>> {
        fs::create_dir(folder.join("pages"))?;
        fs::write(folder.join("pages/page"), PAGE)?;
        let place = folder.to_string_lossy().into_owned();
        let written =
            |text: &str| kinds::placed(text).replace("{folder}", &place).replace("{port}", &port.to_string());
        fs::write(folder.join("configuration"), written(kind.configuration))?;
        let mut server = Server { kind, port, tools, folder, root: Pid::from_raw(0) };
        for words in kind.before {
            let (program, arguments) = words.split_first().ok_or("no command comes before")?;
            let mut command = Command::new(written(program));
            command.args(arguments.iter().map(|argument| written(argument)));
            server.run(command, "before")?;
        }
        let mut command = Command::new(written(kind.program));
        command.args(kind.arguments.iter().map(|argument| written(argument)));
        let mut child = spawn(command, &server.folder, "server")?;
        server.until("the server", || {
            let _ = child.try_wait();
            (kind.ask)(port)
        })?;
        // It is this process, unless it says otherwise.
        let pid = fs::read_to_string(server.folder.join("pid")).unwrap_or_else(|_| child.id().to_string());
        server.root = Pid::from_raw(pid.trim().parse()?);
        server.until("all processes", || match server.members()?.len() >= kind.processes {
            true => Ok(()),
            false => Err(Stopped::Failed(format!("it has {:?}", server.members()?))),
        })?;
        Ok(server)
    }

    /// Asks it once.
    pub(crate) fn ask(&self) -> Outcome<()> {
        (self.kind.ask)(self.port)
    }

    /// What a command says that must succeed.
    pub(crate) fn run(&self, mut command: Command, name: &str) -> Outcome<String> {
        let finished = tools::run(&mut command, &self.folder, name, User::Own)?;
        match finished.status.success() {
            true => Ok(finished.output),
            false => Err(Stopped::Failed(format!("{command:?}: {} {}", finished.status, finished.error))),
        }
    }

    /// Tries something until it succeeds.
    pub(crate) fn until<T>(&self, what: &str, attempt: impl FnMut() -> Outcome<T>) -> Outcome<T> {
        until(&self.folder, what, attempt)
    }

    /// The ids of its processes.
    pub(crate) fn members(&self) -> Outcome<Vec<u32>> {
        let mut ids = tree::ids(Path::new("/proc"), &[self.root.as_raw().unsigned_abs()])?;
        ids.sort_unstable();
        Ok(ids)
    }

    pub(crate) fn dump(&self, options: &[&str]) -> Outcome<()> {
        let mut command = Command::new(self.tools.program("ckpt-dump"));
        command.arg(self.root.to_string()).args(["-o", IMAGE]).args(options);
        let finished = tools::run(&mut command, &self.folder, "dump", User::Own)?;
        match finished.status.success() {
            true => Ok(()),
            false => Err(Stopped::Failed(format!("ckpt-dump {options:?}: {}", finished.error.trim()))),
        }
    }

    /// Waits until none of these processes is left.
    pub(crate) fn has_ended(&self, members: &[u32]) -> Outcome<()> {
        have_ended(&self.folder, members)
    }

    /// Its supervisor, when it answers again.
    pub(crate) fn resume(&self) -> Outcome<Child> {
        self.until("the resume", || {
            let mut command = Command::new(self.tools.program("ckpt"));
            command.args(["restore", IMAGE, "--pid", "keep"]);
            let mut child = spawn(command, &self.folder, "restore")?;
            let start = Instant::now();
            while self.ask().is_err() {
                let said = fs::read_to_string(self.folder.join("restore.err")).unwrap_or_default();
                let ended = child.try_wait()?;
                // Nobody else should have taken one of its ids, but everybody may.
                if ended.is_some() && !flavour::is_taken(&said) || start.elapsed() > PATIENCE {
                    return Ok(Err(Stopped::Failed(format!("not resumed: {ended:?} {said}"))));
                }
                if ended.is_some() {
                    return Err(Stopped::Failed(said));
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(Ok(child))
        })?
    }

    /// Resumes it without a supervisor: it answers as soon as `ckpt restore --detach` is done, with its old id.
    pub(crate) fn resume_detached(&self) -> Outcome<()> {
        let said = self.until("the resume", || {
            let mut command = Command::new(self.tools.program("ckpt"));
            command.args(["restore", IMAGE, "--pid", "keep", "--detach"]);
            let finished = tools::run(&mut command, &self.folder, "restore", User::Own)?;
            match (finished.status.success(), flavour::is_taken(&finished.error)) {
                (true, _) => Ok(Ok(finished.output)),
                (false, true) => Err(Stopped::Failed(finished.error)),
                (false, false) => Ok(Err(Stopped::Failed(format!("not resumed: {}", finished.error)))),
            }
        })??;
        if said.trim() != self.root.to_string() {
            return Err(Stopped::Failed(format!("process {} was resumed as {said:?}", self.root)));
        }
        self.ask()
    }

    /// Tells it to take new workers.
    pub(crate) fn reload(&self, before: &[u32], signal: Signal) -> Outcome<()> {
        kill(self.root, signal)?;
        self.until("new workers", || {
            let now = self.members()?;
            let old =
                now.iter().filter(|pid| before.contains(pid) && **pid != self.root.as_raw().unsigned_abs());
            match (old.count(), now.len() >= self.kind.processes) {
                (0, true) => Ok(()),
                _ => Err(Stopped::Failed(format!("it had {before:?} and has {now:?}"))),
            }
        })
    }

    /// Ends it; its supervisor ends with the same status.
    pub(crate) fn ends(&self, mut supervisor: Child) -> Outcome<()> {
        kill(self.root, self.kind.end)?;
        let status = tools::wait(&mut supervisor, PATIENCE)?.ok_or("it does not end")?;
        match status.code().or(status.signal().map(|signal| 128 + signal)) {
            Some(code) if code == self.kind.status => Ok(()),
            _ => Err(Stopped::Failed(format!("it ended with {status}"))),
        }
    }

    /// Ends it when it has no supervisor: it came to us.
    pub(crate) fn ends_detached(&self) -> Outcome<()> {
        kill(self.root, self.kind.end)?;
        let status = self.until("the end", || match waitpid(self.root, Some(WaitPidFlag::WNOHANG))? {
            WaitStatus::StillAlive => Err(Stopped::Failed("it runs".to_owned())),
            status => Ok(status),
        })?;
        match status {
            WaitStatus::Exited(_, code) if code == self.kind.status => Ok(()),
            _ => Err(Stopped::Failed(format!("it ended with {status:?}"))),
        }
    }
}

/// Starts a command in a folder, where what it says goes to files.
pub(crate) fn spawn(mut command: Command, folder: &Path, name: &str) -> Outcome<Child> {
    let log = |end: &str| File::create(folder.join(format!("{name}.{end}")));
    // A server that ends sends signals to its whole group.
    command.process_group(0).current_dir(folder).stdin(Stdio::null()).stdout(log("out")?).stderr(log("err")?);
    Ok(command.spawn().map_err(|error| format!("cannot start {command:?}: {error}"))?)
}

/// Tries something until it succeeds; what was said meanwhile is in `folder`.
pub(crate) fn until<T>(folder: &Path, what: &str, mut attempt: impl FnMut() -> Outcome<T>) -> Outcome<T> {
    let start = Instant::now();
    loop {
        match attempt() {
            Err(Stopped::Failed(text)) if start.elapsed() > PATIENCE => {
                let said = ["server.err", "restore.err", "error.log"];
                let said = said.map(|name| fs::read_to_string(folder.join(name)).unwrap_or_default());
                return Err(Stopped::Failed(format!("{what}: {text}\n{}", said.join(""))));
            }
            Err(Stopped::Failed(_)) => std::thread::sleep(Duration::from_millis(20)),
            outcome => return outcome,
        }
    }
}

/// Waits until none of these processes is left.
pub(crate) fn have_ended(folder: &Path, members: &[u32]) -> Outcome<()> {
    until(folder, "the end", || {
        for pid in members {
            // Whose parent has ended is our child, and so is one of its group that began after the list was made.
            for pid in [pid.cast_signed(), -pid.cast_signed()] {
                let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
            }
        }
        let left = members.iter().find(|pid| Path::new(&format!("/proc/{pid}")).exists());
        left.map_or(Ok(()), |pid| Err(Stopped::Failed(format!("process {pid} is still there"))))
    })
}
