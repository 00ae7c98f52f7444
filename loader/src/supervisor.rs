//! The supervisor: the exec'd process that makes the task under its old process id and stays as the job that the shell
//! sees.
//!
//! It is the task's parent and its midwife. Signals that are sent to it go on to the task; when the task stops it stops
//! too, and when it is continued it continues the task; it ends as the task ends. Where the task led a process group of
//! its own it does so again, and has the terminal while it is in the foreground.

use crate::aside;
use crate::cli::Options;
use crate::control::Control;
use crate::error::{Error, Result};
use crate::midwife::{self, Midwife};
use crate::plan::{Host, Plan};
use crate::stage::{Point, Stage};
use crate::sys;
use binfmt::image::Image;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Makes the task and, unless it shall be detached, watches it to its end.
pub fn resume(image: Image, host: &Host, plan: &Plan, options: &Options) -> Result<ExitCode> {
    let task = crate::plan::root_task(&image)?.clone();
    let syscall_at = midwife::syscall_address(&image, host)?;
    let trace_options = midwife::trace_options(&image, host);
    let stage = midwife::make_stage(
        image,
        plan,
        options,
        if task.has_execed { Point::Aside } else { Point::Assemble },
    )?;
    let control = Control::map(plan.hole, stage.control.as_fd())?;
    control.set(crate::control::Word::Midwife, std::process::id());
    SigSet::all().thread_set_mask().map_err(|error| Error::step("block signals", error))?;
    let terminal = (!options.detach).then(foreground_terminal).flatten();
    // The leader of a session that had a terminal gets ours, and so cannot leave our session for one of its own.
    let joins = task.controlling_terminal != 0 && terminal.is_some();
    let place = Place {
        own_session: task.session == task.pid && !joins,
        own_group: task.process_group == task.pid,
        terminal,
    };
    let pid = i32::try_from(plan.pid).map_err(|_| Error::Internal("the process id is out of range"))?;
    let supervisor = nix::unistd::getpid();
    let child = sys::fork(pid, libc::SIGCHLD)
        .map_err(|error| Error::step(format!("make process {pid} (clone3 with set_tid)"), error))?;
    if child == 0 {
        end_with(supervisor)?;
        sys::unmap(plan.hole.control(), binfmt::address::PAGE_BYTES)
            .map_err(|error| Error::step("leave the control page", error))?;
        return go_on(stage, &place, task.has_execed);
    }
    let pid = Pid::from_raw(child);
    place.give_terminal(pid);
    let tids = plan.tids.iter().filter_map(|tid| i32::try_from(*tid).ok()).map(Pid::from_raw).collect();
    let (hole, stopped) = (plan.hole, plan.stopped);
    let midwife = Midwife { control, pid, tids, hole, syscall_at, stopped, trace_options };
    let delivered = midwife.deliver();
    if let Err(error) = delivered {
        // Reaped, so that nothing is left.
        midwife.take_ends();
        let _ = waitpid(pid, Some(WaitPidFlag::__WALL));
        place.take_terminal();
        return Err(error);
    }
    drop(stage);
    if options.detach {
        // Nobody may be there to read it.
        let _ = writeln!(std::io::stdout(), "{pid}");
        return Ok(ExitCode::SUCCESS);
    }
    watch(pid, &place)
}

/// In the child: until the task is whole it must not outlive the supervisor; the task's own setting comes with its program.
fn end_with(supervisor: Pid) -> Result<()> {
    let failed = |error| Error::step("tie the process to its supervisor", error);
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed)?;
    // The supervisor may have ended before the kernel knew that this matters.
    if nix::unistd::getppid() == supervisor { Ok(()) } else { Err(Error::Told) }
}

/// In the child: take the task's place among sessions and groups, and go on to the next start.
fn go_on(stage: Stage, place: &Place, has_execed: bool) -> Result<ExitCode> {
    place.enter().map_err(|error| Error::step("make the process's session or group", error))?;
    if !has_execed {
        match aside::start(stage.hole, &stage.to_arguments())? {}
    }
    let arguments = stage.to_arguments();
    let mut command = Command::new("/proc/self/exe");
    command.arg0("ckpt-loader").args(arguments.iter().skip(1));
    let error = command.exec();
    Err(Error::io("exec the loader again", &error))
}

/// Where the task stands among sessions, groups and terminals.
struct Place {
    own_session: bool,
    own_group: bool,
    terminal: Option<OwnedFd>,
}

impl Place {
    fn enter(&self) -> nix::Result<()> {
        if self.own_session {
            return nix::unistd::setsid().map(drop);
        }
        if self.own_group { nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0)) } else { Ok(()) }
    }

    /// Whether the task has a group of its own in this session.
    fn has_group_here(&self) -> bool {
        self.own_group && !self.own_session
    }

    /// Gives the terminal to the task's group. All signals are blocked, SIGTTOU too.
    fn give_terminal(&self, pid: Pid) {
        if let Some(terminal) = self.terminal.as_ref().filter(|_| self.has_group_here()) {
            // The child does it as well: whoever comes first, it is done before either goes on.
            let _ = nix::unistd::setpgid(pid, pid);
            let _ = tcsetpgrp(terminal, pid);
        }
    }

    /// Takes the terminal back.
    fn take_terminal(&self) {
        if let Some(terminal) = self.terminal.as_ref().filter(|_| self.has_group_here()) {
            let _ = tcsetpgrp(terminal, getpgrp());
        }
    }
}

/// The controlling terminal, if our group is in its foreground.
pub fn foreground_terminal() -> Option<OwnedFd> {
    let flags = nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_CLOEXEC;
    let terminal = nix::fcntl::open("/dev/tty", flags, nix::sys::stat::Mode::empty()).ok()?;
    (tcgetpgrp(&terminal) == Ok(getpgrp())).then_some(terminal)
}

/// Watches the task to its end: signals go on to it, stops and continuations both ways, and its end is ours.
fn watch(pid: Pid, place: &Place) -> Result<ExitCode> {
    release_descriptors();
    let all = SigSet::all();
    loop {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED;
        match waitpid(pid, Some(flags)) {
            Ok(WaitStatus::Exited(_, code)) => {
                place.take_terminal();
                return Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX)));
            }
            Ok(WaitStatus::Signaled(_, signal, _)) => {
                place.take_terminal();
                return die_by(signal);
            }
            Ok(WaitStatus::Stopped(..)) => {
                place.take_terminal();
                // Stopped for the shell to see, until it says otherwise.
                kill(nix::unistd::getpid(), Signal::SIGSTOP).map_err(|error| Error::step("stop", error))?;
                place.give_terminal(pid);
                continue_task(pid);
                continue;
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(Error::step(format!("wait for process {pid}"), error)),
        }
        match sys::wait_signal(&all) {
            Ok((libc::SIGCHLD, _)) | Err(_) => {}
            Ok((libc::SIGCONT, _)) => continue_task(pid),
            // From the terminal: a task in our group got it by itself.
            Ok((_, from_kernel)) if from_kernel && !place.own_session && !place.own_group => {}
            Ok((signal, _)) => sys::send(pid.as_raw(), signal),
        }
    }
}

fn continue_task(pid: Pid) {
    // ESRCH: it ended meanwhile, and the next wait tells how.
    let _ = kill(pid, Signal::SIGCONT);
}

/// The watcher holds nothing that somebody might wait to be closed.
fn release_descriptors() {
    if let Ok(null) = nix::fcntl::open("/dev/null", nix::fcntl::OFlag::O_RDWR, nix::sys::stat::Mode::empty())
    {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
    }
}

/// Ends by the signal that ended the task, without a core of our own.
fn die_by(signal: Signal) -> Result<ExitCode> {
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    sys::default_disposition(signal);
    let mut set = SigSet::empty();
    set.add(signal);
    let _ = kill(nix::unistd::getpid(), signal);
    let _ = set.thread_unblock();
    Ok(ExitCode::from(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX)))
}
