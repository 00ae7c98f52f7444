//! System V semaphores: their values, and what is undone to them when a process ends (SEM_UNDO).
//!
//! No call tells of the latter. It is measured: a process tries lists of operations that cannot all be done, of which
//! the kernel then does none. What would bring the value to be undone out of its range is refused with another error than
//! what must wait, so each try tells whether that value is below a threshold (perform_atomic_semop in ipc/sem.c). No value
//! changes and nobody wakes up meanwhile; it costs the process an empty list.

use super::{Collected, Look};
use crate::Options;
use crate::asking::{self, Guest, Interview};
use crate::error::Error;
use crate::freeze::{Frozen, Tree};
use crate::hatch::place::Place;
use crate::hatch::{Answers, Arg, Question, Questions};
use crate::ipc::Users;
use crate::sys::{self, Kind};
use binfmt::ipc::{IpcKind, Listed};
use binfmt::note::sem::{self, Semaphore, SemaphoreAdjustment, SemaphoreSet, SemaphoreUndo, VALUE_MAX};
use binfmt::system_call;
use nix::errno::Errno;
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

/// How often sets are looked at anew that others use at the same time.
const TRIES: u32 = 5;
/// The lowest value to be undone (-SEMAEM - 1).
const LOWEST: i32 = -VALUE_MAX - 1;

/// A set as it was read.
#[derive(Debug)]
struct Set {
    line: Listed,
    values: Vec<u16>,
}

impl Set {
    fn read(line: Listed) -> Result<Set, Errno> {
        let values = sys::semaphore_values(line.object.id, sem::count(&line))?;
        Ok(Set { line, values })
    }
}

/// What is undone: by process and set, for each semaphore of which that is not 0.
pub type Undone = BTreeMap<(u32, u32), Vec<SemaphoreAdjustment>>;

/// A semaphore as one process sees it, and between which bounds lies what it undoes to it.
#[derive(Clone, Copy, Debug)]
struct Search {
    task: usize,
    set: u32,
    number: u32,
    value: i32,
    lowest: i32,
    highest: i32,
}

/// The thresholds of a search, by their questions.
type Tried = Vec<(Search, Vec<(i32, Question)>)>;

/// Has every process measure what it undoes. `places` are where each was asked before.
pub(super) fn measure(
    tree: &mut Tree,
    looks: &[Look],
    memories: &[u32],
    places: &[Place],
    options: &Options,
    out: &mut Collected,
) -> Result<Undone, Error> {
    let mut undone = Undone::new();
    // Those that cannot be read are looked at with the others.
    let mut sets: Vec<Set> =
        IpcKind::Semaphores.list().into_iter().filter_map(|line| Set::read(line).ok()).collect();
    if sets.is_empty() {
        return Ok(undone);
    }
    apart(tree, out);
    for _ in 0..TRIES {
        let mut searches: Vec<Search> = searches(&sets, tree.members().len());
        let mut found = Vec::new();
        while !searches.is_empty() && out.can_be_saved() {
            let answered = ask(tree, looks, memories, places, &searches, options)?;
            let narrowed = answered.into_iter().flatten().flat_map(|(tried, answers)| {
                tried.into_iter().filter_map(move |(search, tried)| search.narrowed(&tried, &answers))
            });
            let (ready, open): (Vec<_>, Vec<_>) =
                narrowed.partition(|search: &Search| search.lowest >= search.highest);
            found.extend(ready);
            searches = open;
        }
        // What somebody else changed in between makes no sense; once more. So does what was removed, and that is all of it.
        let (mut again, mut gone) = (BTreeSet::new(), BTreeSet::new());
        for set in &sets {
            match Set::read(set.line.clone()) {
                Ok(now) if now.values == set.values => {}
                Ok(_) => drop(again.insert(set.line.object.id)),
                Err(_) => drop(gone.insert(set.line.object.id)),
            }
        }
        let makes_sense = |search: &Search| !again.contains(&search.set) && !gone.contains(&search.set);
        for search in found.into_iter().filter(makes_sense) {
            let pid = tree.members().get(search.task).map_or(0, |frozen| frozen.pid().0.cast_unsigned());
            if search.lowest != 0 {
                let adjustment = SemaphoreAdjustment { number: search.number, by: search.lowest };
                undone.entry((pid, search.set)).or_default().push(adjustment);
            }
        }
        let lines = sets.into_iter().map(|set| set.line).filter(|line| again.contains(&line.object.id));
        sets = lines.filter_map(|line| Set::read(line).ok()).collect();
        if sets.is_empty() {
            break;
        }
    }
    if let Some(busy) = sets.first() {
        let what = format!("{} {} changes all the time", IpcKind::Semaphores.noun(), busy.line.object.id);
        out.passing(what, "somebody else uses it: dump when that is not so");
    }
    shared(tree, &undone, out);
    Ok(undone)
}

fn searches(sets: &[Set], tasks: usize) -> Vec<Search> {
    let of_set = |task: usize, set: &Set| {
        let id = set.line.object.id;
        let numbered = (0..).zip(set.values.clone());
        numbered.map(move |(number, value)| Search {
            task,
            set: id,
            number,
            value: value.into(),
            lowest: LOWEST,
            highest: VALUE_MAX,
        })
    };
    (0..tasks).flat_map(|task| sets.iter().flat_map(move |set| of_set(task, set))).collect()
}

/// One try of all searches, each by the leader of its process.
fn ask(
    tree: &mut Tree,
    looks: &[Look],
    memories: &[u32],
    places: &[Place],
    searches: &[Search],
    options: &Options,
) -> Result<Vec<asking::Answered<Tried>>, Error> {
    let mut guests = Vec::new();
    let parts = tree.members_mut().iter_mut().zip(looks).zip(memories).zip(places).enumerate();
    for (task, (((frozen, look), memory_id), place)) in parts {
        let own: Vec<&Search> = searches.iter().filter(|search| search.task == task).collect();
        let Some(leader) = look.facts.first().filter(|_| !own.is_empty()) else { continue };
        let mut questions = Questions::new();
        let tried = own.into_iter().map(|search| (*search, search.put(&mut questions))).collect();
        let mut objections = Collected::default();
        let interview = Interview::of_leader(*place, leader, (tried, questions), options, &mut objections);
        if !objections.can_be_saved() {
            // Its seccomp filter forbids semop: it uses no semaphores.
            continue;
        }
        let (memory_id, memory, facts) = (*memory_id, &look.memory, look.facts.as_slice());
        guests.push(Guest { interview, frozen, memory_id, memory, facts });
    }
    asking::hold(guests)
}

impl Search {
    /// What to try next: first whether it is anything but 0, then ever larger steps away from that.
    fn thresholds(&self) -> Vec<i32> {
        const STEPS: u32 = 15;
        if (self.lowest, self.highest) == (LOWEST, VALUE_MAX) {
            return vec![0, 1];
        }
        let steps = (0..STEPS).map(|step| 1 << step);
        match self.lowest >= 0 {
            true => steps.map(|step| self.lowest + step).filter(|at| *at <= self.highest).collect(),
            false => steps.map(|step| self.highest - step + 1).filter(|at| *at > self.lowest).collect(),
        }
    }

    fn put(&self, questions: &mut Questions) -> Vec<(i32, Question)> {
        let thresholds = self.thresholds().into_iter();
        let tried = thresholds.map(|threshold| {
            let operations = operations(self.value, threshold);
            let count = operations.len() as u64;
            let given = operations.iter().flat_map(|operation| encoded(self.number, *operation)).collect();
            let args = [Arg::Value(self.set.into()), Arg::Answer, Arg::Value(count)];
            (
                threshold,
                questions.give(system_call!(SYS_semop), &args, given, "what it undoes to a semaphore"),
            )
        });
        tried.collect()
    }

    /// The bounds that follow from the answers; nothing if there is nothing that it could undo.
    fn narrowed(mut self, tried: &[(i32, Question)], answers: &Answers) -> Option<Search> {
        for (threshold, question) in tried {
            // Out of range means at least a positive threshold, or below one that is not.
            let reaches = match answers.result(*question) {
                Err(Errno::ERANGE) => *threshold > 0,
                Err(Errno::EAGAIN) => *threshold <= 0,
                // It may not change this set, or the set is gone.
                _ => return None,
            };
            match reaches {
                true => self.lowest = self.lowest.max(*threshold),
                false => self.highest = self.highest.min(threshold - 1),
            }
        }
        Some(self)
    }
}

/// An operation: by how much, and whether that is undone.
type Operation = (i32, bool);

/// Operations on a semaphore of this value that fail in any case: with ERANGE, if what is undone to it is at least
/// `threshold` and that is positive, or is below it and that is not; with EAGAIN otherwise.
fn operations(value: i32, threshold: i32) -> Vec<Operation> {
    let mut all = match threshold > 0 {
        // From the highest value there is room to take everything away.
        true => vec![(VALUE_MAX - value, false), (threshold - 1 - VALUE_MAX, true)],
        false => {
            let beyond = threshold - LOWEST;
            let first = beyond.min(VALUE_MAX);
            vec![(-value, false), (first, true), (-first, false), (beyond - first, true)]
        }
    };
    // One that asks for 0 would wait for that.
    all.retain(|(by, _)| *by != 0);
    all.extend([(-VALUE_MAX, false); 2]);
    all
}

/// struct sembuf
fn encoded(number: u32, (by, undone): Operation) -> [u8; 6] {
    // Flags are shorter in struct sembuf than as constants.
    let [wait, undo] = [libc::IPC_NOWAIT, libc::SEM_UNDO].map(|flag| i16::try_from(flag).unwrap_or(0));
    let flags = if undone { wait | undo } else { wait };
    let [a, b] = u16::try_from(number).unwrap_or(u16::MAX).to_ne_bytes();
    let [c, d] = i16::try_from(by).unwrap_or(i16::MIN).to_ne_bytes();
    let [e, f] = flags.to_ne_bytes();
    [a, b, c, d, e, f]
}

fn same_list(one: i32, other: i32) -> bool {
    sys::compare(Kind::SemaphoreUndo, (one, 0), (other, 0)) == Ok(Ordering::Equal)
}

/// Names threads that have a list apart from their leader's: only that one measures.
fn apart(tree: &Tree, out: &mut Collected) {
    for frozen in tree.members() {
        let mut others = frozen.threads().iter().map(|thread| thread.tid().0);
        if let Some(tid) = others.find(|tid| !same_list(frozen.pid().0, *tid)) {
            out.look_at(frozen.pid());
            let what =
                format!("thread {tid} has a list of its own of what it undoes to semaphores (SEM_UNDO)");
            out.unsupported(what, "made without CLONE_SYSVSEM, it cannot be asked");
        }
    }
}

/// Names processes that have such a list in common.
fn shared(tree: &Tree, undone: &Undone, out: &mut Collected) {
    let pids: BTreeSet<u32> = undone.keys().map(|(pid, _)| *pid).collect();
    for pid in pids {
        let mut others =
            tree.members().iter().map(Frozen::pid).filter(|other| other.0.cast_unsigned() != pid);
        if let Some(other) = others.find(|other| same_list(pid.cast_signed(), other.0)) {
            out.look_at(other);
            let what =
                format!("it has what is undone to semaphores in common with process {pid} (CLONE_SYSVSEM)");
            out.unsupported(what, "such processes cannot be saved");
        }
    }
}

/// Collects the sets that the tree uses, and what it undoes to them.
pub fn collect(users: &Users, undone: Undone, out: &mut Collected) {
    let measured: BTreeSet<u32> = undone.keys().map(|(_, set)| *set).collect();
    let mut kept = BTreeSet::new();
    for line in IpcKind::Semaphores.list() {
        let (id, count) = (line.object.id, sem::count(&line));
        let read = || -> Result<SemaphoreSet, Errno> {
            let pids = (0..count).map(|number| sys::semaphore_pid(id, number));
            let pids: Vec<u32> = pids.collect::<Result<_, _>>()?;
            let values = sys::semaphore_values(id, count)?.into_iter().zip(pids);
            let semaphores = values.map(|(value, last_pid)| Semaphore { value: value.into(), last_pid });
            let operation_time = sem::operation_time(&line);
            Ok(SemaphoreSet { ipc: line.note(), semaphores: semaphores.collect(), operation_time })
        };
        match read() {
            Ok(set) => {
                let last: Vec<u32> = set.semaphores.iter().map(|semaphore| semaphore.last_pid).collect();
                if measured.contains(&id) || users.have(IpcKind::Semaphores, id, &last) {
                    kept.insert(id);
                    out.note(set);
                }
            }
            // It was removed meanwhile.
            Err(Errno::EINVAL | Errno::EIDRM) => {}
            Err(error) if measured.contains(&id) || users.have(IpcKind::Semaphores, id, &[]) => out
                .unsupported(
                    format!("{} {id} cannot be read ({error})", IpcKind::Semaphores.noun()),
                    "dump it as root",
                ),
            Err(_) => {}
        }
    }
    // With one that was removed meanwhile, what is undone to it is gone as well.
    for ((pid, set), adjustments) in undone.into_iter().filter(|((_, set), _)| kept.contains(set)) {
        out.note(SemaphoreUndo { pid, set, adjustments });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What perform_atomic_semop does, of which all is undone at the end.
    fn try_all(mut value: i32, mut undone: i32, operations: &[Operation]) -> Option<Errno> {
        for (by, is_undone) in operations {
            assert_ne!(*by, 0);
            if value + by < 0 {
                return Some(Errno::EAGAIN);
            }
            if value + by > VALUE_MAX {
                return Some(Errno::ERANGE);
            }
            if *is_undone {
                undone -= by;
                if !(LOWEST..=VALUE_MAX).contains(&undone) {
                    return Some(Errno::ERANGE);
                }
            }
            value += by;
        }
        None
    }

    #[test]
    fn tries_tell_and_never_succeed() {
        let some = [LOWEST, LOWEST + 1, -20000, -2, -1, 0, 1, 2, 300, VALUE_MAX - 1, VALUE_MAX];
        for value in [0, 1, 5, 20000, VALUE_MAX - 1, VALUE_MAX] {
            for undone in some {
                for threshold in some.into_iter().filter(|threshold| *threshold > LOWEST) {
                    let operations = operations(value, threshold);
                    let said = try_all(value, undone, &operations);
                    let out_of_range = (undone >= threshold) == (threshold > 0);
                    let expected = if out_of_range { Errno::ERANGE } else { Errno::EAGAIN };
                    assert_eq!(said, Some(expected), "{value} {undone} {threshold} {operations:?}");
                }
            }
        }
    }

    #[test]
    fn a_search_ends() {
        for undone in [LOWEST, -70, -1, 0, 1, 2, 77, 20001, VALUE_MAX] {
            let mut search =
                Search { task: 0, set: 0, number: 0, value: 0, lowest: LOWEST, highest: VALUE_MAX };
            let mut rounds = 0;
            while search.lowest < search.highest {
                let thresholds = search.thresholds();
                assert!(!thresholds.is_empty(), "{search:?}");
                for threshold in thresholds {
                    match undone >= threshold {
                        true => search.lowest = search.lowest.max(threshold),
                        false => search.highest = search.highest.min(threshold - 1),
                    }
                }
                rounds += 1;
            }
            assert_eq!((search.lowest, search.highest), (undone, undone));
            assert!(rounds <= 16, "{rounds} for {undone}");
        }
    }
}
