//! What holds the tree together: one word, four homes.

use binfmt::note::kinds;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Words that lack a home, with the reason.
const HOMELESS: [(&str, &str, &str); 1] = [(
    "host",
    "loader/src/rebuild",
    "nothing of the machine is made again: the plan compares it with this one",
)];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn words() -> BTreeSet<String> {
    kinds().into_iter().map(|(_, word, _, _)| word.to_owned()).collect()
}

fn listed(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// The names of a folder's entries without their ends; modules that hold others together are no homes.
fn entries(folder: &str) -> BTreeSet<String> {
    let names =
        listed(&root().join(folder)).into_iter().filter_map(|path| Some(path.file_name()?.to_owned()));
    let names = names.map(|name| name.to_string_lossy().trim_end_matches(".rs").to_owned());
    names.filter(|name| name != "mod" && !name.ends_with(".h")).collect()
}

#[test]
fn every_word_has_its_four_homes_and_nothing_else_lives_there() {
    let mut wrong = Vec::new();
    for folder in ["binfmt/src/note", "dumper/src/collect", "loader/src/rebuild", "tests/cases"] {
        let found = entries(folder);
        for word in words().difference(&found) {
            if !HOMELESS.iter().any(|(whose, where_not, _)| whose == word && *where_not == folder) {
                wrong.push(format!("`{word}` has no home in {folder}"));
            }
        }
        for stranger in found.difference(&words()) {
            wrong.push(format!("{folder}/{stranger} is no word of the note table"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_word_has_a_case_that_resumes() {
    for word in words() {
        let cases = fs::read_dir(root().join("tests/cases").join(&word)).unwrap();
        let resumes = cases
            .map(|case| fs::read_to_string(case.unwrap().path()).unwrap())
            .any(|source| source.lines().any(|line| line == "//# expect: resumes"));
        assert!(resumes, "no case of `{word}` resumes");
    }
}

#[test]
fn unsafe_code_has_one_home_in_every_crate() {
    fn look(folder: &Path, found: &mut Vec<String>) {
        for path in listed(folder) {
            if path.is_dir() {
                look(&path, found);
            } else if fs::read_to_string(&path).is_ok_and(|text| text.contains("allow(unsafe_code")) {
                found.push(path.display().to_string());
            }
        }
    }
    for crate_name in ["binfmt", "dumper", "loader", "tests"] {
        let mut found = Vec::new();
        look(&root().join(crate_name).join("src"), &mut found);
        let homes = found.iter().filter(|path| !path.ends_with("/src/sys.rs") && !path.contains("/src/sys/"));
        assert_eq!(homes.collect::<Vec<_>>(), Vec::<&String>::new(), "unsafe code outside of sys");
    }
}
