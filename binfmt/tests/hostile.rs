//! Images that lie: each is refused for the right reason, at the right place, and nothing panics.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use binfmt::image::{Image, ImageError};
use std::num::NonZeroUsize;
use std::os::unix::fs::FileExt;
use std::process::Command;
use support::{forge, open, refusal, sample, seal_offset, word};

const PROGRAM_HEADER_BYTES: usize = 56;

/// Where field `field` of program header `index` stands.
fn entry(index: usize, field: usize) -> usize {
    64 + index * PROGRAM_HEADER_BYTES + field
}

const TYPE: usize = 0;
const FLAGS: usize = 4;
const OFFSET: usize = 8;
const ADDRESS: usize = 16;
const OWNER: usize = 24;
const STORED: usize = 32;
const MEMORY: usize = 40;
const ALIGN: usize = 48;

#[test]
fn the_sample_is_sound() {
    let image = open(&sample().bytes()).unwrap();
    assert_eq!(binfmt::consistency::check(&image), Vec::<String>::new());
    assert!(image.check_segments(NonZeroUsize::MIN).is_empty());
}

#[test]
fn other_files_are_told_for_what_they_are() {
    let whole = sample().bytes();
    let changed = |at: usize, new: &[u8]| {
        let mut bytes = whole.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        refusal(&bytes)
    };
    assert_eq!(refusal(b""), "it is not a checkpoint: it is empty");
    assert_eq!(refusal(b"\x7fELF"), "it is not a checkpoint: it is shorter than an ELF header");
    assert_eq!(refusal(&[b'#'; 64]), "it is not a checkpoint: it is not an ELF file");
    assert_eq!(changed(9, &[0; 5]), "it is not a checkpoint: it is an ordinary core file");
    let program = std::fs::read("/proc/self/exe").unwrap();
    assert_eq!(refusal(&program), "it is not a checkpoint: it is another kind of ELF file");
    let other = "it was made on another architecture (ELF machine 183); this program knows x86-64 (62)";
    assert_eq!(changed(18, &[183]), other);
    assert!(changed(4, &[1]).starts_with("it was made on another architecture"));
    assert_eq!(changed(13, &[2]), "its format is version 2 and this program knows 1");
    assert_eq!(changed(13, &[0]), "its format is version 0 and this program knows 1");
    assert_eq!(changed(16, &[2]), "it is damaged at byte 16: its ELF type is not ET_CORE");
}

#[test]
fn every_field_of_the_elf_header_is_judged_or_sealed() {
    let whole = sample().bytes();
    let seal = seal_offset(&whole);
    let cases: [(usize, &[u8], &str); 8] = [
        (32, &[0; 8], "byte 32: its program headers are said to be at 0x0"),
        (32, &[0xff; 8], "byte 32: its program headers are said to be at 0xffffffffffffffff"),
        (32, &whole.len().to_le_bytes(), "it is cut short"),
        (54, &[57, 0], "byte 54: its program headers have another size"),
        (56, &[0, 0], "byte 56: it has fewer than two program headers"),
        (56, &[1, 0], "byte 56: it has fewer than two program headers"),
        (56, &[0xff, 0xff], "byte 40: the section header that counts its program headers is not"),
        (56, &[0xfe, 0xff], "it is cut short"),
    ];
    for (at, new, expected) in cases {
        let text = refusal(&forge(&whole, at, new));
        assert!(text.contains(expected), "{new:?} at {at}: {text}");
    }
    let sealed = format!("byte {seal}: the first {seal} bytes are not what was written");
    for at in [7, 8, 14, 15, 20, 24, 40, 48, 52, 58, 60, 62] {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        assert!(refusal(&bytes).contains(&sealed), "a bit at {at}");
    }
}

#[test]
fn every_field_of_every_program_header_is_judged() {
    let whole = sample().bytes();
    let (first, memory, object, last) = (0, 1, 2, 4);
    let start = word(&whole, entry(memory, OFFSET));
    let numbers: [(usize, usize, u64, &str); 30] = [
        (first, OFFSET, 0, "is not that of the metadata"),
        (first, OFFSET, u64::MAX, "is not that of the metadata"),
        (first, STORED, u64::MAX, "is not that of the metadata"),
        (first, STORED, 5 << 30, "is not that of the metadata"),
        (memory, OFFSET, 0, "does not lie on pages between metadata and digests"),
        (memory, OFFSET, start + 1, "does not lie on pages"),
        (memory, OFFSET, u64::MAX - 4095, "does not lie on pages"),
        (memory, ADDRESS, 0x40_0001, "no task can have 0x1000 bytes at 0x400001"),
        (memory, ADDRESS, 0x7fff_ffff_f000, "no task can have"),
        (memory, ADDRESS, 0xffff_ffff_ff60_0000, "no task can have"),
        (memory, ADDRESS, !4095, "no task can have"),
        (memory, OWNER, 1, "a segment cannot have the owner 0x1"),
        (memory, OWNER, u64::MAX, "a segment cannot have the owner"),
        (memory, STORED, 0, "has two lengths or none"),
        (memory, STORED, 2048, "has two lengths or none"),
        (memory, STORED, u64::MAX, "does not lie on pages"),
        (memory, MEMORY, 8192, "has two lengths or none"),
        (memory, MEMORY, 0, "has two lengths or none"),
        (memory, ALIGN, 1, "unknown flags or another alignment"),
        (object, OFFSET, 0, "does not lie on pages between metadata and digests"),
        (object, ADDRESS, u64::MAX, "no task can have"),
        (object, ADDRESS, i64::MAX as u64, "no task can have"),
        (object, OWNER, 0, "a segment cannot have the owner 0x0"),
        (object, OWNER, 1 << 32, "a segment cannot have the owner 0x100000000"),
        (object, MEMORY, 1, "has two lengths or none"),
        (last, OFFSET, u64::MAX, "is not that of the digests"),
        (last, OFFSET, 64, "the digests are not as many as the segments"),
        (last, STORED, 0, "the digests are not as many as the segments"),
        (last, STORED, 1 << 40, "the digests are not as many as the segments"),
        (last, OFFSET, i64::MAX as u64, "is not that of the digests"),
    ];
    for (index, field, value, expected) in numbers {
        let text = refusal(&forge(&whole, entry(index, field), &value.to_le_bytes()));
        let place = format!("damaged at byte {}: ", entry(index, 0));
        assert!(text.contains(expected) && text.contains(&place), "{index}.{field} {value:#x}: {text}");
    }
    let words: [(usize, usize, u32, &str); 6] = [
        (first, TYPE, 1, "is not that of the metadata"),
        (memory, TYPE, 4, "a segment has the unknown type 0x4"),
        (memory, TYPE, 0x6043_4b01, "a segment cannot have the owner 0x0"),
        (memory, FLAGS, 8, "unknown flags or another alignment"),
        (object, TYPE, 1, "a segment cannot have the owner 0x5"),
        (last, TYPE, 1, "is not that of the digests"),
    ];
    for (index, field, value, expected) in words {
        let text = refusal(&forge(&whole, entry(index, field), &value.to_le_bytes()));
        assert!(text.contains(expected), "{index}.{field} {value:#x}: {text}");
    }
}

/// `p_vaddr`, `p_memsz` and the like of the two program headers of notes say nothing; but they are sealed.
#[test]
fn program_headers_that_lie_behind_the_seal_are_not_believed() {
    let whole = sample().bytes();
    let table = whole[64..64 + 5 * PROGRAM_HEADER_BYTES].to_vec();
    let mut bytes = whole.clone();
    bytes.extend(table);
    let text = refusal(&forge(&bytes, 32, &whole.len().to_le_bytes()));
    assert!(text.contains("the first program header is not that of the metadata"), "{text}");
}

#[test]
fn no_byte_is_stored_twice() {
    let mut parts = sample();
    parts.segments[1] = parts.segments[0];
    let text = refusal(&parts.bytes());
    assert_eq!(text, "it is damaged at byte 176: a segment holds bytes that another one holds too");
}

#[test]
fn what_follows_the_end_is_refused() {
    let mut bytes = sample().bytes();
    let end = bytes.len();
    bytes.extend([0; 3]);
    assert_eq!(refusal(&bytes), format!("it is damaged at byte {end}: 3 bytes follow its end"));
}

#[test]
fn a_file_that_is_cut_short_is_told_as_such() {
    let whole = sample().bytes();
    let notes = note_offsets(&whole);
    let pieces = (0..whole.len()).step_by(512).chain(notes).chain([whole.len() - 1]);
    for len in pieces.filter(|len| *len >= 64) {
        match open(&whole[..len]) {
            Err(ImageError::Truncated { has, needs }) => {
                assert_eq!(has, len as u64);
                // Before the program headers are whole, the file tells only how long they are.
                let known = if len < 344 { 344 } else { whole.len() as u64 };
                assert_eq!(needs, known, "cut at {len}");
            }
            other => panic!("cut at {len}: {other:?}"),
        }
    }
}

/// Where each note of the metadata begins.
fn note_offsets(bytes: &[u8]) -> Vec<usize> {
    let mut at = 64 + 5 * PROGRAM_HEADER_BYTES;
    let end = seal_offset(bytes) + support::SEAL_BYTES;
    let mut found = Vec::new();
    while at < end {
        found.push(at);
        let len = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
        at += 12 + len(at).next_multiple_of(4) + len(at + 4).next_multiple_of(4);
    }
    found
}

#[test]
fn every_note_that_lies_about_its_size_is_refused() {
    let whole = sample().bytes();
    for at in note_offsets(&whole) {
        if at >= seal_offset(&whole) {
            continue;
        }
        for field in [at, at + 4] {
            for size in [0u32, 1, 7, 1 << 20, u32::MAX - 3, u32::MAX] {
                let text = refusal(&forge(&whole, field, &size.to_le_bytes()));
                let offset: Option<usize> = text
                    .strip_prefix("it is damaged at byte ")
                    .or_else(|| text.rsplit_once("at byte ").map(|split| split.1))
                    .and_then(|rest| rest.split([':', ';']).next())
                    .and_then(|digits| digits.parse().ok());
                assert!(offset.is_some_and(|offset| offset >= at), "{size} at {field}: {text}");
            }
        }
    }
}

#[test]
fn notes_of_unknown_types_are_refused_unless_they_may_be_skipped() {
    let whole = sample().bytes();
    let ours = |at: &usize| whole[at + 12..at + 16] == *b"CKPT";
    let at = note_offsets(&whole).into_iter().find(ours).unwrap();
    let text = refusal(&forge(&whole, at + 8, &0x7777u32.to_le_bytes()));
    assert_eq!(
        text,
        format!("it holds a note of the unknown type 0x7777 at byte {at}; a newer ckpt wrote it")
    );
    let skipped = open(&forge(&whole, at + 8, &0x8000_7777u32.to_le_bytes())).unwrap();
    assert_eq!(skipped.notes.len(), sample().notes.len() - 1);
}

#[test]
fn every_flipped_bit_of_the_metadata_is_found() {
    let whole = sample().bytes();
    let metadata_end = seal_offset(&whole) + support::SEAL_BYTES;
    let tail = usize::try_from(word(&whole, entry(4, OFFSET))).unwrap();
    let file = support::file(&whole);
    for at in (0..metadata_end).chain(tail..whole.len()) {
        for bit in 0..8 {
            file.write_all_at(&[whole[at] ^ 1 << bit], at as u64).unwrap();
            let image = Image::open(file.try_clone().unwrap());
            let found = image.and_then(|image| image.digests().map(|_| ()));
            assert!(found.is_err(), "bit {bit} of byte {at}");
        }
        file.write_all_at(&whole[at..=at], at as u64).unwrap();
    }
    assert!(Image::open(file).is_ok(), "as it was");
}

#[test]
fn a_flipped_byte_of_a_segment_is_found_where_it_is() {
    let whole = sample().bytes();
    let expected = ["memory 400000-401000", "4096 bytes of object 5 at 0x1000", "5 bytes of object 6 at 0x0"];
    for (index, expected) in expected.iter().enumerate() {
        let start = usize::try_from(word(&whole, entry(index + 1, OFFSET))).unwrap();
        for at in [start, start + 4] {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            let image = open(&bytes).unwrap();
            let wrong: Vec<String> =
                image.check_segments(NonZeroUsize::new(3).unwrap()).iter().map(ToString::to_string).collect();
            let text = format!("it is damaged at byte {start}: the {expected} is not what was written there");
            assert_eq!(wrong, [text]);
            let digests = image.digests().unwrap();
            assert!(image.check_segment(index, digests[index]).is_err());
        }
    }
}

/// Runs `ckpt VERB FILE` with no more than 256 MiB of address space; what it says on stderr.
fn ckpt(verb: &str, path: &std::path::Path, status: i32) -> String {
    let script = "ulimit -v 262144 && exec \"$0\" \"$@\"";
    let mut command = Command::new("sh");
    let done = command.args(["-c", script, env!("CARGO_BIN_EXE_ckpt"), verb]).arg(path).output().unwrap();
    let text = String::from_utf8_lossy(&done.stderr).into_owned();
    assert_eq!(done.status.code(), Some(status), "{verb}: {text}");
    text
}

#[test]
fn no_number_in_a_file_makes_us_allocate() {
    let whole = sample().bytes();
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("sparse.ckpt");
    // A terabyte of holes: whatever is claimed is inside of the file.
    let write = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1 << 40).unwrap();
    };
    let claims: [(usize, u64); 6] = [
        (entry(0, STORED), 3 << 30),
        (entry(0, STORED), 1 << 39),
        (entry(0, OFFSET), 3 << 30),
        (entry(4, STORED), 1 << 39),
        (entry(4, OFFSET), 1 << 39),
        (entry(1, STORED), 1 << 39),
    ];
    for (at, value) in claims {
        let mut forged = forge(&whole, at, &value.to_le_bytes());
        write(&forged);
        ckpt("verify", &path, 1);
        // Headers that count four thousand million program headers.
        forged.splice(64..64, [0; 64]);
        forged[56..58].copy_from_slice(&[0xff; 2]);
        forged[40] = 64;
        forged[108..112].copy_from_slice(&[0xff; 4]);
        write(&forged);
        let text = ckpt("info", &path, 1);
        assert!(text.contains("damaged at byte 32"), "{text}");
    }
    std::fs::remove_file(&path).unwrap();
}

/// What passes as an image, and says nonsense, is shown or refused; nothing ends in a panic (101) or by a signal.
#[test]
fn no_forgery_makes_a_command_panic() {
    let whole = sample().bytes();
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("forged.ckpt");
    let seal = seal_offset(&whole);
    for (round, at) in (344..seal).step_by(11).enumerate() {
        let new: &[u8] = [&[0xff][..], &[0x7f], &[0], &[0xff; 4], &[0xff; 8]][round % 5];
        if at + new.len() > seal {
            continue;
        }
        std::fs::write(&path, forge(&whole, at, new)).unwrap();
        for verb in ["info", "show", "verify"] {
            let done = Command::new(env!("CARGO_BIN_EXE_ckpt")).arg(verb).arg(&path).output().unwrap();
            assert!(matches!(done.status.code(), Some(0 | 1)), "{verb} with {new:?} at {at}: {done:?}");
        }
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn every_command_refuses_what_is_no_image() {
    let path = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("none.ckpt");
    std::fs::write(&path, b"#!/bin/sh\n").unwrap();
    for verb in ["info", "show", "verify"] {
        let text = ckpt(verb, &path, 1);
        assert!(text.contains("it is not a checkpoint: it is shorter than an ELF header"), "{text}");
    }
    std::fs::remove_file(&path).unwrap();
    assert!(ckpt("info", &path, 3).contains("No such file"));
}
