//! Freezing: every thread of every task of the tree stands still, and each is let go when its value is dropped.
//!
//! Threads are seized, not attached to, and stops are looked at, never taken (WNOWAIT): the kernel then lets everything
//! go on unharmed when this program is killed. A signal that is being delivered when we come is delivered first.
//!
//! [`tree`] finds the tasks, from the top down: a task that stands still forks no more. This file freezes one task,
//! [`thread`] one thread, and [`refusal`] says why it cannot be.

mod refusal;
mod thread;
mod tree;

pub use thread::{Moved, Stopped};
pub use tree::{Node, Tree, Zombie, descendants};

use crate::error::Error;
use crate::procdir::ProcDir;
use crate::sys::{self, Block, Take};
use binfmt::address::{Pid, Tid};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use thread::{Running, Seized, Waited};

/// A task of which every thread stands still. They go on when the value is dropped.
#[derive(Debug)]
pub struct Frozen {
    pid: Pid,
    threads: Vec<Stopped>,
}

impl Frozen {
    /// Which task.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Its threads, the leader first.
    pub fn threads(&self) -> &[Stopped] {
        &self.threads
    }

    /// Its threads, to run something in them.
    pub fn threads_mut(&mut self) -> &mut [Stopped] {
        &mut self.threads
    }
}

/// What has become of a task that was to be frozen.
#[derive(Debug)]
enum Became {
    /// It stands still.
    Frozen(Frozen),
    /// It has ended and waits to be waited for.
    Zombie,
    /// It is gone.
    Gone,
}

/// A task that is being frozen.
#[derive(Debug)]
struct Freezing {
    pid: Pid,
    known: BTreeSet<Tid>,
    running: Vec<Running>,
    stopped: Vec<Stopped>,
    leader_ended: bool,
}

impl Freezing {
    /// Asks every thread that there is to stop, and waits for none.
    fn begin(pid: Pid) -> Result<Freezing, Error> {
        let mut freezing = Freezing {
            pid,
            known: BTreeSet::new(),
            running: Vec::new(),
            stopped: Vec::new(),
            leader_ended: false,
        };
        freezing.seize_new()?;
        Ok(freezing)
    }

    /// Asks the threads that are not known yet.
    fn seize_new(&mut self) -> Result<(), Error> {
        let Ok(threads) = ProcDir::new(self.pid).threads() else {
            self.leader_ended = true;
            return Ok(());
        };
        for tid in threads {
            if !self.known.insert(tid) {
                continue;
            }
            match Running::seize(self.pid, tid)? {
                Seized::Running(thread) => {
                    // A thread that ends now is seen when it is waited for.
                    let _ = thread.interrupt();
                    self.running.push(thread);
                }
                Seized::Ended if tid == self.pid.leader() => self.leader_ended = true,
                Seized::Ended => {}
            }
        }
        Ok(())
    }

    /// Waits until all threads stand still, and again until no new one appears. The leader comes first.
    fn finish(mut self, deadline: Instant) -> Result<Became, Error> {
        while !self.running.is_empty() && !self.leader_ended {
            for thread in std::mem::take(&mut self.running) {
                let tid = thread.tid();
                match thread.stopped(self.pid, deadline)? {
                    Waited::Stopped(stopped) => self.stopped.push(*stopped),
                    Waited::Died if tid == self.pid.leader() => self.leader_ended = true,
                    // It has no part in the program; what it does for it, is named with its io_uring.
                    Waited::Worker => {}
                    Waited::Died => {
                        // Its end is ours to take: we are its tracer.
                        let _ = sys::wait(tid, Take::End, Block::No);
                    }
                }
            }
            self.seize_new()?;
        }
        // Thread ids wrap around: the leader's need not be the lowest.
        let leader = self.stopped.iter().position(|thread| thread.tid() == self.pid.leader());
        match leader {
            Some(leader) if !self.leader_ended => {
                self.stopped.swap(0, leader);
                Ok(Became::Frozen(Frozen { pid: self.pid, threads: self.stopped }))
            }
            _ => self.ended(),
        }
    }

    /// Its leader has ended. With a whole task the others do as well, each at its own time; their ends are ours to take,
    /// the leader's last.
    fn ended(self) -> Result<Became, Error> {
        const PATIENCE: Duration = Duration::from_millis(200);
        const PAUSE: Duration = Duration::from_micros(200);
        let Freezing { pid, known, stopped, .. } = self;
        // Those that stand still have to go on to come to their end.
        drop(stopped);
        let begun = Instant::now();
        loop {
            let threads = ProcDir::new(pid).threads().unwrap_or_default();
            for tid in known.iter().rev() {
                let _ = sys::wait(*tid, Take::End, Block::No);
            }
            match threads.as_slice() {
                [] => return Ok(Became::Gone),
                // Its end was taken just now: unless its parent cares for none, it waits for the parent.
                [leader] if *leader == pid.leader() => match ProcDir::new(pid).state() {
                    Some('Z') => return Ok(Became::Zombie),
                    _ => return Ok(Became::Gone),
                },
                _ if begun.elapsed() > PATIENCE => return Err(refusal::leaderless(pid)),
                _ => std::thread::sleep(PAUSE),
            }
        }
    }
}

/// Whether a thread is a zombie, or gone.
fn has_ended(pid: Pid, tid: Tid) -> bool {
    let status = ProcDir::new(pid).thread_text(tid, "status").unwrap_or_default();
    crate::parse::value(&status, "State").is_none_or(|state| state.starts_with(['Z', 'X']))
}
