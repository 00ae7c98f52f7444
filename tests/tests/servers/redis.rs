//! Redis: every key is there, its clients were told the truth, and it saves itself as before.

use crate::client::{Asker, connect};
use crate::server::Server;
use ckpt_tests::{Outcome, Stopped};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// How many keys it holds.
const KEYS: &str = "200000";

/// A connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(port: u16) -> Outcome<Client> {
        Ok(Client(BufReader::new(connect(port)?)))
    }

    /// Sends one command, and takes its answer, of which the kind (+, :, $) is left out.
    fn ask(&mut self, command: &str) -> Outcome<String> {
        self.0.get_mut().write_all(format!("{command}\r\n").as_bytes())?;
        let mut line = String::new();
        self.0.read_line(&mut line)?;
        let answer = line.strip_suffix("\r\n").ok_or("the connection has ended")?;
        match answer.split_at_checked(1) {
            Some(("+" | ":", rest)) => Ok(rest.to_owned()),
            Some(("$", len)) => {
                let mut bytes = vec![0; len.parse::<usize>()? + 2];
                self.0.read_exact(&mut bytes)?;
                Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
            }
            _ => Err(Stopped::Failed(format!("{command}: {answer:?}"))),
        }
    }

    /// The same, of which the answer is known.
    fn expect(&mut self, command: &str, expected: &str) -> Outcome<()> {
        match self.ask(command)? {
            answer if answer == expected => Ok(()),
            answer => Err(Stopped::Failed(format!("{command}: {answer:?}, and not {expected:?}"))),
        }
    }
}

/// A question that changes nothing.
pub(crate) fn ask(port: u16) -> Outcome<()> {
    Client::connect(port)?.expect("PING", "PONG")
}

/// Somebody counts, and compares each number with what he has counted himself.
fn count_always(port: u16) -> Asker {
    let (mut client, mut number) = (None, 0_u64);
    Asker::start(move || {
        if client.is_none() {
            client = Some(Client::connect(port)?);
        }
        number += 1;
        client.as_mut().ok_or("there is no connection")?.expect("INCR counted", &number.to_string())
    })
}

/// The same over one connection that is kept, a hundred numbers at a time: it asks for the next hundred before it has read
/// the last.
fn count_ahead(port: u16) -> Outcome<Asker> {
    const MANY: u64 = 100;
    let many = "INCR counted\r\n".repeat(100);
    let mut client = Client::connect(port)?;
    client.0.get_mut().write_all(many.as_bytes())?;
    let mut number = 0;
    Ok(Asker::start(move || {
        client.0.get_mut().write_all(many.as_bytes())?;
        for _ in 0..MANY {
            number += 1;
            let mut line = String::new();
            client.0.read_line(&mut line)?;
            if line != format!(":{number}\r\n") {
                return Err(Stopped::Failed(format!("{number} was to be told, and not {line:?}")));
            }
        }
        Ok(())
    }))
}

/// Fills it, and says what its keys and values come to.
fn fill(server: &Server<'_>, keys: &str) -> Outcome<String> {
    let mut client = Client::connect(server.port)?;
    client.expect(&format!("DEBUG POPULATE {keys} key 20"), "OK")?;
    client.ask("DEBUG DIGEST")
}

/// All keys are there, and it can write them (which it does in children of its own) and read them again.
fn holds(server: &Server<'_>, digest: &str) -> Outcome<()> {
    let mut client = Client::connect(server.port)?;
    client.expect("DBSIZE", KEYS)?;
    client.expect("DEBUG DIGEST", digest)?;
    client.expect("BGREWRITEAOF", "Background append only file rewriting started")?;
    wait_for(server, "aof_rewrite_in_progress:0", "aof_last_bgrewrite_status:ok")?;
    client.expect("BGSAVE", "Background saving started")?;
    wait_for(server, "rdb_bgsave_in_progress:0", "rdb_last_bgsave_status:ok")?;
    client.expect("DEBUG LOADAOF", "OK")?;
    client.expect("DEBUG DIGEST", digest)
}

/// Waits until INFO says `done`; then it also says `well`.
fn wait_for(server: &Server<'_>, done: &str, well: &str) -> Outcome<()> {
    let info = server.until(done, || {
        let info = Client::connect(server.port)?.ask("INFO persistence")?;
        match info.lines().any(|line| line == done) {
            true => Ok(info),
            false => Err(Stopped::Failed(info)),
        }
    })?;
    match info.lines().any(|line| line == well) {
        true => Ok(()),
        false => Err(Stopped::Failed(format!("not {well}: {info}"))),
    }
}

/// Saved three times while somebody counts: he notices nothing.
pub(crate) fn run_on(server: &Server<'_>) -> Outcome<()> {
    let asker = count_always(server.port);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(100));
        server.dump(&["--tcp=reset"])?;
    }
    let number = asker.stop()?;
    Client::connect(server.port)?.expect("GET counted", &number.to_string())
}

/// Saved and killed while somebody counts, and resumed: it holds every key, and the last number that he was told or, if
/// one was on its way, the next.
pub(crate) fn killed_and_resumed(server: &Server<'_>) -> Outcome<()> {
    let digest = fill(server, KEYS)?;
    let asker = count_always(server.port);
    std::thread::sleep(Duration::from_millis(100));
    server.dump(&["--tcp=reset", "--kill"])?;
    let number = asker.abandon()?;
    server.has_ended(&[server.root.as_raw().unsigned_abs()])?;
    let resumed = server.resume()?;
    let mut client = Client::connect(server.port)?;
    let counted: u64 = client.ask("GET counted")?.parse()?;
    if number == 0 || counted != number && counted != number + 1 {
        return Err(Stopped::Failed(format!("{number} was told, {counted} is there")));
    }
    client.expect("DEL counted", "1")?;
    holds(server, &digest)?;
    drop(client);
    server.until("a checkpoint without --tcp", || server.dump(&[]))?;
    server.ends(resumed)
}

/// With a million keys, saved and killed while somebody counts ahead over a connection that goes on: he notices nothing.
pub(crate) fn kept(server: &Server<'_>) -> Outcome<()> {
    let digest = fill(server, "1000000")?;
    let asker = count_ahead(server.port)?;
    std::thread::sleep(Duration::from_millis(200));
    server.dump(&["--kill"])?;
    server.has_ended(&[server.root.as_raw().unsigned_abs()])?;
    std::thread::sleep(Duration::from_millis(200));
    let resumed = server.resume()?;
    std::thread::sleep(Duration::from_millis(200));
    let times = asker.stop()?;
    let mut client = Client::connect(server.port)?;
    // He had asked for a hundred more.
    client.expect("GET counted", &((times + 1) * 100).to_string())?;
    client.expect("DEL counted", "1")?;
    client.expect("DEBUG DIGEST", &digest)?;
    drop(client);
    server.ends(resumed)
}

/// Saved and killed when nobody is connected, and resumed without a supervisor.
pub(crate) fn detached(server: &Server<'_>) -> Outcome<()> {
    let digest = fill(server, KEYS)?;
    server.until("a checkpoint without --tcp", || server.dump(&["--kill"]))?;
    server.has_ended(&[server.root.as_raw().unsigned_abs()])?;
    server.resume_detached()?;
    holds(server, &digest)?;
    server.ends_detached()
}
