//! The end of a checkpoint: the processes run on, are stopped, or killed, and the image appears.
//!
//! Nobody is stopped or killed before the image is safe. Then a process that nobody else knows does all the rest: it stops or kills,
//! and has the peers held back whose connections go on elsewhere ([`binfmt::hold`]). So who ends this program leaves processes
//! that run, with their peers, or such as were told, with an image and with peers that wait: nothing in between. While that
//! process works, nothing is heard or said by the table that belongs to its netlink socket.
//!
//! TCP connections of a program that is killed end without a word: when nobody runs any more who could notice, they are put in
//! repair mode by the duplicates that are here, and then closed.

use crate::Afterwards;
use crate::collect::inet::Hold;
use crate::collected::Collected;
use crate::error::Error;
use crate::freeze::{Frozen, Tree};
use crate::sys;
use crate::write::Sink;
use binfmt::address::Pid;
use binfmt::hold::LIFETIME;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Lets the processes go, and the image appear. They are killed only when the image is safe.
pub(crate) fn release(
    tree: Tree,
    sink: Sink,
    afterwards: Afterwards,
    collected: &Collected,
) -> Result<Duration, Error> {
    match afterwards {
        Afterwards::RunOn => {
            let stood_still = tree.thaw()?;
            sink.commit()?;
            Ok(stood_still)
        }
        Afterwards::Stop => {
            sink.commit()?;
            part(&tree, collected, Signal::SIGSTOP, "stopping it")?;
            tree.thaw()
        }
        Afterwards::Kill => {
            sink.commit()?;
            part(&tree, collected, Signal::SIGKILL, "killing it")?;
            tree.thaw()
        }
    }
}

/// Has all processes sent a signal, and the peers of their connections held back.
fn part(tree: &Tree, collected: &Collected, signal: Signal, what: &str) -> Result<(), Error> {
    let work = || tell(tree, collected, signal).map_or_else(|error| error as i32, |()| 0);
    let done = sys::by_another_hand(|| u8::try_from(work()).unwrap_or(u8::MAX));
    let done = done.and_then(|status| match status {
        0 => Ok(()),
        error => Err(Errno::from_raw(error.into())),
    });
    done.map_err(|error| {
        // Else it expires.
        let _ = collected.hold.as_ref().map(Hold::release);
        let what = format!("{what} and holding back the peers of its TCP connections");
        Error::question(tree.root().unwrap_or(Pid(0)), &what, error)
    })
}

fn tell(tree: &Tree, collected: &Collected, signal: Signal) -> nix::Result<()> {
    let pids = tree.members().iter().map(Frozen::pid);
    pids.into_iter().try_for_each(|pid| kill(nix::unistd::Pid::from_raw(pid.0), signal))?;
    if signal == Signal::SIGKILL {
        collected.connections.iter().try_for_each(|connection| sys::silence(connection.as_raw_fd()))?;
    }
    collected.hold.as_ref().map_or(Ok(()), |hold| hold.outlive(LIFETIME))
}
