//! Asking POSIX message queues.

use super::Result;
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd};

/// struct mq_attr: flags, how many messages at most, how long at most, how many there are.
pub(crate) fn queue_attributes(fd: BorrowedFd<'_>) -> Result<[i64; 4]> {
    // Four of the kernel's eight longs are reserved.
    let mut found = [0_i64; 8];
    let none: usize = 0;
    // SAFETY: the kernel writes one struct mq_attr of eight longs at `found`.
    let answer = unsafe { libc::syscall(libc::SYS_mq_getsetattr, fd.as_raw_fd(), none, found.as_mut_ptr()) };
    Errno::result(answer)?;
    let [flags, messages_max, bytes_max, messages, ..] = found;
    Ok([flags, messages_max, bytes_max, messages])
}
