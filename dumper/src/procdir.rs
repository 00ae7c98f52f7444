//! The directory `/proc/PID` of the process.

use crate::error::Error;
use binfmt::address::{Pid, Tid};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Reads a file of `/proc`, none of which says how long it is: most come in one piece.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(8 << 10);
    File::open(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
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
        match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            read => read.map_err(|error| self.failed(&path, &error)),
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

    /// Its threads, ascending.
    pub fn threads(self) -> Result<Vec<Tid>, Error> {
        Ok(self.numbers("task")?.into_iter().filter_map(|tid| i32::try_from(tid).ok()).map(Tid).collect())
    }

    /// Its name.
    pub fn name(self) -> String {
        self.text("comm").map_or_else(|_| "?".to_owned(), |name| name.trim_end_matches('\n').to_owned())
    }
}
