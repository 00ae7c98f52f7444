//! The `ckpt` command and `scripts/install`, run as people run them.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use nix::fcntl::{Flock, FlockArg};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;
use support::sample;

const CKPT: &str = env!("CARGO_BIN_EXE_ckpt");

/// A folder of the test's own, removed at its end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Folder(path)
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn ckpt(arguments: &[&str]) -> Output {
    Command::new(CKPT).args(arguments).output().unwrap()
}

/// Standard output of a command that must succeed.
fn told(arguments: &[&str]) -> String {
    let done = ckpt(arguments);
    assert!(done.status.success(), "{arguments:?}: {done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// Standard error of a command that must end with `status`.
fn refused(arguments: &[&str], status: i32) -> String {
    let done = ckpt(arguments);
    assert_eq!(done.status.code(), Some(status), "{arguments:?}: {done:?}");
    String::from_utf8(done.stderr).unwrap()
}

#[test]
fn info_show_and_verify_say_what_is_in_it() {
    let folder = Folder::new("look");
    let path = folder.file("x.ckpt", &sample().bytes());
    let path = path.to_str().unwrap();
    let info = told(&["info", path]);
    for part in ["sample (pid 100)", "threads      2, running", "  3 /tmp/a file", "shared memory 4.0 KiB"] {
        assert!(info.contains(part), "{part}: {info}");
    }
    assert!(told(&["verify", path]).ends_with(": sound; 13 notes, 8.0 KiB in 3 segments\n"));
    assert_eq!(told(&["verify", "--quiet", path]), "");
    let shown = told(&["show", path, "thread"]);
    assert!(shown.contains("thread Thread\n  pid 100\n  tid 101\n"), "{shown}");
    assert!(!shown.contains("host"), "{shown}");
    assert!(told(&["show", path]).contains("segment object 6 0x0 5 bytes at "));
    assert!(refused(&["show", path, "nonsense"], 2).contains("possible values: host, task, thread"));
    let json: serde_json::Value = serde_json::from_str(&told(&["show", "--json", path])).unwrap();
    assert_eq!(json["notes"][1]["note"], "task");
    assert_eq!(json["notes"][1]["pid"], 100);
    assert_eq!(json["segments"][2]["len_bytes"], 5);
}

#[test]
fn verify_tells_every_damage() {
    let mut bytes = sample().bytes();
    let folder = Folder::new("damage");
    for index in [1, 2] {
        let offset = usize::try_from(support::word(&bytes, 64 + index * 56 + 8)).unwrap();
        bytes[offset] ^= 1;
    }
    let path = folder.file("x.ckpt", &bytes);
    let done = ckpt(&["verify", path.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(1));
    let [out, err] = [done.stdout, done.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(err.contains("memory 400000-401000 is not what was written there (and 1 above)"), "{err}");
    assert!(out.contains("4096 bytes of object 5 at 0x1000 is not what was written there"), "{out}");
}

#[test]
fn verify_finds_notes_that_do_not_fit_together() {
    let folder = Folder::new("misfit");
    let mut parts = sample();
    parts.notes.retain(|note| note.word() != "filesystem");
    parts.notes.push(parts.notes[0].clone());
    let path = folder.file("x.ckpt", &parts.bytes());
    let done = ckpt(&["verify", path.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(1));
    let text = String::from_utf8([done.stdout, done.stderr].concat()).unwrap();
    assert!(text.contains("task 100 refers to filesystem 1, which is not there"), "{text}");
    assert!(text.contains("it does not say once where it was made"), "{text}");
}

#[test]
fn a_reader_that_closes_the_pipe_has_read_enough() {
    let folder = Folder::new("pipe");
    let path = folder.file("x.ckpt", &sample().bytes());
    let script = "\"$0\" show \"$1\" | head -n 1; exit ${PIPESTATUS[0]}";
    let done = Command::new("bash").args(["-c", script, CKPT]).arg(path).output().unwrap();
    assert!(done.status.success() && done.stderr.is_empty(), "{done:?}");
}

#[test]
fn the_line_for_boot_is_printed_for_a_loader_that_is_not_there_yet() {
    let line = told(&["register", "--print", "--loader", "/opt/x/ckpt-loader"]);
    let expected = binfmt::registration::line("ckpt", Path::new("/opt/x/ckpt-loader")).unwrap();
    assert_eq!(line.trim_end(), expected.to_str().unwrap());
}

#[test]
fn completions_exist_for_every_shell() {
    for shell in ["bash", "zsh", "fish"] {
        assert!(told(&["completions", shell]).contains("verify"), "{shell}");
    }
}

const REGISTRY: &str = "/proc/sys/fs/binfmt_misc";

/// A name and a loader of our own, one test at a time; the mount is left as it was.
struct Handler {
    name: String,
    mounted: bool,
    _lock: Flock<fs::File>,
}

impl Handler {
    fn new() -> Handler {
        let mut file = fs::File::options();
        let file = file.create(true).truncate(false).write(true).open("/tmp/ckpt-binfmt.lock").unwrap();
        let lock = Flock::lock(file, FlockArg::LockExclusive).unwrap();
        let mounted = Path::new(REGISTRY).join("register").exists();
        Handler { name: format!("ckpt-command-{}", std::process::id()), mounted, _lock: lock }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        let mut arguments = vec!["unregister", "--name", &self.name];
        if !self.mounted {
            arguments.push("--unmount");
        }
        ckpt(&arguments);
    }
}

#[test]
fn a_registration_is_made_once_and_made_anew_when_it_is_stale() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: a registration takes root");
        return;
    }
    let folder = Folder::new("register");
    let program = fs::read("/bin/true").unwrap();
    let [first, second] = ["first", "second"].map(|name| {
        let path = folder.file(name, &program);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.canonicalize().unwrap()
    });
    let (first_name, second_name) = (first.to_str().unwrap(), second.to_str().unwrap());
    let handler = Handler::new();
    let name = handler.name.as_str();
    let register = |loader| told(&["register", "--name", name, "--loader", loader]);
    refused(&["status", "--name", name], 1);
    assert_eq!(register(first_name), format!("{name}: registered with {first_name}\n"));
    assert!(told(&["status", "--name", name]).contains(first_name));
    assert!(register(first_name).contains("already registered"));
    assert!(register(second_name).contains(&format!("anew with {second_name}; its loader is {first_name}")));
    assert!(register(second_name).contains("already registered"));
    // F keeps the file that was there: one that takes its place is not run until it is registered anew.
    std::thread::sleep(Duration::from_millis(30));
    fs::rename(&first, &second).unwrap();
    assert!(refused(&["status", "--name", name], 1).contains("was replaced since"));
    assert!(register(second_name).contains("anew"));
    assert!(told(&["status", "--name", name]).contains(second_name));
    fs::remove_file(&second).unwrap();
    assert!(refused(&["status", "--name", name], 1).contains("is gone"));
    assert!(refused(&["register", "--name", name, "--loader", second_name], 3).contains("No such file"));
    assert!(refused(&["unregister", "--name", "status"], 3).contains("it is not a handler"));
    assert!(told(&["unregister", "--name", name]).contains("unregistered"));
    assert!(told(&["unregister", "--name", name]).contains("was not registered"));
}

/// Every path below `folder`.
fn tree(folder: &Path) -> Vec<String> {
    let found =
        Command::new("find").arg(folder).args(["-mindepth", "1", "-printf", "%P %m\n"]).output().unwrap();
    let mut lines: Vec<String> =
        String::from_utf8(found.stdout).unwrap().lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

#[test]
fn an_installation_works_and_is_removed_without_a_trace() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let programs = Path::new(CKPT).parent().unwrap();
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let built = ["build", "--quiet", "--profile", profile];
    let built = Command::new(env!("CARGO")).current_dir(root).args(built).status().unwrap();
    assert!(built.success());
    let folder = Folder::new("install");
    let install = |arguments: &[&str], destdir: &str| {
        let mut command = Command::new(root.join("scripts/install"));
        let prefix = if destdir.is_empty() { folder.0.to_str().unwrap() } else { "/usr" };
        command.env("DESTDIR", destdir).args(["--prefix", prefix]).args(arguments).output().unwrap()
    };
    fs::create_dir(folder.0.join("bin")).unwrap();
    folder.file("bin/other", b"somebody's");
    let before = tree(&folder.0);
    let from = ["--from", programs.to_str().unwrap()];
    // Twice: the second installation replaces the first.
    for _ in 0..2 {
        let done = install(&from, "");
        assert!(done.status.success(), "{done:?}");
    }
    let installed = tree(&folder.0);
    for path in [
        "bin/ckpt 755",
        "bin/ckpt-dump 755",
        "libexec/ckpt/ckpt-loader 755",
        "lib/binfmt.d/ckpt.conf 644",
        "share/bash-completion/completions/ckpt-dump 644",
        "share/zsh/site-functions/_ckpt 644",
        "share/fish/vendor_completions.d/ckpt.fish 644",
    ] {
        assert!(installed.iter().any(|found| found == path), "{path} in {installed:?}");
    }
    let loader = folder.0.join("libexec/ckpt/ckpt-loader");
    let line = fs::read_to_string(folder.0.join("lib/binfmt.d/ckpt.conf")).unwrap();
    assert_eq!(line.trim_end(), binfmt::registration::line("ckpt", &loader).unwrap().to_str().unwrap());
    // It finds its loader: the line for it is the same.
    let printed = Command::new(folder.0.join("bin/ckpt")).args(["register", "--print"]).output().unwrap();
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), line);
    let done = install(&["--uninstall"], "");
    assert!(done.status.success(), "{done:?}");
    assert_eq!(tree(&folder.0), before);
    // Below DESTDIR, and the paths in it are those without.
    let destdir = folder.0.join("root");
    let destdir = destdir.to_str().unwrap();
    fs::create_dir(destdir).unwrap();
    let done = install(&from, destdir);
    assert!(done.status.success(), "{done:?}");
    let line = fs::read_to_string(Path::new(destdir).join("usr/lib/binfmt.d/ckpt.conf")).unwrap();
    assert!(line.contains(":/usr/libexec/ckpt/ckpt-loader:"), "{line}");
    let done = install(&["--uninstall"], destdir);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(tree(Path::new(destdir)), Vec::<String>::new());
    assert_eq!(install(&["--uninstall"], destdir).status.code(), Some(1), "there is nothing left");
}
