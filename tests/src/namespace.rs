//! A copy that has its process ids in a pid namespace of its own.

use crate::sys::{Common, have_in_common};
use crate::tree;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// From where processes are looked at, and what their ids are there.
#[derive(Clone, Debug)]
pub struct View {
    /// The `/proc` that shows these ids.
    pub proc: PathBuf,
    /// Our own ids of the processes, by those; none where they are the same.
    ours: Option<BTreeMap<u32, u32>>,
}

impl View {
    /// From here.
    pub fn own() -> View {
        View { proc: PathBuf::from("/proc"), ours: None }
    }

    /// From inside of the pid namespace in which a process below `supervisor` has the id `inner`; none if there is none, or
    /// not yet.
    pub fn inside(supervisor: u32, inner: u32) -> Option<View> {
        let found = tree::ids(Path::new("/proc"), &[supervisor]).ok()?;
        let ours: BTreeMap<u32, u32> =
            found.into_iter().filter_map(|pid| Some((inner_id(pid)?, pid))).collect();
        let root = ours.get(&inner)?;
        let proc = PathBuf::from(format!("/proc/{root}/root/proc"));
        Some(View { proc, ours: Some(ours) })
    }

    /// Our own id of a process.
    pub fn ours(&self, pid: u32) -> u32 {
        self.ours.as_ref().and_then(|ours| ours.get(&pid)).copied().unwrap_or(pid)
    }

    /// What a guest adds to its id in the names of files.
    pub fn suffix(&self, pid: u32) -> io::Result<String> {
        if self.ours.is_none() {
            return Ok(String::new());
        }
        let link = fs::read_link(format!("/proc/{}/ns/pid", self.ours(pid)))?;
        let number = link.to_string_lossy().trim_start_matches("pid:[").trim_end_matches(']').to_owned();
        Ok(format!(".{number}"))
    }

    /// Whether two processes share something.
    pub fn have_in_common(&self, one: u32, two: u32, what: Common) -> nix::Result<bool> {
        have_in_common(self.ours(one), self.ours(two), what)
    }
}

/// The id of a process in its own pid namespace, if that is below ours.
fn inner_id(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let ids: Vec<&str> =
        status.lines().find_map(|line| line.strip_prefix("NSpid:"))?.split_whitespace().collect();
    ids.get(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_process_is_found_by_its_inner_id() {
        let mut unshare = Command::new("unshare");
        unshare.args(["--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]);
        let mut supervisor = unshare.args(["sleep", "60"]).stdout(Stdio::null()).spawn().unwrap();
        let is_there =
            |view: &View| fs::read_to_string(view.proc.join("1/comm")).is_ok_and(|comm| comm == "sleep\n");
        let mut view = None;
        for _ in 0..1000 {
            view = View::inside(supervisor.id(), 1).filter(is_there);
            if view.is_some() || supervisor.try_wait().unwrap().is_some() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let told = view.as_ref().map(|view| (view.ours(1), view.suffix(1).unwrap()));
        let again = view.map(|view| view.have_in_common(1, 1, Common::Memory));
        let _ = supervisor.kill();
        let _ = supervisor.wait();
        // Not everybody may make namespaces.
        if let (Some((ours, suffix)), Some(again)) = (told, again) {
            assert!(ours > 1 && suffix.len() > 5, "{ours} {suffix}");
            assert_eq!(again, Ok(true));
            assert_eq!(View::own().suffix(1).unwrap(), "");
        }
    }
}
