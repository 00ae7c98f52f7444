//! Epoll sets: what they watch. Which of it was ready when is not told by the kernel: see `quiet`.

use crate::wire::record;

record! {
    /// An epoll set.
    pub struct Epoll {
        /// The `Description` that this note completes.
        description: u32,
        /// What it watches, by number.
        targets: Vec<EpollTarget>,
        /// Whether it is known that nothing in it was ready: every edge (EPOLLET) had been told.
        quiet: bool,
        /// How long to poll network devices, in microseconds (EPIOCGPARAMS).
        busy_poll_us: u32,
        /// How many packets to take at most while polling.
        busy_poll_budget: u32,
        /// Whether to prefer polling to interrupts.
        prefer_busy_poll: bool,
    }

    /// What an epoll set watches.
    pub struct EpollTarget {
        /// The number under which it was added, by which it is known to EPOLL_CTL_MOD and EPOLL_CTL_DEL. It may be closed
        /// or lead elsewhere now.
        number: u32,
        /// Which `Description`.
        description: u32,
        /// Events and flags, as fdinfo shows them: no event at all (with EPOLLONESHOT) if it has fired and was not armed
        /// again.
        events: u32,
        /// What epoll_wait(2) says of it.
        data: u64,
    }
}

impl EpollTarget {
    /// Flags among the events (EP_PRIVATE_BITS of fs/eventpoll.c).
    const FLAGS: i32 = libc::EPOLLWAKEUP | libc::EPOLLONESHOT | libc::EPOLLET | libc::EPOLLEXCLUSIVE;

    /// Whether it has fired once and waits to be armed again: even EPOLLERR and EPOLLHUP are not told.
    pub fn is_disarmed(&self) -> bool {
        self.events & !Self::FLAGS.cast_unsigned() == 0
    }
}
