//! Threads that help with one piece of work.
//!
//! A thread is a help, not a need: where the kernel gives none (RLIMIT_NPROC, a full cgroup, no memory), the calling thread
//! does everything. `thread::scope` alone would panic there.

use std::sync::atomic::{AtomicUsize, Ordering};
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

/// What `work` makes of each, in their order; a helper takes part where there are many.
pub fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    /// So many are worth a thread.
    const MANY: usize = 64;
    let next = AtomicUsize::new(0);
    let (own, others) = together(usize::from(items.len() >= MANY), || {
        let mut made = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(at) else { return made };
            made.push((at, work(item)));
        }
    });
    let mut all: Vec<Option<R>> = items.iter().map(|_| None).collect();
    for (at, made) in own.into_iter().chain(others.into_iter().flatten().flatten()) {
        if let Some(place) = all.get_mut(at) {
            *place = Some(made);
        }
    }
    // What a helper that panicked had made is made again.
    all.into_iter().zip(items).map(|(made, item)| made.unwrap_or_else(|| work(item))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_its_place() {
        for count in [0, 1, 63, 64, 1000] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(each(&items, |item| item * 2), (0..count).map(|item| item * 2).collect::<Vec<_>>());
        }
    }

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
