//! What the image says of each thread and each description, found by its id: an image may hold tens of thousands, and
//! looking through all notes for every one of them would grow with their square.

use binfmt::image::Image;
use binfmt::note::credential::Credential;
use binfmt::note::schedule::Schedule;
use binfmt::note::seccomp::Seccomp;
use binfmt::note::signal::PendingSignals;
use std::collections::BTreeMap;

/// The notes of threads by thread id.
#[derive(Debug, Default)]
pub struct Threads<'a> {
    /// How each is scheduled.
    pub schedules: BTreeMap<u32, &'a Schedule>,
    /// Who each is.
    pub credentials: BTreeMap<u32, &'a Credential>,
    /// How each is restricted.
    pub restrictions: BTreeMap<u32, &'a Seccomp>,
    /// What waits for each, by process id and thread id; thread id 0 is the process.
    pub queues: BTreeMap<(u32, u32), Vec<&'a PendingSignals>>,
    /// The XSAVE area of each.
    pub areas: BTreeMap<u32, &'a [u8]>,
}

impl<'a> Threads<'a> {
    /// Goes through the image once.
    pub fn of(image: &'a Image) -> Threads<'a> {
        let mut queues: BTreeMap<(u32, u32), Vec<&PendingSignals>> = BTreeMap::new();
        for queue in image.all::<PendingSignals>() {
            queues.entry((queue.pid, queue.tid)).or_default().push(queue);
        }
        Threads {
            schedules: image.all::<Schedule>().map(|note| (note.tid, note)).collect(),
            credentials: image.all::<Credential>().map(|note| (note.tid, note)).collect(),
            restrictions: image.all::<Seccomp>().map(|note| (note.tid, note)).collect(),
            queues,
            areas: image.extended_states(),
        }
    }

    /// What waits for a thread, or with thread id 0 for the process.
    pub fn queue(&self, pid: u32, tid: u32) -> impl Iterator<Item = &'a PendingSignals> + '_ {
        self.queues.get(&(pid, tid)).into_iter().flatten().copied()
    }
}
