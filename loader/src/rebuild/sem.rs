//! System V semaphores: values, and what is undone to them when a process ends (SEM_UNDO). How sets are made: see `ipc`.
//!
//! Each process does operations that change no value in the end: what it undoes follows from those that are to be undone, and
//! it is the one that changed a semaphore last where it was before. If it is killed before it lives, what it undoes comes
//! to sets that are removed, or that were left by the end of the original just so. A set that others use is left alone.

use crate::error::{Error, Result};
use crate::sys;
use crate::world::World;
use binfmt::ipc::IpcKind;
use binfmt::note::sem::{SemaphoreSet, SemaphoreUndo, VALUE_MAX};
use binfmt::note::task::Task;
use nix::errno::Errno;

/// Who changed a semaphore last; 0 for nobody.
pub fn last_user(id: u32, number: usize) -> nix::Result<u32> {
    sys::semaphore_pid(id, i32::try_from(number).map_err(|_| Errno::EINVAL)?)
}

/// Gives all semaphores of set `id` their values.
pub fn fill(set: &SemaphoreSet, id: u32, failed: &dyn Fn(&str, Errno) -> Error) -> Result<()> {
    let values = set.semaphores.iter().map(|semaphore| u16::try_from(semaphore.value).unwrap_or(u16::MAX));
    let set = sys::set_semaphore_values(id, &values.collect::<Vec<_>>());
    set.map_err(|error| failed("set the values of", error))
}

/// Has this process undo at its end what `task` did.
pub fn rebuild(world: &World<'_>, task: &Task) -> Result<()> {
    for set in world.image.all::<SemaphoreSet>() {
        let undone = world.image.about::<SemaphoreUndo>(task.pid).find(|undone| undone.set == set.ipc.id);
        let by = |number: u32| {
            let all = undone.map(|undone| undone.adjustments.as_slice()).unwrap_or_default();
            all.iter().find(|adjustment| adjustment.number == number).map_or(0, |adjustment| adjustment.by)
        };
        let own = (0..).zip(&set.semaphores).filter(|(number, semaphore)| {
            by(*number) != 0 || semaphore.last_pid == task.pid && task.pid != 0
        });
        let own: Vec<u32> = own.map(|(number, _)| number).collect();
        if own.is_empty() {
            continue;
        }
        let (id, is_joined) = world.ipc(IpcKind::Semaphores, set.ipc.id)?;
        if is_joined {
            // The end of the original has undone it already, and others have gone on from there.
            continue;
        }
        for number in own {
            touch(id, set.semaphores.len(), number, by(number)).map_err(|error| {
                Error::step(
                    format!("have process {} undo what it did to semaphore {number} of {id}", task.pid),
                    error,
                )
            })?;
        }
    }
    Ok(())
}

/// Does operations on a semaphore that leave it as it is.
fn touch(id: u32, count: usize, number: u32, undone: i32) -> nix::Result<()> {
    const TRIES: u32 = 100;
    let short = u16::try_from(number).map_err(|_| Errno::EINVAL)?;
    let mut last = Errno::EAGAIN;
    // Others may change it at the same time, if they have it in common with the tree.
    for _ in 0..TRIES {
        let values = sys::semaphore_values(id, count)?;
        let value = usize::try_from(number).ok().and_then(|number| values.get(number).copied());
        let operations = operations(value.ok_or(Errno::EINVAL)?.into(), undone);
        match sys::operate(id, short, &operations) {
            Err(error @ (Errno::EAGAIN | Errno::ERANGE)) => last = error,
            done => return done,
        }
    }
    Err(last)
}

/// Operations that leave a semaphore of this value as it is, after which `undone` is added to it at the end.
fn operations(value: i32, undone: i32) -> Vec<(i16, bool)> {
    let all = match undone {
        0 if value == VALUE_MAX => vec![(-1, false), (1, false)],
        0 => vec![(1, false), (-1, false)],
        // From the highest value there is room to take everything away, from 0 to add everything.
        1.. => vec![(VALUE_MAX - value, false), (-undone, true), (value - VALUE_MAX + undone, false)],
        _ => {
            let first = (-undone).min(VALUE_MAX);
            let rest = -undone - first;
            vec![(-value, false), (first, true), (-first, false), (rest, true), (value - rest, false)]
        }
    };
    // One that asks for 0 would wait for that.
    let all = all.into_iter().filter(|(by, _)| *by != 0);
    all.map(|(by, is_undone)| (i16::try_from(by).unwrap_or(i16::MAX), is_undone)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_undone_is_all_that_changes() {
        for value in [0, 1, 7, 20000, VALUE_MAX - 1, VALUE_MAX] {
            for undone in [-VALUE_MAX - 1, -VALUE_MAX, -300, -1, 0, 1, 2, 12345, VALUE_MAX] {
                let (mut at, mut sum) = (value, 0);
                for (by, is_undone) in operations(value, undone) {
                    let by = i32::from(by);
                    at += by;
                    assert!((0..=VALUE_MAX).contains(&at) && by != 0, "{value} {undone}");
                    sum -= if is_undone { by } else { 0 };
                }
                assert_eq!((at, sum), (value, undone));
            }
        }
    }
}
