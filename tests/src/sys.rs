//! The one system call that no crate offers in a safe form.
#![allow(unsafe_code, reason = "the home of unsafe code in this crate")]

use nix::errno::Errno;

/// Makes every descriptor from 3 on close at the next exec: what the test runner inherited is no part of a guest's state.
pub fn keep_descriptors_from_children() -> nix::Result<()> {
    // SAFETY: with CLOSE_RANGE_CLOEXEC no descriptor is closed, and the call takes no pointers.
    let result = unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC as libc::c_int) };
    Errno::result(result).map(drop)
}
