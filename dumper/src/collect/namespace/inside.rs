//! What a namespace tells only to who is in it: a child of ours enters it, reads files and ends.

use crate::collect::host;
use crate::error::Error;
use crate::procdir::ProcDir;
use crate::sys;
use binfmt::note::namespace::{IPC_SETTINGS, NET_SETTINGS, Namespace, NamespaceKind, Setting};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What stands in files for who lives in the namespace of this kind in which a task lives. What is not there is empty.
pub(super) fn read(proc: ProcDir, kind: NamespaceKind, paths: &[PathBuf]) -> Result<Vec<String>, Error> {
    let failed =
        |error: Errno| Error::question(proc.pid(), format!("entering its {} namespace", kind.noun()), error);
    let path = proc.path(&format!("ns/{}", kind.file()));
    let home = File::open(&path)
        .map_err(|error| failed(Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))))?;
    let owner = sys::owner_of_namespace(&path).map_err(failed)?;
    let is_ours =
        std::fs::metadata("/proc/self/ns/user").map(|own| own.ino()).ok() == sys::inode_of(&owner).ok();
    let flag = match kind {
        NamespaceKind::Uts => CloneFlags::CLONE_NEWUTS,
        NamespaceKind::Ipc => CloneFlags::CLONE_NEWIPC,
        NamespaceKind::Net => CloneFlags::CLONE_NEWNET,
        NamespaceKind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        _ => return Ok(Vec::new()),
    };
    let answer = sys::answer_of_child(|| {
        let entered = if is_ours { Ok(()) } else { setns(&owner, CloneFlags::CLONE_NEWUSER) };
        // Who may do without it need not be there.
        let _ = entered;
        setns(&home, flag)?;
        let mut answer = Vec::new();
        for path in paths {
            answer.extend(std::fs::read(path).unwrap_or_default());
            answer.push(0);
        }
        Ok(answer)
    });
    let answer = String::from_utf8_lossy(&answer.map_err(failed)?).into_owned();
    Ok(answer.split_terminator('\0').map(str::to_owned).collect())
}

fn settings(proc: ProcDir, kind: NamespaceKind, names: &[&str]) -> Result<Vec<Setting>, Error> {
    let paths: Vec<PathBuf> = names.iter().map(|name| Path::new("/proc/sys").join(name)).collect();
    let values = read(proc, kind, &paths)?;
    let there = names.iter().zip(values).filter(|(_, value)| !value.is_empty());
    Ok(there.map(|(name, value)| Setting { name: (*name).into(), value: value.trim_end().into() }).collect())
}

/// Adds the names of a host.
pub(super) fn names(note: Namespace, proc: ProcDir) -> Result<Namespace, Error> {
    let found = settings(proc, note.kind, &["kernel/hostname", "kernel/domainname"])?;
    let value = |name: &[u8]| found.iter().find(|it| it.name.0 == name).map(|it| it.value.clone());
    let (host_name, domain_name) = (value(b"kernel/hostname"), value(b"kernel/domainname"));
    Ok(Namespace {
        host_name: host_name.unwrap_or_default(),
        domain_name: domain_name.unwrap_or_default(),
        ..note
    })
}

/// Adds the limits of an IPC namespace.
pub(super) fn ipc(note: Namespace, proc: ProcDir) -> Result<Namespace, Error> {
    Ok(Namespace { settings: settings(proc, note.kind, &IPC_SETTINGS)?, ..note })
}

/// Adds what there is in a network namespace.
pub(super) fn net(note: Namespace, proc: ProcDir) -> Result<Namespace, Error> {
    /// What every new namespace has where the kernel has such a thing, down and without an address.
    const FALLBACKS: [&str; 10] =
        ["lo", "sit0", "tunl0", "gre0", "gretap0", "erspan0", "ip_vti0", "ip6_vti0", "ip6tnl0", "ip6gre0"];
    // The loopback has its address as long as it is up.
    let lists = ["/proc/self/net/dev", "/proc/self/net/fib_trie"].map(PathBuf::from);
    let texts = read(proc, note.kind, &lists)?;
    let loopback_is_up = texts.get(1).is_some_and(|trie| trie.contains(" 127.0.0.1\n"));
    let dev = texts.first().map_or("", String::as_str);
    let names = dev.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim()));
    let interfaces = names.filter(|name| !FALLBACKS.contains(name)).map(Into::into).collect();
    Ok(Namespace {
        settings: settings(proc, note.kind, &NET_SETTINGS)?,
        path: named(note.inode).unwrap_or_default().as_str().into(),
        interfaces,
        loopback_is_up,
        ..note
    })
}

/// Where `ip netns` keeps this namespace.
fn named(inode: u64) -> Option<String> {
    let entries = std::fs::read_dir("/run/netns").ok()?;
    let mut paths = entries.flatten().map(|entry| entry.path());
    let path = paths.find(|path| std::fs::metadata(path).is_ok_and(|found| found.ino() == inode))?;
    path.to_str().map(str::to_owned)
}

/// CLOCK_MONOTONIC and CLOCK_BOOTTIME of a task's time namespace, in nanoseconds.
pub(super) fn clocks(proc: ProcDir) -> Result<(i64, i64), Error> {
    let its = offsets(&proc.text("timens_offsets")?);
    let own = offsets(&std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default());
    let (monotonic, boottime) = host::clocks();
    Ok((monotonic + its.0 - own.0, boottime + its.1 - own.1))
}

/// What a `/proc/PID/timens_offsets` says, in nanoseconds.
fn offsets(text: &str) -> (i64, i64) {
    let of = |clock: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(clock))?;
        let mut numbers = line.split_whitespace().map(str::parse::<i64>);
        let mut next = || numbers.next()?.ok();
        Some(next()?.saturating_mul(1_000_000_000).saturating_add(next()?))
    };
    (of("monotonic").unwrap_or(0), of("boottime").unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read() {
        let text = "monotonic           86400         5\nboottime      -3         999999999\n";
        assert_eq!(offsets(text), (86_400_000_000_005, -2_000_000_001));
        assert_eq!(offsets(""), (0, 0));
    }
}
