//! How connections go on: the midwife ends their repair mode when all tasks are whole and nothing can fail any more, lets the
//! segments of the peers through, and says what had been said of the connections' ends.
//!
//! An end that the program has said (FIN) is said again, with the number that it had: who has it knows it for a repetition. One that
//! the peer has said is said by the peer, if that is in the tree, too; else a segment in its name says it, which does not leave the host.

use super::established::{Repair, repair};
use super::{Holding, Saved, all, ending};
use crate::error::{Error, Result};
use crate::rebuild::descriptor::dup_above;
use crate::shelf::Shelf;
use crate::sys;
use binfmt::hold::Link;
use binfmt::image::Image;
use binfmt::note::inet::{InetConnection, InetEnds, InetState};
use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use std::collections::BTreeSet;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long the end of a connection may take to come over the loopback.
const PATIENCE: Duration = Duration::from_millis(500);

/// The peer has said its end.
const PEERS: &[InetEnds] = &[InetEnds::Peer, InetEnds::OwnFirst, InetEnds::PeerFirst];

/// Tells what cannot be undone any more.
fn tell(result: Result<()>) {
    if let Err(error) = result {
        // Nobody may be there to read it.
        let _ = writeln!(std::io::stderr(), "ckpt: {error}");
    }
}

/// What the midwife keeps of the shelf.
#[derive(Debug)]
pub struct Connections<'a> {
    all: Vec<Connection<'a>>,
    holds: BTreeSet<String>,
    holding: &'a Holding,
}

#[derive(Debug)]
struct Connection<'a> {
    saved: Saved<'a>,
    note: &'a InetConnection,
    fd: OwnedFd,
    /// By which the peer's end is said.
    raw: Option<OwnedFd>,
}

impl<'a> Connections<'a> {
    /// Keeps what is needed of the shelf, which is closed afterwards.
    pub fn of(image: &'a Image, shelf: &Shelf, holding: &'a Holding) -> Result<Connections<'a>> {
        let mut connections = Vec::new();
        for saved in all(image).filter(|saved| saved.note.state == InetState::Established) {
            let id = saved.note.description;
            let note = image.about::<InetConnection>(id).next();
            let (Some(note), Some(fd)) = (note, shelf.description(id)) else { continue };
            let fd = dup_above(fd.as_raw_fd(), 0).map_err(|error| saved.failed("keep", error))?;
            let says = !note.within && PEERS.contains(&note.ends);
            let raw = says.then(|| ending::prepare(saved.note)).transpose();
            let raw = raw.map_err(|error| {
                saved.failed(
                    "say the peer's end, which takes CAP_NET_RAW (--tcp=reset does without), of",
                    error,
                )
            })?;
            connections.push(Connection { saved, note, fd, raw });
        }
        let names = image.all::<InetConnection>().map(|note| note.hold.to_string());
        let holds = names.filter(|name| !name.is_empty()).collect();
        Ok(Connections { all: connections, holds, holding })
    }

    /// Has all of them go on. From the first that does nothing ends the resume any more: a peer would hear of it.
    pub fn go_on(&self) -> Result<()> {
        self.let_through()?;
        for one in &self.all {
            let gone_on = repair(&one.fd, Repair::Off).map_err(|error| one.saved.failed("let go on", error));
            tell(gone_on);
            tell(one.saved.reuse_address(&one.fd, one.saved.has(libc::SO_REUSEADDR)));
        }
        // In the order in which they were said.
        let said = |ends: &'static [InetEnds]| self.all.iter().filter(|one| ends.contains(&one.note.ends));
        said(&[InetEnds::Own, InetEnds::OwnFirst]).for_each(|one| tell(one.end()));
        for one in &self.all {
            let said = one.raw.as_ref().map_or(Ok(()), |raw| ending::say(raw, one.saved.note, one.note));
            tell(said.map_err(|error| one.saved.failed("say the peer's end of", error)));
        }
        let start = Instant::now();
        said(PEERS).for_each(|one| one.await_end(start));
        said(&[InetEnds::PeerFirst]).for_each(|one| tell(one.end()));
        Ok(())
    }

    /// Lets the segments of the peers come: first by what ckpt-dump has left, then by the loader's own hold, so that all come at
    /// once.
    fn let_through(&self) -> Result<()> {
        let failed =
            |error| Error::step("let the segments of the connections' peers through (nf_tables)", error);
        if self.holds.is_empty() {
            return self.holding.release().map_err(failed);
        }
        // Who has no right to it has no connections that go on.
        let Ok(link) = Link::open() else { return Ok(()) };
        match self.holds.iter().try_for_each(|name| link.release(name)) {
            Err(error) if !self.all.is_empty() => return Err(failed(error)),
            _ => {}
        }
        let _ = link.tidy();
        self.holding.release().map_err(failed)
    }
}

impl Connection<'_> {
    /// Says that nothing more will come from the program.
    fn end(&self) -> Result<()> {
        match shutdown(self.fd.as_raw_fd(), Shutdown::Write) {
            // The peer has ended it at once (RST): the program will see.
            Ok(()) | Err(Errno::ENOTCONN) => Ok(()),
            Err(error) => Err(self.saved.failed("say the end of", error)),
        }
    }

    /// Waits until the peer's end has come. If it is still on the way, it comes.
    fn await_end(&self, start: Instant) {
        const CLOSE_WAIT: u8 = 8;
        const LAST_ACK: u8 = 9;
        const CLOSING: u8 = 11;
        let has_come = || {
            let state = sys::tcp_state(self.fd.as_fd()).unwrap_or(CLOSE_WAIT);
            [CLOSE_WAIT, LAST_ACK, CLOSING].contains(&state)
        };
        while !has_come() && start.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}
