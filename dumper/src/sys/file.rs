//! What std and nix do not ask of files.

use super::Result;
use nix::errno::Errno;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The kernel's number of the mount through which `path`, a magic link, leads to its file.
pub(crate) fn mount_of(path: &Path) -> Result<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    let at = found.as_mut_ptr();
    // SAFETY: the path ends with a zero byte, and the kernel writes one struct statx at `at`, which has room for it.
    Errno::result(unsafe { libc::statx(libc::AT_FDCWD, path.as_ptr(), 0, libc::STATX_MNT_ID, at) })?;
    // SAFETY: all its fields are integers, for which zeros do, and whatever the kernel wrote.
    let found = unsafe { found.assume_init() };
    if found.stx_mask & libc::STATX_MNT_ID == 0 { Err(Errno::ENOSYS) } else { Ok(found.stx_mnt_id) }
}

/// The names of the extended attributes of a file, each with a zero byte behind it.
pub(crate) fn attribute_names(file: &File) -> Result<Vec<u8>> {
    grown(|room| {
        let (at, len) = (room.as_mut_ptr().cast(), room.len());
        // SAFETY: the kernel writes at most `len` bytes at `at`, which is borrowed for the call; none if `len` is 0.
        unsafe { libc::flistxattr(file.as_raw_fd(), at, len) }
    })
}

/// The value of one of them.
pub(crate) fn attribute(file: &File, name: &CStr) -> Result<Vec<u8>> {
    grown(|room| {
        let (at, len) = (room.as_mut_ptr().cast(), room.len());
        // SAFETY: the name ends with a zero byte; the kernel writes at most `len` bytes at `at`; none if `len` is 0.
        unsafe { libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), at, len) }
    })
}

/// What a call writes that says how much room it needs when it is given none.
fn grown(call: impl Fn(&mut [u8]) -> isize) -> Result<Vec<u8>> {
    loop {
        let len = usize::try_from(Errno::result(call(&mut []))?).unwrap_or_default();
        let mut room = vec![0; len];
        if len == 0 {
            return Ok(room);
        }
        match Errno::result(call(&mut room)) {
            // It has grown meanwhile.
            Err(Errno::ERANGE) => {}
            written => {
                room.truncate(usize::try_from(written?).unwrap_or_default());
                return Ok(room);
            }
        }
    }
}

/// The attributes of chattr(1).
pub(crate) fn change_attributes(file: &File) -> Result<u32> {
    let mut flags: libc::c_long = 0;
    // SAFETY: the call writes an int at `flags`, which has room for more.
    Errno::result(unsafe { libc::ioctl(file.as_raw_fd(), libc::FS_IOC_GETFLAGS, &raw mut flags) })?;
    Ok(u32::try_from(flags & 0xffff_ffff).unwrap_or_default())
}
