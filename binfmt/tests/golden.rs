//! Images of every released version stay readable, and say what they said.
#![allow(missing_docs, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod support;

use binfmt::image::Image;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use support::{every_kind, sample};

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn json(path: &Path) -> String {
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_ckpt"))
        .args(["show", "--json"])
        .arg(path)
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
    String::from_utf8(done.stdout).unwrap()
}

/// `UPDATE=1 cargo test -p ckpt-binfmt --test golden` makes the image of version 1 anew, as long as no version was
/// released. After that, a change that this test finds is a change of the format: another version, with an image of its
/// own beside this one.
#[test]
fn version_1_says_what_it_said() {
    let (image, said) = (golden("version-1.ckpt"), golden("version-1.json"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&image, sample().bytes()).unwrap();
        std::fs::write(&said, json(&image)).unwrap();
    }
    let opened = Image::open(std::fs::File::open(&image).unwrap()).unwrap();
    assert_eq!(binfmt::consistency::check(&opened), Vec::<String>::new());
    assert!(opened.check_segments(NonZeroUsize::MIN).is_empty());
    assert!(
        json(&image) == std::fs::read_to_string(&said).unwrap(),
        "{} says something else",
        image.display()
    );
}

/// The same for every kind of note: the smallest that there is of each.
#[test]
fn every_kind_of_version_1_says_what_it_said() {
    let (image, said) = (golden("version-1-kinds.ckpt"), golden("version-1-kinds.json"));
    if std::env::var_os("UPDATE").is_some() {
        let mut parts = sample();
        (parts.notes, parts.standard) = (every_kind(), Vec::new());
        (parts.segments, parts.contents) = (Vec::new(), Vec::new());
        std::fs::write(&image, parts.bytes()).unwrap();
        std::fs::write(&said, json(&image)).unwrap();
    }
    assert!(Image::open(std::fs::File::open(&image).unwrap()).is_ok());
    assert!(
        json(&image) == std::fs::read_to_string(&said).unwrap(),
        "{} says something else",
        image.display()
    );
}
