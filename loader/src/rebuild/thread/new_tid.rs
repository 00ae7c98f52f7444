//! A new thread id, where the C library keeps copies of the old one.
//!
//! glibc keeps its id where the kernel clears it at the thread's end, and writes it into every mutex that it locks. If
//! only the first is renewed, who holds a recursive mutex (the one of dlopen, say) takes its owner for somebody else and
//! waits for itself forever; if none is, what is sent to the main thread goes to a stranger.

use crate::error::{Error, Result};
use crate::stage::Identity;
use binfmt::image::{Image, Owner};
use binfmt::note::mapping::Memory;
use binfmt::note::task::Task;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// What is looked through at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// What stands before the owner in a mutex: its lock word and how often it is locked.
const BEFORE_OWNER: u64 = 8;
const MUTEX_BYTES: usize = 20;

/// Gives glibc the id of this process as that of its main thread, also as the owner of what that holds.
pub fn give(image: &Image, task: &Task, memory: &Memory, identity: Identity) -> Result<()> {
    let mut threads = image.about::<binfmt::note::thread::Thread>(task.pid);
    let Some(leader) = threads.find(|thread| thread.tid == task.pid) else {
        return Err(Error::Internal("the image has no leading thread"));
    };
    if identity != Identity::Fresh || leader.clear_tid_address == 0 {
        return Ok(());
    }
    let own = File::options().read(true).write(true).open("/proc/self/mem");
    let own = own.map_err(|error| Error::io("open /proc/self/mem", &error))?;
    let mut word = [0; 4];
    let is_copy = own.read_exact_at(&mut word, leader.clear_tid_address).is_ok()
        && u32::from_le_bytes(word) == leader.tid;
    if !is_copy {
        return Ok(());
    }
    let (old, new) = (leader.tid, std::process::id());
    give_word(&own, leader.clear_tid_address, new)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    for (segment, _) in image.segments_of(Owner::Memory(memory.id)) {
        let end = segment.start.saturating_add(segment.len_bytes);
        for start in (segment.start..end).step_by(CHUNK_BYTES) {
            let len = usize::try_from(end - start).unwrap_or(CHUNK_BYTES).min(CHUNK_BYTES);
            let chunk = chunk.get_mut(..len).unwrap_or_default();
            let failed = |error| Error::io("read the memory for locks", &error);
            own.read_exact_at(chunk, start).map_err(failed)?;
            for offset in owners(chunk, old) {
                renew(&own, start + offset as u64, old, new)?;
            }
        }
    }
    Ok(())
}

/// Where in `chunk` the owner of a mutex may stand that `tid` holds: it is followed by the one user, and aligned.
fn owners(chunk: &[u8], tid: u32) -> Vec<usize> {
    const PAGE: usize = 4096;
    let held = u64::from(tid) | 1 << 32;
    let is_held = |word: &[u8; 8]| u64::from_le_bytes(*word) == held;
    let mut found = Vec::new();
    for (number, page) in chunk.chunks(PAGE).enumerate() {
        let words = page.as_chunks::<8>().0;
        // Nearly no page has one, and a loop without an early end takes many words at a time.
        if words.iter().fold(false, |any, word| any | is_held(word)) {
            let indices = words.iter().enumerate().filter(|(_, word)| is_held(word));
            found.extend(indices.map(|(index, _)| number * PAGE + index * 8));
        }
    }
    found
}

/// Renews the owner at `address`, if this is a mutex in which anybody looks at it.
fn renew(own: &File, address: u64, old: u32, new: u32) -> Result<()> {
    let start = address.saturating_sub(BEFORE_OWNER);
    let mut bytes = [0; MUTEX_BYTES];
    if own.read_exact_at(&mut bytes, start).is_err() {
        return Ok(());
    }
    let mut words = [0; MUTEX_BYTES / 4];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    if let Some(lock) = lock_under(words, old, new) {
        give_word(own, start, lock)?;
        give_word(own, address, new)?;
    }
    Ok(())
}

/// The lock word of a mutex that `old` holds, when it is that of `new`; nothing if this is no such mutex.
fn lock_under([lock, count, owner, users, kind]: [u32; 5], old: u32, new: u32) -> Option<u32> {
    const RECURSIVE: u32 = 1;
    const CHECKING: u32 = 2;
    const ROBUST: u32 = 16;
    const INHERITS_PRIORITY: u32 = 32;
    /// Shared between processes, and whether its lock may be elided: of no account here.
    const MODIFIERS: u32 = 128 | 256 | 512;
    const ADAPTIVE: u32 = 3;
    const TID_MASK: u32 = 0x3fff_ffff;
    // A program nests no deeper; what says so is not a mutex.
    const DEEPEST: u32 = 1 << 16;
    if owner != old || users != 1 || count > DEEPEST {
        return None;
    }
    let special = kind & (ROBUST | INHERITS_PRIORITY) != 0;
    match kind & !(ROBUST | INHERITS_PRIORITY | MODIFIERS) {
        0..=ADAPTIVE if special && lock & TID_MASK == old => Some(lock & !TID_MASK | new),
        RECURSIVE if !special && matches!(lock, 1 | 2) && count > 0 => Some(lock),
        CHECKING if !special && matches!(lock, 1 | 2) && count == 0 => Some(lock),
        _ => None,
    }
}

fn give_word(own: &File, address: u64, word: u32) -> Result<()> {
    own.write_all_at(&word.to_le_bytes(), address)
        .map_err(|error| Error::io("tell the C library its new thread id", &error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutexes_that_know_their_owner_are_told() {
        assert_eq!(lock_under([2, 1, 500, 1, 1], 500, 600), Some(2));
        assert_eq!(lock_under([1, 0, 500, 1, 2], 500, 600), Some(1));
        assert_eq!(lock_under([500 | 1 << 31, 1, 500, 1, 16], 500, 600), Some(600 | 1 << 31));
        assert_eq!(lock_under([500, 1, 500, 1, 512 | 16], 500, 600), Some(600));
        assert_eq!(lock_under([500, 3, 500, 1, 32 | 128 | 1], 500, 600), Some(600));
    }

    #[test]
    fn nothing_else_is_changed() {
        assert_eq!(lock_under([1, 0, 500, 1, 0], 500, 600), None, "nobody looks at its owner");
        assert_eq!(lock_under([1, 1, 501, 1, 1], 500, 600), None, "the owner is another");
        assert_eq!(lock_under([0, 0, 500, 1, 1], 500, 600), None, "it is not locked");
        assert_eq!(lock_under([3, 1, 500, 1, 1], 500, 600), None, "no such lock word");
        assert_eq!(lock_under([1, 1, 500, 1, 9], 500, 600), None, "no such kind");
        assert_eq!(lock_under([501, 1, 500, 1, 16], 500, 600), None, "its lock word names another");
    }

    #[test]
    fn owners_are_found_wherever_they_are_aligned() {
        let mut chunk = vec![0; 3 * 4096 + 16];
        for offset in [0, 4096 - 8, 4096, 3 * 4096 + 8, 500 * 8 + 4] {
            chunk[offset..offset + 8].copy_from_slice(&(500u64 | 1 << 32).to_le_bytes());
        }
        assert_eq!(owners(&chunk, 500), [0, 4096 - 8, 4096, 3 * 4096 + 8]);
    }
}
