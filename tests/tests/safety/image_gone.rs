//! While a program is resumed its image is deleted, or another file takes its name: it runs whole all the same.

use crate::loader_killed::Saved;
use crate::{IMAGE, Place, Test, instants, random};
use ckpt_tests::aftermath::Left;
use ckpt_tests::flavour::is_taken;
use ckpt_tests::tools;
use ckpt_tests::{Outcome, Stopped};
use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("image_gone::deleted", |place| meanwhile(place, "deleted")),
    ("image_gone::replaced", |place| meanwhile(place, "replaced")),
];

const COPY: &str = "copy.ckpt";
const OTHER: &str = "other";

fn meanwhile(place: &Place<'_>, what: &str) -> Outcome<()> {
    let saved = Saved::make(place, &["many"])?;
    let loader = || {
        let mut command = Command::new(place.tools.program("ckpt-loader"));
        command.args([COPY, "--pid", "keep", "--detach"]).current_dir(&place.folder).stdin(Stdio::null());
        command.stdout(Stdio::null());
        Ok::<_, Stopped>(command.stderr(tools::log(&place.folder, "tool.err")?).spawn()?)
    };
    fs::copy(place.path(IMAGE), place.path(COPY))?;
    let begin = Instant::now();
    loader()?.wait()?;
    let duration_us = u64::try_from(begin.elapsed().as_micros())?;
    runs(place, &saved)?;
    for _ in 0..instants(30) {
        fs::copy(place.path(IMAGE), place.path(COPY))?;
        fs::write(place.path(OTHER), "another file")?;
        let mut child = loader()?;
        // Not before it has opened it.
        while !has_open(child.id(), COPY)? {}
        std::thread::sleep(Duration::from_micros(random(duration_us) as u64));
        match what {
            "deleted" => fs::remove_file(place.path(COPY))?,
            _ => fs::rename(place.path(OTHER), place.path(COPY))?,
        }
        let _ = child.wait();
        runs(place, &saved)?;
    }
    Ok(())
}

fn runs(place: &Place<'_>, saved: &Saved) -> Outcome<()> {
    let left = saved.left_beside(place, &[COPY, OTHER, "tool.err"])?;
    let said = fs::read_to_string(place.path("tool.err")).unwrap_or_default();
    match left {
        Left::Program(_) if said.is_empty() => Ok(()),
        // Its process id is somebody else's for a moment.
        Left::Nothing if is_taken(&said) => Ok(fs::remove_file(place.path("tool.err"))?),
        left => Err(Stopped::Failed(format!("{left:?}: {said}"))),
    }
}

/// Whether a process has a file of this name open, or has ended.
fn has_open(pid: u32, name: &str) -> Outcome<bool> {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Ok(true) };
    let links = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let mut names = links.filter_map(|link| Some(link.file_name()?.to_owned())).peekable();
    Ok(names.peek().is_none() || names.any(|found| found == name))
}
