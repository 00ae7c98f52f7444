//! The I/O contexts that threads have in common (CLONE_IO), as kcmp(2) tells it: the I/O priority that one of them sets is
//! that of all.
//!
//! Hardly any thread has one: it comes into being with the first priority that is set. Those that have none are equal for
//! kcmp, too, so they are compared with a thread of our own that has none.

use crate::Options;
use crate::allow::Allow;
use crate::collected::Collected;
use crate::error::Error;
use crate::freeze::Tree;
use crate::parse;
use crate::procdir::ProcDir;
use crate::sharing::{self, Share};
use crate::sys::{self, Kind};
use binfmt::address::{Pid, Tid};
use nix::errno::Errno;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// For each thread that has an I/O context in common with another one, a number that all of those have.
pub type IoContexts = BTreeMap<Tid, u32>;

/// Which of the tree's threads have I/O contexts in common. They come back only where a process shares that of its parent,
/// or a thread that of its main thread: the others are named.
pub fn among(tree: &Tree, options: &Options, out: &mut Collected) -> Result<IoContexts, Error> {
    let members =
        || tree.members().iter().flat_map(|member| member.threads().iter().map(move |it| (member, it)));
    let threads: Vec<(Pid, Tid)> = members().map(|(member, thread)| (member.pid(), thread.tid())).collect();
    let pid = threads.first().map_or(Pid(0), |(pid, _)| *pid);
    let failed = |error| Error::question(pid, "comparing I/O contexts (kcmp)", error);
    let mut contexts = common(&threads).map_err(failed)?;
    for (pid, tid) in lonely(&threads, &contexts, &parents(tree)) {
        contexts.remove(&tid);
        if !options.allow.contains(&Allow::IoContext) {
            out.look_at(pid);
            out.unsupported(
                format!("thread {tid} has the I/O context of a thread that is neither its main thread nor its parent's"),
                format!("`--allow {}` gives it one of its own", Allow::IoContext.word()),
            );
        }
    }
    Ok(contexts)
}

/// The parents of all processes.
fn parents(tree: &Tree) -> BTreeMap<Pid, Pid> {
    let parent = |pid: Pid| {
        let stat = ProcDir::new(pid).text("stat").unwrap_or_default();
        Pid(parse::stat_field(&parse::owned_stat(&stat), 4))
    };
    tree.members().iter().map(|member| (member.pid(), parent(member.pid()))).collect()
}

/// Those that have a context neither as its first nor from their main thread, nor, if they are one, from that of their
/// parent.
fn lonely(threads: &[(Pid, Tid)], contexts: &IoContexts, parents: &BTreeMap<Pid, Pid>) -> Vec<(Pid, Tid)> {
    let mut seen = BTreeSet::new();
    let mut lonely = Vec::new();
    for (pid, tid) in threads {
        let Some(context) = contexts.get(tid) else { continue };
        let from = if *tid == pid.leader() {
            parents.get(pid).map(|parent| parent.leader())
        } else {
            Some(pid.leader())
        };
        let has_it = |tid: Tid| contexts.get(&tid) == Some(context);
        if !seen.insert(*context) && !from.is_some_and(has_it) {
            lonely.push((*pid, *tid));
        }
    }
    lonely
}

/// Looks from a thread that has no I/O context: one gets none from a thread without a priority.
fn without_context<T: Send>(look: impl FnOnce(Tid) -> T + Send) -> Result<T, Errno> {
    let look = || look(sys::own_tid());
    let between = || {
        sys::forget_io_priority();
        in_a_thread(look)
    };
    in_a_thread(between)?
}

/// What `work` says, done in a thread of its own.
fn in_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T, Errno> {
    std::thread::scope(|scope| {
        let spawned = std::thread::Builder::new().spawn_scoped(scope, work);
        let thread = spawned.map_err(|error| Errno::try_from(error).unwrap_or(Errno::EAGAIN))?;
        thread.join().map_err(|_| Errno::EIO)
    })
}

/// The contexts of more than one thread.
fn common(threads: &[(Pid, Tid)]) -> Result<IoContexts, Errno> {
    if threads.len() < 2 {
        return Ok(IoContexts::new());
    }
    let compare = |first: Tid, second: Tid| sys::compare(Kind::IoContext, (first.0, 0), (second.0, 0));
    let shares =
        sharing::classes(threads.len(), |first, second| match (threads.get(first), threads.get(second)) {
            (Some(first), Some(second)) => compare(first.1, second.1),
            _ => Err(Errno::EINVAL),
        })?;
    let mut classes: BTreeMap<u32, Vec<Tid>> = BTreeMap::new();
    for (Share { id, .. }, (_, tid)) in shares.into_iter().zip(threads) {
        classes.entry(id).or_default().push(*tid);
    }
    classes.retain(|_, class| class.len() > 1);
    let firsts: Vec<Tid> = classes.values().filter_map(|class| class.first().copied()).collect();
    let none = without_context(|own| {
        let same = |tid: &&Tid| compare(**tid, own).is_ok_and(|order| order == Ordering::Equal);
        firsts.iter().find(same).copied()
    })?;
    classes.retain(|_, class| none.is_none() || class.first().copied() != none);
    let numbered = classes.into_values().zip(1u32..);
    Ok(numbered.flat_map(|(class, number)| class.into_iter().map(move |tid| (tid, number))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_comes_from_the_main_thread_or_the_parent() {
        let thread = |pid, tid| (Pid(pid), Tid(tid));
        let threads = [thread(1, 1), thread(1, 10), thread(1, 11), thread(2, 2), thread(2, 20), thread(3, 3)];
        let parents = BTreeMap::from([(Pid(2), Pid(1)), (Pid(3), Pid(1))]);
        let contexts =
            |pairs: &[(i32, u32)]| pairs.iter().map(|(tid, number)| (Tid(*tid), *number)).collect();
        assert_eq!(lonely(&threads, &contexts(&[(1, 1), (10, 1), (2, 1), (20, 1)]), &parents), []);
        assert_eq!(lonely(&threads, &contexts(&[(10, 1), (11, 1)]), &parents), [thread(1, 11)]);
        assert_eq!(lonely(&threads, &contexts(&[(2, 1), (3, 1)]), &parents), [thread(3, 3)]);
        assert_eq!(lonely(&threads, &contexts(&[(1, 2), (20, 2)]), &parents), [thread(2, 20)]);
    }

    #[test]
    fn who_has_no_context_has_none_in_common() {
        let own = Tid(nix::unistd::gettid().as_raw());
        let threads = [(Pid(own.0), own), (Pid(own.0), Tid(nix::unistd::getpid().as_raw()))];
        assert_eq!(common(&threads), Ok(IoContexts::new()));
    }
}
