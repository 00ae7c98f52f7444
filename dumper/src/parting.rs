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
use crate::freeze::{Frozen, Stopped, Tree};
use crate::sys::{self, Block, Take};
use crate::write::Sink;
use binfmt::address::{Pid, Tid};
use binfmt::hold::LIFETIME;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::signal::{Signal, kill};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// How long the killed are waited for, and how often they are looked at.
const PATIENCE: Duration = Duration::from_secs(5);
const PAUSE: Duration = Duration::from_micros(200);

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
            // Without a descriptor for each nobody is waited for.
            let dying: Vec<Dying> = tree.members().iter().map_while(Dying::of).collect();
            part(&tree, collected, Signal::SIGKILL, "killing it")?;
            let stood_still = tree.thaw()?;
            wait_for(&dying);
            Ok(stood_still)
        }
    }
}

/// A process that is to be killed.
struct Dying {
    process: OwnedFd,
    threads: Vec<Tid>,
}

impl Dying {
    fn of(member: &Frozen) -> Option<Dying> {
        let process = sys::pidfd_open(member.pid().0).ok()?;
        Some(Dying { process, threads: member.threads().iter().map(Stopped::tid).collect() })
    }

    /// Whether all its threads are over. Their ends are ours to take, who trace them, the leader's last.
    fn is_over(&self) -> bool {
        for tid in self.threads.iter().rev() {
            // Another one's has been taken already.
            let _ = sys::wait(*tid, Take::End, Block::No);
        }
        let events = sys::events(self.process.as_fd(), PollFlags::POLLIN);
        events.is_ok_and(|events| events.contains(PollFlags::POLLIN))
    }
}

/// Waits until these processes have given back what they had (ports, locks, terminals), so that a resume finds it free. One
/// that the kernel cannot end (state D) is left to it.
fn wait_for(processes: &[Dying]) {
    let deadline = Instant::now() + PATIENCE;
    for process in processes {
        while !process.is_over() && Instant::now() < deadline {
            std::thread::sleep(PAUSE);
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
        if signal == Signal::SIGSTOP {
            run_on(tree);
        }
        // What holds back the peers of those that were killed stays, and expires; whose process was ended itself (EINTR) has
        // said nothing of them.
        if signal == Signal::SIGSTOP || error == Errno::EINTR {
            let _ = collected.hold.as_ref().map(Hold::release);
        }
        let what = format!("{what} and holding back the peers of its TCP connections");
        Error::question(tree.root().unwrap_or(Pid(0)), &what, error)
    })
}

/// The table that stays is made before anybody is told: the other one is in force until then, and nobody is told in vain. From
/// the first that is killed on, one failure spares nobody else.
fn tell(tree: &Tree, collected: &Collected, signal: Signal) -> nix::Result<()> {
    collected.hold.as_ref().map_or(Ok(()), |hold| hold.outlive(LIFETIME))?;
    let told: Vec<_> = tree.members().iter().map(|member| send(member, signal)).collect();
    let nobody = told.iter().all(Result::is_err);
    let mut all = first_error(told);
    if signal == Signal::SIGKILL {
        if nobody {
            let _ = collected.hold.as_ref().map(Hold::release);
            return all;
        }
        let silenced = collected.connections.iter().map(|connection| sys::silence(connection.as_raw_fd()));
        all = all.and(first_error(silenced));
    }
    all
}

/// Has those go on that did not stand still before.
fn run_on(tree: &Tree) {
    let ran = |member: &&Frozen| member.threads().iter().all(|thread| thread.group_stop() == 0);
    for member in tree.members().iter().filter(ran) {
        let _ = send(member, Signal::SIGCONT);
    }
}

fn send(member: &Frozen, signal: Signal) -> nix::Result<()> {
    kill(nix::unistd::Pid::from_raw(member.pid().0), signal)
}

/// Every one is done, whatever has become of those before.
fn first_error(done: impl IntoIterator<Item = nix::Result<()>>) -> nix::Result<()> {
    done.into_iter().fold(Ok(()), nix::Result::and)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_spares_nobody_and_the_first_is_told() {
        let mut count = 0;
        let all = [Ok(()), Err(Errno::EPERM), Err(Errno::EINVAL), Ok(())];
        let done = all.into_iter().inspect(|_| count += 1);
        assert_eq!(first_error(done), Err(Errno::EPERM));
        assert_eq!(count, 4);
    }
}
