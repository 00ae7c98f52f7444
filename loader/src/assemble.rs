//! The second start, in the hole: the task is built around it.

use crate::arena::{Arena, Hole};
use crate::aside;
use crate::commit;
use crate::control::{Control, Word};
use crate::error::{Error, Result};
use crate::index::Threads;
use crate::plan;
use crate::rebuild::descriptor::{self, OwnStdio};
use crate::rebuild::mapping::Objects;
use crate::rebuild::{credential, filesystem, limit, lock, mapping, task, terminal, timer};
use crate::stage::{Identity, Stage};
use binfmt::image::Image;
use binfmt::note::task::Task;
use std::convert::Infallible;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::fs::FileExt;

/// Builds the task and becomes it. Returns only if that failed; then it has been told why, and this process ends, and
/// with it everything that was made.
pub fn assemble(stage: Stage) {
    let Stage { image, control, report, hole, identity, foreground, .. } = stage;
    let Err(error) = build(image, control, &report, Place { hole, identity, foreground });
    tell(report, &format!("ckpt: {error}\n"));
}

/// Where and as whom the task is built.
struct Place {
    hole: Hole,
    identity: Identity,
    foreground: bool,
}

fn build(image: OwnedFd, page: OwnedFd, report: &OwnedFd, place: Place) -> Result<Infallible> {
    block_all_signals()?;
    let image = Image::open(File::from(image))?;
    let root = plan::root_task(&image)?;
    let memory = plan::memory(&image, root)?;
    let parked = aside::clear_outside(place.hole)?;
    let mut arena = Arena::map(place.hole)?;
    let control = Control::map(place.hole, page.as_fd())?;
    drop(page);
    limit::raise_descriptors();
    let own_credentials = credential::own()?;

    let objects = Objects::make(&image, memory)?;
    mapping::rebuild(&image, memory, &objects, place.hole, &parked)?;
    let executable = task::open_executable(memory, &objects, can_set_executable(&own_credentials))?;
    let executable = rebuild_descriptors(&image, objects, executable, report, &place)?;
    lock::rebuild(&image)?;
    task::rebuild(root, memory)?;
    give_new_tid(&image, root, place.identity)?;
    let index = Threads::of(&image);
    let midwife = control.get(Word::Midwife);
    // Without Yama there is no such option; with it, only ancestors may trace otherwise.
    let _ = crate::rebuild::prctl(libc::PR_SET_PTRACER, [midwife.into(), 0, 0, 0]);
    let threads = commit::start_threads(&image, &index, root, &own_credentials, control, &mut arena)?;
    timer::create(&image, root, |tid| current_tid(root, place.identity, tid))?;
    filesystem::rebuild(&image, root)?;
    let last = commit::Last {
        image: &image,
        index: &index,
        task: root,
        memory,
        own: &own_credentials,
        executable,
        report,
        identity: place.identity,
        threads,
        control,
    };
    commit::become_task(&last, arena)
}

/// The task's descriptors at their numbers, and nothing else but the image, the report and the executable, which is
/// returned.
fn rebuild_descriptors(
    image: &Image,
    objects: Objects,
    executable: Option<OwnedFd>,
    report: &OwnedFd,
    place: &Place,
) -> Result<Option<OwnedFd>> {
    let above = report.as_raw_fd().max(image.file.as_raw_fd());
    let own = OwnStdio::keep(above)?;
    let root = plan::root_task(image)?;
    let opened = descriptor::open_all(image, &objects, &own, above)?;
    descriptor::set_owners(image, &opened, |id| current_tid(root, place.identity, id))?;
    if place.foreground {
        terminal::apply_settings(image, &own)?;
    }
    objects.seal(image)?;
    drop(objects);
    let move_up = |fd: OwnedFd| {
        descriptor::dup_above(fd.as_raw_fd(), above)
            .map_err(|error| Error::step("move the executable's descriptor out of the way", error))
    };
    let executable = executable.map(move_up).transpose()?;
    let keep: Vec<RawFd> = [image.file.as_raw_fd(), report.as_raw_fd()]
        .into_iter()
        .chain(executable.as_ref().map(AsRawFd::as_raw_fd))
        .collect();
    descriptor::place(image, opened, own, &keep)?;
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

/// Which id a saved thread has in the process that is being built.
pub fn current_tid(task: &Task, identity: Identity, saved: u32) -> u32 {
    match identity {
        Identity::Fresh if saved == task.pid => std::process::id(),
        _ => saved,
    }
}

/// glibc keeps a copy of the thread id where the kernel clears it at the thread's end. Under a new id the copy would be
/// stale, and recursive and robust mutexes would take their owner for somebody else.
fn give_new_tid(image: &Image, task: &Task, identity: Identity) -> Result<()> {
    let mut threads = image.all::<binfmt::note::thread::Thread>();
    let Some(leader) = threads.find(|thread| thread.tid == task.pid) else {
        return Err(Error::Internal("the image has no leading thread"));
    };
    if identity == Identity::Keep || leader.clear_tid_address == 0 {
        return Ok(());
    }
    let memory = File::options().read(true).write(true).open("/proc/self/mem");
    let memory = memory.map_err(|error| Error::io("open /proc/self/mem", &error))?;
    let mut word = [0; 4];
    let is_copy = memory.read_exact_at(&mut word, leader.clear_tid_address).is_ok()
        && u32::from_le_bytes(word) == leader.tid;
    if is_copy {
        memory
            .write_all_at(&std::process::id().to_le_bytes(), leader.clear_tid_address)
            .map_err(|error| Error::io("tell the C library its new thread id", &error))?;
    }
    Ok(())
}

/// Tells an error where the user sees it.
fn tell(report: impl Into<File>, text: &str) {
    // There is nobody left to tell if this fails.
    let _ = report.into().write_all(text.as_bytes());
}
