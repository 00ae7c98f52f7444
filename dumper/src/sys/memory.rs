//! Memory that is shared with children.

use super::Result;
use nix::errno::Errno;

/// Memory that children share.
pub(crate) struct SharedMemory {
    at: std::ptr::NonNull<std::ffi::c_void>,
    len: usize,
}

/// Maps memory that children share, all zeros.
pub(crate) fn share_memory(len: usize) -> Result<SharedMemory> {
    use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
    let length = std::num::NonZeroUsize::new(len).ok_or(Errno::EINVAL)?;
    let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
    let flags = MapFlags::MAP_SHARED | MapFlags::MAP_NORESERVE;
    // SAFETY: a new mapping wherever there is room changes nothing that is there.
    let at = unsafe { mmap_anonymous(None, length, protection, flags) }?;
    Ok(SharedMemory { at, len })
}

impl SharedMemory {
    /// Where it starts.
    pub(crate) fn at(&self) -> *mut u8 {
        self.at.as_ptr().cast()
    }

    /// What stands in it, when no child writes any more.
    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: so many bytes are mapped as long as the value lives; the child that wrote them has ended.
        unsafe { std::slice::from_raw_parts(self.at(), self.len) }
    }
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        // SAFETY: nobody has a reference into it: `bytes` borrows the value.
        let _ = unsafe { nix::sys::mman::munmap(self.at, self.len) };
    }
}
