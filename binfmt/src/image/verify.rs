//! Comparing the stored bytes with their digests, on all processors.
//!
//! The bytes are read, not mapped: an image that another process cuts short meanwhile is then an error, not SIGBUS.

use super::read::{PIECE_BYTES, damaged, digest_of};
use super::{Image, ImageError};
use crate::digest::{EMPTY, combine};
use crate::workers::together;
use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What one thread takes at a time: large enough to be worth taking, small enough that all end together. Larger where
/// there would be too many: holes make a file of any size out of nothing.
const SHARE_BYTES: u64 = 16 << 20;
const SHARES_MAX: u64 = 1 << 16;

/// A part of one segment.
struct Share {
    segment: usize,
    offset: u64,
    len_bytes: u64,
}

impl Image {
    /// Reads a whole segment and compares it with `expected`, its digest from [`Image::digests`].
    pub fn check_segment(&self, index: usize, expected: u64) -> Result<(), ImageError> {
        let Some((segment, offset)) = self.segments.get(index) else { return Ok(()) };
        match digest_of(&self.file, *offset, segment.len_bytes, &mut vec![0; PIECE_BYTES])? {
            found if found == expected => Ok(()),
            _ => Err(damaged(*offset, segment.mismatch())),
        }
    }

    /// Reads every segment and compares it with its digest, with so many threads. What is wrong: first
    /// what could not be read, then what was and does not match; empty if nothing is.
    pub fn check_segments(&self, threads: NonZeroUsize) -> Vec<ImageError> {
        let digests = match self.digests() {
            Ok(digests) => digests,
            Err(error) => return vec![error],
        };
        let shares = self.shares();
        let next = AtomicUsize::new(0);
        let work = || {
            let mut buffer = vec![0; PIECE_BYTES];
            let mut done = Vec::new();
            while let Some(share) = shares.get(next.fetch_add(1, Ordering::Relaxed)) {
                done.push((share, digest_of(&self.file, share.offset, share.len_bytes, &mut buffer)));
            }
            done
        };
        let helpers = threads.get().min(shares.len()).saturating_sub(1);
        let (mut found, others): (Vec<(&Share, Result<u64, ImageError>)>, _) = together(helpers, work);
        // A thread that panicked leaves its shares out, and a segment without all its shares does not match.
        found.extend(others.into_iter().flatten().flatten());
        found.sort_unstable_by_key(|(share, _)| (share.segment, share.offset));
        self.compare(digests, found)
    }

    /// How many bytes the segments have in the file, those that several share counted once.
    pub fn stored_bytes(&self) -> u64 {
        let segments = self.segments.iter().zip(self.stored_by()).enumerate();
        let own = segments.filter(|(index, (_, first))| index == first);
        own.map(|(_, ((segment, _), _))| segment.len_bytes).fold(0, u64::saturating_add)
    }

    /// For every segment the index of the first one with the same bytes of the file: its own, unless several memories share
    /// them.
    pub fn stored_by(&self) -> Vec<usize> {
        let mut firsts = BTreeMap::new();
        let segments = self.segments.iter().enumerate();
        segments
            .map(|(index, (segment, offset))| *firsts.entry((*offset, segment.len_bytes)).or_insert(index))
            .collect()
    }

    fn shares(&self) -> Vec<Share> {
        let mut shares = Vec::with_capacity(self.segments.len());
        let share_bytes = SHARE_BYTES.max(self.total_bytes / SHARES_MAX);
        let stored_by = self.stored_by();
        for ((segment, (stored, start)), first) in self.segments.iter().enumerate().zip(stored_by) {
            if first != segment {
                continue;
            }
            let mut at = 0;
            while at < stored.len_bytes {
                let len_bytes = share_bytes.min(stored.len_bytes - at);
                shares.push(Share { segment, offset: start + at, len_bytes });
                at += len_bytes;
            }
        }
        shares
    }

    fn compare(&self, digests: &[u64], found: Vec<(&Share, Result<u64, ImageError>)>) -> Vec<ImageError> {
        let mut wrong = Vec::new();
        let mut whole = vec![EMPTY; digests.len()];
        let mut unread = vec![false; digests.len()];
        for (share, result) in found {
            match result {
                Ok(digest) => {
                    if let Some(so_far) = whole.get_mut(share.segment) {
                        *so_far = combine(*so_far, digest, share.len_bytes);
                    }
                }
                Err(error) => {
                    if let Some(unread) = unread.get_mut(share.segment) {
                        *unread = true;
                    }
                    wrong.push(error);
                }
            }
        }
        for (((segment, offset), expected), first) in self.segments.iter().zip(digests).zip(self.stored_by())
        {
            let unread = unread.get(first).copied().unwrap_or_default();
            if whole.get(first) != Some(expected) && !unread {
                wrong.push(damaged(*offset, segment.mismatch()));
            }
        }
        wrong
    }
}
