//! What a resume left that was cut short: the whole program, or nothing.

use crate::target::Beats;
use crate::{Outcome, Stopped};
use binfmt::ipc::IpcKind;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long what is left may need to come to its end.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a resume left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// The program, whole: every thread counts on, and nobody traces it.
    Program(Pid),
    /// Nothing.
    Nothing,
}

/// A process in the folder of a test.
struct Process {
    pid: Pid,
    status: String,
    cmdline: String,
}

/// Looks until it is clear what was left by a resume that ran in `folder`; loader, helpers and program all have it as
/// their working directory. `old` is the program's old id, which must be free if it is gone.
pub fn look(folder: &Path, beats: Beats, old: Pid) -> Outcome<Left> {
    let start = Instant::now();
    loop {
        let processes = processes_in(folder)?;
        match processes.as_slice() {
            // Twice: one that ended meanwhile may have forked another after the list was read.
            [] if is_free(old) && processes_in(folder)?.is_empty() => return Ok(Left::Nothing),
            [one] if is_whole(one) && beats.all_go_on_within(one.pid, Duration::from_secs(5)).is_ok() => {
                return Ok(Left::Program(one.pid));
            }
            _ => {}
        }
        if start.elapsed() > PATIENCE {
            let still =
                processes.first().map(|process| beats.all_go_on_within(process.pid, Duration::from_secs(1)));
            let text = match processes.is_empty() {
                true => format!("process {old} is still there: {}", status_line(old)),
                false => {
                    format!("neither the whole program nor nothing is left: {} {still:?}", shown(&processes))
                }
            };
            processes.iter().for_each(|process| end(process.pid));
            return Err(Stopped::Failed(text));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Removes the System V segments that a process has made which was killed, and that nobody has attached.
pub fn remove_segments_of(maker: Pid) {
    let is_its = |pid: u32| pid == maker.as_raw().unsigned_abs();
    for left in binfmt::note::shm::list().iter().filter(|it| is_its(it.creator_pid) && it.attached == 0) {
        let _ = Command::new("ipcrm").args(["-m", &left.ipc.id.to_string()]).status();
    }
}

/// Removes the System V objects of the target that had this process id, and says whether it had some.
pub fn remove_objects(pid: Pid) -> bool {
    const KEY: u32 = 0x6b00_0000;
    let own = |kind: IpcKind| {
        let listed = kind.list().into_iter().map(|listed| listed.object);
        listed
            .filter(|object| object.key == KEY | pid.as_raw().unsigned_abs())
            .map(move |object| (kind, object.id))
    };
    let all: Vec<_> = IpcKind::ALL.into_iter().flat_map(own).collect();
    for (kind, id) in &all {
        let _ = Command::new("ipcrm").args([kind.removes(), &id.to_string()]).status();
    }
    !all.is_empty()
}

/// Removes the file of the socket of the target that had this process id, and says whether it had one.
pub fn remove_socket(pid: Pid) -> bool {
    fs::remove_file(format!("/tmp/ckpt-passing-{pid}.sock")).is_ok()
}

/// Removes the System V objects that are still there of those that a guest wrote down (`guest_leaves`): it may have been
/// killed, and its copy have had others in namespaces of its own.
pub fn remove_ipc(folder: &Path) -> Outcome<()> {
    let Ok(list) = fs::read_to_string(folder.join("ipc")) else { return Ok(()) };
    Command::new("ipcrm").args(list.split_whitespace()).stderr(Stdio::null()).status()?;
    Ok(())
}

/// Kills a program that was resumed by this test, and waits until its id is free.
pub fn end(pid: Pid) {
    let _ = kill(pid, Signal::SIGKILL);
    let start = Instant::now();
    while !is_free(pid) && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Kills every process that runs in `folder`, and says which.
pub fn end_all_in(folder: &Path) -> String {
    let processes = processes_in(folder).unwrap_or_default();
    let text = shown(&processes);
    processes.iter().for_each(|process| end(process.pid));
    text
}

/// Kills those processes of `pids` that still run in `folder`.
pub fn end_all_of(pids: &[u32], folder: &Path) {
    let in_it =
        |pid: &&u32| fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd.starts_with(folder));
    for pid in pids.iter().filter(in_it).filter_map(|pid| i32::try_from(*pid).ok()) {
        // It may end by itself meanwhile.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

fn is_whole(process: &Process) -> bool {
    let field = |name: &str| {
        let value = process.status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_default().trim().to_owned()
    };
    let mut threads = fs::read_dir(format!("/proc/{}/task", process.pid)).into_iter().flatten();
    let let_go = threads.all(|entry| {
        let status =
            entry.and_then(|entry| fs::read_to_string(entry.path().join("status"))).unwrap_or_default();
        status.lines().any(|line| line == "TracerPid:\t0") && !status.contains("State:\tt")
    });
    let_go && !field("State").starts_with(['t', 'T', 'Z'])
}

/// Whether no process has this id. What ended as a child of ours is taken.
fn is_free(pid: Pid) -> bool {
    let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG | WaitPidFlag::__WALL));
    kill(pid, None) == Err(Errno::ESRCH)
}

fn shown(processes: &[Process]) -> String {
    let lines =
        processes.iter().map(|process| format!("\n    {} ({})", process.cmdline, status_line(process.pid)));
    lines.collect()
}

fn status_line(pid: Pid) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let words = ["Name", "State", "PPid", "TracerPid", "Threads"];
    let lines = status.lines().filter(|line| words.iter().any(|word| line.starts_with(word)));
    lines.collect::<Vec<_>>().join(", ")
}

/// The living processes whose working directory is `folder`.
fn processes_in(folder: &Path) -> Outcome<Vec<Process>> {
    let folder = folder.canonicalize()?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let Ok(pid) = name.parse().map(Pid::from_raw) else { continue };
        // A process may end while we look, and a zombie has no directory.
        if fs::read_link(path.join("cwd")).is_ok_and(|cwd| cwd.starts_with(&folder)) {
            let read = |file: &str| fs::read_to_string(path.join(file)).unwrap_or_default();
            found.push(Process { pid, status: read("status"), cmdline: read("cmdline").replace('\0', " ") });
        }
    }
    Ok(found)
}
