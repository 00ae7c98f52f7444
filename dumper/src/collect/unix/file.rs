//! Which file has the name of a socket. The kernel says it to who has CAP_NET_ADMIN; others look where it should be.

use super::diag::Told;
use crate::collect::Collected;
use crate::collect::file::{self, Naming, Place};
use crate::collect::socket::Held;
use crate::sys;
use binfmt::note::file::FileIdentity;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file of a socket with this name; `None` if it cannot be found.
pub fn identify(held: &Held<'_>, told: &Told, name: &[u8], out: &mut Collected) -> Option<FileIdentity> {
    if let Ok(opened) = sys::socket_file(held.duplicate.as_fd()) {
        let place = Place::magic_link(PathBuf::from(format!("/proc/self/fd/{}", opened.as_raw_fd()))).ok()?;
        return Some(file::identify(&place, Naming::Ordinary, out));
    }
    let name = Path::new(std::ffi::OsStr::from_bytes(name));
    let directory = held.open.subject.proc.link("cwd").ok()?;
    let path = directory.join(name);
    let metadata = fs::symlink_metadata(&path).ok()?;
    let (inode, device) = told.file?;
    // The kernel shows 32 bits of an inode, and a device by 12 bits and 20.
    let shown = u64::from(libc::major(metadata.dev())) << 20 | u64::from(libc::minor(metadata.dev()));
    if metadata.ino() & 0xffff_ffff != u64::from(inode) || shown != u64::from(device) {
        return None;
    }
    let label = path.as_os_str().as_bytes().to_vec();
    Some(file::identify(&Place { link: path, label, metadata }, Naming::Ordinary, out))
}
