//! The supervisor: the exec'd process that makes the task under its old process id and stays as the job that the shell
//! sees.
//!
//! It is the task's parent and its midwife. Signals that are sent to it go on to the task; when the task stops it stops
//! too, and when it is continued it continues the task; it ends as the task ends. Where the task led a process group of
//! its own it does so again, and has the terminal while it is in the foreground.

use crate::aside;
use crate::cli::Options;
use crate::control::{ProcessWord, Word};
use crate::error::{Error, Result};
use crate::grow;
use crate::midwife::helper::{self, Duties, Hired};
use crate::midwife::{self, Kept, Midwife};
use crate::namespace;
use crate::plan::skeleton::{self, Process, Role, Step};
use crate::plan::{self, Host, Plan, ROOT};
use crate::rebuild::terminal;
use crate::rebuild::unix;
use crate::shelf::Shelf;
use crate::stage::{Identity, Point, Stage};
use crate::sys;
use crate::turn::Turn;
use binfmt::image::Image;
use binfmt::note::namespace::NamespaceKind;
use binfmt::note::task::Task;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::WaitPidFlag;
use nix::unistd::{Pid, getpgid, getpgrp, tcgetpgrp, tcsetpgrp};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

/// Makes the tree and, unless it shall be detached, watches its root to its end.
pub fn resume(
    image: Image,
    mut host: Host,
    plan: Plan,
    options: &Options,
    turn: Option<Turn>,
) -> Result<ExitCode> {
    let trace_options = midwife::trace_options(&image, &host);
    // Who watches files is made before there are namespaces: the first process there is another.
    let pages = midwife::first_pages(&image, &plan)?;
    // What is opened is opened there.
    let children = match plan.identity {
        Identity::Namespace => Some(enter(&image, &mut host, &plan)?),
        _ => None,
    };
    let (stage, shelf) = midwife::make_stage(&image, &host, &plan, options, &pages)?;
    drop(pages);
    let control = midwife::first_control(&image, &plan, &stage, &shelf)?;
    SigSet::all().thread_set_mask().map_err(|error| Error::step("block signals", error))?;
    let mut place = Place::of(&image, &plan, options);
    let midwife = Midwife { control, wards: plan.wards.clone(), hole: plan.hole, trace_options };
    let supervisor = nix::unistd::getpid();
    let hired = hire(&midwife, (&image, &host), &plan, &shelf, children, || place.begin())?;
    place.has_given = place.in_front;
    let mut root = None;
    let tell = |step: &Step| plan::tell(&image, &plan.skeleton, 0, step, &stage);
    let delivered = match found(&image, &plan, &hired, tell, &mut root) {
        Ok(Some(child)) => {
            end_with(supervisor, plan.identity, plan.skeleton.processes.get(child))?;
            control.unmap()?;
            drop(turn);
            return go_on(&Stage { process: child, ..stage }, plan.skeleton.processes.get(child));
        }
        Ok(None) => {
            shelf.close();
            hired.await_delivery()
        }
        Err(error) => Err(error),
    };
    let delivered = delivered.and(root.ok_or(Error::Internal("the tree has no root")));
    let root = delivered.inspect_err(|_| {
        hired.give_up(root);
        unix::remove_files(&image);
        place.take_terminal();
    })?;
    turn.into_iter().for_each(Turn::end);
    // What is left to do takes no memory.
    drop((image, host, plan, midwife));
    for own in [stage.image, stage.control, stage.report] {
        drop(sys::adopt(own));
    }
    if options.detach {
        // Nobody may be there to read it.
        let _ = writeln!(std::io::stdout(), "{root}");
        return Ok(ExitCode::SUCCESS);
    }
    sys::trim_heap();
    watch(root, place)
}

/// Enters namespaces of the tree's own. Returns the list of this process's children, by the ids that they have out here.
fn enter(image: &Image, host: &mut Host, plan: &Plan) -> Result<File> {
    let children = File::open("/proc/thread-self/children")
        .map_err(|error| Error::io("open the list of its children", &error))?;
    // A new one is free.
    let with_ipc = namespace::takes_ipc(image) && !host.namespaces.is_new(image, NamespaceKind::Ipc);
    namespace::enter(plan.inner_ids, with_ipc)?;
    if with_ipc {
        host.namespaces.renew_ipc(image)?;
    }
    if plan.inner_ids.is_none() {
        terminal::pseudo::mount_own(image)?;
    }
    Ok(children)
}

/// Makes the midwife: in a pid namespace of the tree's own its init.
fn hire<'a>(
    midwife: &'a Midwife,
    (image, host): (&Image, &Host),
    plan: &Plan,
    shelf: &Shelf,
    children: Option<File>,
    before: impl Fn(),
) -> Result<Hired<'a>> {
    // She needs little of it, and an open file can be in the way.
    let theirs = shelf.clone();
    let close = move || {
        let kept = Kept::of(image, &theirs, &host.holding);
        theirs.close();
        kept
    };
    if let Some(children) = children {
        let pid = namespace::spawn_init(midwife, image, plan, close, before)?;
        return Ok(Hired { midwife, pid, children: Some(children) });
    }
    let nobody = Process {
        pid: 0,
        role: Role::Helper,
        namespace: 0,
        exit_signal: skeleton::SIGCHLD,
        shares_memory: false,
        steps: Vec::new(),
    };
    let fork = || grow::Maker::of(plan, &plan.ids_of(image)).make(&nobody, false, 0);
    let pid = helper::spawn(midwife, image, plan, fork, Duties { prepare: close, before, after: || {} })?;
    // Before anybody is made who must see that she has ended, which she may do at once.
    midwife.control.set(Word::Midwife, pid.as_raw().unsigned_abs());
    Ok(Hired { midwife, pid, children: None })
}

/// Goes through the founder's steps. In a process that it makes, returns which that is.
fn found(
    image: &Image,
    plan: &Plan,
    hired: &Hired<'_>,
    tell: impl Fn(&Step),
    root: &mut Option<Pid>,
) -> Result<Option<usize>> {
    let control = hired.midwife.control;
    let wanted = plan.ids_of(image);
    let maker = grow::Maker::of(plan, &wanted);
    let founder = plan.skeleton.processes.first().ok_or(Error::Internal("the skeleton has no founder"))?;
    for step in &founder.steps {
        tell(step);
        match step {
            Step::Fork(child) => {
                let process = plan.skeleton.processes.get(*child);
                let process = process.ok_or(Error::Internal("the skeleton lacks a process"))?;
                maker.await_namespace(process, control, &plan.skeleton, || hired.check())?;
                let made = maker.make(process, false, 0)?;
                if made == 0 {
                    return Ok(Some(*child));
                }
                control.set_of(*child, ProcessWord::SeenPid, made.unsigned_abs());
                control.set_of(*child, ProcessWord::Pid, made.unsigned_abs());
                if *child == ROOT {
                    *root = Some(Pid::from_raw(made));
                }
            }
            Step::Finish => break,
            _ => grow::common_step(step, control, &plan.skeleton, || hired.check())?,
        }
    }
    if root.is_none() {
        *root = Some(hired.adopted()?);
    }
    Ok(None)
}

/// In the child: until the task is whole it must not outlive the supervisor; the task's own setting comes with its program.
pub fn end_with(supervisor: Pid, identity: Identity, process: Option<&Process>) -> Result<()> {
    let failed = |error| Error::step("tie the process to its supervisor", error);
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed)?;
    // The supervisor may have ended before the kernel knew that this matters. From another namespace it cannot be seen, but
    // there init ends with it, and everybody with init.
    // In one inside of the tree the end of the midwife is noticed.
    let is_inside = process.is_some_and(|process| process.namespace != 0);
    if identity == Identity::Namespace || is_inside || nix::unistd::getppid() == supervisor {
        Ok(())
    } else {
        Err(Error::Told)
    }
}

/// In the child: go on to the next start.
pub fn go_on(stage: &Stage, process: Option<&Process>) -> Result<ExitCode> {
    let process = process.ok_or(Error::Internal("the skeleton lacks a process"))?;
    if process.steps.first() == Some(&Step::Exec) {
        return Err(grow::exec_again(&Stage { point: Point::Aside, steps_done: 1, ..stage.clone() }));
    }
    match aside::start(stage)? {}
}

/// Where the root stands among sessions, groups and terminals.
struct Place {
    /// Whether it leaves our session.
    own_session: bool,
    /// Whether it leaves our group.
    own_group: bool,
    /// Which group of the tree has the terminal, if one of our session's has.
    foreground: Option<Pid>,
    /// Our terminal, if it matters to the tree.
    terminal: Option<OwnedFd>,
    /// Whether we were started in its foreground.
    in_front: bool,
    /// Whether we have given it to the tree, and not taken it back.
    has_given: bool,
}

impl Place {
    fn of(image: &Image, plan: &Plan, options: &Options) -> Place {
        let tasks = || image.all::<Task>();
        let terminal = (!options.detach).then(own_terminal).flatten();
        let in_front = terminal.as_ref().is_some_and(is_ours);
        // A group without a leader in the tree is ours, unless a helper makes it.
        let made =
            |group: u32| plan.skeleton.processes.iter().any(|process| process.pid == group && group != 0);
        let root = tasks().next();
        let own_session = plan.root.session != skeleton::CALLERS;
        let in_session = |task: &&Task| root.is_some_and(|root| root.session == task.session) && !own_session;
        let front = tasks().filter(in_session).find(|task| task.in_foreground && made(task.process_group));
        // Where nobody was in front, the root is now.
        let front = front.or(root.filter(|root| {
            !tasks().filter(in_session).any(|task| task.in_foreground) && made(root.process_group)
        }));
        let front = front.filter(in_session).map(|task| Pid::from_raw(task.process_group.cast_signed()));
        let own_group = plan.root.group != skeleton::CALLERS;
        Place { own_session, own_group, foreground: front, terminal, in_front, has_given: false }
    }

    /// Gives the terminal to the tree's group. All signals are blocked, SIGTTOU too.
    fn give_terminal(&self) {
        if let (Some(terminal), Some(group)) = (&self.terminal, self.foreground) {
            let _ = tcsetpgrp(terminal, group);
        }
    }

    /// The same at the start.
    fn begin(&self) {
        if self.in_front {
            self.give_terminal();
        }
    }

    /// The same if the shell has put us in front (`fg`): with `bg` the terminal stays its own. Says whether it has.
    fn give_terminal_if_ours(&mut self) -> bool {
        let is_ours = self.terminal.as_ref().is_some_and(is_ours);
        if is_ours {
            self.give_terminal();
            self.has_given = true;
        }
        is_ours
    }

    /// Who gets a signal that came to us: what is meant for a job goes to all of it, where that is a group of its own.
    fn addressee(&self, root: Pid, signal: i32) -> Pid {
        let for_all =
            [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGCONT].contains(&signal);
        let group = getpgid(Some(root)).ok().filter(|_| for_all && self.own_group && !self.own_session);
        group.map_or(root, |group| Pid::from_raw(-group.as_raw()))
    }

    /// Takes the terminal back, if it was given. Who had it gets it again: by the id that the group has here, not in a
    /// namespace of its own.
    fn take_terminal(&mut self) {
        if let (Some(terminal), Some(_), true) = (&self.terminal, self.foreground, self.has_given) {
            if let Ok(front) = tcgetpgrp(terminal)
                && front != getpgrp()
            {
                self.foreground = Some(front);
            }
            let _ = tcsetpgrp(terminal, getpgrp());
            self.has_given = false;
        }
    }
}

/// The controlling terminal, if our group is in its foreground.
pub fn foreground_terminal() -> Option<OwnedFd> {
    own_terminal().filter(is_ours)
}

/// The controlling terminal.
fn own_terminal() -> Option<OwnedFd> {
    let flags = nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_CLOEXEC;
    nix::fcntl::open("/dev/tty", flags, nix::sys::stat::Mode::empty()).ok()
}

/// Whether our group is in the foreground of a terminal.
fn is_ours(terminal: &OwnedFd) -> bool {
    tcgetpgrp(terminal) == Ok(getpgrp())
}

/// Watches the task to its end: signals go on to it, stops and continuations both ways, and its end is ours.
fn watch(pid: Pid, mut place: Place) -> Result<ExitCode> {
    release_stdio();
    let all = SigSet::all();
    loop {
        let flags = WaitPidFlag::WNOHANG | WaitPidFlag::WUNTRACED;
        match sys::wait_status(Some(pid), flags) {
            Ok(Some(status)) if libc::WIFEXITED(status) => {
                place.take_terminal();
                let code = libc::WEXITSTATUS(status);
                return Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(u8::MAX)));
            }
            Ok(Some(status)) if libc::WIFSIGNALED(status) => {
                place.take_terminal();
                let signal = libc::WTERMSIG(status);
                sys::end_by(signal);
                return Ok(ExitCode::from(u8::try_from(128 + signal).unwrap_or(u8::MAX)));
            }
            // The shell has put us in front without a word (`fg` of a job that runs).
            Ok(Some(status)) if wants_terminal(status) && place.give_terminal_if_ours() => {
                continue_task(pid, &place);
                continue;
            }
            Ok(Some(status)) if libc::WIFSTOPPED(status) => {
                place.take_terminal();
                // Stopped for the shell to see, until it says otherwise.
                kill(nix::unistd::getpid(), Signal::SIGSTOP).map_err(|error| Error::step("stop", error))?;
                // The SIGCONT that woke us is still pending: it goes on to the task once.
                sys::forget_signal(&SigSet::from(Signal::SIGCONT));
                place.give_terminal_if_ours();
                continue_task(pid, &place);
                continue;
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(Error::step(format!("wait for process {pid}"), error)),
        }
        match sys::wait_signal(&all) {
            Ok((libc::SIGCHLD, _)) | Err(_) => {}
            Ok((libc::SIGCONT, _)) => {
                place.give_terminal_if_ours();
                continue_task(pid, &place);
            }
            // From the terminal: a task in our group got it by itself.
            Ok((_, from_kernel)) if from_kernel && !place.own_session && !place.own_group => {}
            Ok((signal, _)) => sys::send(place.addressee(pid, signal).as_raw(), signal),
        }
    }
}

fn continue_task(pid: Pid, place: &Place) {
    // ESRCH: it ended meanwhile, and the next wait tells how.
    let _ = kill(place.addressee(pid, libc::SIGCONT), Signal::SIGCONT);
}

/// Whether a task was stopped because it is not in the foreground of the terminal.
fn wants_terminal(status: i32) -> bool {
    libc::WIFSTOPPED(status) && [libc::SIGTTIN, libc::SIGTTOU].contains(&libc::WSTOPSIG(status))
}

/// Who only waits holds nothing that somebody might wait to be closed.
pub fn release_stdio() {
    if let Ok(null) = nix::fcntl::open("/dev/null", nix::fcntl::OFlag::O_RDWR, nix::sys::stat::Mode::empty())
    {
        let _ = nix::unistd::dup2_stdin(&null);
        let _ = nix::unistd::dup2_stdout(&null);
    }
}
