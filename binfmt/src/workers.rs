//! Threads that help with one piece of work.
//!
//! A thread is a help, not a need: where the kernel gives none (RLIMIT_NPROC, a full cgroup, no memory), the calling thread
//! does everything. `thread::scope` alone would panic there.

use std::thread;

/// Does `work` in the calling thread and in at most `helpers` others: what it makes of it comes first, then what
/// each helper makes of it, `None` for one that panicked. The work itself is taken from a common place, so that fewer
/// helpers leave nothing undone.
pub fn together<R: Send>(helpers: usize, work: impl Fn() -> R + Sync) -> (R, Vec<Option<R>>) {
    thread::scope(|scope| {
        let spawn = |_| thread::Builder::new().spawn_scoped(scope, &work).ok();
        let helpers: Vec<_> = (0..helpers).map_while(spawn).collect();
        let own = work();
        (own, helpers.into_iter().map(|helper| helper.join().ok()).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn everything_is_done_once() {
        for helpers in [0, 1, 5] {
            let next = AtomicUsize::new(0);
            let take =
                || std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|it| *it < 100));
            let (own, others) = together(helpers, || take().collect::<Vec<_>>());
            let mut all: Vec<usize> = others.into_iter().flatten().flatten().chain(own).collect();
            all.sort_unstable();
            assert_eq!(all, (0..100).collect::<Vec<_>>());
        }
    }
}
