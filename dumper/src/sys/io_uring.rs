//! Asking about io_uring instances. Nothing here changes one.

use super::Result;
use nix::errno::Errno;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;

/// An operation of io_uring_register(2) with an argument that cannot be read: what it answers tells what is registered.
pub(crate) fn ring_would_register(ring: BorrowedFd<'_>, operation: u32) -> Errno {
    const NOWHERE: u64 = 8;
    // SAFETY: no memory of ours is at address 8, in the first page, so the kernel can read and write nothing there.
    let answer =
        unsafe { libc::syscall(libc::SYS_io_uring_register, ring.as_raw_fd(), operation, NOWHERE, 1u32) };
    if answer < 0 { Errno::last() } else { Errno::UnknownErrno }
}

/// Whether a ring has a group of provided buffers of this number: ENOENT if not, also where it cannot be told (before 6.8).
pub(crate) fn ring_has_buffers(ring: BorrowedFd<'_>, group: u32) -> bool {
    const STATUS: u32 = 26;
    // struct io_uring_buf_status
    let mut status = [group, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    // SAFETY: the kernel reads and writes the ten words of `status`.
    let answer = unsafe {
        libc::syscall(libc::SYS_io_uring_register, ring.as_raw_fd(), STATUS, status.as_mut_ptr(), 1u32)
    };
    // One that is no ring of buffers: EINVAL, which is also the answer of a kernel that does not know the question.
    answer == 0 || Errno::last() == Errno::EINVAL
}

/// Enters a ring with nothing to submit and nothing to wait for.
pub(crate) fn ring_enter(ring: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: without a signal mask the kernel reads and writes no memory of ours.
    let answer =
        unsafe { libc::syscall(libc::SYS_io_uring_enter, ring.as_raw_fd(), 0u32, 0u32, 0u32, 0u64, 0u64) };
    Errno::result(answer).map(drop)
}

/// The memory of a ring from this offset, at most `most` pages. It is mapped for a moment, and read as a file is: beyond its
/// end there would be a signal.
pub(crate) fn ring_memory(ring: BorrowedFd<'_>, offset: u64, most: usize) -> Result<Vec<u8>> {
    const PAGE: usize = 4096;
    let offset = i64::try_from(offset).map_err(|_| Errno::EINVAL)?;
    let len = most * PAGE;
    // SAFETY: the kernel chooses a place where nothing is.
    let at = unsafe {
        libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, ring.as_raw_fd(), offset)
    };
    if at == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    let mut bytes = vec![0; len];
    let read = File::open("/proc/self/mem").map(|memory| {
        let page = |index: usize| (at.addr() + index * PAGE) as u64;
        let mut pages = bytes.chunks_exact_mut(PAGE).enumerate();
        pages.position(|(index, chunk)| memory.read_exact_at(chunk, page(index)).is_err()).unwrap_or(most)
    });
    // SAFETY: it was mapped above, and no reference to it was made.
    unsafe { libc::munmap(at, len) };
    bytes.truncate(read.map_err(|_| Errno::EIO)? * PAGE);
    Ok(bytes)
}
