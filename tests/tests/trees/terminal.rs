//! An interactive shell with a job in the background and one that is stopped goes on at another terminal.

use crate::grown::IMAGE;
use crate::{Place, Test};
use ckpt_tests::flavour::is_taken;
use ckpt_tests::stage::{Stage, Terminal};
use ckpt_tests::tools::{self, User};
use ckpt_tests::{Outcome, Stopped};
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::time::Duration;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("terminal::shell_that_leads_a_session", |place| shell(place, Kind::LeadsSession)),
    ("terminal::shell_of_a_shell", |place| shell(place, Kind::Job)),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    LeadsSession,
    Job,
}

const PATIENCE: Duration = Duration::from_secs(30);
const PROMPT: &str = "type> ";
const INTERRUPT: &str = "\x03";
const SUSPEND: &str = "\x1a";

fn shell(place: &Place<'_>, kind: Kind) -> Outcome<()> {
    let mut first = Seat::new(place)?;
    let mut child = Ended(start(&first, kind)?);
    first.expect(PROMPT)?;
    first.say("sleep 1000 &\n", "[1] ")?;
    first.expect(PROMPT)?;
    first.say("cat\n", "cat")?;
    wait_for_child(shell_pid(&child.0, kind)?, "cat")?;
    first.say(SUSPEND, "Stopped")?;
    first.expect(PROMPT)?;
    let pid = shell_pid(&child.0, kind)?;
    let mut dumper = Command::new(place.tools.program("ckpt-dump"));
    dumper.args([pid.to_string().as_str(), "-o", IMAGE, "--kill"]);
    let finished = tools::run(&mut dumper, &place.folder, "dump", User::Own)?;
    if !finished.status.success() {
        return Err(Stopped::Failed(format!("ckpt-dump: {}", finished.error.trim())));
    }
    tools::wait(&mut child.0, PATIENCE)?.ok_or("the shell does not end")?;
    resumed(place)
}

/// At another terminal: the jobs are there, and come to the foreground and end as they should; then the shell does.
fn resumed(place: &Place<'_>) -> Outcome<()> {
    let mut tries = 0;
    loop {
        let mut second = Seat::new(place)?;
        let loader = place.tools.program("ckpt-loader");
        let args = [IMAGE, "--pid", "keep"].map(str::to_owned);
        let mut child = Ended(second.stage.command(&loader, &args, "restore")?.spawn()?);
        // A shell that comes back does not print its prompt again.
        std::thread::sleep(Duration::from_millis(300));
        match second.say("jobs\n", "Running") {
            // Nobody else should have taken one of its ids, but everybody may.
            Err(Stopped::Failed(text)) if is_taken(&text) && tries < 50 => {
                tries += 1;
                std::thread::sleep(Duration::from_millis(200));
                continue;
            }
            outcome => outcome?,
        }
        second.expect("sleep 1000")?;
        second.expect("Stopped")?;
        second.expect(PROMPT)?;
        second.say("fg %2\n", "cat")?;
        second.say("there and back\n", "there and back\r\nthere and back")?;
        second.say(SUSPEND, "Stopped")?;
        second.expect(PROMPT)?;
        second.say("fg %1\n", "sleep 1000")?;
        second.await_front("sleep")?;
        second.say(INTERRUPT, PROMPT)?;
        second.say("echo ended: $?\n", "ended: 130")?;
        second.say("bg %2; kill %2; wait %2; echo so did cat: $?\n", "so did cat: ")?;
        second.say("exit 7\n", "exit")?;
        let status = tools::wait(&mut child.0, PATIENCE)?.ok_or("the shell does not end")?;
        return match status.code() {
            Some(7) => Ok(()),
            _ => Err(Stopped::Failed(format!("the shell ended with {status}, not 7:\n{}", second.heard))),
        };
    }
}

/// A terminal and who sits at it.
struct Seat {
    stage: Stage,
    /// What was printed.
    heard: String,
    /// How much of that was expected.
    known: usize,
}

impl Seat {
    fn new(place: &Place<'_>) -> Outcome<Seat> {
        let stage = Stage { folder: place.folder.clone(), user: User::Own, terminal: Some(Terminal::new()?) };
        Ok(Seat { stage, heard: String::new(), known: 0 })
    }

    /// Types something, and waits for what comes then.
    fn say(&mut self, text: &str, expected: &str) -> Outcome<()> {
        let terminal = self.stage.terminal.as_ref().ok_or("there is no terminal")?;
        terminal.type_in(text)?;
        self.expect(expected)
    }

    /// Waits until a process of this name leads the foreground: a shell tells what it continues before it does.
    fn await_front(&self, name: &str) -> Outcome<()> {
        let terminal = self.stage.terminal.as_ref().ok_or("there is no terminal")?;
        for _ in 0..5000 {
            let group = terminal.front()?;
            if fs::read_to_string(format!("/proc/{group}/comm")).is_ok_and(|comm| comm.trim() == name) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err(Stopped::Failed(format!("{name} does not come to the front")))
    }

    fn expect(&mut self, text: &str) -> Outcome<()> {
        let terminal = self.stage.terminal.as_ref().ok_or("there is no terminal")?;
        let heard = terminal.read_until(&mut self.heard, self.known, text, PATIENCE)?;
        self.known = heard.ok_or_else(|| format!("no `{text}` in what was printed:\n{}", self.heard))?;
        Ok(())
    }
}

fn start(seat: &Seat, kind: Kind) -> Outcome<Child> {
    // A shell that is no terminal's takes its prompt out of the environment.
    let prompt = format!("PS1={PROMPT}");
    let words = [&prompt, "/bin/bash", "--norc", "--noprofile", "-i"].map(str::to_owned);
    let env = Path::new("/usr/bin/env");
    let mut command = match kind {
        Kind::Job => seat.stage.command(env, &words, "output")?,
        Kind::LeadsSession => {
            let terminal = seat.stage.terminal.as_ref().ok_or("there is no terminal")?;
            let mut command = Command::new("setsid");
            command.arg("--ctty").arg(env).args(words).current_dir(&seat.stage.folder);
            command.stdin(terminal.open()?).stdout(terminal.open()?).stderr(terminal.open()?);
            command
        }
    };
    command.env_clear().env("PATH", "/usr/bin:/bin").env("LANG", "C").env("TERM", "dumb");
    command.env("HISTFILE", "");
    Ok(command.spawn()?)
}

/// The process id of the interactive shell.
fn shell_pid(child: &Child, kind: Kind) -> Outcome<u32> {
    match kind {
        Kind::LeadsSession => Ok(child.id()),
        Kind::Job => crate::grown::children(child.id())?.first().copied().ok_or_else(|| "no shell".into()),
    }
}

fn wait_for_child(pid: u32, name: &str) -> Outcome<()> {
    for _ in 0..5000 {
        let names = crate::grown::children(pid)?;
        let has_name =
            |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name);
        if names.iter().any(has_name) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(Stopped::Failed(format!("there is no {name}")))
}

/// A process that is ended, with all below it, when it is dropped.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        if !matches!(self.0.try_wait(), Ok(Some(_))) {
            crate::grown::end_all(self.0.id());
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
