//! What is done to every server that is asked for a page.

use crate::client::{Asker, Kept, idle};
use crate::not_installed;
use crate::server::{IMAGE, PATIENCE, Server, spawn};
use ckpt_tests::tools::{self, User};
use ckpt_tests::{Outcome, Stopped};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// Somebody asks all the time.
fn ask_always(server: &Server<'_>) -> Asker {
    let (ask, port) = (server.kind.ask, server.port);
    Asker::start(move || ask(port))
}

/// The server goes on; so do those who ask it all the time.
pub(crate) fn run_on(server: &Server<'_>) -> Outcome<()> {
    let members = server.members()?;
    let asker = ask_always(server);
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
    server.ask()
}

/// Saved while it is asked, killed, and resumed: the same processes serve the same port, and do what they are told.
pub(crate) fn killed_and_resumed(server: &Server<'_>) -> Outcome<()> {
    let members = server.members()?;
    // A client that has its answer and keeps the connection.
    let kept = idle(server.port)?;
    let asker = ask_always(server);
    server.dump(&["--tcp=reset", "--kill"])?;
    // What it had is free at once.
    drop(std::net::TcpListener::bind(("127.0.0.1", server.port))?);
    asker.abandon()?;
    drop(kept);
    server.has_ended(&members)?;
    let resumed = server.resume()?;
    server.ask()?;
    for _ in 0..50 {
        server.ask()?;
    }
    if server.members()? != members {
        return Err(Stopped::Failed(format!(
            "it had the processes {members:?}, now {:?}",
            server.members()?
        )));
    }
    // Without anybody connected nothing need be given up.
    server.until("a checkpoint without --tcp", || server.dump(&[]))?;
    if let Some(signal) = server.kind.reload {
        server.reload(&members, signal)?;
        server.ask()?;
    }
    server.ends(resumed)
}

/// Killed and resumed, while a client asks all the time over one connection, and another one has one that rests: neither
/// notices.
pub(crate) fn kept(server: &Server<'_>) -> Outcome<()> {
    const PAUSE: Duration = Duration::from_millis(20);
    let members = server.members()?;
    let (mut asks, mut rests) = (Kept::connect(server.port)?, Kept::connect(server.port)?);
    asks.page().and_then(|()| rests.page())?;
    let asker = Asker::start(move || {
        std::thread::sleep(PAUSE);
        asks.page()
    });
    std::thread::sleep(5 * PAUSE);
    server.dump(&["--kill"])?;
    server.has_ended(&members)?;
    std::thread::sleep(5 * PAUSE);
    let resumed = server.resume()?;
    std::thread::sleep(5 * PAUSE);
    let answered = asker.stop()?;
    rests.page()?;
    if answered < 5 {
        return Err(Stopped::Failed(format!("a client was answered {answered} times")));
    }
    drop(rests);
    server.ends(resumed)
}

/// The same with eight clients that ask as often as they can.
pub(crate) fn pressed(server: &Server<'_>) -> Outcome<()> {
    const CLIENTS: &str = "/usr/bin/wrk";
    if !Path::new(CLIENTS).exists() {
        return Err(not_installed(CLIENTS));
    }
    let members = server.members()?;
    let mut command = Command::new(CLIENTS);
    command.args(["--threads", "1", "--connections", "8", "--duration", "4s", "--timeout", "20s"]);
    command.arg(format!("http://127.0.0.1:{}/page", server.port));
    let mut clients = spawn(command, &server.folder, "wrk")?;
    std::thread::sleep(Duration::from_millis(300));
    server.until("a checkpoint", || server.dump(&["--kill"]))?;
    server.has_ended(&members)?;
    let resumed = server.resume()?;
    if clients.try_wait()?.is_some() {
        return Err("the clients were done before the server was back".into());
    }
    let status = tools::wait(&mut clients, PATIENCE)?.ok_or("the clients do not end")?;
    let said = std::fs::read_to_string(server.folder.join("wrk.out"))?;
    // It has lines for errors of sockets and for other answers if there were any.
    if !status.success()
        || !said.contains("requests in")
        || said.contains("errors")
        || said.contains("Non-2xx")
    {
        return Err(Stopped::Failed(format!("the clients ended with {status}: {said}")));
    }
    server.ends(resumed)
}

/// Somebody else has the port: that is told with all that one needs to know, and nothing is left.
pub(crate) fn port_is_taken(server: &Server<'_>) -> Outcome<()> {
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
    server.ask()?;
    server.ends(resumed)
}
