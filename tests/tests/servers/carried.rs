//! What is done to every server that counts: no answer that somebody got is lost, and nothing is counted twice.

use crate::client::{Asker, number};
use crate::kinds::PAGE;
use crate::server::Server;
use crate::{client, memory, messages};
use ckpt_tests::{Outcome, Stopped};
use std::time::Duration;

/// A server of pages that says at `/count` how many it has served; what else it counts goes on, too.
pub(crate) fn pages(server: &Server<'_>) -> Outcome<()> {
    let port = server.port;
    let start = move |_| Asker::start(move || client::page(port));
    carried_on(
        server,
        start,
        || number(port, "/count"),
        || {
            for path in server.kind.goes_on {
                let before = number(port, path)?;
                server.until(path, || match number(port, path)? {
                    now if now > before => Ok(()),
                    now => Err(Stopped::Failed(format!("it was {before}, and is {now}"))),
                })?;
            }
            Ok(())
        },
    )
}

/// memcached, which has a thousand more values.
pub(crate) fn values(server: &Server<'_>) -> Outcome<()> {
    let port = server.port;
    memory::fill(port)?;
    let start = move |count| Asker::start(memory::counts(port, count));
    carried_on(server, start, || memory::count(port), || memory::is_filled(port))
}

/// mosquitto, which keeps the last message of each topic.
pub(crate) fn last_messages(server: &Server<'_>) -> Outcome<()> {
    let port = server.port;
    messages::publish(port, "page", PAGE)?;
    let start = move |count| Asker::start(messages::counts(port, count));
    carried_on(
        server,
        start,
        || messages::count(port),
        || match messages::last(port, "page")?.as_str() {
            PAGE => Ok(()),
            other => Err(Stopped::Failed(format!("the last message is {other:?}"))),
        },
    )
}

/// Saved three times while somebody makes it count, then killed and resumed. `start` has somebody go on from a number,
/// `count` says how far it has come, and `holds` whether it is otherwise what it was.
fn carried_on(
    server: &Server<'_>,
    start: impl Fn(u64) -> Asker,
    count: impl Fn() -> Outcome<u64>,
    holds: impl Fn() -> Outcome<()>,
) -> Outcome<()> {
    let members = server.members()?;
    let before = count()?;
    let asker = start(before);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_millis(50));
        server.dump(&["--tcp=reset"])?;
    }
    let told = asker.stop()?;
    let between = count()?;
    if told == 0 || between != before + told {
        return Err(Stopped::Failed(format!("it was at {before}, {told} were told, and it is at {between}")));
    }
    holds()?;

    let asker = start(between);
    std::thread::sleep(Duration::from_millis(50));
    server.dump(&["--tcp=reset", "--kill"])?;
    let told = asker.abandon()?;
    server.has_ended(&members)?;
    let resumed = server.resume()?;
    // One answer may have been on its way.
    let after = count()?;
    if told == 0 || after != between + told && after != between + told + 1 {
        return Err(Stopped::Failed(format!("it was at {between}, {told} were told, and it is at {after}")));
    }
    holds()?;
    if server.members()? != members {
        return Err(Stopped::Failed(format!("it had {members:?}, now {:?}", server.members()?)));
    }
    server.until("a checkpoint without --tcp", || server.dump(&[]))?;
    server.ends(resumed)
}
