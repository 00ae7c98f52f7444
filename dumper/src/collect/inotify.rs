//! Inotify instances: the `inotify` lines of their fdinfo.
//!
//! A line tells inode and filesystem of what is watched, and its handle (exportfs), but no name. What a process of the tree has
//! open is known; anything else is opened by its handle, and where that takes a right or a filesystem that there is not,
//! looked for: first where the process stands, without opening anything, then in the directories around, within bounds.
//!
//! Events that wait are left alone: reading takes them from the process, which would miss them if the dumper were killed then.

use super::Collected;
use super::descriptor::Group;
use super::file::{self, Naming, Place};
use crate::allow::Allow;
use crate::error::Error;
use crate::sys;
use binfmt::mountinfo::unescaped;
use binfmt::note::file::{FileIdentity, FileType, Presence};
use binfmt::note::inotify::{Inotify, NUMBER_MAX, Watch};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::{Path, PathBuf};

/// How many entries of directories are looked at for what cannot be opened by its handle.
const ENTRIES_MAX: usize = 50_000;

/// A line of fdinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    number: u32,
    mask: u32,
    /// Device and inode, as stat(2) says them on most filesystems.
    key: (u64, u64),
    /// Type and bytes; none on a filesystem that knows no handles.
    handle: Option<(i32, Vec<u8>)>,
}

/// Collects the inotify instances of the tree, each given with a duplicate of it; `all` are the descriptions of the tree.
pub fn collect(
    instances: &[(&Group<'_>, OwnedFd)],
    all: &[Group<'_>],
    out: &mut Collected,
) -> Result<(), Error> {
    let mut finder = Finder { all, mounts: None, searched: BTreeMap::new() };
    for (group, duplicate) in instances {
        let subject = group.first.subject;
        out.look_at(subject.pid());
        let lines: Option<Vec<Line>> =
            group.first.info.lines().filter_map(|line| line.strip_prefix("inotify ")).map(parse).collect();
        let mut lines = lines.ok_or_else(|| group.first.makes_no_sense())?;
        lines.sort_by_key(|line| line.number);
        finder.prepare(group, &lines);
        let mut watches = Vec::with_capacity(lines.len());
        for line in &lines {
            if let Some(file) = watched(group, line, &finder, out)? {
                watches.push(Watch { number: line.number, mask: line.mask, file });
            }
        }
        let unread = sys::bytes_waiting(duplicate.as_fd())
            .map_err(|error| Error::question(subject.pid(), "asking for unread events", error))?;
        let unread_bytes = u32::try_from(unread).unwrap_or(u32::MAX);
        out.note(Inotify { description: group.id, watches, unread_bytes });
    }
    Ok(())
}

/// Which file is watched; nothing if that cannot be saved, which is named unless it was allowed.
fn watched(
    group: &Group<'_>,
    line: &Line,
    finder: &Finder<'_>,
    out: &mut Collected,
) -> Result<Option<FileIdentity>, Error> {
    let (subject, own) = (group.first.subject, group.first.name());
    let Line { number, key: (device, inode), .. } = line;
    let what = match finder.find(line) {
        _ if *number > NUMBER_MAX => {
            format!("has too high a number to be made again (more than {NUMBER_MAX})")
        }
        Some(found) => {
            let mut identity = file::identify(found.place(), Naming::Ordinary, out);
            if identity.presence != Presence::Deleted || identity.file_type == FileType::Regular {
                file::carry(subject, found.place(), &mut identity, out)?;
                return Ok(Some(identity));
            }
            format!("is of {}, which was removed", identity.path)
        }
        None => {
            let (major, minor) = (libc::major(*device), libc::minor(*device));
            format!("is of a file whose name was not found: inode {inode} of device {major}:{minor}")
        }
    };
    if !subject.options.allow.contains(&Allow::Inotify) {
        out.unsupported(
            format!("{own} is an inotify instance whose watch {number} {what}"),
            format!("`--allow {}` leaves the watch out", Allow::Inotify.word()),
        );
    }
    Ok(None)
}

/// A file that was found.
enum Found<'a> {
    /// The tree has it open.
    Open(&'a Place),
    /// It was opened by its handle, or by its name.
    Opened(Box<Place>, #[allow(dead_code, reason = "the link of the place leads through it")] OwnedFd),
}

impl Found<'_> {
    fn place(&self) -> &Place {
        match self {
            Found::Open(place) => place,
            Found::Opened(place, _) => place,
        }
    }

    fn opened(fd: OwnedFd) -> Option<Self> {
        let link = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        Some(Found::Opened(Box::new(Place::magic_link(link).ok()?), fd))
    }
}

/// Finds files by inode and handle.
struct Finder<'a> {
    all: &'a [Group<'a>],
    /// A directory of each mount, by the device of its filesystem; once somebody has asked.
    mounts: Option<BTreeMap<u64, Vec<OwnedFd>>>,
    /// What was found by its inode.
    searched: BTreeMap<(u64, u64), PathBuf>,
}

impl<'a> Finder<'a> {
    /// Looks for everything in `lines` that neither the tree has open nor a handle leads to, all at once.
    fn prepare(&mut self, group: &Group<'_>, lines: &[Line]) {
        let unknown = |line: &&Line| self.open(line).is_none();
        let lines: Vec<&Line> = lines.iter().filter(unknown).collect();
        if lines.is_empty() {
            return;
        }
        self.mounts.get_or_insert_with(mounts);
        let missing = lines.into_iter().filter(|line| self.by_handle(line).is_none());
        let mut missing: BTreeSet<(u64, u64)> = missing.map(|line| line.key).collect();
        missing.retain(|key| !self.searched.contains_key(key));
        let near = places(group);
        for path in near.iter().flat_map(|path| path.ancestors()) {
            self.try_path(path, &mut missing);
        }
        self.search(near, &mut missing);
    }

    fn find(&self, line: &Line) -> Option<Found<'a>> {
        let by_name = || {
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            Found::opened(open(self.searched.get(&line.key)?, flags, Mode::empty()).ok()?)
        };
        self.open(line).or_else(|| self.by_handle(line)).or_else(by_name)
    }

    fn open(&self, line: &Line) -> Option<Found<'a>> {
        let is_it = |group: &&Group<'_>| {
            let metadata = &group.first.place.metadata;
            (metadata.dev(), metadata.ino()) == line.key
        };
        self.all.iter().find(is_it).map(|group| Found::Open(&group.first.place))
    }

    /// Opens a file by its handle. The same filesystem may be mounted several times, in parts, and the file have a name that
    /// leads to it only in one of them.
    fn by_handle(&self, line: &Line) -> Option<Found<'a>> {
        let (kind, handle) = line.handle.as_ref()?;
        let mounts = self.mounts.as_ref()?.get(&line.key.0)?;
        let opened = mounts.iter().filter_map(|mount| {
            let found = Found::opened(sys::open_by_handle(mount.as_fd(), *kind, handle).ok()?)?;
            (found.place().metadata.ino() == line.key.1).then_some(found)
        });
        let mut nameless = None;
        for found in opened {
            let place = found.place();
            if file::leads_to(Path::new(std::ffi::OsStr::from_bytes(&place.label)), &place.metadata) {
                return Some(found);
            }
            if place.metadata.nlink() == 0 {
                nameless = Some(found);
            }
        }
        nameless
    }

    fn try_path(&mut self, path: &Path, missing: &mut BTreeSet<(u64, u64)>) {
        if let Ok(metadata) = fs::symlink_metadata(path)
            && missing.remove(&(metadata.dev(), metadata.ino()))
        {
            self.searched.insert((metadata.dev(), metadata.ino()), path.to_owned());
        }
    }

    /// Looks through directories, those that are nearest first.
    fn search(&mut self, from: Vec<PathBuf>, missing: &mut BTreeSet<(u64, u64)>) {
        let mut queue: VecDeque<PathBuf> = from.into();
        let (mut seen, mut entries) = (BTreeSet::new(), 0);
        while let Some(directory) = queue.pop_front().filter(|_| !missing.is_empty()) {
            if !seen.insert(directory.clone()) {
                continue;
            }
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                entries += 1;
                if entries > ENTRIES_MAX {
                    return;
                }
                if missing.iter().any(|(_, inode)| *inode == entry.ino()) {
                    self.try_path(&entry.path(), missing);
                }
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    queue.push_back(entry.path());
                }
            }
            queue.extend(directory.parent().map(Path::to_owned));
        }
    }
}

/// Where a process stands: its directory, and those of its files.
fn places(group: &Group<'_>) -> Vec<PathBuf> {
    let subject = group.first.subject;
    let directory = subject.proc.link("cwd").ok();
    let labels = subject.seen.descriptors.iter().map(|seen| seen.place.label.as_slice());
    let files = labels
        .filter(|label| label.starts_with(b"/"))
        .map(|label| PathBuf::from(std::ffi::OsStr::from_bytes(label)));
    let own = fs::read_link(subject.proc.path("exe")).ok();
    directory.into_iter().chain(files).chain(own).collect()
}

/// A directory of every mount, by the device of its filesystem. Nothing is read in it, and so nobody is told.
fn mounts() -> BTreeMap<u64, Vec<OwnedFd>> {
    let text = fs::read("/proc/self/mountinfo").unwrap_or_default();
    let mut mounts: BTreeMap<u64, Vec<OwnedFd>> = BTreeMap::new();
    for (device, path) in text.split(|byte| *byte == b'\n').filter_map(mount) {
        let path_only = OFlag::O_PATH | OFlag::O_CLOEXEC;
        if let Ok(fd) = open(&path, path_only, Mode::empty()) {
            mounts.entry(device).or_default().push(fd);
        }
    }
    mounts
}

/// Device and place of a line of mountinfo (proc_pid_mountinfo(5)).
fn mount(line: &[u8]) -> Option<(u64, PathBuf)> {
    let mut words = line.split(|byte| *byte == b' ');
    let device = std::str::from_utf8(words.nth(2)?).ok()?;
    let (major, minor) = device.split_once(':')?;
    let device = libc::makedev(major.parse().ok()?, minor.parse().ok()?);
    Some((device, PathBuf::from(std::ffi::OsString::from_vec(unescaped(words.nth(1)?).0))))
}

/// `wd:HEX ino:HEX sdev:HEX mask:HEX ignored_mask:HEX fhandle-bytes:HEX fhandle-type:HEX f_handle:HEX`
/// (proc_pid_fdinfo(5), fs/notify/fdinfo.c).
fn parse(line: &str) -> Option<Line> {
    let word = |key: &str| {
        let mut words = line.split_whitespace().filter_map(|word| word.split_once(':'));
        words.find(|(name, _)| *name == key).map(|(_, value)| value)
    };
    let number = |key: &str| u32::from_str_radix(word(key)?, 16).ok();
    // The kernel's own form: 12 bits of the major number above 20 of the minor.
    let device = number("sdev")?;
    let device = libc::makedev(device >> 20, device & 0xf_ffff);
    let handle = || {
        let digits = word("f_handle")?;
        let pairs = (0..digits.len() / 2).map(|at| digits.get(2 * at..2 * at + 2));
        let bytes = pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect::<Option<Vec<u8>>>()?;
        Some((number("fhandle-type")?.cast_signed(), bytes))
    };
    Some(Line {
        number: number("wd")?,
        mask: number("mask")?,
        key: (device, u64::from_str_radix(word("ino")?, 16).ok()?),
        handle: handle(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let line = "wd:f4242 ino:3c4a7 sdev:fe00001 mask:84000fff ignored_mask:0 fhandle-bytes:8 \
                    fhandle-type:1 f_handle:a7c4030000000000 ";
        let expected = Line {
            number: 0xf4242,
            mask: 0x8400_0fff,
            key: (libc::makedev(254, 1), 0x3c4a7),
            handle: Some((1, vec![0xa7, 0xc4, 3, 0, 0, 0, 0, 0])),
        };
        assert_eq!(parse(line), Some(expected.clone()));
        let without = line.split(" fhandle").next().and_then(parse);
        assert_eq!(without, Some(Line { handle: None, ..expected }), "overlayfs");
        assert_eq!(parse("wd:1 ino:2"), None);
    }

    #[test]
    fn mounts_have_places_with_odd_names() {
        let line = b"24 1 254:0 /sub /mnt/a\\040b\\134 rw,relatime shared:1 - ext4 /dev/vda rw";
        assert_eq!(mount(line), Some((libc::makedev(254, 0), PathBuf::from("/mnt/a b\\"))));
        assert_eq!(mount(b""), None);
        assert_eq!(unescaped(b"a\\04").0, b"a\\04");
    }
}
