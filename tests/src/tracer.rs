//! Runs a program of the project under ptrace and does something to it at its N-th system call.
//!
//! Calls are counted over all threads and processes of the program, from its exec on. With one number for each call a
//! sweep over all of them finds every boundary between two calls, and the same one again.
//!
//! A loader is itself traced by its midwife, and a task has one tracer: when a traced process is about to seize another
//! one, that one is let go first. What it calls from then on is not counted.

use crate::{Outcome, Stopped};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

/// What is done at the chosen call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// The process that made it is killed when it has been made.
    KillCaller,
    /// This process is killed when it has been made, if it is there.
    Kill(Pid),
    /// The process that was started first is killed when it has been made.
    KillFirst,
    /// It is not made; the caller is told this error.
    Fail(Errno),
}

/// A system call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which.
    pub number: i64,
    /// Its first arguments.
    pub args: [u64; 3],
    /// Whether the first process made it, and not one that it forked.
    pub by_first: bool,
    /// Which thread made it.
    pub by: Pid,
}

/// What became of a traced program.
#[derive(Debug)]
pub struct Traced {
    /// The process that was started first.
    pub pid: Pid,
    /// How it ended; `None` if it was let go and lives.
    pub status: Option<WaitStatus>,
    /// Its calls, in their order, as far as they were counted.
    pub calls: Vec<Call>,
    /// Whether the deed was done.
    pub done: bool,
    /// Whether it had to be killed because it took too long.
    pub hung: bool,
}

/// The calls that a program starts with, before anything of the project's runs: what `--version` makes until it writes.
pub fn calls_of_start(program: &std::path::Path) -> Outcome<usize> {
    let mut command = Command::new(program);
    command.arg("--version").stdout(std::process::Stdio::null());
    let traced = run(&command, None, Duration::from_secs(20))?;
    let first =
        traced.calls.iter().position(|call| [libc::SYS_ioctl, libc::SYS_write].contains(&call.number));
    first.ok_or_else(|| Stopped::Failed(format!("{} --version writes nothing", program.display())))
}

/// Runs `command` under ptrace to its end and does `deed` at the call with this number, counted from 0.
pub fn run(command: &Command, deed: Option<(usize, Deed)>, patience: Duration) -> Outcome<Traced> {
    // The tracer is a thread of its own, so that it waits for its own children only.
    std::thread::scope(|scope| {
        let tracer = scope.spawn(|| Tracer::start(command, deed)?.run(patience));
        tracer.join().unwrap_or_else(|_| Err(Stopped::Failed("the tracer has panicked".to_owned())))
    })
}

const HERE: WaitPidFlag = WaitPidFlag::__WALL.union(WaitPidFlag::__WNOTHREAD);
/// `op` of PTRACE_GET_SYSCALL_INFO: a stop at the entry to, or the exit from, a call.
const ENTRY: u8 = 1;
const EXIT: u8 = 2;

struct Tracer {
    first: Pid,
    deed: Option<(usize, Deed)>,
    tracees: Arc<Mutex<BTreeSet<Pid>>>,
    /// Threads whose call is being failed.
    failing: Option<Pid>,
    /// The shell that starts the program does not count.
    counting: bool,
    entered: Vec<Call>,
    left: usize,
    done: bool,
    status: Option<WaitStatus>,
}

impl Tracer {
    fn start(command: &Command, deed: Option<(usize, Deed)>) -> Outcome<Tracer> {
        // Nothing is seized that has not stopped itself before it became the program.
        let mut shell = Command::new("/bin/sh");
        shell.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]).arg(command.get_program());
        shell.args(command.get_args()).process_group(0).stdin(std::process::Stdio::null());
        if let Some(folder) = command.get_current_dir() {
            shell.current_dir(folder);
            shell.stdout(crate::tools::log(folder, "traced.out")?);
            shell.stderr(crate::tools::log(folder, "traced.err")?);
        } else {
            shell.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        }
        let first = Pid::from_raw(i32::try_from(shell.spawn()?.id())?);
        waitpid(first, Some(WaitPidFlag::WUNTRACED))?;
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(first, options)?;
        kill(first, Signal::SIGCONT)?;
        Ok(Tracer {
            first,
            deed,
            tracees: Arc::new(Mutex::new(BTreeSet::from([first]))),
            failing: None,
            counting: false,
            entered: Vec::new(),
            left: 0,
            done: false,
            status: None,
        })
    }

    fn run(mut self, patience: Duration) -> Outcome<Traced> {
        let (ended, watched) = mpsc::channel::<()>();
        let hung = Arc::new(AtomicBool::new(false));
        let watcher = std::thread::spawn({
            let (tracees, hung) = (Arc::clone(&self.tracees), Arc::clone(&hung));
            move || {
                if watched.recv_timeout(patience) != Err(mpsc::RecvTimeoutError::Timeout) {
                    return;
                }
                hung.store(true, Ordering::SeqCst);
                if let Ok(tracees) = tracees.lock() {
                    // Ours, held by the tracer: no other process can have their ids.
                    for tid in tracees.iter() {
                        let _ = kill(*tid, Signal::SIGKILL);
                    }
                }
            }
        });
        while self.remaining() > 0 {
            match waitpid(Pid::from_raw(-1), Some(HERE)) {
                Ok(status) => self.stopped(status)?,
                Err(Errno::EINTR) => {}
                Err(Errno::ECHILD) => break,
                Err(error) => return Err(error.into()),
            }
        }
        drop(ended);
        let _ = watcher.join();
        Ok(Traced {
            pid: self.first,
            status: self.status,
            calls: self.entered,
            done: self.done,
            hung: hung.load(Ordering::SeqCst),
        })
    }

    fn remaining(&self) -> usize {
        self.tracees.lock().map_or(0, |tracees| tracees.len())
    }

    fn insert(&self, tid: Pid) {
        if let Ok(mut tracees) = self.tracees.lock() {
            tracees.insert(tid);
        }
    }

    fn remove(&self, tid: Pid) {
        if let Ok(mut tracees) = self.tracees.lock() {
            tracees.remove(&tid);
        }
    }

    fn is_tracee(&self, tid: Pid) -> bool {
        self.tracees.lock().is_ok_and(|tracees| tracees.contains(&tid))
    }

    fn stopped(&mut self, status: WaitStatus) -> Outcome<()> {
        let (tid, signal) = match status {
            WaitStatus::Exited(tid, _) | WaitStatus::Signaled(tid, ..) => {
                self.remove(tid);
                if tid == self.first {
                    self.status = Some(status);
                }
                return Ok(());
            }
            WaitStatus::PtraceSyscall(tid) => {
                self.at_syscall(tid)?;
                (tid, None)
            }
            WaitStatus::PtraceEvent(tid, _, event) => {
                self.counting |= event == libc::PTRACE_EVENT_EXEC;
                (tid, None)
            }
            WaitStatus::Stopped(tid, signal) => (tid, Some(signal)),
            _ => return Ok(()),
        };
        // A new thread may report before its creation does.
        self.insert(tid);
        let event = matches!(status, WaitStatus::PtraceEvent(..));
        if let Some(new) = event.then(|| ptrace::getevent(tid).ok()).flatten()
            && let WaitStatus::PtraceEvent(_, _, kind) = status
            && [libc::PTRACE_EVENT_FORK, libc::PTRACE_EVENT_VFORK, libc::PTRACE_EVENT_CLONE].contains(&kind)
        {
            self.insert(Pid::from_raw(i32::try_from(new)?));
        }
        match ptrace::syscall(tid, signal) {
            // It was killed meanwhile; its end comes.
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn at_syscall(&mut self, tid: Pid) -> Outcome<()> {
        let Ok(info) = ptrace::syscall_info(tid) else { return Ok(()) };
        match info.op {
            ENTRY => self.entry(tid),
            EXIT => self.exit(tid),
            _ => Ok(()),
        }
    }

    fn entry(&mut self, tid: Pid) -> Outcome<()> {
        let Ok(mut registers) = ptrace::getregs(tid) else { return Ok(()) };
        let number = registers.orig_rax.cast_signed();
        if !self.counting {
            return Ok(());
        }
        let index = self.entered.len();
        let args = [registers.rdi, registers.rsi, registers.rdx];
        self.entered.push(Call { number, args, by_first: tid == self.first, by: tid });
        if let Some((at, Deed::Fail(_))) = self.deed
            && at == index
        {
            registers.orig_rax = u64::MAX;
            ptrace::setregs(tid, registers)?;
            self.failing = Some(tid);
        } else if number == libc::SYS_ptrace && args[0] == u64::from(libc::PTRACE_SEIZE) {
            self.let_go(Pid::from_raw(i32::try_from(args[1])?))?;
        }
        Ok(())
    }

    fn exit(&mut self, tid: Pid) -> Outcome<()> {
        if self.failing == Some(tid)
            && let Some((_, Deed::Fail(error))) = self.deed
        {
            let mut registers = ptrace::getregs(tid)?;
            registers.rax = i64::from(-(error as i32)).cast_unsigned();
            ptrace::setregs(tid, registers)?;
            self.failing = None;
            self.done = true;
        }
        if !self.counting {
            return Ok(());
        }
        let index = self.left;
        self.left += 1;
        let victim = match self.deed {
            Some((at, Deed::KillCaller)) if at == index => tid,
            Some((at, Deed::KillFirst)) if at == index => self.first,
            Some((at, Deed::Kill(pid))) if at == index => pid,
            _ => return Ok(()),
        };
        self.done = true;
        // ESRCH: it has ended by itself already, and been waited for.
        let _ = kill(victim, Signal::SIGKILL);
        Ok(())
    }

    /// Detaches from `tid`, wherever it is.
    fn let_go(&mut self, tid: Pid) -> Outcome<()> {
        if !self.is_tracee(tid) {
            return Ok(());
        }
        let mut status = WaitStatus::StillAlive;
        while status == WaitStatus::StillAlive {
            // A dead leader stays ours until its other threads have been waited for: nobody can seize it any more.
            if ptrace::interrupt(tid).is_err() || is_dead(tid) {
                return Ok(());
            }
            status = waitpid(tid, Some(HERE | WaitPidFlag::WNOHANG))?;
        }
        self.remove(tid);
        match status {
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                if tid == self.first {
                    self.status = Some(status);
                }
                return Ok(());
            }
            WaitStatus::Stopped(_, signal) => ptrace::detach(tid, signal)?,
            _ => ptrace::detach(tid, None)?,
        }
        Ok(())
    }
}

/// Whether the task has ended, whoever has yet to wait for it.
fn is_dead(tid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{tid}/stat")).unwrap_or_default();
    // After the name, which may have anything in it: the state.
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}
