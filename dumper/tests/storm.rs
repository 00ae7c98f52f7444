//! Trees in which tasks come and go a thousand times a second are caught whole, or given up with everything running on.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use binfmt::consistency;
use binfmt::image::Image;
use binfmt::note::task::Task;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::time::{Duration, Instant};

struct Storm {
    root: Child,
    input: Option<ChildStdin>,
    counts: BufReader<ChildStdout>,
    folder: PathBuf,
}

impl Storm {
    fn start(kind: &str) -> Storm {
        let folder = std::env::temp_dir().join(format!("ckpt-storm-{}-{kind}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let program = folder.join("storm");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/storm.c");
        assert!(Command::new("cc").args(["-O1", "-o"]).arg(&program).arg(source).status().unwrap().success());
        let mut command = Command::new(&program);
        command
            .arg(kind)
            .current_dir(&folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut root = command.process_group(0).spawn().unwrap();
        let begun = Instant::now();
        while !folder.join("ready").exists() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the storm has not begun");
            std::thread::sleep(Duration::from_millis(2));
        }
        let (input, counts) = (root.stdin.take(), BufReader::new(root.stdout.take().unwrap()));
        Storm { root, input, counts, folder }
    }

    /// How many children there have been.
    fn count(&mut self) -> u64 {
        self.input.as_ref().unwrap().write_all(b"?").unwrap();
        let mut line = String::new();
        self.counts.read_line(&mut line).unwrap();
        line.trim().parse().unwrap()
    }

    fn rages_on(&mut self) {
        let (before, begun) = (self.count(), Instant::now());
        while self.count() < before + 20 {
            assert!(begun.elapsed() < Duration::from_secs(20), "it has come to an end");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn dump(&self, timeout: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ckpt-dump"));
        command.args(["--timeout", timeout, "-o"]).arg(self.folder.join("image.ckpt"));
        command.arg(self.root.id().to_string()).output().unwrap()
    }
}

impl Drop for Storm {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.root.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn caught(kind: &str) {
    let mut storm = Storm::start(kind);
    for _ in 0..5 {
        let done = storm.dump("20");
        assert!(done.status.success(), "{done:?}");
        let image = Image::open(File::open(storm.folder.join("image.ckpt")).unwrap()).unwrap();
        assert_eq!(consistency::check(&image), Vec::<String>::new());
        let tasks = image.all::<Task>().count();
        assert!(tasks >= 4, "the root and three: {tasks}");
        storm.rages_on();
    }
}

#[test]
fn children_that_are_waited_for() {
    caught("waited");
}

#[test]
fn children_that_nobody_waits_for() {
    caught("ignored");
}

#[test]
fn children_that_replace_their_parents() {
    caught("chain");
}

#[test]
fn children_that_are_siblings_of_their_makers() {
    caught("siblings");
}

#[test]
fn children_by_vfork() {
    caught("spawned");
}

/// Who waits in vfork cannot be stopped: it is named, and all others run on.
#[test]
fn a_parent_that_waits_in_vfork_is_named() {
    let mut storm = Storm::start("vfork");
    let done = storm.dump("0.2");
    let text = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(4), "{text}");
    assert!(
        text.contains("it waits in vfork for pid") && text.contains("(storm) to call execve or to end"),
        "{text}"
    );
    assert!(!storm.folder.join("image.ckpt").exists());
    let status = fs::read_to_string(format!("/proc/{}/status", storm.root.id())).unwrap();
    assert!(status.contains("TracerPid:\t0\n"), "{status}");
    assert_eq!(storm.count(), 0);
}
