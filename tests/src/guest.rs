//! A guest that runs: the other side of `cases/guest.h`.

use crate::aftermath;
use crate::namespace::View;
use crate::spec::State;
use crate::stage::Stage;
use crate::tools::{self, Tools};
use crate::tree;
use crate::{Outcome, Stopped};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How long a guest may take to build its state, or to do what it was told to.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running guest, or the supervisor of one. Dropping it ends both.
#[derive(Debug)]
pub struct Guest {
    /// The process to look at, by our id of it.
    pub pid: u32,
    /// Its own id, which is another one in a pid namespace of its own.
    pub own_id: u32,
    /// Its name in the names of files.
    name: String,
    /// All processes of its tree.
    members: Vec<u32>,
    /// The process that ends as it does: itself, its parent, or its supervisor.
    child: Child,
    folder: PathBuf,
    ended: bool,
}

impl Guest {
    /// Starts `program` and waits until its state stands.
    pub fn start(program: &Path, args: &[String], stage: &Stage) -> Outcome<Guest> {
        let mut command = stage.command(program, args, "output")?;
        let child = command.env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C").spawn()?;
        let mut guest = Guest::new(child, &stage.folder);
        let ready = guest.wait_for_file("ready")?;
        guest.is_process(ready.parse()?);
        Ok(guest)
    }

    fn new(child: Child, folder: &Path) -> Guest {
        let pid = child.id();
        let (name, folder) = (pid.to_string(), folder.to_owned());
        Guest { pid, own_id: pid, name, members: Vec::new(), child, folder, ended: false }
    }

    fn is_process(&mut self, pid: u32) {
        (self.pid, self.own_id, self.name) = (pid, pid, pid.to_string());
    }

    /// Says which processes are its tree.
    pub fn has_members(&mut self, members: impl Iterator<Item = u32>) {
        self.members = members.collect();
    }

    /// From where it sees itself.
    pub fn view(&self) -> Outcome<View> {
        if self.own_id == self.pid {
            return Ok(View::own());
        }
        Ok(View::inside(self.child.id(), self.own_id).ok_or("its namespace is gone")?)
    }

    /// Stops it as a person would, and waits until it stands still.
    pub fn stop(&mut self) -> Outcome<()> {
        kill(Pid::from_raw(i32::try_from(self.pid)?), Signal::SIGSTOP)?;
        self.wait_until_stopped()
    }

    /// Lets a stopped guest go on: what a shell does to a job is done to its supervisor, which passes it on.
    pub fn cont(&self) -> Outcome<()> {
        Ok(kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGCONT)?)
    }

    fn wait_until_stopped(&mut self) -> Outcome<()> {
        let start = Instant::now();
        // A supervisor shows its parent what it saw, a little later; a SIGCONT between the two would be lost by its stop.
        while !stands_still(self.pid) || !stands_still(self.child.id()) {
            if let Some(status) = self.child.try_wait()? {
                self.ended = true;
                return Err(self.ended_early(&status.to_string()));
            }
            if start.elapsed() > PATIENCE {
                let said = self.said();
                return Err(Stopped::Failed(format!("it does not stop{said}")));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Takes `child` for a guest that is, or becomes, process `pid`, and waits until it answers, or stands still.
    pub fn adopt(child: Child, pid: u32, folder: &Path, state: State) -> Outcome<Guest> {
        let mut guest = Guest::new(child, folder);
        guest.is_process(pid);
        guest.answers(state)?;
        Ok(guest)
    }

    /// The same for one that has the id `own_id` in a pid namespace below `supervisor`.
    pub fn adopt_inside(supervisor: Child, own_id: u32, folder: &Path, state: State) -> Outcome<Guest> {
        let mut guest = Guest::new(supervisor, folder);
        let start = Instant::now();
        loop {
            if let Some(view) = View::inside(guest.child.id(), own_id) {
                (guest.pid, guest.own_id) = (view.ours(own_id), own_id);
                guest.name = format!("{own_id}{}", view.suffix(own_id)?);
                break;
            }
            guest.must_live(start, "no namespace")?;
        }
        guest.answers(state)?;
        // By now all processes of the tree are there.
        let found = tree::ids(Path::new("/proc"), &[guest.pid])?;
        guest.has_members(found.into_iter());
        Ok(guest)
    }

    fn answers(&mut self, state: State) -> Outcome<()> {
        if state == State::Stopped {
            return self.wait_until_stopped();
        }
        let answer = format!("alive.{}", self.name);
        // The one before may have had the same pid.
        let _ = fs::remove_file(self.folder.join(&answer));
        self.put(&format!("probe.{}", self.name), "")?;
        self.wait_for_file(&answer)?;
        Ok(())
    }

    /// Tells the guest to go on, and who it is; then it must check itself and end well.
    pub fn go(mut self, who: &str) -> Outcome<()> {
        self.put(&format!("go.{}", self.name), who)?;
        let status = tools::wait(&mut self.child, PATIENCE)?
            .ok_or_else(|| format!("{who} did not end within {} s", PATIENCE.as_secs()))?;
        self.ended = true;
        fs::remove_file(self.folder.join(format!("go.{}", self.name)))?;
        let result = fs::read_to_string(self.folder.join(format!("result.{who}")));
        let result = result.unwrap_or_else(|_| "no result".to_owned());
        let checks = result.strip_prefix("ok ").and_then(|number| number.parse::<u32>().ok());
        if !status.success() || checks.is_none_or(|count| count == 0) {
            return Err(Stopped::Failed(format!("{who}: {result}; {status}{}", self.said())));
        }
        self.is_gone()
    }

    /// After it was killed: takes its end and waits until the pid is free.
    pub fn was_killed(mut self) -> Outcome<()> {
        if self.child.id() != self.pid {
            // A supervisor that is stopped as its job was learns of the end when it goes on, as any parent does.
            self.cont()?;
        }
        let status =
            tools::wait(&mut self.child, PATIENCE)?.ok_or("it still lives, and should have been killed")?;
        self.ended = true;
        if status.success() {
            return Err(Stopped::Failed(format!("it ended by itself and should have been killed: {status}")));
        }
        self.is_gone()
    }

    /// Waits until nothing of it is there. On a busy machine a process id is soon somebody else's, who started later.
    fn is_gone(&self) -> Outcome<()> {
        let start = Instant::now();
        let ended_at = boot_ticks()?;
        for pid in self.members.iter().chain([&self.pid]) {
            while let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) {
                // In the same ticks.
                let started_at = tools::stat_field(&stat, 22).and_then(|ticks| ticks.parse::<u64>().ok());
                if started_at.is_some_and(|ticks| ticks > ended_at) {
                    break;
                }
                if start.elapsed() > PATIENCE {
                    return Err(Stopped::Failed(format!("process {pid} is still there: {stat}")));
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        }
        Ok(())
    }

    /// Writes a file that appears whole.
    fn put(&self, name: &str, text: &str) -> Outcome<()> {
        let aside = self.folder.join(format!(".{name}"));
        fs::write(&aside, text)?;
        fs::rename(aside, self.folder.join(name))?;
        Ok(())
    }

    fn wait_for_file(&mut self, name: &str) -> Outcome<String> {
        let start = Instant::now();
        loop {
            if let Ok(text) = fs::read_to_string(self.folder.join(name)) {
                return Ok(text);
            }
            self.must_live(start, &format!("no file `{name}`"))?;
        }
    }

    fn must_live(&mut self, start: Instant, what: &str) -> Outcome<()> {
        if let Some(status) = self.child.try_wait()? {
            self.ended = true;
            return Err(self.ended_early(&status.to_string()));
        }
        if start.elapsed() > PATIENCE {
            let state = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
            let state: Vec<&str> = state.lines().filter(|line| line.starts_with("State")).collect();
            let said = self.said();
            return Err(Stopped::Failed(format!("{what} after {} s; {state:?}{said}", PATIENCE.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    }

    fn ended_early(&self, status: &str) -> Stopped {
        let result = fs::read_to_string(self.folder.join("result.setup")).unwrap_or_default();
        match result.strip_prefix("skipped ") {
            Some(reason) => Stopped::Skipped(reason.to_owned()),
            None => Stopped::Failed(format!("it ended early: {result} {status}{}", self.said())),
        }
    }

    /// What guest and loader printed.
    fn said(&self) -> String {
        ["output", "restore"]
            .iter()
            .filter_map(|name| {
                fs::read_to_string(self.folder.join(name)).ok().filter(|text| !text.is_empty())
            })
            .map(|text| format!("\n    {}", text.trim_end().replace('\n', "\n    ")))
            .collect()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        aftermath::end_all_of(&self.members, &self.folder);
        if self.ended {
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

/// The time since boot in ticks of the clock, as the start of a process is told in `/proc/PID/stat`.
fn boot_ticks() -> Outcome<u64> {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)?;
    let ticks_per_s = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100);
    Ok((Duration::from(now).as_nanos() * u128::from(ticks_per_s.unsigned_abs()) / 1_000_000_000)
        .try_into()?)
}

/// Whether a signal has stopped every thread of `pid`.
fn stands_still(pid: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return false };
    threads.flatten().all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        tools::stat_field(&stat, 3) == Some("T")
    })
}

/// The compiled program of a case.
pub fn compile(source: &Path, tools: &Tools) -> Outcome<PathBuf> {
    let word = source.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
    let name = source.file_stem().unwrap_or_default().to_string_lossy();
    // A folder of its own, so that the process has the name of the case.
    let folder = tools.program(&word);
    fs::create_dir_all(&folder)?;
    let program = folder.join(&*name);
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "gcc".into());
    let output = Command::new(compiler)
        .args([
            "-std=gnu11",
            "-O1",
            "-g",
            "-Wall",
            "-Wextra",
            "-Wno-unused-parameter",
            "-Wno-sign-compare",
            "-Wno-format-truncation",
            "-Werror",
            "-pthread",
            "-o",
        ])
        .args([&program, source])
        .output()?;
    if output.status.success() {
        return Ok(program);
    }
    Err(Stopped::Failed(format!("it does not compile:\n{}", String::from_utf8_lossy(&output.stderr))))
}
