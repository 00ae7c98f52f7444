//! Memory in the hole for what must outlive Rust: the stub, the programs, the signal frames and what they point to.
//!
//! The hole is laid out as `[loader's own image and heap | control pages | arena | parking | stack]`, all of it gone at the end by
//! one munmap.

use crate::error::{Error, Result};
use crate::sys;
use binfmt::address::PAGE_BYTES;

/// Where the loader stands: a range that neither the image nor the loader's first start uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// First address.
    pub start: u64,
    /// Length in bytes of the part for the loader's image and heap.
    pub heap_bytes: u64,
    /// Length in bytes of the control pages.
    pub control_bytes: u64,
    /// Length in bytes of the arena, with the parking at its end.
    pub arena_bytes: u64,
}

/// Length in bytes of the place at the arena's end where the vdso and its data wait for theirs.
pub const PARKING_BYTES: u64 = 64 << 10;
/// Length in bytes of the second start's stack.
pub const STACK_BYTES: u64 = 1 << 20;

/// Length in bytes of the part for the loader's image and heap, where the image's metadata are few.
pub const HEAP_BYTES: u64 = 64 << 20;

impl Hole {
    /// Whether so much of an image will stand in the heap that huge pages pay where many tasks are forked: each has to copy
    /// the heap's page tables, and to take them down again when it leaves the loader.
    pub fn has_large_heap(self) -> bool {
        self.heap_bytes > HEAP_BYTES + (16 << 20)
    }

    /// Length in bytes of everything.
    pub fn len_bytes(self) -> u64 {
        self.heap_bytes + self.control_bytes + self.arena_bytes + STACK_BYTES
    }

    /// One past the last address.
    pub fn end(self) -> u64 {
        self.start + self.len_bytes()
    }

    /// Where the vdso waits.
    pub fn parking(self) -> u64 {
        self.end() - STACK_BYTES - PARKING_BYTES
    }

    /// Where the control pages are.
    pub fn control(self) -> u64 {
        self.start + self.heap_bytes
    }
}

/// A bump allocator over the hole's arena. Nothing is ever freed: all of it goes at once.
#[derive(Debug)]
pub struct Arena {
    next: u64,
    end: u64,
}

impl Arena {
    /// Maps the arena of `hole`, in place of that of the task from which this one was forked.
    pub fn map(hole: Hole) -> Result<Arena> {
        let start = hole.control() + hole.control_bytes;
        let len_bytes = hole.arena_bytes - PARKING_BYTES;
        sys::unmap(start, len_bytes)
            .map_err(|error| Error::step("unmap another task's working memory", error))?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        sys::map_fixed(start, len_bytes, (libc::PROT_READ | libc::PROT_WRITE).unsigned_abs(), flags, None)
            .map_err(|error| Error::step("map the loader's working memory", error))?;
        Ok(Arena { next: start, end: start + len_bytes })
    }

    /// A part of it for a task that shares this memory.
    pub fn split(&mut self, len_bytes: usize) -> Result<Arena> {
        let next = self.reserve(len_bytes, PAGE_BYTES)?;
        self.next = self.next.next_multiple_of(PAGE_BYTES);
        Ok(Arena { next, end: self.next })
    }

    /// Room for `len_bytes` bytes of zeros at a multiple of `align`.
    pub fn reserve(&mut self, len_bytes: usize, align: u64) -> Result<u64> {
        let at = self.next.next_multiple_of(align);
        let end = at.saturating_add(len_bytes as u64);
        if end > self.end {
            return Err(Error::Internal("the loader's working memory is too small"));
        }
        self.next = end;
        Ok(at)
    }

    /// A copy of `bytes`, aligned to 64.
    pub fn put(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.reserve(bytes.len(), 64)?;
        sys::write_at(at, bytes);
        Ok(at)
    }

    /// A copy of `bytes` on pages of their own that can be executed and no longer written.
    pub fn put_code(&mut self, bytes: &[u8]) -> Result<u64> {
        let at = self.reserve(bytes.len(), PAGE_BYTES)?;
        sys::write_at(at, bytes);
        self.next = self.next.next_multiple_of(PAGE_BYTES);
        let protection = (libc::PROT_READ | libc::PROT_EXEC).unsigned_abs();
        sys::protect(at, self.next - at, protection, 0)
            .map_err(|error| Error::step("make the loader's stub executable", error))?;
        Ok(at)
    }
}
