//! Files by their handles.

use super::{Result, owned};
use nix::errno::Errno;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// A struct file_handle with room for the longest handle (MAX_HANDLE_SZ).
#[repr(C)]
struct FileHandle {
    len_bytes: u32,
    kind: i32,
    bytes: [u8; 128],
}

/// A descriptor (O_PATH) of the file with this handle in the filesystem that `mount` is of. Needs CAP_DAC_READ_SEARCH.
pub(crate) fn open_by_handle(mount: BorrowedFd<'_>, kind: i32, handle: &[u8]) -> Result<OwnedFd> {
    let mut given = FileHandle { len_bytes: 0, kind, bytes: [0; 128] };
    given.bytes.get_mut(..handle.len()).ok_or(Errno::EOVERFLOW)?.copy_from_slice(handle);
    given.len_bytes = u32::try_from(handle.len()).map_err(|_| Errno::EOVERFLOW)?;
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    // SAFETY: the kernel reads the head and `len_bytes` bytes of `given`, which has as many.
    owned(unsafe {
        libc::syscall(libc::SYS_open_by_handle_at, mount.as_raw_fd(), (&raw const given).addr(), flags)
    })
}
