//! Which namespaces of an image still exist: held by a process, or by a mount as `ip netns` makes it.

use super::Fate;
use crate::error::{Error, Result};
use binfmt::image::Image;
use binfmt::note::host::Host;
use binfmt::note::namespace::{Namespace, NamespaceKind, unique_id};
use nix::sys::statfs::fstatfs;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

/// What exists of the namespaces of an image.
#[derive(Debug)]
pub(super) struct Existing {
    /// Whether inodes mean what they did.
    same_boot: bool,
    /// Where those can be opened that are wanted, by kind and inode.
    paths: BTreeMap<(NamespaceKind, u64), String>,
}

impl Existing {
    /// Looks for those of `image`.
    pub(super) fn of(image: &Image) -> Result<Existing> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let same_boot = image.all::<Host>().any(|host| host.boot_id.0 == boot.trim().as_bytes());
        let mut paths = BTreeMap::new();
        if same_boot {
            let mut wanted: BTreeSet<(NamespaceKind, u64)> = image
                .all::<Namespace>()
                .filter(|note| note.inode != 0)
                .map(|note| (note.kind, note.inode))
                .collect();
            let failed = |error: std::io::Error| Error::io("look for namespaces that still exist", &error);
            let processes = fs::read_dir("/proc").map_err(failed)?.flatten();
            let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
            let kinds: BTreeSet<NamespaceKind> = wanted.iter().map(|(kind, _)| *kind).collect();
            let held = pids.flat_map(|pid| {
                kinds.iter().map(move |kind| (*kind, format!("/proc/{pid}/ns/{}", kind.file())))
            });
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
            for (kind, path) in held.chain(mounted(&mounts)) {
                let Some(inode) = fs::read_link(&path)
                    .ok()
                    .and_then(|link| inode(link.to_str()?))
                    .or_else(|| inode_at(&path))
                else {
                    continue;
                };
                if wanted.remove(&(kind, inode)) {
                    paths.insert((kind, inode), path);
                }
                if wanted.is_empty() {
                    break;
                }
            }
        }
        Ok(Existing { same_boot, paths })
    }

    /// The namespace, if it exists, and how it is found.
    pub(super) fn find(&self, note: &Namespace) -> Option<(Fate, OwnedFd)> {
        let own = format!("/proc/self/ns/{}", note.kind.file());
        // Its inode may be another one's meanwhile.
        let is_same = |file: &File| self.same_boot && unique_id(file).is_ok_and(|id| id == note.unique);
        let own = File::open(own).ok()?;
        if note.dumpers || is_same(&own) {
            return Some((Fate::Here, own.into()));
        }
        let by_inode = self.paths.get(&(note.kind, note.inode)).and_then(|path| {
            let file = File::open(path).ok().filter(is_same)?;
            Some((path.clone(), file))
        });
        let by_name = || {
            let path = note.path.to_string();
            let is_one = note.kind == NamespaceKind::Net && !path.is_empty();
            let file = open_namespace(is_one.then_some(&path)?)?;
            crate::sys::namespace_kind(&file).ok().filter(|kind| *kind == super::flag(note.kind).bits())?;
            Some((path, file))
        };
        let (path, file) = by_inode.or_else(by_name)?;
        Some((Fate::Enter(path), file.into()))
    }
}

/// Opens a file that is a namespace. What an image names may be something else, of which already the opening is not harmless.
fn open_namespace(path: &str) -> Option<File> {
    let found = File::options().read(true).custom_flags(libc::O_PATH).open(path).ok()?;
    fstatfs(&found).ok().filter(|it| it.filesystem_type().0 == libc::NSFS_MAGIC)?;
    File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).ok()
}

/// The inode in what a link of `/proc/PID/ns` says: `uts:[4026531838]`.
fn inode(link: &str) -> Option<u64> {
    link.split_once(":[")?.1.strip_suffix(']')?.parse().ok()
}

fn inode_at(path: &str) -> Option<u64> {
    fs::metadata(path).ok().map(|found| found.ino())
}

/// Mounts of namespaces: kinds and places.
fn mounted(mountinfo: &str) -> impl Iterator<Item = (NamespaceKind, String)> {
    mountinfo.lines().filter_map(|line| {
        let (fields, source) = line.split_once(" - ")?;
        let mut fields = fields.split(' ').skip(3);
        let (root, place) = (fields.next()?, fields.next()?);
        let (name, _) = root.split_once(":[").filter(|_| source.starts_with("nsfs "))?;
        let kind = NamespaceKind::ALL.into_iter().find(|kind| kind.file() == name)?;
        Some((kind, place.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_namespace_is_opened() {
        let pipe = std::env::temp_dir().join(format!("ckpt-no-namespace-{}", std::process::id()));
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // It would wait for a writer.
        let opened = open_namespace(pipe.to_str().unwrap());
        fs::remove_file(&pipe).unwrap();
        assert!(opened.is_none() && open_namespace("/dev/null").is_none());
        assert!(open_namespace("/proc/self/ns/net").is_some());
    }

    #[test]
    fn mounts_of_namespaces_are_found() {
        let text = "60 25 0:4 net:[4026532290] /run/netns/blue rw shared:2 - nsfs nsfs rw\n\
                    61 25 0:5 / /proc rw - proc proc rw\n";
        let found: Vec<_> = mounted(text).collect();
        assert_eq!(found, [(NamespaceKind::Net, "/run/netns/blue".to_owned())]);
        assert_eq!(inode("net:[4026532290]"), Some(4_026_532_290));
        assert_eq!(inode("/x"), None);
    }
}
