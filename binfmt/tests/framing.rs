//! The file as others see it: pipes, more program headers than fit in sixteen bits, readelf, gdb.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use binfmt::digest::digest;
use binfmt::image::{Image, Layout, Owner, ROOT_MEMORY, Segment};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{every_kind, open, sample};

#[test]
fn an_image_has_room_for_every_kind_of_note() {
    let mut parts = sample();
    parts.notes = every_kind();
    assert_eq!(open(&parts.bytes()).unwrap().notes, parts.notes);
}

/// Program headers are the segments and two more; from 65,535 on their number stands in a section header.
#[test]
fn there_may_be_more_segments_than_sixteen_bits_count() {
    for count in [65_532u64, 65_533, 65_534, 65_535, 70_000] {
        let one =
            |i| Segment { owner: Owner::Memory(ROOT_MEMORY), start: i * 8192, len_bytes: 4096, flags: 4 };
        let segments: Vec<Segment> = (1..=count).map(one).collect();
        let parts = sample();
        let layout = Layout::new(&parts.standard, &parts.notes, &segments).unwrap();
        let extended = count + 2 >= 0xffff;
        let field = |at: usize| u16::from_le_bytes(layout.head[at..at + 2].try_into().unwrap());
        let expected = if extended { 0xffff } else { u16::try_from(count + 2).unwrap() };
        assert_eq!((field(56), field(60)), (expected, u16::from(extended)), "e_phnum and e_shnum of {count}");
        // The pages stay holes.
        let file = support::file(&layout.head);
        let digests = vec![digest(&[0; 4096]); segments.len()];
        file.write_all_at(&layout.tail(&digests), layout.tail_offset).unwrap();
        let image = Image::open(file).unwrap();
        assert_eq!(image.segments, layout.segments);
        assert!(image.check_segments(NonZeroUsize::new(2).unwrap()).is_empty());
    }
}

fn written(name: &str, bytes: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

/// Runs a program that may not be installed; what it printed, all of it.
fn run(program: &str, arguments: &[&str], path: &Path) -> Option<String> {
    match Command::new(program).args(arguments).arg(path).output() {
        Ok(done) => {
            let text = [done.stdout, done.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
            assert!(done.status.success(), "{program}: {text:?}");
            Some(text.concat())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: {program} is not installed");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

#[test]
fn readelf_understands_it() {
    let path = written("readelf.ckpt", &sample().bytes());
    if let Some(text) = run("readelf", &["-aW"], &path) {
        assert!(text.contains("CORE (Core file)"), "{text}");
        assert!(text.contains("NT_PRSTATUS") && text.contains("NT_X86_XSTATE"), "{text}");
        assert!(text.contains("0x0000000000400000 0x0000000000000000 0x001000 0x001000 RW "), "{text}");
        let complaints: Vec<&str> = text.lines().filter(|line| line.contains("readelf:")).collect();
        assert_eq!(complaints, Vec::<&str>::new());
    }
    std::fs::remove_file(path).unwrap();
}

#[test]
fn gdb_opens_it_as_a_core_file() {
    let path = written("gdb.ckpt", &sample().bytes());
    let page = support::page(1);
    let expected = format!("0x400010:\t{:#04x}\t{:#04x}", page[16], page[17]);
    let commands = ["-nx", "-batch", "-ex", "info threads", "-ex", "x/2bx 0x400010", "-ex", "p $pc", "-c"];
    if let Some(text) = run("gdb", &commands, &path) {
        assert!(text.contains("./sample --of a program"), "{text}");
        assert!(text.contains("LWP 100") && text.contains("LWP 101"), "{text}");
        assert!(text.contains("0x0000000000400123") && text.contains("0x0000000000400124"), "{text}");
        assert!(text.contains(&expected), "{expected} in {text}");
    }
    std::fs::remove_file(path).unwrap();
}
