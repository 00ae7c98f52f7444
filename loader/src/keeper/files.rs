//! The keeper of files: a process that removes the files of unix sockets if the tree never lives.
//!
//! Such a file stays when its socket is gone. Whoever is started makes it, and may be killed at any instant: so this process is
//! there before the first is made, and nobody's child. When all is over it removes what nobody has any more. Where the tree
//! lives that is nothing.

use crate::control::{Control, Patience, Word};
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::rebuild::{descriptor, unix};
use crate::sys;
use crate::world::shape;
use binfmt::image::Image;
use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpid};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Forks it off, if there may be such files; `pages` are the control pages.
pub fn spawn(image: &Image, plan: &Plan, pages: BorrowedFd<'_>) -> Result<()> {
    if !unix::has_files(image) {
        return Ok(());
    }
    let failed = |error| Error::step("make the process that watches the files of unix sockets", error);
    let started = sys::open_process(getpid().as_raw()).map_err(failed)?;
    // Exit signal 0 and a second fork: nobody has a child that it did not make.
    let middle = sys::fork(&[], 0, 0).map_err(failed)?;
    if middle != 0 {
        let waited = || waitpid(Pid::from_raw(middle), Some(WaitPidFlag::__WALL));
        while waited() == Err(Errno::EINTR) {}
        return Ok(());
    }
    let wanted = plan.ids_of(image);
    let is_wanted = |pid: Pid| wanted.contains(&pid.as_raw().unsigned_abs());
    loop {
        match sys::fork(&[], 0, 0).map(Pid::from_raw) {
            Ok(made) if made.as_raw() != 0 && is_wanted(made) => {
                let _ = waitpid(made, Some(WaitPidFlag::__WALL));
            }
            // One with an id of the tree is in the way, and made again.
            Ok(made) if made.as_raw() == 0 && !is_wanted(getpid()) => break,
            _ => sys::exit_now(0),
        }
    }
    let _ = watch(image, plan, pages, started.as_fd());
    sys::exit_now(0)
}

fn watch(image: &Image, plan: &Plan, pages: BorrowedFd<'_>, started: BorrowedFd<'_>) -> Result<()> {
    /// How long who was killed may take to end.
    const PATIENCE: Duration = Duration::from_secs(20);
    SigSet::all().thread_set_mask().map_err(|error| Error::step("block signals", error))?;
    let control = Control::map(plan.hole, shape(image, &plan.skeleton), pages)?;
    let mut stay = [pages.as_raw_fd().unsigned_abs(), started.as_raw_fd().unsigned_abs()];
    stay.sort_unstable();
    // The tree's pipes and files must have no other holder.
    descriptor::close_others(&stay)?;
    let lives = || control.get(Word::Delivered) != 0;
    let mut patience = Patience::of_midwife();
    while !lives() && control.get(Word::Failed) == 0 && !sys::has_ended_fd(started) {
        control.wait(Word::Delivered, 0, &mut patience);
    }
    let begun = Instant::now();
    while !lives() && !unix::remove_dead_files(image) && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}
