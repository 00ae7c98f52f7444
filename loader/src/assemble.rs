//! The second start, in the hole: the task is built around it.

use crate::aside;
use crate::cli::CgroupChoice;
use crate::commit;
use crate::control::{Control, Word};
use crate::error::{Error, Result};
use crate::grow::{self, Ground};
use crate::index::Threads;
use crate::plan;
use crate::rebuild::pid_namespace::Levels;
use crate::rebuild::{
    cgroup, credential, filesystem, io_uring, limit, lock, mapping, msg, sem, task, terminal, thread, timer,
};
use crate::rebuild::{descriptor, epoll};
use crate::shelf::Shelf;
use crate::stage::Stage;
use crate::sys;
use crate::world::{Held, Places, Shared, Sharing, World, makers_of, shape, tasks_of};
use binfmt::image::Image;
use binfmt::note::descriptor::DescriptorTable;
use binfmt::note::task::Task;
use std::convert::Infallible;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// linux/prctl.h: whoever may otherwise.
const PR_SET_PTRACER_ANY: u64 = u64::MAX;

/// Grows what this start is told to, and becomes it. Returns only if that failed; then it has been told why, and this
/// process ends, and with it everything that was made.
pub fn assemble(stage: &Stage) {
    let Err(error) = build(stage);
    tell(stage.report, &error);
}

fn build(stage: &Stage) -> Result<Infallible> {
    block_all_signals()?;
    let mut image = Image::open(File::from(sys::adopt(stage.image)))?;
    stage.wishes.apply(&mut image, stage.user_namespace)?;
    let skeleton = plan::skeleton_of(&image, stage.joins_session, stage.identity)?;
    let parked = aside::clear_outside(stage.hole)?;
    let control = Control::map(stage.hole, shape(&image, &skeleton), sys::borrow(stage.control))?;
    let Err(error) = go_on(stage, &image, &skeleton, &parked, control);
    // Before the others hear of it and end us. What fails after that is only its consequence.
    if control.get(Word::Failed) == 0 {
        tell(stage.report, &error);
    }
    control.set(Word::Failed, 1);
    Err(Error::Told)
}

/// The same for a task that shares another one's memory.
pub fn fail(world: &World<'_>, error: &Error) {
    if world.control.get(Word::Failed) == 0 {
        tell(world.stage.report, error);
    }
    world.control.set(Word::Failed, 1);
}

fn go_on(
    stage: &Stage,
    image: &Image,
    skeleton: &plan::skeleton::Skeleton,
    parked: &aside::Parked,
    control: Control,
) -> Result<Infallible> {
    limit::raise_descriptors(0);
    let tasks = tasks_of(image, skeleton);
    let world = World {
        image,
        index: &Threads::of(image),
        skeleton,
        hole: stage.hole,
        places: Places::find(image, stage.hole)?,
        shelf: &Shelf::adopt(image, control),
        control,
        parked,
        stage,
        held: tasks.iter().map(|task| task.map(Held::by)).collect(),
        tasks,
        makers: makers_of(skeleton),
        levels: Levels::of(image),
    };
    grow::grow(&world, stage.process)
}

/// The last step of every task: it takes what is its own, and becomes the program.
pub fn finish(world: &World<'_>, process: usize, root: &Task, ground: Ground<'_>) -> Result<Infallible> {
    let (image, stage) = (world.image, world.stage);
    let memory = world.memory(root)?;
    if stage.wishes.cgroup != Some(CgroupChoice::Here) {
        cgroup::join(image, root.pid, stage.wishes.cgroup)?;
    }
    // Of helpers and zombies; those that waited when the image was made come back with it.
    sys::drop_waiting_signals();
    if !ground.shared {
        mapping::finish(world, memory, ground.inherited)?;
        io_uring::register_buffers(world, root)?;
    }
    stage.wishes.change_environment(memory, process == plan::ROOT)?;
    let mut arena = ground.arena;
    let executable = task::open_executable(memory, world.shelf, can_set_executable(&credential::own()?))?;
    let users = world.go_to_users(process)?;
    let keeps_groups = users.map_or(stage.user_namespace, |users| users.denies_groups);
    let own_credentials = credential::Own { credential: credential::own()?, keeps_groups };
    let table = world.sharing(process, Shared::Table);
    let directories = world.sharing(process, Shared::Filesystem);
    if directories.makes {
        filesystem::go_to_deleted(image, root, world.shelf)?;
    }
    let executable = rebuild_descriptors(world, process, root, executable, &table)?;
    lock::rebuild(image, root)?;
    task::rebuild(root, memory)?;
    msg::rebuild(world, root)?;
    sem::rebuild(world, root)?;
    thread::new_tid::give(image, root, memory, stage.identity)?;
    // Who is inside of a pid namespace of the tree has no name for her.
    let is_inside = world.levels.inside.home(root.pid) != 0;
    let midwife = if is_inside { PR_SET_PTRACER_ANY } else { world.control.get(Word::Midwife).into() };
    // Without Yama there is no such option; with it, only ancestors may trace otherwise.
    let _ = crate::rebuild::prctl(libc::PR_SET_PTRACER, [midwife, 0, 0, 0]);
    let threads = commit::start_threads(world, root, &own_credentials, &mut arena, &ground.lodgers)?;
    timer::create(image, root, |tid| world.id_now(root, tid))?;
    world.turn_at_last(root)?;
    if directories.makes {
        // They open files by names that mean something else afterwards.
        world.wait_for_sharers(&directories.others)?;
        filesystem::rebuild(image, root)?;
    }
    let last = commit::Last {
        world,
        process,
        task: root,
        memory,
        own: &own_credentials,
        executable,
        threads,
        makes_table: table.makes,
        makes_handlers: world.sharing(process, Shared::Handlers).makes,
        shared_memory: ground.shared,
    };
    commit::become_task(&last, arena)
}

/// The task's descriptors at their numbers, and nothing else but the image, the report and the executable, which is
/// returned.
fn rebuild_descriptors(
    world: &World<'_>,
    process: usize,
    root: &Task,
    executable: Option<OwnedFd>,
    sharing: &Sharing,
) -> Result<Option<OwnedFd>> {
    let (image, stage) = (world.image, world.stage);
    let table = image.about::<DescriptorTable>(root.descriptor_table).next();
    let table = table.ok_or(Error::Internal("a task's descriptors are missing"))?;
    descriptor::set_owners(image, table, process == plan::ROOT, world.shelf, |id| world.id_now(root, id))?;
    if process == plan::ROOT {
        if stage.foreground {
            terminal::apply_settings(image, world.shelf)?;
        }
        world.shelf.seal(image)?;
    }
    let above = stage.report.max(image.file.as_raw_fd());
    let move_up = |fd: OwnedFd| {
        descriptor::dup_above(fd.as_raw_fd(), above)
            .map_err(|error| Error::step("move the executable's descriptor out of the way", error))
    };
    let executable = executable.map(move_up).transpose()?;
    let keep: Vec<RawFd> = [image.file.as_raw_fd(), stage.report]
        .into_iter()
        .chain(executable.as_ref().map(AsRawFd::as_raw_fd))
        .collect();
    let first_own = plan::first_own_descriptor(image);
    let above = RawFd::try_from(first_own).unwrap_or(RawFd::MAX);
    if sharing.makes && sharing.others.is_empty() {
        epoll::add_signalfds(image, world.shelf, table, above)?;
        descriptor::place(image, table, world.shelf, first_own, &keep)?;
    } else if sharing.makes {
        world.wait_for_sharers(&sharing.others)?;
        epoll::add_signalfds(image, world.shelf, table, above)?;
        descriptor::place_shared(image, table, world.shelf, first_own, &[stage.control])?;
    }
    Ok(executable)
}

/// All signals wait until the task is whole; its own mask comes with its frame.
fn block_all_signals() -> Result<()> {
    nix::sys::signal::SigSet::all().thread_set_mask().map_err(|error| Error::step("block all signals", error))
}

fn can_set_executable(own: &binfmt::note::credential::Credential) -> bool {
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    const CAP_CHECKPOINT_RESTORE: u64 = 1 << 40;
    own.effective & (CAP_SYS_ADMIN | CAP_CHECKPOINT_RESTORE) != 0
}

/// Tells an error where the user sees it.
fn tell(report: RawFd, error: &Error) {
    if !matches!(error, Error::Told) {
        // There is nobody left to tell if this fails.
        let _ = nix::unistd::write(sys::borrow(report), format!("ckpt: {error}\n").as_bytes());
    }
}
