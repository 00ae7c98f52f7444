//! A tree of tasks is dumped, and the image is compared with what `/proc` says of them.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use binfmt::consistency;
use binfmt::image::{Image, Owner};
use binfmt::note::descriptor::{Description, DescriptorTable};
use binfmt::note::lock::{FileLock, LockKind};
use binfmt::note::mapping::{MappedObject, ObjectKind};
use binfmt::note::pipe::Pipe;
use binfmt::note::task::{RunState, Task};
use binfmt::note::thread::{ExtendedState, Thread};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Nobody in particular.
const NOBODY: u32 = 65534;

/// A running family in a folder of its own; ended and removed at the end.
struct Family {
    root: Child,
    folder: PathBuf,
    pids: Vec<i32>,
    user: Option<u32>,
}

impl Family {
    fn start(name: &str, user: Option<u32>) -> Family {
        let name = format!("ckpt-family-{}-{name}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        let program = folder.join("family");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/family.c");
        let mut compiler = Command::new("cc");
        let compiled = compiler.args(["-O1", "-pthread", "-o"]).arg(&program).arg(source).status().unwrap();
        assert!(compiled.success());
        let mut command = Command::new(&program);
        command.current_dir(&folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let root = as_user(&mut command, user).spawn().unwrap();
        let begun = Instant::now();
        while !folder.join("ready").exists() {
            assert!(begun.elapsed() < Duration::from_secs(60), "the family is not ready");
            std::thread::sleep(Duration::from_millis(2));
        }
        // What has written its byte still has to call pause.
        std::thread::sleep(Duration::from_millis(50));
        let pids = descendants(i32::try_from(root.id()).unwrap());
        Family { root, folder, pids, user }
    }

    fn dump(&self) -> Image {
        let path = self.folder.join("image.ckpt");
        let mut command = Command::new(env!("CARGO_BIN_EXE_ckpt-dump"));
        command.arg("-o").arg(&path).arg(self.root.id().to_string());
        let done = as_user(&mut command, self.user).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        Image::open(File::open(path).unwrap()).unwrap()
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        for pid in self.pids.iter().rev() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::SIGKILL);
        }
        let _ = self.root.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn as_user(command: &mut Command, user: Option<u32>) -> &mut Command {
    match user {
        Some(user) => command.uid(user).gid(user),
        None => command,
    }
}

fn text(pid: i32, name: &str) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{name}")).unwrap()).into_owned()
}

/// Fields of `/proc/PID/stat` from the third on, so that field 3 has the index 0.
fn stat(pid: i32) -> Vec<String> {
    let text = text(pid, "stat");
    text[text.rfind(')').unwrap() + 1..].split_whitespace().map(str::to_owned).collect()
}

fn numbers(pid: i32, folder: &str) -> BTreeSet<u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/{folder}")).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect()
}

fn descendants(root: i32) -> Vec<i32> {
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let pid = found[at];
        for tid in numbers(pid, "task") {
            let children = text(pid, &format!("task/{tid}/children"));
            found.extend(children.split_whitespace().map(|child| child.parse::<i32>().unwrap()));
        }
        at += 1;
    }
    found
}

fn tasks(image: &Image) -> BTreeMap<i32, &Task> {
    image.all::<Task>().map(|task| (task.pid.cast_signed(), task)).collect()
}

/// What is told of the tasks themselves.
fn compare_tasks(family: &Family, image: &Image) {
    let tasks = tasks(image);
    assert_eq!(tasks.keys().copied().collect::<BTreeSet<_>>(), family.pids.iter().copied().collect());
    let first = image.all::<Task>().next().unwrap();
    assert_eq!((first.pid, first.parent, first.memory), (family.root.id(), 0, 1));
    let mut threads: BTreeMap<i32, BTreeSet<u32>> = BTreeMap::new();
    for thread in image.all::<Thread>() {
        threads.entry(thread.pid.cast_signed()).or_default().insert(thread.tid);
    }
    for (pid, task) in &tasks {
        let stat = stat(*pid);
        let field = |number: usize| stat[number - 3].parse::<u64>().unwrap();
        let parent = if *pid == family.pids[0] { 0 } else { field(4) };
        assert_eq!(u64::from(task.parent), parent, "{pid}");
        assert_eq!(u64::from(task.process_group), field(5), "{pid}");
        assert_eq!(u64::from(task.session), field(6), "{pid}");
        assert_eq!(u64::from(task.exit_signal), field(38), "{pid}");
        assert_eq!(task.has_execed, field(9) & 0x40 == 0, "{pid}");
        assert_eq!(task.name.to_string(), text(*pid, "comm").trim_end(), "{pid}");
        let state = match stat[0].as_str() {
            "Z" => RunState::Zombie,
            "T" => RunState::Stopped,
            _ => RunState::Running,
        };
        assert_eq!(task.state, state, "{pid}");
        let mine = threads.remove(pid).unwrap_or_default();
        if state == RunState::Zombie {
            assert_eq!((mine.len(), u64::from(task.wait_status)), (0, field(52)), "{pid}");
        } else {
            assert_eq!(mine, numbers(*pid, "task"), "{pid}");
        }
    }
    let ended: BTreeSet<u32> = image
        .all::<Task>()
        .filter(|task| task.state == RunState::Zombie)
        .map(|task| task.wait_status)
        .collect();
    assert_eq!(ended, BTreeSet::from([0x700, 9]));
    assert_eq!(image.extended_states().len(), image.all::<Thread>().count());
    assert_eq!(
        image.all::<ExtendedState>().count() + 1,
        image.all::<Thread>().count(),
        "the root has one thread"
    );
    let reaper = image.all::<Task>().filter(|task| task.child_subreaper).map(|task| task.pid);
    assert_eq!(reaper.collect::<Vec<_>>(), [family.root.id()]);
    assert_eq!(image.all::<Task>().filter(|task| task.exit_signal == 10).count(), 2, "SIGUSR1");
}

/// Who shares what with the root, as the flags of its clone say.
fn compare_sharing(image: &Image) {
    let root = image.all::<Task>().next().unwrap();
    let mut seen: BTreeMap<[bool; 4], usize> = BTreeMap::new();
    for task in image.all::<Task>().skip(1).filter(|task| task.state != RunState::Zombie) {
        let shares = [
            task.memory == root.memory,
            task.descriptor_table == root.descriptor_table,
            task.filesystem == root.filesystem,
            task.signal_handlers == root.signal_handlers,
        ];
        *seen.entry(shares).or_default() += 1;
    }
    let expected = [
        ([true; 4], 2),
        ([false, true, false, false], 1),
        ([false, false, true, false], 1),
        ([true, false, false, true], 1),
        ([false; 4], 6),
    ];
    assert_eq!(seen, BTreeMap::from(expected));
}

/// The descriptors of every task, and which of them are one description.
fn compare_descriptors(family: &Family, image: &Image) {
    let tables: BTreeMap<u32, &DescriptorTable> =
        image.all::<DescriptorTable>().map(|table| (table.id, table)).collect();
    let labels: BTreeMap<u32, String> =
        image.all::<Description>().map(|found| (found.id, found.label.to_string())).collect();
    for (pid, task) in tasks(image).iter().filter(|(_, task)| task.state != RunState::Zombie) {
        let table = tables[&task.descriptor_table];
        let open: BTreeSet<u32> = table.descriptors.iter().map(|descriptor| descriptor.number).collect();
        assert_eq!(open, numbers(*pid, "fd"), "{pid}");
        for descriptor in &table.descriptors {
            let link = fs::read_link(format!("/proc/{pid}/fd/{}", descriptor.number)).unwrap();
            assert_eq!(labels[&descriptor.description], link.display().to_string(), "{pid}");
        }
    }
    // All have the description that the root opened; the one that opened the file anew has another one as well.
    let path = family.folder.join("file").display().to_string();
    let of_file: Vec<u32> = labels.iter().filter(|(_, label)| **label == path).map(|(id, _)| *id).collect();
    assert_eq!(of_file.len(), 2, "{labels:?}");
    let users = |id: u32| {
        let has = |table: &&&DescriptorTable| table.descriptors.iter().any(|found| found.description == id);
        tables.values().filter(has).count()
    };
    let mut counts: Vec<usize> = of_file.into_iter().map(users).collect();
    counts.sort_unstable();
    // The one that opened it was forked by a thread of another before or after: one table or two.
    assert!(counts[0] <= 2 && counts[1] == tables.len(), "{counts:?} of {}", tables.len());
    let pipes: Vec<&Pipe> = image.all::<Pipe>().collect();
    assert_eq!((pipes.len(), pipes[0].descriptions.len(), pipes[0].content_bytes), (1, 2, 0));
    let mut locks: Vec<(u64, u64)> = image
        .all::<FileLock>()
        .inspect(|lock| assert_eq!(lock.kind, LockKind::Posix))
        .map(|lock| (lock.start, lock.len_bytes))
        .collect();
    locks.sort_unstable();
    assert_eq!(locks, [(0, 3), (5, 2)]);
    let owners: BTreeSet<u32> = image.all::<FileLock>().map(|lock| lock.pid).collect();
    assert!(owners.len() == 2 && owners.contains(&family.root.id()), "{owners:?}");
    let shared =
        image.all::<MappedObject>().filter(|object| object.kind == ObjectKind::SharedAnonymous).count();
    assert_eq!(shared, 1, "mapped by many, and one");
}

/// Every stored byte is what the task has there; while all wait nothing changes but the processor's number, which the
/// kernel writes for restartable sequences.
fn compare_memory(image: &Image) {
    let memory_of: BTreeMap<u32, u32> = image.all::<Task>().map(|task| (task.pid, task.memory)).collect();
    let changing: Vec<(u32, std::ops::Range<u64>)> = image
        .all::<Thread>()
        .map(|thread| (memory_of[&thread.pid], thread.rseq.address..thread.rseq.address + 32))
        .collect();
    let owner_of: BTreeMap<u32, i32> =
        tasks(image).iter().rev().map(|(pid, task)| (task.memory, *pid)).collect();
    for (segment, offset) in &image.segments {
        let Owner::Memory(id) = segment.owner else { continue };
        let len = usize::try_from(segment.len_bytes).unwrap();
        let (mut stored, mut there) = (vec![0; len], vec![0; len]);
        image.file.read_exact_at(&mut stored, *offset).unwrap();
        let memory = File::open(format!("/proc/{}/mem", owner_of[&id])).unwrap();
        memory.read_exact_at(&mut there, segment.start).unwrap();
        for (_, bytes) in changing.iter().filter(|(memory, _)| *memory == id) {
            for at in bytes.clone().filter_map(|address| address.checked_sub(segment.start)) {
                let at = usize::try_from(at).unwrap();
                if at < len {
                    (stored[at], there[at]) = (0, 0);
                }
            }
        }
        assert!(stored == there, "{segment:?} of {}", owner_of[&id]);
    }
    // Four MiB of pages that nearly all share: nine memories would be 36 MiB.
    let stored = image.stored_bytes();
    assert!((4 << 20..8 << 20).contains(&stored), "{stored} bytes");
}

fn runs_on(family: &Family, before: &BTreeMap<i32, String>) {
    for pid in &family.pids {
        let status = text(*pid, "status");
        assert!(status.contains("TracerPid:\t0\n"), "{status}");
        assert_eq!(&mappings(*pid), before.get(pid).unwrap());
    }
}

fn mappings(pid: i32) -> String {
    text(pid, "maps")
}

fn dumped(name: &str, user: Option<u32>) {
    let family = Family::start(name, user);
    let before: BTreeMap<i32, String> = family.pids.iter().map(|pid| (*pid, mappings(*pid))).collect();
    for _ in 0..2 {
        let image = family.dump();
        assert_eq!(consistency::check(&image), Vec::<String>::new());
        assert!(image.check_segments(NonZeroUsize::MIN).is_empty());
        runs_on(&family, &before);
        compare_tasks(&family, &image);
        compare_sharing(&image);
        compare_descriptors(&family, &image);
        compare_memory(&image);
    }
}

#[test]
fn a_family_is_what_proc_says() {
    dumped("own", None);
}

/// Without the right to see frames, pages are compared by what is in them.
#[test]
fn a_family_without_privilege_is_the_same() {
    if nix::unistd::geteuid().is_root() {
        dumped("nobody", Some(NOBODY));
    }
}

/// Killed at any time, the dumper leaves every task as it was; and no file.
#[test]
fn a_family_outlives_its_dumper() {
    let family = Family::start("outlives", None);
    let before: BTreeMap<i32, String> = family.pids.iter().map(|pid| (*pid, mappings(*pid))).collect();
    let begun = Instant::now();
    family.dump();
    let longest_us = u64::try_from(begun.elapsed().as_micros()).unwrap();
    let path = family.folder.join("image.ckpt");
    let mut killed = 0;
    for round in 0..40 {
        let _ = fs::remove_file(&path);
        let mut command = Command::new(env!("CARGO_BIN_EXE_ckpt-dump"));
        let command = command.arg("-o").arg(&path).arg(family.root.id().to_string()).stderr(Stdio::null());
        let mut dumper = command.spawn().unwrap();
        std::thread::sleep(Duration::from_micros(longest_us * round / 36));
        dumper.kill().unwrap();
        killed += usize::from(!dumper.wait().unwrap().success());
        let begun = Instant::now();
        while let Some(change) = family.pids.iter().find_map(|pid| changed(*pid, &before[pid])) {
            assert!(begun.elapsed() < Duration::from_secs(20), "round {round}: {change}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    assert!(killed > 10, "it was killed only {killed} times");
    let image = family.dump();
    assert_eq!(consistency::check(&image), Vec::<String>::new());
    compare_tasks(&family, &image);
    compare_memory(&image);
    let other = family.pids.iter().find_map(|pid| other_mappings(*pid, &before[pid]));
    assert_eq!(other, None);
    let left: Vec<_> =
        fs::read_dir(&family.folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 4, "program, file, ready, image: {left:?}");
}

/// A stopped task that was in the stub when its dumper was killed stays there until it is continued: the next dumper leads
/// it home, and saves what was there before.
#[test]
fn a_stopped_task_is_led_home() {
    const PROGRAM: &str = r#"
        for fd in /proc/$$/fd/*; do ((${fd##*/} > 2)) && eval "exec ${fd##*/}>&-"; done
        kill -STOP $$
        exit 3"#;
    let mut target = Command::new("bash");
    let target =
        target.args(["-c", PROGRAM]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut target = target.spawn().unwrap();
    let pid = i32::try_from(target.id()).unwrap();
    while !text(pid, "stat").contains(") T ") {
        std::thread::sleep(Duration::from_millis(1));
    }
    let (before, place) = (mappings(pid), text(pid, "syscall"));
    let path = std::env::temp_dir().join(format!("ckpt-stopped-{pid}.ckpt"));
    let dump = || {
        let _ = fs::remove_file(&path);
        let mut command = Command::new(env!("CARGO_BIN_EXE_ckpt-dump"));
        command.arg("-o").arg(&path).arg(pid.to_string()).spawn().unwrap()
    };
    let begun = Instant::now();
    assert!(dump().wait().unwrap().success());
    let longest_us = u64::try_from(begun.elapsed().as_micros()).unwrap();
    for stranded in 0..5 {
        let mut round = 0;
        while mappings(pid) == before {
            assert!(round < 2000, "it was never left in the stub, {stranded} times before");
            let mut dumper = dump();
            std::thread::sleep(Duration::from_micros(longest_us * (round % 50) / 50));
            dumper.kill().unwrap();
            dumper.wait().unwrap();
            round += 1;
        }
        assert!(dump().wait().unwrap().success());
        assert_eq!(other_mappings(pid, &before), None);
        let image = Image::open(File::open(&path).unwrap()).unwrap();
        let rip = image.all::<Thread>().next().unwrap().registers.rip;
        let found = u64::from_str_radix(place.trim().rsplit_once("0x").unwrap().1, 16).unwrap();
        // The call that it was in, kill(2), was over; or it stands before the call, which will be made again.
        assert!(found - rip <= 2, "it stood at {found:x}, and the image has {rip:x}");
    }
    fs::remove_file(&path).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGCONT).unwrap();
    assert_eq!(target.wait().unwrap().code(), Some(3));
}

/// What is not as it was with a task, if anything: nobody traces it, no thread of it was left stopped, and its mappings are
/// those. One that a signal has stopped may have to be led home, by the next dumper or by SIGCONT.
fn changed(pid: i32, mappings_before: &str) -> Option<String> {
    for tid in numbers(pid, "task") {
        let status = text(pid, &format!("task/{tid}/status"));
        if !status.contains("TracerPid:\t0\n") || status.contains("State:\tt") {
            return Some(format!("thread {tid} of {pid} is traced or stopped: {status}"));
        }
        if status.contains("State:\tT") {
            return None;
        }
    }
    other_mappings(pid, mappings_before)
}

fn other_mappings(pid: i32, mappings_before: &str) -> Option<String> {
    let now = mappings(pid);
    let other = now.lines().zip(mappings_before.lines()).find(|(now, before)| now != before);
    (now != mappings_before).then(|| format!("process {pid} has other mappings: {other:?}"))
}

#[test]
fn a_tree_with_ckpt_dump_in_it_is_refused() {
    let script = "\"$0\" --check $$; exit $?";
    let done = Command::new("sh").args(["-c", script, env!("CARGO_BIN_EXE_ckpt-dump")]).output().unwrap();
    let text = String::from_utf8(done.stderr).unwrap();
    assert_eq!(done.status.code(), Some(4), "{text}");
    assert!(text.contains("ckpt-dump itself is one of its descendants"), "{text}");
}
