//! Namespaces of its own for a tree whose process ids cannot be had: pids, mounts with its own `/proc`, and for an
//! ordinary user a user namespace, in which it has the rights that a resume takes.
//!
//! The supervisor enters them halfway: it stays in its own pid namespace, where its parent waits for it, but what it forks
//! is in the new one. The first such process is init there: it is the midwife, since it knows the tasks by their old ids,
//! and afterwards takes the ends of orphans, until there is nobody left.

use crate::control::{Patience, Word};
use crate::error::{Error, Result};
use crate::midwife::Kept;
use crate::midwife::Midwife;
use crate::midwife::helper::{self, Duties};
use crate::plan::Plan;
use crate::sys;
use binfmt::image::Image;
use binfmt::ipc;
use binfmt::note::credential::Credential;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getegid, geteuid};
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};

/// Capability numbers end before this.
const CAPABILITIES_END: u64 = 64;

/// The user and group ids that all tasks of an image have, if they have the same.
pub fn only_ids(image: &Image) -> Option<(u32, u32)> {
    let all = |identity: &binfmt::note::credential::Identity| {
        [identity.real, identity.effective, identity.saved, identity.filesystem]
    };
    let users: BTreeSet<u32> =
        image.all::<Credential>().flat_map(|credential| all(&credential.user)).collect();
    let groups: BTreeSet<u32> =
        image.all::<Credential>().flat_map(|credential| all(&credential.group)).collect();
    match (users.len(), groups.len()) {
        (1, 1) => Some((users.first().copied()?, groups.first().copied()?)),
        _ => None,
    }
}

/// Why this process cannot have namespaces of its own, if it cannot. A child tries it.
pub fn objection(with_user: bool, with_ipc: bool) -> Option<String> {
    let child = match sys::fork(&[], 0, 0) {
        Ok(0) => sys::exit_now(unshare(flags(with_user, with_ipc)).map_or_else(|error| error as i32, |()| 0)),
        Ok(child) => Pid::from_raw(child),
        Err(error) => return Some(format!("it cannot fork ({error})")),
    };
    match waitpid(child, Some(WaitPidFlag::__WALL)) {
        Ok(WaitStatus::Exited(_, 0)) => None,
        Ok(WaitStatus::Exited(_, error)) => {
            Some(format!("this user may not make namespaces ({})", Errno::from_raw(error)))
        }
        _ => Some("this user may not make namespaces".to_owned()),
    }
}

/// Whether the tree has System V objects: with an IPC namespace of its own their ids are free, and may be chosen. A tree
/// without them keeps the one that it had, for what else it may use there.
pub fn takes_ipc(image: &Image) -> bool {
    ipc::objects(image).next().is_some()
}

fn flags(with_user: bool, with_ipc: bool) -> CloneFlags {
    let mut flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS;
    flags.set(CloneFlags::CLONE_NEWUSER, with_user);
    flags.set(CloneFlags::CLONE_NEWIPC, with_ipc);
    flags
}

/// Enters new namespaces. With a user namespace, this user and group appear in it as `ids`.
pub fn enter(ids: Option<(u32, u32)>, with_ipc: bool) -> Result<()> {
    let (user, group) = (geteuid(), getegid());
    unshare(flags(ids.is_some(), with_ipc)).map_err(|error| Error::step("make namespaces for it", error))?;
    if let Some((inner_user, inner_group)) = ids {
        let write = |path: &str, text: String| {
            fs::write(path, text).map_err(|error| Error::io(format!("write {path}"), &error))
        };
        write("/proc/self/setgroups", "deny".to_owned())?;
        write("/proc/self/uid_map", format!("{inner_user} {user} 1"))?;
        write("/proc/self/gid_map", format!("{inner_group} {group} 1"))?;
        keep_capabilities()?;
    }
    let nothing: Option<&str> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)
        .map_err(|error| Error::step("keep its mounts to itself", error))
}

/// Makes the capabilities that a user namespace gives survive exec: they become inheritable and ambient.
pub fn keep_capabilities() -> Result<()> {
    let failed = |error| Error::step("keep the rights in its user namespace", error);
    let permitted = crate::rebuild::credential::own()?.permitted;
    crate::rebuild::credential::set_own_capabilities(permitted).map_err(failed)?;
    for capability in (0..CAPABILITIES_END).filter(|bit| permitted >> bit & 1 == 1) {
        let raise = u64::from(libc::PR_CAP_AMBIENT_RAISE.unsigned_abs());
        crate::rebuild::prctl(libc::PR_CAP_AMBIENT, [raise, capability, 0, 0]).map_err(failed)?;
    }
    Ok(())
}

/// Forks the init of the new pid namespace, which is the midwife and lives as long as anybody else there. Returns its
/// process id here, when it has its `/proc`.
pub fn spawn_init<'a>(
    midwife: &Midwife,
    image: &Image,
    plan: &Plan,
    close: impl FnOnce() -> Result<Kept<'a>>,
    before: impl Fn(),
) -> Result<Pid> {
    let control = midwife.control;
    let fork = || {
        sys::fork(&[], libc::SIGCHLD, 0)
            .map_err(|error| Error::step("fork the init of its pid namespace", error))
    };
    let prepare = || {
        let kept = close()?;
        mount_proc().map(|()| kept)
    };
    let duties = Duties { prepare, before, after: || be_init(midwife) };
    let init = helper::spawn(midwife, image, plan, fork, duties)?;
    let mut patience = Patience::of_midwife();
    while control.get(Word::Midwife) == 0 {
        if sys::has_ended(init.as_raw()) {
            return Err(Error::Told);
        }
        control.wait(Word::Midwife, 0, &mut patience);
    }
    Ok(init)
}

fn mount_proc() -> Result<()> {
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let nothing: Option<&str> = None;
    mount(Some("proc"), "/proc", Some("proc"), quiet, nothing)
        .map_err(|error| Error::step("mount a /proc of its own", error))
}

/// Takes the ends of orphans until the root has ended and nobody is left.
fn be_init(midwife: &Midwife) -> ! {
    let root = midwife.wards.first().and_then(|root| sys::open_process(root.pid.as_raw()).ok());
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    let signals = SignalFd::with_flags(&children, SfdFlags::SFD_NONBLOCK);
    let (Some(root), Ok(signals)) = (root, signals) else { sys::exit_now(0) };
    sys::trim_heap();
    crate::supervisor::release_stdio();
    let mut stay = [0, 1, 2, root.as_raw_fd().unsigned_abs(), signals.as_fd().as_raw_fd().unsigned_abs()];
    stay.sort_unstable();
    // What was opened before is nobody's here: no value that owns it is dropped any more.
    let _ = crate::rebuild::descriptor::close_others(&stay);
    let mut root_lives = true;
    loop {
        let nobody = loop {
            match sys::wait_status(None, WaitPidFlag::__WALL | WaitPidFlag::WNOHANG) {
                Ok(None) => break false,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => break true,
            }
        };
        if nobody && !root_lives {
            sys::exit_now(0);
        }
        let mut ready =
            [PollFd::new(signals.as_fd(), PollFlags::POLLIN), PollFd::new(root.as_fd(), PollFlags::POLLIN)];
        let watched = if root_lives { ready.as_mut_slice() } else { ready.split_at_mut(1).0 };
        let _ = poll(watched, PollTimeout::NONE);
        while matches!(signals.read_signal(), Ok(Some(_))) {}
        root_lives = root_lives && !sys::has_ended_fd(root.as_fd());
    }
}
