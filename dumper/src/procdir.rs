//! The directory `/proc/PID` of the process.

use crate::error::Error;
use crate::parse;
use binfmt::address::{Pid, Tid};
use binfmt::wire::Text;
use binfmt::workers::each;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Reads a file of `/proc`, none of which says how long it is: most come in one piece. (`read_to_end` would ask for length
/// and position first.)
fn read(path: &Path) -> io::Result<Vec<u8>> {
    const PIECE_BYTES: usize = 16 << 10;
    let mut file = File::open(path)?;
    let mut piece = [0; PIECE_BYTES];
    let mut bytes = Vec::new();
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(len) => bytes.extend_from_slice(piece.get(..len).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The directory `/proc/PID` of one process.
#[derive(Clone, Copy, Debug)]
pub struct ProcDir {
    pid: Pid,
}

impl ProcDir {
    /// That of `pid`.
    pub fn new(pid: Pid) -> ProcDir {
        ProcDir { pid }
    }

    /// Whose it is.
    pub fn pid(self) -> Pid {
        self.pid
    }

    /// The path of a file in it.
    pub fn path(self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.pid))
    }

    /// The path of a file in the directory of one of its threads.
    pub fn thread_path(self, tid: Tid, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/task/{tid}/{name}", self.pid))
    }

    fn failed(self, path: &std::path::Path, error: &io::Error) -> Error {
        Error::question(self.pid, format!("reading {}", path.display()), error)
    }

    /// The bytes of a file.
    pub fn bytes(self, name: &str) -> Result<Vec<u8>, Error> {
        let path = self.path(name);
        read(&path).map_err(|error| self.failed(&path, &error))
    }

    /// The text of a file; bytes that are not UTF-8 (names of programs and files) are replaced.
    pub fn text(self, name: &str) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(&self.bytes(name)?).into_owned())
    }

    /// The same of a file that some kernels do not have.
    pub fn text_if_there(self, name: &str) -> Result<String, Error> {
        let path = self.path(name);
        match read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(self.failed(&path, &error)),
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        }
    }

    /// The bytes of a file of one of its threads.
    pub fn thread_bytes(self, tid: Tid, name: &str) -> Result<Vec<u8>, Error> {
        let path = self.thread_path(tid, name);
        read(&path).map_err(|error| self.failed(&path, &error))
    }

    /// The text of a file of one of its threads.
    pub fn thread_text(self, tid: Tid, name: &str) -> Result<String, Error> {
        Ok(String::from_utf8_lossy(&self.thread_bytes(tid, name)?).into_owned())
    }

    /// What a symbolic link says.
    pub fn link(self, name: &str) -> Result<PathBuf, Error> {
        let path = self.path(name);
        fs::read_link(&path).map_err(|error| self.failed(&path, &error))
    }

    /// The names in a directory that are numbers, ascending.
    pub fn numbers(self, name: &str) -> Result<Vec<u32>, Error> {
        let path = self.path(name);
        let entries = fs::read_dir(&path).map_err(|error| self.failed(&path, &error))?;
        let mut numbers: Vec<u32> =
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Has the kernel make the entries of the files that will be read when it stands still: it does so when a file of
    /// `/proc` is first looked up, and that takes longer than reading it.
    pub fn make_ready(self) {
        const FILES: [&str; 23] = [
            "status",
            "stat",
            "smaps",
            "pagemap",
            "mem",
            "personality",
            "coredump_filter",
            "oom_score_adj",
            "limits",
            "timers",
            "auxv",
            "exe",
            "cwd",
            "root",
            "ns/mnt",
            "ns/pid",
            "ns/user",
            "ns/ipc",
            "ns/net",
            "ns/time",
            "ns/time_for_children",
            "ns/cgroup",
            "ns/uts",
        ];
        let make = |name: &str| drop(fs::symlink_metadata(self.path(name)));
        FILES.into_iter().for_each(make);
        make(&format!("task/{}/children", self.pid));
        make(&format!("task/{}/status", self.pid));
        each(&self.numbers("fd").unwrap_or_default(), |number| {
            make(&format!("fd/{number}"));
            make(&format!("fdinfo/{number}"));
        });
    }

    /// Its threads, ascending.
    pub fn threads(self) -> Result<Vec<Tid>, Error> {
        Ok(self.numbers("task")?.into_iter().filter_map(|tid| i32::try_from(tid).ok()).map(Tid).collect())
    }

    /// The children of these of its threads, in the kernel's order.
    pub fn children(self, threads: &[Tid]) -> Result<Vec<Pid>, Error> {
        let mut found = Vec::new();
        for tid in threads {
            let path = self.thread_path(*tid, "children");
            match read(&path) {
                Ok(text) => found.extend(pids(&text)),
                Err(error)
                    if error.kind() == io::ErrorKind::NotFound && self.thread_path(*tid, "").exists() =>
                {
                    // Linux without CONFIG_PROC_CHILDREN.
                    return self.children_among_all();
                }
                Err(error) => return Err(self.failed(&path, &error)),
            }
        }
        Ok(found)
    }

    fn children_among_all(self) -> Result<Vec<Pid>, Error> {
        let path = Path::new("/proc");
        let entries = fs::read_dir(path).map_err(|error| self.failed(path, &error))?;
        let numbers = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Ok(numbers.map(Pid).filter(|pid| ProcDir::new(*pid).parent() == Some(self.pid)).collect())
    }

    /// Its parent; `None` if it has none that we see, or is gone.
    pub fn parent(self) -> Option<Pid> {
        const PARENT: usize = 3;
        let stat = self.text("stat").ok()?;
        let parent = parse::stat_fields(&stat)?.get(PARENT)?.parse().ok().map(Pid);
        parent.filter(|parent| parent.0 > 0)
    }

    /// The letter of its state; `None` if it is gone.
    pub fn state(self) -> Option<char> {
        const STATE: usize = 2;
        parse::stat_fields(&self.text("stat").ok()?)?.get(STATE)?.chars().next()
    }

    /// Its name, as a person may read it.
    pub fn name(self) -> String {
        let mut name = self.bytes("comm").unwrap_or_else(|_| b"?".to_vec());
        name.pop_if(|last| *last == b'\n');
        Text(name).to_string()
    }

    /// Its process id and name, as a person may read them.
    pub fn whom(self) -> String {
        format!("pid {} ({})", self.pid, self.name())
    }
}

/// What a list of children says.
fn pids(text: &[u8]) -> Vec<Pid> {
    let words = text.split(|byte| byte.is_ascii_whitespace());
    words.filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok()).map(Pid).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_are_told_apart_by_spaces() {
        assert_eq!(pids(b"12 7 130 "), [Pid(12), Pid(7), Pid(130)]);
        assert_eq!(pids(b""), []);
    }
}
