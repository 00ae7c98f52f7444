//! The peer of a connection, who is outside of the tree, is held back all the time, by whoever works at it: nothing ever resets its
//! connection, and nobody is held back for a program that runs.

use crate::{IMAGE, Place, Test, instants, random, sampled};
use binfmt::hold::Link;
use binfmt::image::Image;
use binfmt::note::inet::InetConnection;
use ckpt_tests::target::Target;
use ckpt_tests::tools::{self, User};
use ckpt_tests::tracer::{self, Deed};
use ckpt_tests::{Outcome, Stopped};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("peers::held_by_the_loader", held_by_the_loader),
    ("peers::dumper_killed_while_it_stops", dumper_killed_while_it_stops),
    ("peers::stopped_and_ended", stopped_and_ended),
];

const PATIENCE: Duration = Duration::from_secs(20);

/// A server, and the peer that it has.
struct Talk {
    server: Child,
    pid: Pid,
    peer: TcpStream,
}

impl Talk {
    fn start(place: &Place<'_>) -> Outcome<Talk> {
        use ckpt_tests::machine::{CHECKPOINT_RESTORE, has_capability, is_root};
        if !has_capability(CHECKPOINT_RESTORE) || !is_root() {
            return Err(Stopped::Skipped("connections take CAP_NET_ADMIN".to_owned()));
        }
        let mut command = Command::new(Target::compiled(place.tools, "echo.c")?);
        command.stdin(Stdio::null()).stdout(File::create(place.path("port"))?).stderr(Stdio::null());
        let server = command.current_dir(&place.folder).spawn()?;
        let pid = Pid::from_raw(i32::try_from(server.id())?);
        let mut port = String::new();
        until("a port", || {
            port = fs::read_to_string(place.path("port"))?;
            Ok(port.ends_with('\n'))
        })?;
        let peer = TcpStream::connect((Ipv4Addr::LOCALHOST, port.trim().parse::<u16>()?))?;
        peer.set_read_timeout(Some(PATIENCE))?;
        peer.set_nodelay(true)?;
        let mut talk = Talk { server, pid, peer };
        talk.echoes("at first")?;
        Ok(talk)
    }

    /// The server says it back.
    fn echoes(&mut self, text: &str) -> Outcome<()> {
        self.peer.write_all(text.as_bytes())?;
        self.hears(text)
    }

    fn hears(&mut self, text: &str) -> Outcome<()> {
        let mut bytes = vec![0; text.len()];
        self.peer.read_exact(&mut bytes).map_err(|error| Stopped::Failed(format!("{text}: {error}")))?;
        match bytes == text.as_bytes() {
            true => Ok(()),
            false => Err(Stopped::Failed(format!("{text}: {}", String::from_utf8_lossy(&bytes)))),
        }
    }
}

/// Waits for something that comes soon.
fn until(what: &str, mut has_come: impl FnMut() -> Outcome<bool>) -> Outcome<()> {
    let start = Instant::now();
    while !has_come()? {
        if start.elapsed() > PATIENCE {
            return Err(Stopped::Failed(format!("there never is {what}")));
        }
    }
    Ok(())
}

/// The table that an image names.
fn table_of(place: &Place<'_>) -> Outcome<String> {
    let image = Image::open(File::open(place.path(IMAGE))?).map_err(|error| error.to_string())?;
    let name = image.all::<InetConnection>().map(|note| note.hold.to_string()).find(|name| !name.is_empty());
    name.ok_or_else(|| Stopped::Failed("the image names no table".to_owned()))
}

fn is_there(link: &Link, ending: &str) -> Outcome<bool> {
    Ok(link.tables()?.iter().any(|(name, _)| name.ends_with(ending)))
}

/// Saves the server and kills it. Returns the table that holds its peer.
fn save(place: &Place<'_>, talk: &mut Talk) -> Outcome<String> {
    let mut dumper = place.dumper(talk.pid, &["--kill", "-o", IMAGE]);
    let finished = tools::run(&mut dumper, &place.folder, "tool", User::Own)?;
    if !finished.status.success() {
        return Err(Stopped::Failed(finished.error));
    }
    let _ = talk.server.wait();
    until("an end of the server", || is_gone(talk.pid))?;
    table_of(place)
}

/// Whether a process has ended, whoever is its parent.
fn is_gone(pid: Pid) -> Outcome<bool> {
    // It may have come to us.
    let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL));
    Ok(kill(pid, None) == Err(Errno::ESRCH))
}

/// A loader holds the peer back before it makes anything, even if nobody else does; killed, it leaves nothing of that.
fn held_by_the_loader(place: &Place<'_>) -> Outcome<()> {
    let mut talk = Talk::start(place)?;
    let (mut table, link) = (save(place, &mut talk)?, Link::open()?);
    // With its table, unless it has finished already.
    let loader = || {
        let mut command = crate::loader_killed::loader(place, "keep");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(tools::log(&place.folder, "tool.err")?);
        let mut child = command.spawn()?;
        let its = format!("-{:x}-load", child.id());
        until("a table of the loader's", || Ok(is_there(&link, &its)? || child.try_wait()?.is_some()))?;
        Ok::<_, Stopped>((Pid::from_raw(i32::try_from(child.id())?), child, its))
    };
    for _ in 0..instants(10) {
        let (_, mut child, its) = loader()?;
        std::thread::sleep(Duration::from_micros(random(2000) as u64));
        child.kill()?;
        child.wait()?;
        until("an end of its table", || Ok(!is_there(&link, &its)?))?;
        until("an end of all, or all", || Ok(is_gone(talk.pid)? || !is_there(&link, &table)?))?;
        if !is_there(&link, &table)? {
            talk.echoes("it was too late to kill it")?;
            table = save(place, &mut talk)?;
        }
    }
    let (pid, mut child, its) = loader()?;
    let _ = kill(pid, Signal::SIGSTOP);
    link.release(&table)?;
    let said: Vec<String> = (0..40).map(|number| format!("{number} while it is not there;")).collect();
    for (index, text) in said.iter().enumerate() {
        talk.peer.write_all(text.as_bytes())?;
        std::thread::sleep(Duration::from_millis(1));
        if index == 20 {
            let _ = kill(pid, Signal::SIGCONT);
        }
    }
    talk.hears(&said.concat())?;
    talk.echoes("at last")?;
    let status = child.wait()?;
    let is_left = is_there(&link, &its)?;
    kill(talk.pid, Signal::SIGKILL)?;
    match status.success() && !is_left {
        true => Ok(()),
        false => Err(Stopped::Failed(format!("{status}; its table is there: {is_left}"))),
    }
}

/// Killed at any time, `ckpt-dump --stop` leaves a program that is stopped, with a whole image and a peer that is held back, or one
/// that runs with its peer.
fn dumper_killed_while_it_stops(place: &Place<'_>) -> Outcome<()> {
    let mut talk = Talk::start(place)?;
    let link = Link::open()?;
    let command = place.dumper(talk.pid, &["--stop", "-o", IMAGE]);
    let calls = tracer::run(&command, None, PATIENCE)?.calls;
    let mut was_stopped = after_stop(place, &mut talk, &link, "undisturbed")?;
    // What is special comes last.
    let last = calls.len().saturating_sub(80)..calls.len();
    let sample = sampled(last.start, instants(30)).into_iter().chain(last.step_by(2));
    for at in sample {
        let traced = tracer::run(&command, Some((at, Deed::KillFirst)), PATIENCE)?;
        let what = format!("killed at call {at} of {}: {:?}", calls.len(), traced.calls.get(at));
        let stopped = after_stop(place, &mut talk, &link, &what);
        was_stopped &= stopped.map_err(|error| Stopped::Failed(format!("{what}: {error:?}")))?;
    }
    kill(talk.pid, Signal::SIGKILL)?;
    talk.server.wait()?;
    match was_stopped {
        true => Err(Stopped::Failed("it always had stopped it".to_owned())),
        false => Ok(()),
    }
}

/// A program that was stopped and ended later is resumed: what is left of its connections is not in the way.
fn stopped_and_ended(place: &Place<'_>) -> Outcome<()> {
    let mut talk = Talk::start(place)?;
    let mut dumper = place.dumper(talk.pid, &["--stop", "-o", IMAGE]);
    let stopped = tools::run(&mut dumper, &place.folder, "tool", User::Own)?;
    kill(talk.pid, Signal::SIGKILL)?;
    talk.server.wait()?;
    talk.peer.write_all(b"while it is not there")?;
    let mut loader = crate::loader_killed::loader(place, "keep");
    let resumed = tools::run(&mut loader, &place.folder, "tool", User::Own)?;
    if !stopped.status.success() || !resumed.status.success() {
        return Err(Stopped::Failed(format!("{}{}", stopped.error, resumed.error)));
    }
    talk.hears("while it is not there")?;
    talk.echoes("at last")?;
    Ok(kill(talk.pid, Signal::SIGKILL)?)
}

/// Looks at what a dumper has left, and has the program run again. Whether it was stopped.
fn after_stop(place: &Place<'_>, talk: &mut Talk, link: &Link, what: &str) -> Outcome<bool> {
    let is_stopped = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", talk.pid))?;
        Ok::<_, Stopped>(stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T')))
    };
    let start = Instant::now();
    while !is_stopped()? && start.elapsed() < Duration::from_millis(20) {}
    let stopped = is_stopped()?;
    if stopped {
        place.verify(&place.path(IMAGE))?;
        let table = table_of(place)?;
        until(&format!("a table {table}"), || is_there(link, &table))?;
        link.release(&table)?;
        kill(talk.pid, Signal::SIGCONT)?;
    }
    let said = talk.echoes(what);
    match fs::remove_file(place.path(IMAGE)) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    said.map(|()| stopped)
}
