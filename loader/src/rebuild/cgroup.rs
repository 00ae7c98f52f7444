//! Control groups: every task goes into its own before it takes memory, if they are there and this user may.
//!
//! A group that is missing, forbidden, full or frozen leaves the task where the loader is, unless `--cgroup` insists.

use crate::cli::CgroupChoice;
use crate::error::{Error, Refusal, Result};
use binfmt::image::Image;
use binfmt::note::cgroup::{self, Cgroup, CgroupMembership};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What stands in the way of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Obstacle {
    NoHierarchy,
    Missing,
    Frozen,
    Forbidden,
}

impl Obstacle {
    fn text(self) -> &'static str {
        match self {
            Obstacle::NoHierarchy => "is in a hierarchy that is not mounted here",
            Obstacle::Missing => "is not there",
            Obstacle::Frozen => "is frozen",
            Obstacle::Forbidden => "is not for this user to join",
        }
    }
}

/// A hierarchy: its controllers as the mount names them, and where it is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Hierarchy {
    /// None for that of version 2.
    options: Option<BTreeSet<String>>,
    place: PathBuf,
}

/// The hierarchies of a `/proc/PID/mountinfo` that are mounted from their root on.
fn hierarchies(text: &str) -> Vec<Hierarchy> {
    let hierarchy = |line: &str| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let (root, place) = (mount.next()?, mount.next()?);
        let mut filesystem = filesystem.split(' ');
        let kind = filesystem.next()?;
        let options = match kind {
            "cgroup2" => None,
            "cgroup" => Some(filesystem.nth(1)?.split(',').map(str::to_owned).collect()),
            _ => return None,
        };
        (root == "/").then(|| Hierarchy { options, place: place.into() })
    };
    text.lines().filter_map(hierarchy).collect()
}

impl Hierarchy {
    fn is_of(&self, membership: &CgroupMembership) -> bool {
        let names = membership.hierarchy.to_string();
        match &self.options {
            None => names.is_empty(),
            Some(options) => !names.is_empty() && names.split(',').all(|name| options.contains(name)),
        }
    }

    fn folder(&self, membership: &CgroupMembership) -> PathBuf {
        self.place.join(membership.path.as_path().strip_prefix("/").unwrap_or(Path::new(".")))
    }
}

/// Where a group would be.
fn find(membership: &CgroupMembership, all: &[Hierarchy]) -> std::result::Result<PathBuf, Obstacle> {
    let hierarchy = all.iter().find(|hierarchy| hierarchy.is_of(membership));
    hierarchy.map(|hierarchy| hierarchy.folder(membership)).ok_or(Obstacle::NoHierarchy)
}

fn is_frozen(folder: &Path) -> bool {
    let says = |file: &str, text: &str| {
        fs::read_to_string(folder.join(file)).is_ok_and(|said| said.lines().any(|line| line == text))
    };
    let of_version_1 = fs::read_to_string(folder.join("freezer.state"));
    says("cgroup.events", "frozen 1") || of_version_1.is_ok_and(|state| state.trim() != "THAWED")
}

/// What stands in the way of joining a group, as far as it can be seen beforehand.
fn obstacle(folder: &Path) -> Option<Obstacle> {
    let members = folder.join("cgroup.procs");
    match nix::unistd::access(&members, nix::unistd::AccessFlags::W_OK) {
        _ if is_frozen(folder) => Some(Obstacle::Frozen),
        Ok(()) => None,
        Err(nix::errno::Errno::ENOENT) => Some(Obstacle::Missing),
        Err(_) => Some(Obstacle::Forbidden),
    }
}

/// The groups of this process.
fn own() -> Vec<CgroupMembership> {
    cgroup::parse(&fs::read_to_string("/proc/self/cgroup").unwrap_or_default())
}

fn mounted() -> Vec<Hierarchy> {
    hierarchies(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

/// Every group of the image in which this process is not, once, with what stands in its way.
fn groups(image: &Image) -> Vec<(&CgroupMembership, Option<Obstacle>)> {
    let mut all: Vec<(&CgroupMembership, Option<Obstacle>)> = Vec::new();
    if image.all::<Cgroup>().next().is_none() {
        return all;
    }
    let (own, hierarchies) = (own(), mounted());
    for membership in image.all::<Cgroup>().flat_map(|note| &note.memberships) {
        if own.contains(membership) || all.iter().any(|(known, _)| *known == membership) {
            continue;
        }
        let against = find(membership, &hierarchies).map_or_else(Some, |folder| obstacle(&folder));
        all.push((membership, against));
    }
    all
}

fn name(membership: &CgroupMembership) -> String {
    match membership.hierarchy.0.as_slice() {
        [] => membership.path.to_string(),
        _ => format!("{} ({})", membership.path, membership.hierarchy),
    }
}

/// Why those cannot be had that `--cgroup` insists on.
pub fn refusals(image: &Image, choice: Option<CgroupChoice>) -> Vec<Refusal> {
    let makes = match choice {
        Some(CgroupChoice::Keep) => false,
        Some(CgroupChoice::Make) => true,
        Some(CgroupChoice::Here) | None => return Vec::new(),
    };
    let against = groups(image).into_iter().filter_map(|(membership, against)| Some((membership, against?)));
    let against = against.filter(|(_, against)| !makes || *against != Obstacle::Missing);
    let refusal = |(membership, against): (&CgroupMembership, Obstacle)| Refusal {
        reason: format!("the control group {} {}", name(membership), against.text()),
        remedy: match against {
            Obstacle::Missing => "--cgroup=make makes it, --cgroup=here does without".to_owned(),
            _ => "--cgroup=here does without".to_owned(),
        },
    };
    against.map(refusal).collect()
}

/// What `--plan` says of the groups.
pub fn steps(image: &Image, choice: Option<CgroupChoice>) -> Vec<String> {
    if choice == Some(CgroupChoice::Here) {
        return Vec::new();
    }
    let step = |(membership, against): (&CgroupMembership, Option<Obstacle>)| {
        let name = name(membership);
        match against {
            None => format!("write(cgroup.procs)  # control group {name}"),
            Some(Obstacle::Missing) if choice == Some(CgroupChoice::Make) => {
                format!("mkdir, write(cgroup.procs)  # control group {name}")
            }
            Some(against) => format!("# control group {name} {}: they stay in this one", against.text()),
        }
    };
    groups(image).into_iter().map(step).collect()
}

/// Has this process join the groups of task `pid`.
pub fn join(image: &Image, pid: u32, choice: Option<CgroupChoice>) -> Result<()> {
    let Some(note) = image.about::<Cgroup>(pid).next() else { return Ok(()) };
    let own = own();
    let others: Vec<_> = note.memberships.iter().filter(|membership| !own.contains(membership)).collect();
    // Mostly it is where it was.
    let hierarchies = if others.is_empty() { Vec::new() } else { mounted() };
    for membership in others {
        let joined = match find(membership, &hierarchies) {
            Ok(folder) => enter(&folder, choice == Some(CgroupChoice::Make)),
            Err(_) => Err(io::ErrorKind::NotFound.into()),
        };
        if let (Err(error), Some(_)) = (joined, choice) {
            return Err(Error::io(format!("join the control group {}", name(membership)), &error));
        }
    }
    Ok(())
}

/// Has this process join a group, as far as it may: a new cgroup namespace has its root there.
pub fn join_root(root: &CgroupMembership) -> io::Result<()> {
    if own().contains(root) {
        return Ok(());
    }
    let folder = find(root, &mounted()).map_err(|_| io::ErrorKind::NotFound)?;
    enter(&folder, false)
}

fn enter(folder: &Path, makes: bool) -> io::Result<()> {
    if makes {
        fs::create_dir_all(folder)?;
    }
    if is_frozen(folder) {
        return Err(io::ErrorKind::ResourceBusy.into());
    }
    // 0 is whoever writes. Opened without O_CREAT, which is no business of a hierarchy that is something else.
    let mut members = fs::File::options().write(true).open(folder.join("cgroup.procs"))?;
    io::Write::write_all(&mut members, b"0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hierarchy_is_found_by_its_controllers() {
        let text = "30 25 0:26 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
                    31 25 0:27 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
                    32 25 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                    33 25 0:29 /inner /mnt rw - cgroup cgroup rw,memory\n\
                    34 25 0:30 / /proc rw - proc proc rw\n";
        let all = hierarchies(text);
        assert_eq!(all.len(), 3);
        let at = |hierarchy: &str, path: &str| {
            find(&CgroupMembership { hierarchy: hierarchy.into(), path: path.into() }, &all)
        };
        assert_eq!(at("cpu,cpuacct", "/a/b"), Ok("/sys/fs/cgroup/cpu,cpuacct/a/b".into()));
        assert_eq!(at("name=systemd", "/"), Ok("/sys/fs/cgroup/systemd".into()));
        assert_eq!(at("", "/x"), Ok("/sys/fs/cgroup/unified/x".into()));
        assert_eq!(at("memory", "/x"), Err(Obstacle::NoHierarchy));
    }
}
