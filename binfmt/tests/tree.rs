//! Images of several tasks: what makes them fit together, and what the commands say of them.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use binfmt::address::PAGE_BYTES;
use binfmt::consistency;
use binfmt::image::{Owner, ROOT_MEMORY, Segment};
use binfmt::note::mapping::Memory;
use binfmt::note::task::{RunState, Task};
use binfmt::note::thread::Thread;
use binfmt::note::{FromNote, Note};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;
use support::{ADDRESS, Parts, open, page, sample};

/// The sample with a child, whose one stored page is that of its parent and whose other one is its own; a zombie; and a
/// grandchild that shares the memory of its parent and has a name to steer terminals with.
fn family() -> Parts {
    let mut parts = sample();
    let root = parts.notes.iter().find_map(Task::from_note).unwrap().clone();
    let memory = parts.notes.iter().find_map(Memory::from_note).unwrap().clone();
    let child = Task { pid: 102, parent: 100, memory: 2, has_execed: false, ..root.clone() };
    let zombie = Task {
        pid: 103,
        parent: 100,
        state: RunState::Zombie,
        name: "gone".into(),
        wait_status: 0x300,
        ..Task::default()
    };
    let grandchild = Task { pid: 104, parent: 102, name: "a\x1b[2Jb".into(), ..child.clone() };
    let threads = [102, 104].map(|pid| Thread { pid, tid: pid, ..Thread::default() });
    parts.notes.extend([child, zombie, grandchild].map(Note::from));
    parts.notes.extend(threads.map(Note::from));
    parts.notes.push(Memory { id: 2, ..memory }.into());
    let mine = Segment { owner: Owner::Memory(2), ..parts.segments[0] };
    parts.segments.extend([mine, Segment { start: mine.start + PAGE_BYTES, ..mine }]);
    parts.placed_as = vec![None, None, None, Some(0), None];
    parts.contents.extend([parts.contents[0].clone(), page(7)]);
    parts
}

fn wrong(parts: &Parts) -> Vec<String> {
    consistency::check(&open(&parts.bytes()).unwrap())
}

fn changed(change: impl FnOnce(&mut Task), pid: u32) -> Vec<String> {
    let mut parts = family();
    let tasks = parts.notes.iter_mut().filter_map(|note| match note {
        Note::Task(task) => Some(task),
        _ => None,
    });
    change(tasks.into_iter().find(|task| task.pid == pid).unwrap());
    wrong(&parts)
}

#[test]
fn a_family_fits_together() {
    let parts = family();
    let image = open(&parts.bytes()).unwrap();
    assert_eq!(consistency::check(&image), Vec::<String>::new());
    assert!(image.check_segments(NonZeroUsize::MIN).is_empty());
    assert_eq!(image.stored_by(), [0, 1, 2, 0, 4]);
    assert_eq!(image.segments[3].1, image.segments[0].1, "stored once");
    assert_eq!(image.stored_bytes(), 3 * PAGE_BYTES + 5);
}

#[test]
fn a_digest_of_a_shared_page_is_checked_for_each() {
    let mut parts = family();
    // The digest that is written is that of other bytes.
    parts.contents[3] = page(9);
    let image = open(&parts.bytes()).unwrap();
    let found = image.check_segments(NonZeroUsize::MIN);
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn what_is_no_tree_is_told() {
    let says = |lines: Vec<String>, what: &str| {
        assert!(lines.iter().any(|line| line.contains(what)), "{what}: {lines:?}")
    };
    says(changed(|task| task.parent = 104, 102), "task 102 descends from itself");
    says(changed(|task| task.parent = 103, 103), "task 103 descends from itself");
    says(changed(|task| task.parent = 77, 102), "task 102 refers to task 77, which is not there");
    says(changed(|task| task.memory = 2, 100), "the first task is not the root of the tree");
    says(changed(|task| task.memory = 3, 102), "task 102 refers to memory 3, which is not there");
    says(changed(|task| task.state = RunState::Zombie, 104), "task 104 has ended and has threads");
    let mut parts = family();
    parts.notes.retain(|note| !matches!(note, Note::Thread(thread) if thread.tid == 104));
    says(wrong(&parts), "task 104 has no main thread");
}

#[test]
fn bytes_are_shared_whole_or_not_at_all() {
    let mut parts = family();
    parts.segments[4].len_bytes = 2 * PAGE_BYTES;
    parts.contents[4] = [page(7), page(8)].concat();
    let layout = parts.layout();
    // The child's first page is put where the second of its other segment is.
    let offset = layout.segments[4].1 + PAGE_BYTES;
    let header = 64 + 4 * 56 + 8;
    let forged = support::forge(&parts.bytes(), header, &offset.to_le_bytes());
    let lines = consistency::check(&open(&forged).unwrap());
    assert!(lines.iter().any(|line| line.contains("are partly those of two segments")), "{lines:?}");
    // Those of another address.
    let forged = support::forge(&parts.bytes(), header, &layout.segments[1].1.to_le_bytes());
    let lines = consistency::check(&open(&forged).unwrap());
    assert!(lines.iter().any(|line| line.contains("are partly those of two segments")), "{lines:?}");
}

fn told(verb: &str, parts: &Parts, name: &str) -> String {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}.ckpt", std::process::id()));
    std::fs::write(&path, parts.bytes()).unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_ckpt")).arg(verb).arg(&path).output().unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

#[test]
fn the_tree_is_drawn() {
    let drawn = told("tree", &family(), "drawn");
    let expected = "    PID SESSION   GROUP THREADS     MEMORY STATE    NAME
    100      90     100       2    4.0 KiB running  sample
    102      90     100       1    8.0 KiB running  ├─sample
    104      90     100       1    8.0 KiB running  │ └─a\\u{1b}[2Jb
    103       0       0       -          - ended    └─gone
";
    assert_eq!(drawn, expected);
    assert_eq!(told("tree", &sample(), "alone").lines().count(), 2);
}

#[test]
fn what_is_no_tree_is_drawn_all_the_same() {
    let mut parts = family();
    for note in &mut parts.notes {
        if let Note::Task(task) = note {
            task.parent = if task.pid == 102 { 104 } else { task.parent.max(102) };
        }
    }
    let drawn = told("tree", &parts, "rings");
    for pid in [100, 102, 103, 104] {
        assert!(drawn.contains(&format!("\n    {pid} ")), "{drawn}");
    }
    assert!(drawn.lines().count() <= 8, "{drawn}");
}

#[test]
fn info_names_the_others_and_counts_shared_bytes_once() {
    let info = told("info", &family(), "info");
    for part in
        ["and          3 other processes", "    103 gone, ended", "stored       12.0 KiB: anonymous 8.0 KiB"]
    {
        assert!(info.contains(part), "{part}: {info}");
    }
    assert!(told("verify", &family(), "verify").contains("12.0 KiB in 5 segments"));
    assert_eq!(ROOT_MEMORY, 1);
    assert_eq!(ADDRESS % PAGE_BYTES, 0);
}
