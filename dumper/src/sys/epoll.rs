//! Asking about epoll sets.

use super::Result;
use std::cmp::Ordering;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Something that an epoll set watches: `nth` of those that were added as `number` to the set behind `set` of a task.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Watched {
    /// Process id of the task.
    pub(crate) pid: i32,
    /// Its descriptor of the set.
    pub(crate) set: u32,
    /// The number under which the target was added.
    pub(crate) number: u32,
    /// Which of those with this number, in the order of fdinfo, from 0.
    pub(crate) nth: u32,
}

/// How the kernel orders the description behind a descriptor (of a process id) and what a set watches; equal if that is it.
pub(crate) fn compare_watched(held: (i32, u32), watched: &Watched) -> Result<Ordering> {
    const KCMP_EPOLL_TFD: i32 = 7;
    // struct kcmp_epoll_slot
    let slot = [watched.set, watched.number, watched.nth];
    let (kind, slot) = (KCMP_EPOLL_TFD, slot.as_ptr());
    // SAFETY: the kernel reads the three words of `slot`, which live through the call.
    let answer = unsafe { libc::syscall(libc::SYS_kcmp, held.0, watched.pid, kind, held.1, slot) };
    super::ordered(answer)
}

/// struct epoll_params: how an epoll set polls network devices.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BusyPoll {
    /// How long, in microseconds.
    pub(crate) time_us: u32,
    /// How many packets at most.
    pub(crate) budget: u16,
    /// Whether to prefer it to interrupts.
    pub(crate) prefer: u8,
    padding: u8,
}

nix::ioctl_read!(epiocgparams, 0x8A, 2, BusyPoll);

/// How an epoll set polls network devices; nothing on a kernel (before 6.9) that cannot be told.
pub(crate) fn busy_poll(set: BorrowedFd<'_>) -> BusyPoll {
    let mut found = BusyPoll::default();
    // SAFETY: the kernel writes one struct epoll_params, which is what `BusyPoll` is.
    let answered = unsafe { epiocgparams(set.as_raw_fd(), &raw mut found) };
    answered.map_or_else(|_| BusyPoll::default(), |_| found)
}
