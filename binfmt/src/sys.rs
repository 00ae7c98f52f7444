//! The only unsafe code of this crate.
#![allow(unsafe_code)]

use crate::program::stub::Stub;
use std::ptr::addr_of;

std::arch::global_asm!(include_str!("program/stub.s"));

unsafe extern "C" {
    static ckpt_stub: u8;
    static ckpt_stub_run: u8;
    static ckpt_stub_mapped: u8;
    static ckpt_stub_unmapped: u8;
    static ckpt_stub_data: u8;
    static ckpt_stub_end: u8;
}

/// The stub, as it stands in this program's read-only data.
pub(crate) fn stub() -> Stub {
    let [start, run, mapped, unmapped, data, end] = [
        addr_of!(ckpt_stub),
        addr_of!(ckpt_stub_run),
        addr_of!(ckpt_stub_mapped),
        addr_of!(ckpt_stub_unmapped),
        addr_of!(ckpt_stub_data),
        addr_of!(ckpt_stub_end),
    ];
    let offset = |place: *const u8| (place.addr() - start.addr()) as u64;
    Stub {
        // SAFETY: the symbols are defined in this order by the assembly in `program::stub`, in one read-only section,
        // and every byte from the first to the last is initialized by the assembler.
        bytes: unsafe { std::slice::from_raw_parts(start, end.addr() - start.addr()) },
        run_offset: offset(run),
        mapped_offset: offset(mapped),
        unmapped_offset: offset(unmapped),
        data_offset: offset(data),
    }
}

/// The id of the namespace that `file` leads to (ioctl_nsfs(2), NS_GET_ID).
pub(crate) fn namespace_id(file: &std::fs::File) -> nix::Result<u64> {
    const NS_GET_ID: libc::c_ulong = 0x8008_b70d;
    let mut id = 0u64;
    // SAFETY: the kernel writes eight bytes.
    let answer = unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(file), NS_GET_ID, &raw mut id) };
    nix::errno::Errno::result(answer).map(|_| id)
}
