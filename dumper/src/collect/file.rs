//! Files that have a place in a filesystem: which one it is, and whether its name still leads to it.

pub(super) mod nameless;
mod process;

use super::descriptor::Open;
use super::{Collected, Source, Subject};
use crate::allow::Allow;
use crate::error::Error;
use crate::mounts::{Met, Mount};
use binfmt::image::Owner;
use binfmt::note::descriptor::DescriptionKind;
use binfmt::note::file::{FileIdentity, FileType, MountPoint, OpenFile, Presence};
use binfmt::wire::Text;
use nix::unistd::{Whence, lseek};
use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What the kernel adds to the name of a file that has none any more.
pub const DELETED: &[u8] = b" (deleted)";

/// What is said of a path that does not fit into PATH_MAX bytes, which the kernel does not.
const TOO_LONG: &[u8] = b"a file whose path is longer than Linux tells";

/// A file that a magic link of `/proc` leads to, whatever has become of its name.
#[derive(Debug)]
pub struct Place {
    /// The link.
    pub link: PathBuf,
    /// What it says, which may end with ` (deleted)`.
    pub label: Vec<u8>,
    /// What the file is.
    pub metadata: Metadata,
}

impl Place {
    /// The file behind `link`.
    pub fn magic_link(link: PathBuf) -> io::Result<Place> {
        let label = match fs::read_link(&link) {
            Err(error) if error.raw_os_error() == Some(libc::ENAMETOOLONG) => TOO_LONG.to_vec(),
            label => label?.as_os_str().as_bytes().to_vec(),
        };
        let metadata = fs::metadata(&link)?;
        Ok(Place { link, label, metadata })
    }
}

/// Whether a file may never have had a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// It had one.
    Ordinary,
    /// It was opened with O_TMPFILE.
    Temporary,
}

/// Completes the description `description` of a file, a directory or a device, and says of which kind it is.
pub fn collect(description: u32, open: &Open<'_>, out: &mut Collected) -> Result<DescriptionKind, Error> {
    let (subject, place) = (open.subject, &open.place);
    let temporary = libc::O_TMPFILE.cast_unsigned();
    let naming = if open.flags & temporary == temporary { Naming::Temporary } else { Naming::Ordinary };
    match process::identify(subject, place, out) {
        process::Owner::Nobody => {}
        process::Owner::Tree(file, process) => {
            out.note(OpenFile { description, file, process });
            return Ok(DescriptionKind::ProcessFile);
        }
        process::Owner::Outsider(path, process) => {
            let what = format!("{path}, of process {process}, which is not of the tree");
            if !subject.options.allow.contains(&Allow::Pidfd) {
                // ps(1) and its like have one open for a moment.
                let advice = "have the program close it; `--allow pidfd` restores it closed";
                out.passing(format!("{} is {what}", open.name()), advice);
            }
            return Ok(DescriptionKind::Closed);
        }
    }
    let mut file = identify(place, naming, out);
    carry(subject, place, &mut file, out)?;
    out.note(OpenFile { description, file, process: 0 });
    Ok(DescriptionKind::File)
}

/// Says which file a mapping is of, with its build id: programs and libraries are told apart by what they are.
pub fn identify_mapped(place: &Place, naming: Naming, out: &mut Collected) -> FileIdentity {
    let mut identity = identify(place, naming, out);
    if identity.presence == Presence::Linked && place.metadata.is_file() {
        identity.build_id = build_id(identity.path.as_path()).unwrap_or_default().into();
    }
    identity
}

/// Says which file it is. A name that leads elsewhere is looked for, and refused if it is not found.
///
/// The file is not opened: that would break a lease which the frozen task has on it, and wait for the task to give it up.
pub fn identify(place: &Place, naming: Naming, out: &mut Collected) -> FileIdentity {
    let metadata = &place.metadata;
    let mount = mount_of(place, out);
    let (path, mut presence) = presence(&place.label, metadata, naming);
    if presence == Presence::Linked && mount.is_nfs && is_silly_name(&path) {
        presence = Presence::Deleted;
    }
    let mut identity =
        FileIdentity { path: path.as_path().into(), presence, mount: mount.id, ..FileIdentity::of(metadata) };
    if presence != Presence::LinkedElsewhere {
        return identity;
    }
    let name = Text::from(path.as_path());
    if mount.is_detached {
        out.unsupported(
            format!("{name} is on a filesystem that was unmounted while it was in use (umount -l)"),
            "close the file",
        );
    } else if let Some(over) = mount.hidden_by(&path) {
        out.unsupported(
            format!("{name} is hidden by what is mounted at {over}"),
            "unmount that, or close the file",
        );
    } else if let Some(other) = find_link(&path, metadata) {
        identity.other_link = other.as_path().into();
    } else {
        out.unsupported(
            format!("{name} now names another file, and where the one in use is linked is unknown"),
            "put the file back under that name",
        );
    }
    identity
}

/// What matters of the mount that a file is on.
#[derive(Debug, Default)]
struct OnMount {
    /// The id of its note.
    id: u32,
    is_detached: bool,
    is_nfs: bool,
    is_proc: bool,
    /// Where it is mounted.
    at: Text,
}

impl OnMount {
    /// Where something else is mounted over a file of this mount that `path` should lead to.
    fn hidden_by(&self, path: &Path) -> Option<Text> {
        let own = PathBuf::from(self.at.as_path());
        let text = fs::read("/proc/self/mountinfo").unwrap_or_default();
        let mounts = binfmt::mountinfo::parse(&text);
        let covers = |mount: &&MountPoint| {
            let at = mount.path.as_path();
            mount.id != self.id && path.starts_with(at) && at.starts_with(&own)
        };
        mounts.iter().rfind(covers).filter(|_| self.id != 0).map(|mount| mount.path.clone())
    }
}

/// The mount that a file is on, which gets its note.
fn mount_of(place: &Place, out: &mut Collected) -> OnMount {
    let pid = out.pid().0;
    let (note, found) = match out.mounts.of(&place.link, pid) {
        Mount::At(mount, met) => {
            let is_nfs = mount.filesystem.0.starts_with(b"nfs");
            let is_proc = mount.filesystem.0 == b"proc";
            let found = OnMount { id: mount.id, is_detached: false, is_nfs, is_proc, at: mount.path.clone() };
            (Some(mount.clone()).filter(|_| met == Met::New), found)
        }
        Mount::Detached => (None, OnMount { is_detached: true, ..OnMount::default() }),
        Mount::Unknown => (None, OnMount::default()),
    };
    note.into_iter().for_each(|note| out.note(note));
    found
}

/// Whether an NFS client has given a file this name because it was deleted while it was open: it goes with the last who has it.
fn is_silly_name(path: &Path) -> bool {
    let name = path.file_name().map(OsStrExt::as_bytes).unwrap_or_default();
    let number = name.strip_prefix(b".nfs").unwrap_or_default();
    number.len() >= 16 && number.iter().all(u8::is_ascii_hexdigit)
}

/// Whether `path` names the file with this metadata.
pub fn leads_to(path: &Path, metadata: &Metadata) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|found| (found.dev(), found.ino()) == (metadata.dev(), metadata.ino()))
}

fn presence(label: &[u8], metadata: &Metadata, naming: Naming) -> (PathBuf, Presence) {
    let path = |bytes: &[u8]| PathBuf::from(std::ffi::OsStr::from_bytes(bytes));
    // A file may really be called `x (deleted)`: only a label that leads nowhere has been given that end.
    if leads_to(&path(label), metadata) {
        return (path(label), Presence::Linked);
    }
    let named = path(label.strip_suffix(DELETED).unwrap_or(label));
    let presence = match (metadata.nlink(), naming) {
        (0, Naming::Temporary) => Presence::Unnamed,
        (0, Naming::Ordinary) => Presence::Deleted,
        _ if leads_to(&named, metadata) => Presence::Linked,
        _ => Presence::LinkedElsewhere,
    };
    (named, presence)
}

/// Looks for another link to a file: in the directory of its old name, then below and beside it, within bounds.
fn find_link(path: &Path, metadata: &Metadata) -> Option<PathBuf> {
    const ENTRIES_MAX: usize = 20_000;
    let mut seen = 0;
    let parent = path.parent()?;
    let mut directories = vec![parent.to_owned()];
    directories.extend(parent.parent().map(Path::to_owned));
    let mut at = 0;
    while let Some(directory) = directories.get(at).cloned() {
        at += 1;
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            seen += 1;
            if seen > ENTRIES_MAX {
                return None;
            }
            let found = entry.path();
            if leads_to(&found, metadata) {
                return Some(found);
            }
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) && found != parent {
                directories.push(found);
            }
        }
    }
    None
}

/// If a regular file has no name left, the image carries its content.
pub fn carry(
    subject: &Subject<'_>,
    place: &Place,
    file: &mut FileIdentity,
    out: &mut Collected,
) -> Result<(), Error> {
    let nameless = matches!(file.presence, Presence::Deleted | Presence::Unnamed);
    if !nameless || !matches!(file.file_type, FileType::Regular | FileType::Directory) {
        return Ok(());
    }
    let open = || {
        open_unnoticed(&place.link).map_err(|error| {
            Error::question(subject.pid(), format!("opening the deleted file {}", file.path), error)
        })
    };
    if file.file_type == FileType::Directory {
        nameless::collect(place, &open()?, out);
        return Ok(());
    }
    let id = out.object(file.device, file.inode);
    if !out.carries(id) {
        let opened = open()?;
        nameless::collect(place, &opened, out);
        contents(id, &Arc::new(opened), file.size_bytes, out)
            .map_err(|error| Error::question(subject.pid(), format!("reading {}", file.path), error))?;
    }
    file.content = id;
    Ok(())
}

/// Opens a file, and if we may without the time of its last access telling of us.
pub fn open_unnoticed(path: &Path) -> io::Result<File> {
    let open = |flags| File::options().read(true).custom_flags(flags).open(path);
    open(libc::O_NOATIME).or_else(|_| open(0))
}

/// Adds the data of `file` as segments of object `id`. Its holes remain holes. The description is ours alone: seeking in
/// a shared one would move the process's.
pub fn contents(id: u32, file: &Arc<File>, size_bytes: u64, out: &mut Collected) -> io::Result<()> {
    let size = i64::try_from(size_bytes).map_err(io::Error::other)?;
    let mut at = 0;
    while at < size {
        let data = match lseek(file, at, Whence::SeekData) {
            Ok(data) => data.min(size),
            Err(nix::errno::Errno::ENXIO) => break,
            // Filesystems that do not know holes.
            Err(nix::errno::Errno::EINVAL) => at,
            Err(error) => return Err(error.into()),
        };
        let hole = lseek(file, data, Whence::SeekHole).map_or(size, |hole| hole.min(size));
        if hole <= data {
            break;
        }
        let (start, len_bytes) = (data.cast_unsigned(), (hole - data).cast_unsigned());
        out.content(Owner::Object(id), start, len_bytes, 0, Source::File(Arc::clone(file), start));
        at = hole;
    }
    Ok(())
}

/// The GNU build id of an ELF file.
fn build_id(path: &Path) -> Option<Vec<u8>> {
    const PT_NOTE: u32 = 4;
    const HEADERS_MAX: usize = 64;
    const NOTES_MAX: usize = 64 << 10;
    let file = File::open(path).ok()?;
    let mut header = [0; 64];
    file.read_exact_at(&mut header, 0).ok()?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return None;
    }
    let table_at = crate::parse::u64_at(&header, 32);
    let count = usize::try_from(crate::parse::u32_at(&header, 56) & 0xffff).ok()?.min(HEADERS_MAX);
    let mut table = vec![0; count * 56];
    file.read_exact_at(&mut table, table_at).ok()?;
    table.chunks_exact(56).filter(|entry| crate::parse::u32_at(entry, 0) == PT_NOTE).find_map(|entry| {
        let len = usize::try_from(crate::parse::u64_at(entry, 32)).ok()?.min(NOTES_MAX);
        let mut notes = vec![0; len];
        file.read_exact_at(&mut notes, crate::parse::u64_at(entry, 8)).ok()?;
        build_id_among(&notes)
    })
}

fn build_id_among(mut notes: &[u8]) -> Option<Vec<u8>> {
    const NT_GNU_BUILD_ID: u32 = 3;
    loop {
        let word = |at| usize::try_from(crate::parse::u32_at(notes, at)).ok();
        let (name_len, desc_len) = (word(0)?, word(4)?);
        let kind = crate::parse::u32_at(notes, 8);
        let desc_at = 12usize.checked_add(name_len.checked_next_multiple_of(4)?)?;
        let desc_end = desc_at.checked_add(desc_len)?;
        let desc = notes.get(desc_at..desc_end)?;
        if kind == NT_GNU_BUILD_ID && notes.get(12..16) == Some(b"GNU\0") {
            return Some(desc.to_vec());
        }
        notes = notes.get(desc_end.checked_next_multiple_of(4)?..)?;
        if notes.is_empty() {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_id_is_found_behind_other_notes() {
        let mut notes = Vec::new();
        for (kind, desc) in [(1u32, &[9u8; 6][..]), (3, &[0xab, 0xcd, 0xef])] {
            for word in [4, u32::try_from(desc.len()).expect("small"), kind] {
                notes.extend_from_slice(&word.to_le_bytes());
            }
            notes.extend_from_slice(b"GNU\0");
            notes.extend_from_slice(desc);
            notes.resize(notes.len().next_multiple_of(4), 0);
        }
        assert_eq!(build_id_among(&notes), Some(vec![0xab, 0xcd, 0xef]));
        assert_eq!(build_id_among(&[]), None);
        assert_eq!(build_id_among(&[0xff; 40]), None, "lengths beyond all memory");
        assert_eq!(build_id_among(&[0; 12]), None, "an empty note ends the list");
    }

    #[test]
    fn the_names_of_an_nfs_client_are_known() {
        assert!(is_silly_name(Path::new("/home/a/.nfs000000000012d68700000001")));
        assert!(is_silly_name(Path::new("/.nfs00000000deadbeef")));
        for other in
            ["/a/.nfs", "/a/.nfs00000000deadbeef.txt", "/a/nfs000000000012d68700000001", "/a/.nfs12", "/"]
        {
            assert!(!is_silly_name(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn only_a_label_that_leads_nowhere_lost_its_name() {
        let path = std::env::temp_dir().join(format!("ckpt-{} (deleted)", std::process::id()));
        let file = File::create(&path).expect("a temporary file");
        let metadata = file.metadata().expect("its metadata");
        let label = path.as_os_str().as_bytes().to_vec();
        let found = presence(&label, &metadata, Naming::Ordinary);
        fs::remove_file(&path).expect("removed again");
        assert_eq!(found, (path, Presence::Linked));
        let metadata = file.metadata().expect("its metadata");
        let gone = [label.as_slice(), DELETED].concat();
        assert_eq!(presence(&gone, &metadata, Naming::Ordinary).1, Presence::Deleted);
        assert_eq!(presence(&gone, &metadata, Naming::Temporary).1, Presence::Unnamed);
    }
}
