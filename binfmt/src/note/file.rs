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
        /// Which `MountPoint` it is on; 0 if that is unknown.
        mount: u32,
    }

    /// A description of a regular file, a directory, a device or a symbolic link.
    pub struct OpenFile {
        /// The `Description` that this note completes.
        description: u32,
        /// Which file.
        file: FileIdentity,
        /// The process or thread of the tree, or the dead one, whose file in `/proc` it is; 0 for all others. Its path is then
        /// by the ids of the checkpoint.
        process: u32,
    }

    /// Where the filesystem of files is mounted, so that one that a resume lacks can be named.
    pub struct MountPoint {
        /// What files refer to: the kernel's number of the mount; 1 or more.
        id: u32,
        /// Where it is mounted.
        path: Text,
        /// The type of the filesystem.
        filesystem: Text,
        /// What is mounted.
        source: Text,
    }

    /// What else belongs to a file whose content the image carries, or to a directory without a name.
    pub struct NamelessFile {
        /// Device number of the filesystem, as in its `FileIdentity`.
        device: u64,
        /// Inode number.
        inode: u64,
        /// Time of the last access, in nanoseconds since the epoch.
        accessed_ns: i64,
        /// Those attributes of chattr(1) that can be set (FS_IOC_GETFLAGS).
        attributes: u32,
        /// Extended attributes.
        extended: Vec<ExtendedAttribute>,
    }

    /// An extended attribute.
    pub struct ExtendedAttribute {
        /// Its name.
        name: Text,
        /// Its value.
        value: Bytes,
    }
}

impl MountPoint {
    /// Whether what files say of their size and times changes from one look to the next, and only their place tells them apart.
    pub fn is_made_up(&self) -> bool {
        const MADE_UP: [&[u8]; 14] = [
            b"proc",
            b"sysfs",
            b"cgroup",
            b"cgroup2",
            b"debugfs",
            b"tracefs",
            b"securityfs",
            b"configfs",
            b"selinuxfs",
            b"efivarfs",
            b"pstore",
            b"bpf",
            b"binfmt_misc",
            b"fusectl",
        ];
        MADE_UP.contains(&self.filesystem.0.as_slice())
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
