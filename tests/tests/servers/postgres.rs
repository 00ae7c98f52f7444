//! PostgreSQL: no transaction is lost and none is done twice, by its own history and by what its clients were told.
//!
//! The load is that of pgbench: every transaction changes an account, a teller and a branch by the same sum, and
//! writes that sum into the history.

use crate::kinds::postgres_programs;
use crate::server::{Server, spawn};
use ckpt_tests::tools;
use ckpt_tests::{Outcome, Stopped};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How many clients transact at once.
const CLIENTS: u64 = 4;
/// How long a bench may take to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// The count of the history, and whether its sum is that of everything else.
const HISTORY: &str = "
    select count(*), coalesce(sum(delta), 0) = all (array[
        (select sum(abalance) from pgbench_accounts),
        (select sum(bbalance) from pgbench_branches),
        (select sum(tbalance) from pgbench_tellers)])
    from pgbench_history";
/// Who is connected.
const OTHERS: &str =
    "select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()";

/// A question that needs no table.
pub(crate) fn ask(port: u16) -> Outcome<()> {
    match query(port, "select 6 * 7")?.as_str() {
        "42" => Ok(()),
        other => Err(Stopped::Failed(format!("the server at port {port} said {other:?}"))),
    }
}

fn query(port: u16, text: &str) -> Outcome<String> {
    let mut command = client("psql", port);
    let output = command.args(["-XAtq", "-c", text, "postgres"]).stdin(Stdio::null()).output()?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        false => Err(Stopped::Failed(String::from_utf8_lossy(&output.stderr).into_owned())),
    }
}

fn client(program: &str, port: u16) -> Command {
    let mut command = Command::new(postgres_programs().join(program));
    command.args(["-h", "127.0.0.1", "-U", "bank", "-p", &port.to_string()]);
    command
}

/// Makes the tables.
fn found(server: &Server<'_>) -> Outcome<()> {
    let mut command = client("pgbench", server.port);
    command.args(["-i", "-q", "postgres"]);
    server.run(command, "found").map(drop)
}

/// How many transactions are in the history, when nobody is connected any more and if all sums are right.
fn history(server: &Server<'_>) -> Outcome<u64> {
    server.until("that nobody is connected", || match query(server.port, OTHERS)?.as_str() {
        "0" => Ok(()),
        others => Err(Stopped::Failed(format!("{others} are"))),
    })?;
    let answer = query(server.port, HISTORY)?;
    match answer.split_once('|') {
        Some((count, "t")) => Ok(count.parse()?),
        _ => Err(Stopped::Failed(format!("the sums differ: {answer}"))),
    }
}

/// Clients that transact.
struct Bench<'a> {
    server: &'a Server<'a>,
    child: Child,
}

impl<'a> Bench<'a> {
    /// Starts them; `how_long` is `-T SECONDS` or `-t TRANSACTIONS`.
    fn start(server: &'a Server<'a>, how_long: [&str; 2]) -> Outcome<Bench<'a>> {
        let mut command = client("pgbench", server.port);
        command.args(["-n", "-c", &CLIENTS.to_string()]).args(how_long).arg("postgres");
        Ok(Bench { server, child: spawn(command, &server.folder, "bench")? })
    }

    /// How many transactions they were told to be done, and whether none of them lost its server.
    fn end(mut self) -> Outcome<(u64, bool)> {
        let status = tools::wait(&mut self.child, PATIENCE)?.ok_or("pgbench does not end")?;
        let said = fs::read_to_string(self.server.folder.join("bench.out"))?;
        let count = |line: &str| {
            let number = line.strip_prefix("number of transactions actually processed: ")?;
            number.split('/').next()?.parse().ok()
        };
        let told = said.lines().find_map(count).ok_or_else(|| format!("pgbench: {status} {said}"))?;
        Ok((told, status.success()))
    }

    /// The same, of clients that lose nothing.
    fn done(self) -> Outcome<u64> {
        match self.end()? {
            (told, true) => Ok(told),
            (told, false) => Err(Stopped::Failed(format!("pgbench lost its server after {told}"))),
        }
    }
}

/// So many are in the history, and no other number.
fn has(server: &Server<'_>, transactions: u64) -> Outcome<()> {
    match history(server)? {
        count if count == transactions => Ok(()),
        count => Err(Stopped::Failed(format!("{transactions} transactions were done, {count} are there"))),
    }
}

/// Saved three times under load: nobody notices.
pub(crate) fn run_on(server: &Server<'_>) -> Outcome<()> {
    found(server)?;
    let bench = Bench::start(server, ["-T", "2"])?;
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(300));
        server.dump(&["--tcp=reset"])?;
    }
    has(server, bench.done()?)
}

/// Saved and killed under load, and resumed: what anybody was told to be done is done, and nothing else but what each client
/// was waiting for.
pub(crate) fn killed_and_resumed(server: &Server<'_>) -> Outcome<()> {
    found(server)?;
    let bench = Bench::start(server, ["-T", "30"])?;
    server.until("load", || match query(server.port, OTHERS)? {
        others if others == CLIENTS.to_string() => Ok(()),
        others => Err(Stopped::Failed(format!("{others} are connected"))),
    })?;
    std::thread::sleep(Duration::from_millis(500));
    let served = server.members()?;
    server.dump(&["--tcp=reset", "--kill"])?;
    server.has_ended(&served)?;
    let (told, _) = bench.end()?;
    let resumed = server.resume()?;
    let count = history(server)?;
    if told == 0 || !(told..=told + CLIENTS).contains(&count) {
        return Err(Stopped::Failed(format!("{told} transactions were told to be done, {count} are there")));
    }
    let more = Bench::start(server, ["-t", "100"])?.done()?;
    has(server, count + more)?;
    // Without anybody connected nothing need be given up.
    server.until("a checkpoint without --tcp", || server.dump(&[]))?;
    server.ends(resumed)
}

/// Saved and killed when nobody is connected, and resumed without a supervisor.
pub(crate) fn detached(server: &Server<'_>) -> Outcome<()> {
    found(server)?;
    let done = Bench::start(server, ["-t", "100"])?.done()?;
    has(server, done)?;
    let members = server.members()?;
    server.until("a checkpoint without --tcp", || server.dump(&["--kill"]))?;
    server.has_ended(&members)?;
    server.resume_detached()?;
    has(server, done)?;
    let more = Bench::start(server, ["-t", "100"])?.done()?;
    has(server, done + more)?;
    server.ends_detached()
}
