//! The end of a checkpoint: the processes run on, are stopped, or killed, and the image appears.
//!
//! TCP connections of a program that is killed end without a word: when nobody runs any more who could notice, they are put in
//! repair mode by the duplicates that are here, and then closed. Those whose peers are not of the tree are held back until the
//! resume ([`binfmt::hold`]), for a moment only as long as the processes have not been told: whoever ends this program
//! between the two leaves connections that stand still for that moment.

use crate::Afterwards;
use crate::collected::Collected;
use crate::error::Error;
use crate::freeze::{Frozen, Tree};
use crate::sys;
use crate::write::Sink;
use binfmt::address::Pid;
use binfmt::hold::LIFETIME;
use nix::sys::signal::{Signal, kill};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// How long peers are held back until the processes have been told.
const MOMENT: Duration = Duration::from_secs(60);

/// Lets the processes go, and the image appear. They are killed only when the image is safe.
pub(crate) fn release(
    tree: Tree,
    sink: Sink,
    afterwards: Afterwards,
    collected: &Collected,
) -> Result<Duration, Error> {
    let signal = |signal| {
        tree.members().iter().map(Frozen::pid).try_for_each(|pid| {
            kill(nix::unistd::Pid::from_raw(pid.0), signal)
                .map_err(|error| Error::question(pid, format!("sending it {signal}"), error))
        })
    };
    let root = tree.root().unwrap_or(Pid(0));
    match afterwards {
        Afterwards::RunOn => {
            let stood_still = tree.thaw()?;
            sink.commit()?;
            Ok(stood_still)
        }
        Afterwards::Stop => {
            let stopped = hold_back(collected, root, MOMENT)
                .and_then(|()| signal(Signal::SIGSTOP))
                .and_then(|()| hold_back(collected, root, LIFETIME));
            let done = stopped.and_then(|()| tree.thaw()).and_then(|time| sink.commit().map(|()| time));
            done.inspect_err(|_| let_through(collected))
        }
        Afterwards::Kill => {
            sink.commit()?;
            hold_back(collected, root, MOMENT)?;
            signal(Signal::SIGKILL)?;
            for connection in &collected.connections {
                sys::silence(connection.as_raw_fd())
                    .map_err(|error| Error::question(root, "ending its TCP connections", error))?;
            }
            hold_back(collected, root, LIFETIME)?;
            tree.thaw()
        }
    }
}

/// Has the peers held back for so long, whatever becomes of this program.
fn hold_back(collected: &Collected, root: Pid, time: Duration) -> Result<(), Error> {
    let held = collected.hold.as_ref().map_or(Ok(()), |hold| hold.outlive(time));
    held.map_err(|error| Error::question(root, "holding back the peers of its TCP connections", error))
}

fn let_through(collected: &Collected) {
    if let Some(hold) = &collected.hold {
        // Else it expires.
        let _ = hold.release();
    }
}
