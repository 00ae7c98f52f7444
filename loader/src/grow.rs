//! Growing the tree: every process goes through its steps of the skeleton.
//!
//! A process that had exec'd since its fork starts here after a real exec, with nothing but the hole. One that had not
//! is forked by its parent's loader and starts here with the memory that it inherited, whose pages the two share.

mod maker;

pub use maker::Maker;

use crate::arena::Arena;
use crate::assemble;
use crate::control::{Control, Patience, ProcessWord, Word};
use crate::error::{EXIT_CANNOT_RESUME, Error, Result};
use crate::lodger::Lodgers;
use crate::plan;
use crate::plan::skeleton::{Process, Role, Skeleton, Step};
use crate::rebuild::pid_namespace::{self, Manner};
use crate::rebuild::{mapping, schedule, terminal};
use crate::stage::{Point, Stage};
use crate::sys;
use crate::world::World;
use binfmt::note::mapping::Memory;
use binfmt::note::task::RunState;
use binfmt::note::thread::Thread;
use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, execveat};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::rc::Rc;

/// Goes through the steps of process `start` of the skeleton, and in every forked process through its own.
pub fn grow(world: &World<'_>, start: usize) -> Result<Infallible> {
    let done = world.stage.steps_done;
    Growing {
        world,
        me: start,
        done,
        standing: None,
        inherited: false,
        arena: None,
        lodgers: Lodgers::default(),
    }
    .grow()
}

/// What a task has of its own when it is finished.
#[derive(Debug)]
pub struct Ground<'a> {
    /// Its working memory.
    pub arena: Arena,
    /// Whether a part of its memory was inherited.
    pub inherited: bool,
    /// Whether its memory is made by another task that shares it.
    pub shared: bool,
    /// Its threads that exist already.
    pub lodgers: Lodgers<'a>,
}

impl Growing<'_> {
    fn grow(self) -> Result<Infallible> {
        let mut process = self;
        loop {
            match process.live()? {
                // A child has but one thread.
                Some(child) => {
                    process = Growing { me: child, done: 0, lodgers: Lodgers::default(), ..process }
                }
                None => return Err(Error::Internal("a process has no last step")),
            }
        }
    }
}

/// A process on its way.
struct Growing<'a> {
    world: &'a World<'a>,
    me: usize,
    /// How many of its steps it has done before.
    done: usize,
    /// The memory that stands: its own, or that which it was forked with.
    standing: Option<&'a Memory>,
    /// Whether a part of its memory was inherited.
    inherited: bool,
    /// Its working memory, once its memory stands.
    arena: Option<Arena>,
    /// Its threads that exist already.
    lodgers: Lodgers<'a>,
}

impl<'a> Growing<'a> {
    /// Goes through all steps. Returns only in a child, which it is then.
    fn live(&mut self) -> Result<Option<usize>> {
        let process = self.world.process(self.me)?;
        if self.done == 0 {
            self.world.go_home(self.me)?;
        }
        self.begin_io_context()?;
        // An exec ends all other threads, and leaves their children to the main one.
        let execs_later = |place: usize| process.steps.iter().skip(place).any(|step| *step == Step::Exec);
        for (place, step) in process.steps.iter().enumerate().skip(self.done) {
            plan::tell(self.world.image, self.world.skeleton, self.me, step, self.world.stage);
            match step {
                Step::Exec => {
                    let Err(error) = self.world.exec(self.me, place + 1);
                    return Err(error);
                }
                Step::Memory => self.make_memory()?,
                Step::Fork(child) | Step::ForkSibling(child) => {
                    let sibling = matches!(step, Step::ForkSibling(_));
                    if self.world.process(*child)?.shares_memory {
                        self.make_sharing(*child, sibling)?;
                    } else if !sibling && self.parent_thread(*child).is_some() && !execs_later(place) {
                        self.make_by_thread(*child)?;
                    } else if is_child(make(self.world, *child, sibling)?) {
                        self.world.become_child(*child)?;
                        return Ok(Some(*child));
                    }
                }
                Step::Setsid => {
                    nix::unistd::setsid().map_err(|error| self.failed("make the session of", error))?;
                    if process.role == Role::Task {
                        terminal::pseudo::take_control(self.world, process.pid)?;
                    }
                }
                Step::LeadGroup => self.join(0)?,
                Step::JoinGroup(group) => self.join(self.world.levels.seen(*group, process.namespace))?,
                Step::JoinCallersGroup => self.join(self.world.stage.callers_group)?,
                Step::Exit => sys::exit_now(0),
                Step::Die => self.die()?,
                Step::Finish => {
                    let task = self.world.task(self.me)?;
                    let arena = self.arena.take().ok_or(Error::Internal("a task has no memory"))?;
                    let lodgers = std::mem::take(&mut self.lodgers);
                    let shared = process.shares_memory;
                    let ground = Ground { arena, inherited: self.inherited, shared, lodgers };
                    match assemble::finish(self.world, self.me, task, ground)? {}
                }
                Step::Await(zombie) => {
                    let zombie = self.world.process(*zombie)?.pid;
                    await_death(self.world.levels.seen(zombie, process.namespace).cast_signed())?;
                }
                Step::BecomeSubreaper | Step::EndSubreaper | Step::Barrier(_) | Step::Reap(_) => {
                    common_step(step, self.world.control, self.world.skeleton, || self.world.check_others())?
                }
            }
        }
        Ok(None)
    }

    /// Begins an I/O context that others will share: without one there is nothing to share. It has no priority yet, so that
    /// others inherit none.
    fn begin_io_context(&self) -> Result<()> {
        let Ok(task) = self.world.task(self.me) else { return Ok(()) };
        let from_maker = shared_flags(self.world, self.me) & u64::from(libc::CLONE_IO.unsigned_abs()) != 0;
        match self.world.index.io_context(task.pid) {
            Some(_) if !from_maker => {
                schedule::begin_io_context().map_err(|error| self.failed("begin the I/O context of", error))
            }
            _ => Ok(()),
        }
    }

    fn failed(&self, what: &str, error: Errno) -> Error {
        let pid = self.world.process(self.me).map_or(0, |process| process.pid);
        Error::step(format!("{what} process {pid}"), error)
    }

    fn make_memory(&mut self) -> Result<()> {
        if self.world.process(self.me)?.shares_memory {
            return Ok(());
        }
        let memory = self.world.memory(self.world.task(self.me)?)?;
        self.inherited = self.standing.is_some();
        mapping::populate(self.world, memory, self.standing)?;
        self.standing = Some(memory);
        self.arena = Some(Arena::map(self.world.hole)?);
        Ok(())
    }

    /// Makes a task that shares this one's memory.
    fn make_sharing(&mut self, child: usize, sibling: bool) -> Result<()> {
        const ARENA_BYTES: usize = 1 << 20;
        let (world, standing, inherited) = (self.world, self.standing, self.inherited);
        let process = world.process(child)?;
        let pid = process.pid;
        let threads = world.image.about::<Thread>(pid).count();
        let arena = self.arena.as_mut().ok_or(Error::Internal("a task has no memory to share"))?;
        let arena = Some(arena.split(ARENA_BYTES + threads * plan::PER_THREAD_BYTES)?);
        let task = world.task(child)?;
        let handlers = world.task(self.me).is_ok_and(|own| own.signal_handlers == task.signal_handlers);
        let flags = if handlers { u64::from(libc::CLONE_SIGHAND.unsigned_abs()) } else { 0 };
        let life = move || {
            let grown = world.become_child(child).and_then(|()| {
                Growing { world, me: child, done: 0, standing, inherited, arena, lodgers: Lodgers::default() }
                    .grow()
            });
            let Err(error) = grown;
            assemble::fail(world, &error);
        };
        let mut flags = flags | shared_flags(world, child);
        let mut exit_signal = process.exit_signal.cast_signed();
        if sibling {
            // With its maker's.
            (flags, exit_signal) = (flags | u64::from(libc::CLONE_PARENT.unsigned_abs()), 0);
        }
        let wanted = BTreeSet::new();
        let home = world.process(self.me)?.namespace;
        let maker = Maker { identity: world.stage.identity, levels: &world.levels, home, wanted: &wanted };
        maker.await_namespace(process, world.control, world.skeleton, || world.check_others())?;
        let Manner { ids, flags: more_flags, turn } = world.levels.manner(process, home);
        let made = maker.turned(turn, || {
            sys::fork_sharing(&ids, exit_signal, flags | more_flags, Box::new(life))
                .map_err(|error| Error::step(format!("make process {pid} (clone3 with CLONE_VM)"), error))
        })?;
        world.tell_made(child, made, &wanted)
    }

    /// The thread of this process that has a task as its child, if that is not the main thread.
    fn parent_thread(&self, child: usize) -> Option<u32> {
        let (own, child) = (self.world.task(self.me).ok()?, self.world.task(child).ok()?);
        let is_own = |tid: u32| self.world.image.about::<Thread>(own.pid).any(|thread| thread.tid == tid);
        Some(child.parent_thread).filter(|tid| child.parent == own.pid && *tid != own.pid && is_own(*tid))
    }

    /// Makes a task by the thread that has it as its child.
    fn make_by_thread(&mut self, child: usize) -> Result<()> {
        let (world, standing, inherited) = (self.world, self.standing, self.inherited);
        let own = world.task(self.me)?.pid;
        let tid = self.parent_thread(child).ok_or(Error::Internal("a task has no parent"))?;
        let shares_io = world.index.have_io_context(own, tid);
        let flags = if shares_io { u64::from(libc::CLONE_IO.unsigned_abs()) } else { 0 };
        self.lodgers.start(tid, &world.levels.set_tid(tid), flags)?;
        let result = Rc::new(RefCell::new(Ok(())));
        let told = Rc::clone(&result);
        self.lodgers.have_done(tid, move || match make(world, child, false) {
            Ok(0) => {
                let growing = Growing {
                    world,
                    me: child,
                    done: 0,
                    standing,
                    inherited,
                    arena: None,
                    lodgers: Lodgers::default(),
                };
                let Err(error) = world.become_child(child).and_then(|()| growing.grow());
                assemble::fail(world, &error);
                sys::exit_now(EXIT_CANNOT_RESUME.into())
            }
            Ok(_) => {}
            Err(error) => *told.borrow_mut() = Err(error),
        })?;
        result.replace(Ok(()))
    }

    fn join(&self, group: u32) -> Result<()> {
        let group = Pid::from_raw(group.cast_signed());
        nix::unistd::setpgid(Pid::from_raw(0), group)
            .map_err(|error| self.failed("set the process group of", error))
    }

    /// Ends as a zombie did.
    fn die(&self) -> Result<()> {
        let task = self.world.task(self.me)?;
        let name = std::ffi::CString::new(task.name.0.clone()).unwrap_or_default();
        // It is only what `ps` shows.
        let _ = nix::sys::prctl::set_name(&name);
        let signal = (task.wait_status & 0x7f).cast_signed();
        if signal == 0 {
            sys::exit_now((task.wait_status >> 8 & 0xff).cast_signed());
        }
        sys::end_by(signal);
        Err(Error::Internal("a signal that ended a process does not end it again"))
    }
}

fn is_child(made: i32) -> bool {
    made == 0
}

/// Makes a process of the skeleton, with its process id and exit signal. Returns 0 in the child.
pub fn make(world: &World<'_>, child: usize, sibling: bool) -> Result<i32> {
    let process = world.process(child)?;
    let wanted = plan::ids_of(world.image, world.skeleton);
    let home = world.maker(child).map_or(Ok(0), |maker| world.process(maker).map(|maker| maker.namespace))?;
    let maker = Maker { identity: world.stage.identity, levels: &world.levels, home, wanted: &wanted };
    maker.await_namespace(process, world.control, world.skeleton, || world.check_others())?;
    let made = maker.make(process, sibling, shared_flags(world, child))?;
    if made != 0 {
        world.tell_made(child, made, &wanted)?;
    }
    Ok(made)
}

/// The flags of clone3 for what a task shares with the one that makes it.
fn shared_flags(world: &World<'_>, child: usize) -> u64 {
    let tasks = world.maker(child).and_then(|maker| Some((world.task(maker).ok()?, world.task(child).ok()?)));
    let Some((maker, child)) = tasks.filter(|(_, child)| child.state != RunState::Zombie) else { return 0 };
    let flag = |same: bool, flag: i32| if same { u64::from(flag.unsigned_abs()) } else { 0 };
    // An exec would end the sharing of a table.
    flag(maker.descriptor_table == child.descriptor_table && !child.has_execed, libc::CLONE_FILES)
        | flag(maker.filesystem == child.filesystem, libc::CLONE_FS)
        | flag(world.index.have_io_context(maker.pid, child.pid), libc::CLONE_IO)
}

impl World<'_> {
    /// In a new child: it must not outlive who made it, until the midwife holds it.
    fn become_child(&self, child: usize) -> Result<()> {
        let maker = self.maker(child).and_then(|maker| self.skeleton.processes.get(maker));
        let maker_stays = maker.is_none_or(|maker| maker.role != Role::Helper);
        if maker_stays || self.is_sibling(child) {
            let failed = |error| Error::step("tie a process to its parent", error);
            nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(failed)?;
        }
        Ok(())
    }

    fn is_sibling(&self, child: usize) -> bool {
        let maker = self.maker(child).and_then(|maker| self.skeleton.processes.get(maker));
        maker.is_some_and(|maker| maker.steps.contains(&Step::ForkSibling(child)))
    }

    /// Execs the loader again, which goes on as `process` after so many of its steps.
    fn exec(&self, process: usize, steps_done: usize) -> Result<Infallible> {
        Err(exec_again(&Stage { point: Point::Aside, process, steps_done, ..self.stage.clone() }))
    }

    /// Fails if the resume has failed elsewhere.
    pub fn check_others(&self) -> Result<()> {
        if self.control.get(Word::Failed) != 0 {
            return Err(Error::Told);
        }
        let midwife = self.control.get(Word::Midwife).cast_signed();
        // From inside of a pid namespace nobody sees her.
        let has_ended = match self.levels.is_empty() {
            true => sys::has_ended(midwife),
            false => pid_namespace::has_ended(midwife.unsigned_abs()),
        };
        if midwife != 0 && has_ended {
            return Err(Error::step("go on: the helper that finishes the resume has ended", Errno::ESRCH));
        }
        Ok(())
    }
}

/// A step that the founder does like everybody.
pub fn common_step(
    step: &Step,
    control: Control,
    skeleton: &Skeleton,
    check: impl Fn() -> Result<()>,
) -> Result<()> {
    match step {
        Step::Reap(helper) => reap(control, *helper),
        Step::Barrier(barrier) => pass(control, skeleton, *barrier, check),
        Step::Await(zombie) => await_death(control.of(*zombie, ProcessWord::Pid).cast_signed()),
        Step::BecomeSubreaper | Step::EndSubreaper => {
            nix::sys::prctl::set_child_subreaper(*step == Step::BecomeSubreaper)
                .map_err(|error| Error::step("take orphans for a while", error))
        }
        _ => Err(Error::Internal("the skeleton has a step that the founder cannot do")),
    }
}

/// Waits until all have come to a barrier.
fn pass(control: Control, skeleton: &Skeleton, barrier: u32, check: impl Fn() -> Result<()>) -> Result<()> {
    let comes = |process: &&Process| process.steps.contains(&Step::Barrier(barrier));
    let expected = u32::try_from(skeleton.processes.iter().filter(comes).count()).unwrap_or(u32::MAX);
    control.arrive(barrier, expected);
    let mut patience = Patience::default();
    loop {
        let arrived = control.arrived(barrier);
        if arrived >= expected {
            return Ok(());
        }
        check()?;
        control.wait_arrival(barrier, arrived, &mut patience);
    }
}

/// Waits for the death of a zombie, and leaves it.
fn await_death(pid: i32) -> Result<()> {
    sys::while_waiting(|| sys::await_end(Pid::from_raw(pid)))
        .map_err(|error| Error::step(format!("wait for the zombie {pid}"), error))
}

/// Takes the end of a helper, and the signal that told of it.
fn reap(control: Control, helper: usize) -> Result<()> {
    let pid = control.of(helper, ProcessWord::SeenPid).cast_signed();
    sys::while_waiting(|| waitpid(Pid::from_raw(pid), Some(WaitPidFlag::__WALL)))
        .map(drop)
        .map_err(|error| Error::step(format!("wait for the helper {pid}"), error))
}

/// Execs the loader with what it needs to go on: the image through its handler if that is how we came here, else the
/// loader itself.
pub fn exec_again(stage: &Stage) -> Error {
    let arguments = stage.to_arguments();
    let strings: Vec<CString> =
        arguments.iter().filter_map(|argument| CString::new(argument.as_bytes()).ok()).collect();
    if stage.by_handler {
        // The image may be somebody else's to run; the loader is always ours.
        let none: [&CStr; 0] = [];
        let _ = execveat(sys::borrow(stage.image), c"", &strings, &none, AtFlags::AT_EMPTY_PATH);
    }
    let mut command = Command::new("/proc/self/exe");
    // Not its own environment: where its last page of data is too full, glibc keeps its copy of the tunables in one that is
    // outside of the hole, and gone.
    command.arg0("ckpt-loader").args(arguments.iter().skip(1)).env_clear();
    let error = command.exec();
    Error::io("exec the loader again", &error)
}
