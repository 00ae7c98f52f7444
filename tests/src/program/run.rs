//! One run of a program, whoever carries it on.

use super::{Start, Way};
use crate::tools::{self, Tools, User};
use crate::{Outcome, Stopped};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// How long anything may take: other tests run at the same time.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long process ids may be taken by somebody else.
const IDS_COME_FREE: Duration = Duration::from_secs(20);
/// Exit statuses of `ckpt-dump` when the program has ended before, or meanwhile.
const ENDED: [Option<i32>; 2] = [Some(4), Some(6)];
/// Exit status of `ckpt-dump` when it names what it cannot save.
const UNSUPPORTED: Option<i32> = Some(3);
const IMAGE: &str = "image.ckpt";
/// Where a program's standard error goes.
pub(super) const ERRORS: &str = "standard error";
const OUTPUT: &str = "standard output";

/// Where a program runs; images and logs are beside it.
pub(super) fn workplace(folder: &Path) -> PathBuf {
    folder.join("work")
}

/// Whether there was something to save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checkpoint {
    /// It was done.
    Made,
    /// The program had ended.
    Late,
}

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Run {
    pid: u32,
    /// The program, or its supervisor, which ends as it does.
    child: Child,
    /// Whether the program came to us as an orphan, when `child` had ended.
    detached: bool,
    folder: PathBuf,
    since: Instant,
    ended: Option<ExitStatus>,
}

impl Run {
    /// Starts a program in `folder`, with standard output and standard error in files.
    pub(super) fn start(start: &Start, folder: &Path, user: User) -> Outcome<Run> {
        let work = workplace(folder);
        fs::create_dir_all(&work)?;
        fs::set_permissions(&work, fs::Permissions::from_mode(0o777))?;
        let output = |name: &str| {
            let file = File::create(work.join(name))?;
            file.set_permissions(fs::Permissions::from_mode(0o666))?;
            Ok::<_, std::io::Error>(file)
        };
        let (program, arguments) = start.arguments.split_first().ok_or("no program is named")?;
        let mut command = Command::new(program);
        command.args(arguments).current_dir(&work).process_group(0);
        command.env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C.UTF-8").env("HOME", &work);
        command.stdin(match &start.input {
            Some(path) => Stdio::from(File::open(path)?),
            None => Stdio::null(),
        });
        command.stdout(output(OUTPUT)?).stderr(output(ERRORS)?);
        let child = tools::as_user(&mut command, user)
            .spawn()
            .map_err(|error| format!("cannot start {command:?}: {error}"))?;
        Ok(Run {
            pid: child.id(),
            child,
            detached: false,
            folder: folder.to_owned(),
            since: Instant::now(),
            ended: None,
        })
    }

    /// Waits for `pause`, then makes a checkpoint; the program goes on in one way or the other.
    pub(super) fn checkpoint(&mut self, pause: Duration, way: Way, tools: &Tools) -> Outcome<Checkpoint> {
        if self.ends_within(pause)? {
            return Ok(Checkpoint::Late);
        }
        let executable = fs::read_link(format!("/proc/{}/exe", self.pid));
        let mut command = Command::new(tools.program("ckpt-dump"));
        command.arg(self.pid.to_string()).args(["-o", IMAGE]);
        if matches!(way, Way::Killed | Way::User) {
            command.arg("--kill");
        }
        let finished = tools::run(&mut command, &self.folder, "dump", way.user())?;
        let failed =
            || Err(Stopped::Failed(format!("ckpt-dump: {} {}", finished.status, finished.error.trim())));
        if ENDED.contains(&finished.status.code()) {
            return if self.ends_within(Duration::from_secs(5))? { Ok(Checkpoint::Late) } else { failed() };
        }
        match way {
            Way::Refused(text) => {
                let named = finished.status.code() == UNSUPPORTED && finished.error.contains(text);
                return if named && !self.image().exists() { Ok(Checkpoint::Made) } else { failed() };
            }
            _ if !finished.status.success() => return failed(),
            Way::Running => fs::remove_file(self.image())?,
            Way::Killed => {
                self.was_killed()?;
                self.resume_as_it_was(&executable?, tools)?;
                fs::remove_file(self.image())?;
            }
            Way::User => {
                self.was_killed()?;
                self.resume_anew(tools)?;
                fs::remove_file(self.image())?;
            }
        }
        Ok(Checkpoint::Made)
    }

    /// Waits until the program has written to its report: then it has what stands against a checkpoint.
    pub(super) fn wait_for_report(&mut self) -> Outcome<()> {
        let report = workplace(&self.folder).join("report");
        while fs::metadata(&report).map_or(true, |metadata| metadata.len() == 0) {
            if self.ends_within(Duration::from_millis(2))? {
                return Err(Stopped::Failed("it ended without a report".to_owned()));
            }
        }
        Ok(())
    }

    /// Waits for the end; says how it was, and how long it took since the start.
    pub(super) fn finish(mut self) -> Outcome<(ExitStatus, Duration)> {
        if !self.ends_within(PATIENCE)? {
            let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
            let state = status.lines().find(|line| line.starts_with("State")).unwrap_or("gone");
            return Err(Stopped::Failed(format!("it does not end; {state}")));
        }
        let status = self.ended.ok_or("it has not ended")?;
        Ok((status, self.since.elapsed()))
    }

    fn image(&self) -> PathBuf {
        self.folder.join(IMAGE)
    }

    fn ends_within(&mut self, time: Duration) -> Outcome<bool> {
        let start = Instant::now();
        while self.detached && self.ended.is_none() {
            let pid = Pid::from_raw(self.pid.cast_signed());
            self.ended = match waitpid(pid, Some(WaitPidFlag::WNOHANG))? {
                WaitStatus::Exited(_, code) => Some(ExitStatus::from_raw(code << 8)),
                WaitStatus::Signaled(_, signal, _) => Some(ExitStatus::from_raw(signal as i32)),
                _ if start.elapsed() > time => return Ok(false),
                _ => None,
            };
            std::thread::sleep(Duration::from_millis(2));
        }
        if self.ended.is_none() {
            self.ended = tools::wait(&mut self.child, time)?;
        }
        Ok(self.ended.is_some())
    }

    fn was_killed(&mut self) -> Outcome<()> {
        if !self.ends_within(PATIENCE)?
            || self.ended.and_then(|status| status.signal()) != Some(libc::SIGKILL)
        {
            return Err(Stopped::Failed(format!("it should have been killed: {:?}", self.ended)));
        }
        Ok(())
    }

    /// Resumes it with its old process id, and waits until it is itself again.
    fn resume_as_it_was(&mut self, executable: &Path, tools: &Tools) -> Outcome<()> {
        let start = Instant::now();
        loop {
            self.restore(&["--pid", "keep"], tools, User::Own)?;
            while !self.is_itself(executable) && !self.ends_within(Duration::from_millis(2))? {}
            let said = self.loader_said();
            // Nobody else should have taken one of its ids, but everybody may.
            if !said.contains("cannot keep its process id") || start.elapsed() > IDS_COME_FREE {
                return if said.is_empty() {
                    self.supervisor_is_refused(tools)
                } else {
                    Err(Stopped::Failed(said))
                };
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// A checkpoint of the supervisor would be one of the loader: who wants it is told the program's process id.
    fn supervisor_is_refused(&mut self, tools: &Tools) -> Outcome<()> {
        let mut command = Command::new(tools.program("ckpt-dump"));
        command.arg(self.child.id().to_string()).arg("--check");
        let finished = tools::run(&mut command, &self.folder, "check", User::Own)?;
        let says = finished.error.contains(&format!("the program's own process id: {}", self.pid));
        if says || self.ends_within(Duration::ZERO)? {
            return Ok(());
        }
        Err(Stopped::Failed(format!("ckpt-dump of the supervisor: {} {}", finished.status, finished.error)))
    }

    /// Resumes it with a new process id, and waits until it runs.
    fn resume_anew(&mut self, tools: &Tools) -> Outcome<()> {
        // Its parent goes, and its end is ours to see.
        nix::sys::prctl::set_child_subreaper(true)?;
        self.restore(&["--pid", "fresh", "--detach"], tools, User::Nobody)?;
        let returned = self.ends_within(PATIENCE)?;
        let said = self.loader_said();
        if !returned || !said.is_empty() {
            return Err(Stopped::Failed(format!("ckpt restore --detach: {:?} {said}", self.ended)));
        }
        let announced = fs::read_to_string(self.folder.join("restore.out"))?;
        self.pid = announced.trim().parse().map_err(|_| format!("it said {announced:?}"))?;
        (self.detached, self.ended) = (true, None);
        Ok(())
    }

    fn restore(&mut self, options: &[&str], tools: &Tools, user: User) -> Outcome<()> {
        for name in ["restore.out", "restore.err"] {
            // There may be none yet.
            let _ = fs::remove_file(self.folder.join(name));
        }
        let log = |name: &str| tools::log(&self.folder, name);
        let mut command = Command::new(tools.program("ckpt"));
        command.arg("restore").arg(IMAGE).args(options).current_dir(&self.folder).process_group(0);
        command.stdin(Stdio::null()).stdout(log("restore.out")?).stderr(log("restore.err")?);
        self.child = tools::as_user(&mut command, user).spawn()?;
        (self.detached, self.ended) = (false, None);
        Ok(())
    }

    /// What the loader had to say, which is nothing unless it failed.
    fn loader_said(&self) -> String {
        fs::read_to_string(self.folder.join("restore.err")).unwrap_or_default().trim().to_owned()
    }

    /// Whether the process is what it was: the loader is gone, and its midwife has let go.
    fn is_itself(&self, executable: &Path) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        fs::read_link(format!("/proc/{}/exe", self.pid)).is_ok_and(|is| is == executable)
            && status.lines().any(|line| line == "TracerPid:\t0")
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.ended.is_some() {
            return;
        }
        if let Ok(pid) = i32::try_from(self.pid) {
            // It may be gone already.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(20));
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
