//! A tree that grew as a script says, and its copies; the other side of `targets/tree.c`.

use crate::Place;
use ckpt_tests::difference::Between;
use ckpt_tests::flavour::is_taken;
use ckpt_tests::namespace::View;
use ckpt_tests::target::Target;
use ckpt_tests::tools::{self, User};
use ckpt_tests::tree::{self, Tree};
use ckpt_tests::{Outcome, Stopped};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// The name of the image in the folder of a test.
pub(crate) const IMAGE: &str = "x.ckpt";
const PATIENCE: Duration = Duration::from_secs(60);
/// How long process ids may be taken by somebody else.
const IDS_COME_FREE: Duration = Duration::from_secs(20);

/// Where the root stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// In our session, as the leader of a group.
    Job,
    /// In our session and group.
    Member,
    /// As the leader of a session.
    Session,
}

impl How {
    fn word(self) -> &'static str {
        match self {
            How::Job => "job",
            How::Member => "member",
            How::Session => "session",
        }
    }
}

/// A tree that stands. Dropping it ends it.
pub(crate) struct Grown {
    /// The process that takes the ends of all orphans, and ends when there is nobody any more.
    reaper: Child,
    /// The root, and those whose parents have ended before.
    pub(crate) roots: Vec<u32>,
    /// What it is like.
    pub(crate) tree: Tree,
    folder: PathBuf,
}

impl Grown {
    /// Grows a tree.
    pub(crate) fn start(place: &Place<'_>, script: &str, how: How) -> Outcome<Grown> {
        for name in ["ready", "board", "result.resumed", "result.original"] {
            // Of one before, in the same folder.
            let _ = fs::remove_file(place.folder.join(name));
        }
        fs::write(place.folder.join("script"), script)?;
        let program = Target::compiled(place.tools, "tree.c")?;
        let reaper = reaped(place, how, &[program.to_string_lossy().as_ref(), "script"])?.spawn()?;
        let folder = place.folder.clone();
        let mut grown = Grown { reaper, roots: Vec::new(), tree: Tree::default(), folder };
        let start = Instant::now();
        while !place.folder.join("ready").exists() {
            grown.must_live(start, "it does not grow")?;
        }
        let root: u32 = fs::read_to_string(place.folder.join("ready"))?.parse()?;
        loop {
            // The reaper may have yet to reap one that nobody else will.
            let others = children(grown.reaper.id())?.into_iter().filter(|pid| *pid != root);
            grown.roots = [root].into_iter().chain(others).collect();
            if let Ok(tree) = tree::take_all(&View::own(), &grown.roots)
                && !tree.members.values().any(|member| member.values().any(|value| value.ends_with("/board")))
            {
                grown.tree = tree;
                return Ok(grown);
            }
            grown.must_live(start, "it does not come to rest")?;
        }
    }

    /// The dumper of all of it.
    pub(crate) fn dumper(&self, place: &Place<'_>, options: &[&str]) -> Command {
        let mut command = Command::new(place.tools.program("ckpt-dump"));
        command.args(self.roots.iter().map(u32::to_string)).args(["-o", IMAGE]).args(options);
        command
    }

    /// Saves and kills it, and waits until nothing of it is left.
    pub(crate) fn save(mut self, place: &Place<'_>) -> Outcome<Saved> {
        let mut dumper = self.dumper(place, &["--kill"]);
        let finished = tools::run(&mut dumper, &place.folder, "dump", User::Own)?;
        if !finished.status.success() {
            return Err(Stopped::Failed(format!("ckpt-dump: {}", finished.error.trim())));
        }
        // Who was stopped is no more.
        let status = tools::wait(&mut self.reaper, PATIENCE)?.ok_or("something of it still lives")?;
        if status.success() {
            return Err(Stopped::Failed("it ended by itself and should have been killed".to_owned()));
        }
        Ok(Saved { roots: self.roots.clone(), tree: std::mem::take(&mut self.tree) })
    }

    /// Tells every task to end: they all must.
    pub(crate) fn go(mut self, who: &str) -> Outcome<()> {
        for (pid, member) in &self.tree.members {
            if member.get("task/0/stat/state").is_some_and(|state| state == "T") {
                kill(Pid::from_raw(i32::try_from(*pid)?), Signal::SIGCONT)?;
            }
        }
        let root = self.roots.first().ok_or("it has no root")?;
        let go = self.folder.join(format!("go.{root}"));
        fs::write(self.folder.join("go"), who)?;
        fs::rename(self.folder.join("go"), &go)?;
        let ended = tools::wait(&mut self.reaper, PATIENCE)?;
        let status = ended.ok_or_else(|| format!("they do not all end: {}", self.shown()))?;
        fs::remove_file(go)?;
        let result = fs::read_to_string(self.folder.join(format!("result.{who}"))).unwrap_or_default();
        if !status.success() || !result.starts_with("ok ") {
            return Err(Stopped::Failed(format!("{who}: {status}, `{result}`")));
        }
        Ok(())
    }

    fn must_live(&mut self, start: Instant, what: &str) -> Outcome<()> {
        if let Some(status) = self.reaper.try_wait()? {
            let said = fs::read_to_string(self.folder.join("said")).unwrap_or_default();
            let result = fs::read_to_string(self.folder.join("result.setup")).unwrap_or_default();
            return Err(Stopped::Failed(format!("{what}: {status} {} {result}", said.trim())));
        }
        if start.elapsed() > PATIENCE {
            return Err(Stopped::Failed(format!("{what}: {}", self.shown())));
        }
        std::thread::sleep(Duration::from_millis(2));
        Ok(())
    }

    fn shown(&self) -> String {
        shown(self.reaper.id())
    }
}

/// Everything below a reaper, and where it stands.
pub(crate) fn shown(reaper: u32) -> String {
    let ids = tree::ids(Path::new("/proc"), &[reaper]).unwrap_or_default();
    let line = |pid: &u32| {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let stat = read("stat").split(' ').take(8).collect::<Vec<_>>().join(" ");
        format!("{stat} in {}, call {}", read("wchan"), read("syscall").trim())
    };
    ids.iter().map(line).collect::<Vec<_>>().join("\n    ")
}

impl Drop for Grown {
    fn drop(&mut self) {
        if matches!(self.reaper.try_wait(), Ok(Some(_))) {
            return;
        }
        end_all(self.reaper.id());
        let _ = self.reaper.kill();
        let _ = self.reaper.wait();
    }
}

/// Kills everything below a reaper, which takes the ends, so that an id can be nobody else's before.
pub(crate) fn end_all(reaper: u32) {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(5) {
        let ids = tree::ids(Path::new("/proc"), &[reaper]).unwrap_or_default();
        let below = ids.iter().filter(|pid| **pid != reaper);
        let killed =
            below.filter_map(|pid| kill(Pid::from_raw(i32::try_from(*pid).ok()?), Signal::SIGKILL).ok());
        if killed.count() == 0 {
            return;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A tree that is in an image, and nowhere else.
pub(crate) struct Saved {
    pub(crate) roots: Vec<u32>,
    pub(crate) tree: Tree,
}

impl Saved {
    /// Resumes it and waits until it is what it was.
    pub(crate) fn resume(&self, place: &Place<'_>, how: How) -> Outcome<Grown> {
        let start = Instant::now();
        loop {
            let outcome = self.try_resume(place, how);
            match &outcome {
                // Nobody else should have taken one of its ids, but everybody may.
                Err(Stopped::Failed(text)) if is_taken(text) && start.elapsed() < IDS_COME_FREE => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                _ => return outcome,
            }
        }
    }

    fn try_resume(&self, place: &Place<'_>, how: How) -> Outcome<Grown> {
        let loader = place.tools.program("ckpt-loader");
        let command = [loader.to_string_lossy().as_ref(), IMAGE, "--pid", "keep"].map(str::to_owned);
        let words: Vec<&str> = command.iter().map(String::as_str).collect();
        let reaper = reaped(place, how, &words)?.spawn()?;
        let folder = place.folder.clone();
        let mut grown = Grown { reaper, roots: self.roots.clone(), tree: self.tree.clone(), folder };
        let start = Instant::now();
        loop {
            let lines = self.differences();
            if lines.is_empty() {
                return Ok(grown);
            }
            let shown: Vec<&str> = lines.iter().take(30).map(String::as_str).collect();
            let what = format!("it differs in {} places:\n    {}\n   ", lines.len(), shown.join("\n    "));
            if start.elapsed() > Duration::from_secs(10) {
                return Err(Stopped::Failed(what));
            }
            grown.must_live(start, "it does not resume")?;
        }
    }

    /// In what the tree that runs now differs.
    pub(crate) fn differences(&self) -> Vec<String> {
        match tree::take_all(&View::own(), &self.roots) {
            Ok(now) => now.unexplained(&self.tree, Between::Resume, &[]),
            Err(error) => vec![format!("{:?}: {error}", self.roots)],
        }
    }
}

/// The group for all trees where ours will not do: if its leader has ended, as that of a background job can have, a tree that
/// was in it needs its id, which nobody can have while we are in it.
static LIVING_GROUP: LazyLock<Option<i32>> = LazyLock::new(|| {
    let own = nix::unistd::getpgrp();
    if Path::new(&format!("/proc/{own}")).exists() {
        return None;
    }
    // It waits for the end of its input, which is our end.
    let leader = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).process_group(0).spawn();
    let leader = std::mem::ManuallyDrop::new(leader.ok()?);
    i32::try_from(leader.id()).ok()
});

/// A command that runs `words` below a reaper.
pub(crate) fn reaped(place: &Place<'_>, how: How, words: &[&str]) -> Outcome<Command> {
    let mut command = Command::new(Target::compiled(place.tools, "tree.c")?);
    // What an earlier one said; a tree may have the file open.
    tools::log(&place.folder, "said")?.set_len(0)?;
    command.args(["reaper", how.word()]).args(words).current_dir(&place.folder).stdin(Stdio::null());
    command.stdout(tools::log(&place.folder, "said")?).stderr(tools::log(&place.folder, "said")?);
    if let Some(group) = *LIVING_GROUP {
        command.process_group(group);
    }
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C");
    Ok(command)
}

/// What those that [`reaped`] runs have said, when it has so many lines, or until then.
pub(crate) fn said(place: &Place<'_>, lines: usize, patience: Duration) -> Outcome<String> {
    let begun = Instant::now();
    loop {
        let said = fs::read_to_string(place.folder.join("said"))?;
        let is_whole = said.ends_with('\n') && said.lines().count() >= lines;
        if is_whole || begun.elapsed() > patience {
            return Ok(said);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The children of a process with one thread.
pub(crate) fn children(pid: u32) -> Outcome<Vec<u32>> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    Ok(text.split_whitespace().filter_map(|child| child.parse().ok()).collect())
}
