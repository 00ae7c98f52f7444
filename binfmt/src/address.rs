//! Words for places and identities in *another* process.
//!
//! None of these can be dereferenced or confused with one another: an address of a frozen task is a number here.

use std::fmt;

/// Bytes in a page on the one architecture that is supported (x86-64).
pub const PAGE_BYTES: u64 = 4096;
/// Bytes in a huge page of the second level.
pub const HUGE_PAGE_BYTES: u64 = 2 << 20;
/// One past the last address a task of x86-64 with four-level tables can map (`TASK_SIZE_MAX`).
pub const TASK_END: u64 = 0x7fff_ffff_f000;

/// An address in another process. No pointer type: nothing here can dereference it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct TaskAddr(pub u64);

impl fmt::Display for TaskAddr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:#x}", self.0)
    }
}

/// A non-empty, page-aligned range of a task's memory that does not wrap and lies below [`TASK_END`].
///
/// Holding a `Span` proves those facts and no more: the range may be unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    start: u64,
    len_bytes: u64,
}

impl Span {
    /// The range of `len_bytes` at `start`, or `None` if one of the promises does not hold.
    pub fn new(start: u64, len_bytes: u64) -> Option<Span> {
        let end = start.checked_add(len_bytes)?;
        let aligned = start.is_multiple_of(PAGE_BYTES) && len_bytes.is_multiple_of(PAGE_BYTES);
        (aligned && len_bytes > 0 && end <= TASK_END).then_some(Span { start, len_bytes })
    }

    /// First address.
    pub fn start(self) -> TaskAddr {
        TaskAddr(self.start)
    }

    /// One past the last address.
    pub fn end(self) -> TaskAddr {
        TaskAddr(self.start + self.len_bytes)
    }

    /// Length in bytes, a multiple of the page size.
    pub fn len_bytes(self) -> u64 {
        self.len_bytes
    }

    /// Whether `address` lies inside.
    pub fn contains(self, address: TaskAddr) -> bool {
        self.start <= address.0 && address.0 < self.start + self.len_bytes
    }

    /// Whether the two share a byte.
    pub fn overlaps(self, other: Span) -> bool {
        self.start < other.end().0 && other.start < self.end().0
    }
}

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:x}-{:x}", self.start, self.start + self.len_bytes)
    }
}

/// A process id (thread group id) in the pid namespace of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pid(pub i32);

/// A thread id in the pid namespace of the reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tid(pub i32);

impl fmt::Display for Pid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl fmt::Display for Tid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl Pid {
    /// The thread that leads the process.
    pub fn leader(self) -> Tid {
        Tid(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn span_refuses_what_it_promises_not_to_be() {
        assert!(Span::new(0x1000, 0).is_none(), "empty");
        assert!(Span::new(0x1001, 0x1000).is_none(), "start not aligned");
        assert!(Span::new(0x1000, 0x800).is_none(), "length not aligned");
        assert!(Span::new(!0xfff, 0x2000).is_none(), "wraps");
        assert!(Span::new(TASK_END, 0x1000).is_none(), "beyond the task's space");
        assert_eq!(Span::new(0x1000, 0x1000).map(Span::end), Some(TaskAddr(0x2000)));
    }
}
