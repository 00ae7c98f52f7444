//! Work on many tasks, done by several threads: the kernel's answers take most of the time, and most of them need not come
//! to the thread that traces.

use binfmt::workers::together;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// So many threads at most.
const THREADS: usize = 8;
/// For so few items a thread costs more than it brings.
const FEW: usize = 3;

/// What `work` makes of `items`, in their order; several threads take one after the other.
pub(crate) fn in_parts<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    if items.len() <= FEW || threads == 1 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let take = || {
        let index = next.fetch_add(1, Ordering::Relaxed);
        items.get(index).map(|item| (index, work(item)))
    };
    let (own, others) = together(threads - 1, || std::iter::from_fn(take).collect::<Vec<_>>());
    let mut done: BTreeMap<usize, R> = others.into_iter().flatten().flatten().chain(own).collect();
    // What was lost with its thread is done here.
    let done =
        items.iter().enumerate().map(|(index, item)| done.remove(&index).unwrap_or_else(|| work(item)));
    done.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_items_come_back_in_their_order() {
        for count in [0, 1, 3, 4, 5, 9, 100] {
            let items: Vec<usize> = (0..count).collect();
            assert_eq!(
                in_parts(&items, |item| item * 2),
                items.iter().map(|item| item * 2).collect::<Vec<_>>()
            );
        }
    }
}
