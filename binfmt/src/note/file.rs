//! Files that have a place in a filesystem.

use crate::wire::{Bytes, Text, enumeration, record};
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// The permission bits of st_mode.
const PERMISSIONS: u32 = 0o7777;

enumeration! {
    /// The type of a file.
    pub enum FileType: u8 {
        /// Regular.
        Regular = 0,
        /// Directory.
        Directory = 1,
        /// Character device.
        CharacterDevice = 2,
        /// Block device.
        BlockDevice = 3,
        /// FIFO.
        Fifo = 4,
        /// Socket.
        Socket = 5,
        /// Symbolic link (a descriptor of one comes from O_PATH|O_NOFOLLOW).
        SymbolicLink = 6,
    }

    /// Where the file's name is.
    pub enum Presence: u8 {
        /// At its path.
        Linked = 0,
        /// Gone: no link is left, the content is carried in the image.
        Deleted = 1,
        /// Gone from its path, but another link to the inode exists.
        LinkedElsewhere = 2,
        /// It never had a name (O_TMPFILE).
        Unnamed = 3,
    }
}

record! {
    /// Which file it is, and how it looked, so that another one is not taken for it.
    pub struct FileIdentity {
        /// Absolute path in the task's root, without ` (deleted)`.
        path: Text,
        /// Type of the file.
        file_type: FileType,
        /// Where its name is.
        presence: Presence,
        /// Path of another link, if `presence` says there is one.
        other_link: Text,
        /// Device number of the filesystem (st_dev).
        device: u64,
        /// Inode number.
        inode: u64,
        /// Device number of a device file (st_rdev).
        device_number: u64,
        /// Permission bits (st_mode & 07777).
        mode: u32,
        /// Owner.
        user: u32,
        /// Group.
        group: u32,
        /// Size in bytes.
        size_bytes: u64,
        /// Time of the last modification, in nanoseconds since the epoch.
        modified_ns: i64,
        /// Build id of an ELF file, empty otherwise.
        build_id: Bytes,
        /// Which object segments carry the content; 0 if none do.
        content: u32,
    }

    /// A description of a regular file, a directory, a device or a symbolic link.
    pub struct OpenFile {
        /// The `Description` that this note completes.
        description: u32,
        /// Which file.
        file: FileIdentity,
    }
}

impl FileType {
    /// The type of a file by its metadata.
    pub fn of(metadata: &Metadata) -> FileType {
        let kind = metadata.file_type();
        match () {
            () if kind.is_dir() => FileType::Directory,
            () if kind.is_char_device() => FileType::CharacterDevice,
            () if kind.is_block_device() => FileType::BlockDevice,
            () if kind.is_fifo() => FileType::Fifo,
            () if kind.is_socket() => FileType::Socket,
            () if kind.is_symlink() => FileType::SymbolicLink,
            () => FileType::Regular,
        }
    }
}

impl FileIdentity {
    /// What a file is by its metadata: everything but its names, build id and content.
    pub fn of(metadata: &Metadata) -> FileIdentity {
        FileIdentity {
            file_type: FileType::of(metadata),
            device: metadata.dev(),
            inode: metadata.ino(),
            device_number: metadata.rdev(),
            mode: metadata.mode() & PERMISSIONS,
            user: metadata.uid(),
            group: metadata.gid(),
            size_bytes: metadata.len(),
            modified_ns: metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()),
            ..FileIdentity::default()
        }
    }
}
