//! What else belongs to files that the image carries, and to directories without a name.

use super::Place;
use crate::collect::Collected;
use crate::sys;
use binfmt::note::file::{ExtendedAttribute, NamelessFile};
use binfmt::wire::{Bytes, Text};
use std::ffi::CStr;
use std::fs::File;
use std::os::unix::fs::MetadataExt;

/// FS_IOC_SETFLAGS: what chattr(1) sets that says how a file is used, not how it lies on its disk.
const SETTABLE: u32 = 0x4 | 0x8 | 0x10 | 0x20 | 0x40 | 0x80 | 0x1_0000 | 0x80_0000;

/// Adds the note of the file at `place`, which `opened` is, unless it is there.
pub(in crate::collect) fn collect(place: &Place, opened: &File, out: &mut Collected) {
    let metadata = &place.metadata;
    let (device, inode) = (metadata.dev(), metadata.ino());
    if !out.nameless.insert((device, inode)) {
        return;
    }
    out.note(NamelessFile {
        device,
        inode,
        accessed_ns: metadata.atime().saturating_mul(1_000_000_000).saturating_add(metadata.atime_nsec()),
        // Most filesystems in memory have none.
        attributes: sys::change_attributes(opened).map_or(0, |attributes| attributes & SETTABLE),
        extended: extended(opened),
    });
}

/// All extended attributes that we may see.
fn extended(file: &File) -> Vec<ExtendedAttribute> {
    let names = sys::attribute_names(file).unwrap_or_default();
    let names = names.split_inclusive(|byte| *byte == 0);
    let read = |name: &[u8]| {
        let name = CStr::from_bytes_with_nul(name).ok()?;
        let value = sys::attribute(file, name).ok()?;
        Some(ExtendedAttribute { name: Text::from(name.to_bytes()), value: Bytes(value) })
    };
    names.filter_map(read).collect()
}
