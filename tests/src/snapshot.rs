//! What `/proc` says of a process, as a flat map from names to values, so that two moments can be compared.
//!
//! Numbers that the kernel draws at random (inodes of pipes and of memory without a name) are replaced by letters in the
//! order in which they appear: which descriptors share a pipe still shows, also between processes with the same
//! [`Letters`]. Ids of the process and its threads stand only under `pid` and `task/N/tid`; where another field repeats
//! one it says `self` or `thread N`. Of a zombie there is what it left.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Names and values.
pub type Snapshot = BTreeMap<String, String>;

/// Names of the fields of `/proc/PID/stat` from the third on (proc_pid_stat(5)).
const STAT: [&str; 50] = [
    "state",
    "ppid",
    "pgrp",
    "session",
    "tty_nr",
    "tpgid",
    "flags",
    "minflt",
    "cminflt",
    "majflt",
    "cmajflt",
    "utime",
    "stime",
    "cutime",
    "cstime",
    "priority",
    "nice",
    "num_threads",
    "itrealvalue",
    "starttime",
    "vsize",
    "rss",
    "rsslim",
    "startcode",
    "endcode",
    "startstack",
    "kstkesp",
    "kstkeip",
    "signal",
    "blocked",
    "sigignore",
    "sigcatch",
    "wchan",
    "nswap",
    "cnswap",
    "exit_signal",
    "processor",
    "rt_priority",
    "policy",
    "delayacct_blkio_ticks",
    "guest_time",
    "cguest_time",
    "start_data",
    "end_data",
    "start_brk",
    "arg_start",
    "arg_end",
    "env_start",
    "env_end",
    "exit_code",
];
/// Files that are compared as they are.
const WHOLE: [&str; 16] = [
    "autogroup",
    "cgroup",
    "cmdline",
    "coredump_filter",
    "cpuset",
    "environ",
    "gid_map",
    "loginuid",
    "oom_score_adj",
    "personality",
    "projid_map",
    "sessionid",
    "setgroups",
    "timens_offsets",
    "timers",
    "uid_map",
];
/// Fields of stat and status that are compared of a zombie.
const SEEN_OF_ZOMBIES: [&str; 14] = [
    "tid",
    "comm",
    "state",
    "ppid",
    "pgrp",
    "session",
    "flags",
    "exit_signal",
    "exit_code",
    "PPid",
    "NSpgid",
    "NSsid",
    "Uid",
    "Gid",
];
const LINKS: [&str; 3] = ["cwd", "exe", "root"];
/// The per-mapping lines of smaps that describe the mapping or what is present of it.
const SMAPS: [&str; 8] = [
    "VmFlags",
    "KernelPageSize",
    "MMUPageSize",
    "ProtectionKey",
    "Anonymous",
    "Locked",
    "Private_Hugetlb",
    "Shared_Hugetlb",
];

/// Takes a snapshot of process `pid` of this `/proc`.
pub fn take(proc: &Path, pid: u32, letters: &mut Letters) -> io::Result<Snapshot> {
    let root = proc.join(pid.to_string());
    let mut reader = Taker { root, found: Snapshot::new(), roles: BTreeMap::new(), letters };
    reader.put("pid", pid.to_string());
    reader.threads(pid)?;
    if reader.found.get("task/0/stat/state").is_some_and(|state| state == "Z") {
        return Ok(reader.zombie());
    }
    reader.memory()?;
    reader.descriptors()?;
    for name in WHOLE {
        // Which of them exist depends on how the kernel was built.
        if let Ok(bytes) = fs::read(reader.root.join(name)) {
            let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
            let text = reader.without_ids(text.trim_end());
            reader.put(name, text);
        }
    }
    for name in LINKS {
        let target = link(&reader.root.join(name))?;
        reader.put(name, target);
    }
    for name in listed(&reader.root.join("ns"))? {
        let target = link(&reader.root.join("ns").join(&name))?;
        // One inside of the tree gets another number whenever it is made.
        let is_inside = link(&Path::new("/proc/self/ns").join(&name))? != target;
        let kind = target.split(':').next().unwrap_or_default().to_owned();
        let mut letters = || reader.letters.namespaces.entry(kind.clone()).or_default().of(&target);
        let target = if is_inside { format!("{kind}:[{}]", letters()) } else { target };
        reader.put(&format!("ns/{name}"), target);
    }
    let auxv: Vec<String> =
        fs::read(reader.root.join("auxv"))?.iter().map(|byte| format!("{byte:02x}")).collect();
    reader.put("auxv", auxv.concat());
    let limits = fs::read_to_string(reader.root.join("limits"))?;
    for line in limits.lines().skip(1) {
        if let Some((name, rest)) = line.split_at_checked(26) {
            let words: Vec<&str> = rest.split_whitespace().collect();
            reader.put(&format!("limits/{}", name.trim()), words.join(" "));
        }
    }
    Ok(reader.found)
}

struct Taker<'a> {
    root: PathBuf,
    found: Snapshot,
    /// What to say instead of an id.
    roles: BTreeMap<String, String>,
    letters: &'a mut Letters,
}

impl Taker<'_> {
    fn put(&mut self, name: &str, value: impl Into<String>) {
        self.found.insert(name.to_owned(), value.into());
    }

    /// `text` with every word that is one of the process's ids replaced by its role.
    fn without_ids(&self, text: &str) -> String {
        let replaced = |word: &str| self.roles.get(word).cloned().unwrap_or_else(|| word.to_owned());
        text.lines()
            .map(|line| line.split(' ').map(replaced).collect::<Vec<_>>().join(" "))
            .collect::<Vec<_>>()
            .join("\n")
    }

    fn threads(&mut self, pid: u32) -> io::Result<()> {
        let mut tids: Vec<u32> =
            listed(&self.root.join("task"))?.iter().filter_map(|name| name.parse().ok()).collect();
        let mut children = Vec::new();
        tids.sort_unstable_by_key(|tid| (*tid != pid, *tid));
        for (index, tid) in tids.iter().enumerate() {
            let role = if *tid == pid { "self".to_owned() } else { format!("thread {index}") };
            self.roles.insert(tid.to_string(), role);
        }
        for (index, tid) in tids.iter().enumerate() {
            let folder = self.root.join("task").join(tid.to_string());
            self.put(&format!("task/{index}/tid"), tid.to_string());
            self.status(&folder, index)?;
            self.stat(&folder, index)?;
            let found = fs::read_to_string(folder.join("children")).unwrap_or_default();
            children.extend(found.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        // Those that had exec'd are made before others, and all by the leader: which of several that have ended wait() takes
        // first, and __WNOTHREAD, are all that could tell.
        children.sort_unstable();
        let children: Vec<String> = children.iter().map(u32::to_string).collect();
        self.put("children", children.join(" "));
        Ok(())
    }

    /// What is left of a zombie that its parent or a person can see. Its masks and dispositions are nobody's any longer.
    fn zombie(mut self) -> Snapshot {
        let seen = |key: &String| {
            let Some(name) = key.strip_prefix("task/0/") else { return true };
            let name = name.split_once('/').map_or(name, |(_, name)| name);
            SEEN_OF_ZOMBIES.contains(&name)
        };
        self.found.retain(|key, _| seen(key));
        self.found
    }

    fn status(&mut self, folder: &Path, index: usize) -> io::Result<()> {
        for line in fs::read_to_string(folder.join("status"))?.lines() {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.split_whitespace().collect::<Vec<_>>().join(" ");
            // Any other number may happen to be that of a process or thread.
            const IDS: &[&str] = &["Tgid", "Pid", "PPid", "NStgid", "NSpid", "NSpgid", "NSsid"];
            let value = match name {
                "State" => awake(&value).to_owned(),
                name if IDS.contains(&name) => self.without_ids(&value),
                _ => value,
            };
            self.put(&format!("task/{index}/status/{name}"), value);
        }
        Ok(())
    }

    fn stat(&mut self, folder: &Path, index: usize) -> io::Result<()> {
        let text = fs::read_to_string(folder.join("stat"))?;
        let (head, tail) = text.rsplit_once(')').unwrap_or_default();
        let name = head.split_once('(').unwrap_or_default().1;
        self.put(&format!("task/{index}/stat/comm"), name);
        for (name, value) in STAT.iter().zip(tail.split_whitespace()) {
            let value = match *name {
                "state" => awake(value).to_owned(),
                // Says only whether it sleeps.
                "wchan" => continue,
                "pgrp" | "session" | "tpgid" => self.without_ids(value),
                _ => value.to_owned(),
            };
            self.put(&format!("task/{index}/stat/{name}"), value);
        }
        Ok(())
    }

    fn memory(&mut self) -> io::Result<()> {
        let mut range = String::new();
        for line in fs::read_to_string(self.root.join("smaps"))?.lines() {
            if let Some((name, value)) = line.split_once(':').filter(|(name, _)| !name.contains(' ')) {
                if SMAPS.contains(&name) {
                    // `sd` says that a page may have been written since somebody reset that (CONFIG_MEM_SOFT_DIRTY).
                    let words: Vec<&str> = value.split_whitespace().filter(|word| *word != "sd").collect();
                    self.put(&format!("smaps/{range}/{name}"), words.join(" "));
                }
                continue;
            }
            let mut words = line.split_whitespace();
            range = words.next().unwrap_or_default().to_owned();
            let mut rest: Vec<String> = words.map(str::to_owned).collect();
            let path = rest.get(4..).unwrap_or_default().join(" ");
            if let Some(inode) = rest.get_mut(3).filter(|_| nameless(&path)) {
                *inode = self.letters.mapped.of(inode);
            }
            self.put(&format!("maps/{range}"), rest.join(" "));
        }
        Ok(())
    }

    /// What an epoll set watches. Its order there is that of addresses in the kernel.
    fn watched(&mut self, set: &str, info: &str) -> io::Result<()> {
        let mut all: Vec<_> = info.lines().filter_map(watched).collect();
        all.sort_unstable();
        let devices = if all.is_empty() { [0; 4] } else { numbered_devices(&self.root)? };
        for (index, (number, what, inode, device)) in all.into_iter().enumerate() {
            let inode = if devices.contains(&device) { self.letters.open.of(&inode) } else { inode };
            // Another pid namespace has another /proc.
            let device = if Some(&device) == devices.last().filter(|device| **device != 0) {
                "proc".to_owned()
            } else {
                format!("{device:x}")
            };
            let watched = format!("{number} {what} ino:{inode} sdev:{device}");
            self.put(&format!("fd/{set}/watches.{index}"), watched);
        }
        Ok(())
    }

    /// A path with its ids in `/proc` replaced by their roles.
    fn of_process(&self, path: &str) -> String {
        match path.strip_prefix("/proc/") {
            Some(rest) => {
                let parts: Vec<String> = rest.split('/').map(|part| self.without_ids(part)).collect();
                format!("/proc/{}", parts.join("/"))
            }
            None => path.to_owned(),
        }
    }

    fn descriptors(&mut self) -> io::Result<()> {
        for number in listed(&self.root.join("fd"))? {
            let target = link(&self.root.join("fd").join(&number))?;
            let inode_has_no_name = nameless(&target);
            let numbered = inode_in(&target, "pipe:[", "]").map(|inode| ("pipe", inode));
            let numbered = numbered.or_else(|| Some(("socket", inode_in(&target, "socket:[", "]")?)));
            let shown = match (numbered, inode_in(&target, "/#", " (deleted)")) {
                (Some((kind, inode)), _) => format!("{kind}:[{}]", self.letters.open.of(inode)),
                // A file of O_TMPFILE has the number of its inode for a name.
                (None, Some(inode)) => target.replace(inode, &self.letters.open.of(inode)),
                (None, None) => self.of_process(&target),
            };
            self.put(&format!("fd/{number}/link"), shown);
            let info = fs::read_to_string(self.root.join("fdinfo").join(&number))?;
            self.watched(&number, &info)?;
            let lines = info.lines().enumerate().filter(|(_, line)| !line.starts_with("tfd:"));
            for (index, line) in lines {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                let value = match name {
                    "ino" if inode_has_no_name => self.letters.open.of(value.trim()),
                    "eventfd-id" => self.letters.events.of(value.trim()),
                    _ => self.without_ids(&value.split_whitespace().collect::<Vec<_>>().join(" ")),
                };
                // A file may have several locks, an instance several watches.
                let name = match name {
                    "lock" => format!("lock.{index}"),
                    "inotify wd" => format!("inotify.{index}"),
                    _ => name.to_owned(),
                };
                self.put(&format!("fd/{number}/{name}"), value);
            }
        }
        Ok(())
    }
}

/// What `tfd` lines say of something that an epoll set watches: its number, the events and the data, the inode, the device.
fn watched(line: &str) -> Option<(u32, String, String, u64)> {
    let (number, rest) = line.strip_prefix("tfd:")?.trim_start().split_once(' ')?;
    let (what, place) = rest.split_once("ino:")?;
    let (inode, device) = place.split_once(" sdev:")?;
    let what: Vec<&str> = what.split_whitespace().collect();
    let inode = u64::from_str_radix(inode, 16).ok()?.to_string();
    Some((number.parse().ok()?, what.join(" "), inode, u64::from_str_radix(device.trim(), 16).ok()?))
}

/// The devices whose inodes are numbered as they are made: those of pipes, sockets, processes and their files in `/proc`, as
/// the kernel writes them.
fn numbered_devices(process: &Path) -> io::Result<[u64; 4]> {
    use std::os::fd::AsRawFd;
    let (pipe, (socket, _)) = (io::pipe()?, std::os::unix::net::UnixStream::pair()?);
    let pidfd = crate::sys::open_process(std::process::id())?;
    let of_own = |fd: i32| PathBuf::from(format!("/proc/self/fd/{fd}"));
    let [pipe_at, socket_at] = [pipe.0.as_raw_fd(), socket.as_raw_fd()].map(of_own);
    let places = [pipe_at, socket_at, of_own(pidfd.as_raw_fd()), process.join("status")];
    let mut devices = [0; 4];
    for (device, place) in devices.iter_mut().zip(places) {
        let id = fs::metadata(place)?.dev();
        *device = u64::from(libc::major(id)) << 20 | u64::from(libc::minor(id));
    }
    Ok(devices)
}

/// The number that stands at the end of `target` between `before` and `after`.
fn inode_in<'a>(target: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, number) = target.strip_suffix(after)?.rsplit_once(before)?;
    number.bytes().all(|byte| byte.is_ascii_digit()).then_some(number)
}

/// Whether the inode of `path` is one that the kernel drew when the object was made.
fn nameless(path: &str) -> bool {
    path.starts_with("pipe:[")
        || path.starts_with("socket:[")
        || path.starts_with("anon_inode:")
        || path.ends_with(" (deleted)")
        || path
            .strip_prefix("/proc/")
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

/// Whether a task runs or sleeps at this very moment says nothing; that it is stopped or dead does.
fn awake(state: &str) -> &str {
    match state.chars().next() {
        Some('R' | 'S' | 'D' | 'I') => "awake",
        _ => state,
    }
}

/// What to say instead of inodes without a name.
#[derive(Debug, Default)]
pub struct Letters {
    mapped: Alphabet,
    open: Alphabet,
    namespaces: BTreeMap<String, Alphabet>,
    events: Alphabet,
}

#[derive(Debug, Default)]
struct Alphabet(BTreeMap<String, String>);

impl Alphabet {
    fn of(&mut self, number: &str) -> String {
        let next = format!("#{}", self.0.len() + 1);
        self.0.entry(number.to_owned()).or_insert(next).clone()
    }
}

fn link(path: &Path) -> io::Result<String> {
    Ok(fs::read_link(path)?.to_string_lossy().into_owned())
}

/// The names in a folder, numbers by their value.
fn listed(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.insert((name.parse::<u64>().unwrap_or(0), name));
    }
    Ok(names.into_iter().map(|(_, name)| name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(pid: u32) -> io::Result<Snapshot> {
        super::take(Path::new("/proc"), pid, &mut Letters::default())
    }

    #[test]
    fn a_process_is_like_itself() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        // Until it has executed its program and sleeps.
        let mut alike = (take(child.id()), take(child.id()));
        for _ in 0..1000 {
            if matches!(&alike, (Ok(one), Ok(two)) if one == two && one["task/0/stat/comm"] == "sleep") {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
            alike = (take(child.id()), take(child.id()));
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let one = alike.0.unwrap();
        assert_eq!(one, alike.1.unwrap());
        assert_eq!(one["task/0/stat/comm"], "sleep");
        assert_eq!(one["task/0/status/Tgid"], "self");
        assert!(one.keys().any(|key| key.starts_with("smaps/") && key.ends_with("/VmFlags")));
        assert!(one["limits/Max open files"].ends_with("files"));
    }
}
