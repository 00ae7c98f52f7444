//! What the image says of each thread.

use binfmt::image::Image;
use binfmt::note::FromNote;
use binfmt::note::credential::Credential;
use binfmt::note::schedule::Schedule;
use binfmt::note::seccomp::Seccomp;
use binfmt::note::signal::PendingSignals;
use binfmt::note::thread::ExtendedState;
use std::collections::BTreeMap;

/// The notes of threads by thread id.
#[derive(Debug)]
pub struct Threads<'a> {
    image: &'a Image,
    /// The XSAVE areas that stand where debuggers find them: those of the root.
    standard_areas: BTreeMap<u32, &'a [u8]>,
}

impl<'a> Threads<'a> {
    /// Those of `image`.
    pub fn of(image: &'a Image) -> Threads<'a> {
        Threads { image, standard_areas: binfmt::core_note::extended_states(&image.standard) }
    }

    /// How a thread is scheduled.
    pub fn schedule(&self, tid: u32) -> Option<&'a Schedule> {
        self.of_thread(tid)
    }

    /// Which I/O context a thread has together with others, if it has.
    pub fn io_context(&self, tid: u32) -> Option<u32> {
        self.schedule(tid).map(|schedule| schedule.io_context).filter(|context| *context != 0)
    }

    /// Whether two threads have one I/O context.
    pub fn have_io_context(&self, one: u32, other: u32) -> bool {
        self.io_context(one).is_some_and(|context| self.io_context(other) == Some(context))
    }

    /// Who it is.
    pub fn credential(&self, tid: u32) -> Option<&'a Credential> {
        self.of_thread(tid)
    }

    /// How it is restricted.
    pub fn restriction(&self, tid: u32) -> Option<&'a Seccomp> {
        self.of_thread(tid)
    }

    /// Its XSAVE area.
    pub fn area(&self, tid: u32) -> Option<&'a [u8]> {
        let standard = self.standard_areas.get(&tid).copied();
        standard.or_else(|| Some(self.of_thread::<ExtendedState>(tid)?.area.0.as_slice()))
    }

    /// What waits for a thread, or with thread id 0 for the process.
    pub fn queue(&self, pid: u32, tid: u32) -> impl Iterator<Item = &'a PendingSignals> {
        self.image.about::<PendingSignals>(pid).filter(move |queue| queue.tid == tid)
    }

    fn of_thread<T: FromNote + 'a>(&self, tid: u32) -> Option<&'a T> {
        self.image.about(tid).next()
    }
}
