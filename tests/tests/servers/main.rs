//! Real servers, which somebody asks before and after, and while they are saved:
//! `cargo test --release -p ckpt-tests --test servers -- NAME`.
//!
//! Each serves a file from a folder of its own at a port of its own, as the tree of processes that it is. `scripts/needs` names
//! what must be installed.

mod client;
mod kinds;

use ckpt_tests::tools::{self, Tools, User};
use ckpt_tests::trial::{conclude, trial};
use ckpt_tests::{Outcome, Stopped, aftermath, flavour, machine, sys, tree};
use client::{Asker, expect, idle};
use kinds::{KINDS, Kind};
use libtest_mimic::Arguments;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::error::Error;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

const IMAGE: &str = "server.ckpt";
/// How long anything may take: other tests run at the same time.
const PATIENCE: Duration = Duration::from_secs(60);

type Test = fn(&Server<'_>) -> Outcome<()>;

/// What is done to every server.
const TESTS: [(&str, Test); 3] =
    [("running", run_on), ("killed", killed_and_resumed), ("taken", port_is_taken)];

fn main() -> Result<ExitCode, Box<dyn Error>> {
    sys::leave_runner()?;
    let arguments = Arguments::from_args();
    // Daemons, that leave their parent, come to us.
    nix::sys::prctl::set_child_subreaper(true)?;
    let tools = match arguments.list {
        true => None,
        false => Some(Arc::new(Tools::gather(&tools::built()?)?)),
    };
    let mut trials = Vec::new();
    for (index, kind) in KINDS.iter().enumerate() {
        for (nth, (way, test)) in TESTS.into_iter().enumerate() {
            let name = format!("{}::{way}", kind.name);
            let port = port(index * TESTS.len() + nth);
            trials.push(trial(&name.clone(), tools.clone(), move |tools| {
                run(&name, kind, port, test, tools).map(|()| None)
            }));
        }
    }
    let conclusion = libtest_mimic::run(&arguments, trials);
    Ok(conclude(&conclusion, tools.as_deref()))
}

/// A port that the kernel gives nobody by itself.
fn port(nth: usize) -> u16 {
    let own = usize::try_from(std::process::id()).unwrap_or(0) * 16 + nth;
    u16::try_from(2_000 + own % 30_000).unwrap_or(2_000)
}

fn run(name: &str, kind: &'static Kind, port: u16, test: Test, tools: &Tools) -> Outcome<()> {
    if let Some(missing) = [kind.program].into_iter().find(|program| !Path::new(program).exists()) {
        return Err(Stopped::Skipped(format!(
            "{missing} is not installed; scripts/needs names what is needed"
        )));
    }
    if !machine::has_capability(machine::CHECKPOINT_RESTORE) {
        return Err(Stopped::Skipped("keeping a pid needs CAP_CHECKPOINT_RESTORE".to_owned()));
    }
    let folder = tools.folder(name)?;
    let server = Server::start(kind, port, tools, folder.clone())?;
    test(&server)?;
    drop(server);
    fs::remove_dir_all(folder)?;
    Ok(())
}

/// A server and where it runs. Dropping it ends all that runs there.
struct Server<'a> {
    kind: &'static Kind,
    port: u16,
    tools: &'a Tools,
    folder: PathBuf,
    root: Pid,
}

impl Drop for Server<'_> {
    fn drop(&mut self) {
        aftermath::end_all_in(&self.folder);
    }
}

/// The server goes on; so do those who ask it all the time.
fn run_on(server: &Server<'_>) -> Outcome<()> {
    let members = server.members()?;
    let asker = Asker::start(server.port, server.kind.page());
    for _ in 0..3 {
        server.dump(&["--tcp=reset"])?;
        std::thread::sleep(Duration::from_millis(50));
    }
    asker.stop()?;
    if server.members()? != members {
        return Err(Stopped::Failed(format!(
            "it had the processes {members:?}, now {:?}",
            server.members()?
        )));
    }
    expect(server.port, server.kind.page())
}

/// Saved while it is asked, killed, and resumed: the same processes serve the same port, and do what they are told.
fn killed_and_resumed(server: &Server<'_>) -> Outcome<()> {
    let members = server.members()?;
    // A client that has its answer and keeps the connection.
    let kept = idle(server.port)?;
    let asker = Asker::start(server.port, server.kind.page());
    server.dump(&["--tcp=reset", "--kill"])?;
    asker.abandon();
    drop(kept);
    server.has_ended(&members)?;
    let resumed = server.resume()?;
    expect(server.port, server.kind.page())?;
    for _ in 0..50 {
        expect(server.port, server.kind.page())?;
    }
    if server.members()? != members {
        return Err(Stopped::Failed(format!(
            "it had the processes {members:?}, now {:?}",
            server.members()?
        )));
    }
    // Without anybody connected nothing need be given up.
    server.until("a checkpoint without --tcp", || server.dump(&[]))?;
    server.reload(&members)?;
    expect(server.port, server.kind.page())?;
    server.ends(resumed)
}

/// Somebody else has the port: that is told with all that one needs to know, and nothing is left.
fn port_is_taken(server: &Server<'_>) -> Outcome<()> {
    let members = server.members()?;
    server.until("a checkpoint", || server.dump(&["--kill"]))?;
    server.has_ended(&members)?;
    let taken = std::net::TcpListener::bind(("127.0.0.1", server.port))?;
    let mut command = Command::new(server.tools.program("ckpt"));
    command.args(["restore", IMAGE, "--pid", "keep"]);
    let finished = tools::run(&mut command, &server.folder, "taken", User::Own)?;
    let expected = [
        format!("is a TCP socket at 127.0.0.1:{0}, and port {0} is taken by", server.port),
        format!("(pid {})", std::process::id()),
        format!("of process {}", server.root),
        "unshare --net".to_owned(),
    ];
    let missing = expected.iter().find(|text| !finished.error.contains(text.as_str()));
    if finished.status.code() != Some(125) || missing.is_some() {
        let text = format!("{}, and not `{missing:?}`: {}", finished.status, finished.error);
        return Err(Stopped::Failed(text));
    }
    server.has_ended(&members)?;
    drop(taken);
    let resumed = server.resume()?;
    expect(server.port, server.kind.page())?;
    server.ends(resumed)
}

impl Server<'_> {
    fn start<'a>(kind: &'static Kind, port: u16, tools: &'a Tools, folder: PathBuf) -> Outcome<Server<'a>> {
        fs::create_dir(folder.join("pages"))?;
        fs::write(folder.join("pages/page"), kind.page())?;
        let place = folder.to_string_lossy().into_owned();
        let written = |text: &str| text.replace("{folder}", &place).replace("{port}", &port.to_string());
        fs::write(folder.join("configuration"), written(kind.configuration))?;
        let mut command = Command::new(kind.program);
        command.args(kind.arguments.iter().map(|argument| written(argument)));
        let mut child = spawn(command, &folder, "server")?;
        let mut server = Server { kind, port, tools, folder, root: Pid::from_raw(0) };
        server.until("the server", || {
            let _ = child.try_wait();
            expect(port, kind.page())
        })?;
        let pid = fs::read_to_string(server.folder.join("pid"))?;
        server.root = Pid::from_raw(pid.trim().parse()?);
        server.until("all processes", || match server.members()?.len() >= kind.processes {
            true => Ok(()),
            false => Err(Stopped::Failed(format!("it has {:?}", server.members()?))),
        })?;
        Ok(server)
    }

    /// Tries something until it succeeds.
    fn until<T>(&self, what: &str, mut attempt: impl FnMut() -> Outcome<T>) -> Outcome<T> {
        let start = Instant::now();
        loop {
            match attempt() {
                Err(Stopped::Failed(text)) if start.elapsed() > PATIENCE => {
                    let said = ["server.err", "restore.err", "error.log"];
                    let said =
                        said.map(|name| fs::read_to_string(self.folder.join(name)).unwrap_or_default());
                    return Err(Stopped::Failed(format!("{what}: {text}\n{}", said.join(""))));
                }
                Err(Stopped::Failed(_)) => std::thread::sleep(Duration::from_millis(20)),
                outcome => return outcome,
            }
        }
    }

    /// The ids of its processes.
    fn members(&self) -> Outcome<Vec<u32>> {
        let mut ids = tree::ids(Path::new("/proc"), &[self.root.as_raw().unsigned_abs()])?;
        ids.sort_unstable();
        Ok(ids)
    }

    fn dump(&self, options: &[&str]) -> Outcome<()> {
        let mut command = Command::new(self.tools.program("ckpt-dump"));
        command.arg(self.root.to_string()).args(["-o", IMAGE]).args(options);
        let finished = tools::run(&mut command, &self.folder, "dump", User::Own)?;
        match finished.status.success() {
            true => Ok(()),
            false => Err(Stopped::Failed(format!("ckpt-dump {options:?}: {}", finished.error.trim()))),
        }
    }

    /// Waits until none of these processes is left.
    fn has_ended(&self, members: &[u32]) -> Outcome<()> {
        self.until("the end", || {
            for pid in members {
                // Whose parent has ended is our child.
                let _ = waitpid(Pid::from_raw(pid.cast_signed()), Some(WaitPidFlag::WNOHANG));
            }
            let left = members.iter().find(|pid| Path::new(&format!("/proc/{pid}")).exists());
            left.map_or(Ok(()), |pid| Err(Stopped::Failed(format!("process {pid} is still there"))))
        })
    }

    /// Its supervisor, when it serves again.
    fn resume(&self) -> Outcome<Child> {
        self.until("the resume", || {
            let mut command = Command::new(self.tools.program("ckpt"));
            command.args(["restore", IMAGE, "--pid", "keep"]);
            let mut child = spawn(command, &self.folder, "restore")?;
            let start = Instant::now();
            while expect(self.port, self.kind.page()).is_err() {
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

    /// Tells it to take new workers.
    fn reload(&self, before: &[u32]) -> Outcome<()> {
        kill(self.root, self.kind.reload)?;
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
    fn ends(&self, mut supervisor: Child) -> Outcome<()> {
        kill(self.root, Signal::SIGTERM)?;
        let status = tools::wait(&mut supervisor, PATIENCE)?.ok_or("it does not end")?;
        match status.code() {
            Some(0) => Ok(()),
            _ => Err(Stopped::Failed(format!("it ended with {status}"))),
        }
    }
}

/// Starts a command in a folder, where what it says goes to files.
fn spawn(mut command: Command, folder: &Path, name: &str) -> Outcome<Child> {
    let log = |end: &str| File::create(folder.join(format!("{name}.{end}")));
    // A server that ends sends signals to its whole group.
    command.process_group(0).current_dir(folder).stdin(Stdio::null()).stdout(log("out")?).stderr(log("err")?);
    Ok(command.spawn().map_err(|error| format!("cannot start {command:?}: {error}"))?)
}
