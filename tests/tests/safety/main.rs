//! What never may happen to a target, to a host, or to a user, whatever is done to the dumper and the loader:
//! `cargo test -p ckpt-tests --test safety -- NAME`.
//!
//! `CKPT_SWEEP=10` tries ten times as many instants in every sweep.

mod bad_input;
mod calls_failed;
mod dumper_killed;
mod image_gone;
mod loader_killed;
mod output;
mod peers;

use ckpt_tests::tools::{self, Tools};
use ckpt_tests::trial::{conclude, trial};
use ckpt_tests::{Outcome, Stopped};
use libtest_mimic::Arguments;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;

/// Where a test runs, and with what.
struct Place<'a> {
    tools: &'a Tools,
    folder: PathBuf,
}

type Test = fn(&Place<'_>) -> Outcome<()>;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    ckpt_tests::sys::leave_runner()?;
    let arguments = Arguments::from_args();
    // What loses its parent comes to us, so that its end can be seen at once.
    nix::sys::prctl::set_child_subreaper(true)?;
    let tests: Vec<(&str, Test)> = [
        bad_input::TESTS,
        calls_failed::TESTS,
        dumper_killed::TESTS,
        image_gone::TESTS,
        loader_killed::TESTS,
        output::TESTS,
        peers::TESTS,
    ]
    .concat();
    let tools = match arguments.list {
        true => None,
        false => Some(Arc::new(Tools::gather(&tools::built()?)?)),
    };
    let trials = tests
        .into_iter()
        .map(|(name, test)| trial(name, tools.clone(), move |tools| run(name, test, tools).map(|()| None)));
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    Ok(conclude(&conclusion, tools.as_deref()))
}

fn run(name: &str, test: Test, tools: &Tools) -> Outcome<()> {
    let place = Place { tools, folder: tools.folder(name)? };
    test(&place)?;
    fs::remove_dir_all(place.folder)?;
    Ok(())
}

impl Place<'_> {
    /// A dumper of `pid` with these options.
    fn dumper(&self, pid: nix::unistd::Pid, options: &[&str]) -> Command {
        let mut command = Command::new(self.tools.program("ckpt-dump"));
        command.arg(pid.to_string()).args(options).current_dir(&self.folder);
        command
    }

    /// Everything in the folder, but for what is the runner's own.
    fn litter(&self, known: &[&str]) -> Outcome<Vec<String>> {
        const OWN: [&str; 8] = [
            "ready",
            "beats",
            "output",
            "traced.out",
            "traced.err",
            "result.original",
            "tool.out",
            "tool.err",
        ];
        let names =
            fs::read_dir(&self.folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
        let names: Vec<String> = names.collect::<std::io::Result<_>>()?;
        let own = |name: &String| OWN.contains(&name.as_str()) || known.contains(&name.as_str());
        Ok(names.into_iter().filter(|name| !own(name)).collect())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The image is whole: every digest is right.
    fn verify(&self, image: &Path) -> Outcome<()> {
        let output = Command::new(self.tools.program("ckpt")).arg("verify").arg(image).output()?;
        if output.status.success() {
            return Ok(());
        }
        Err(Stopped::Failed(format!("{}: {}", image.display(), String::from_utf8_lossy(&output.stderr))))
    }
}

/// The name of the image in the folder of a test.
const IMAGE: &str = "x.ckpt";

/// How many instants a sweep tries, where `usual` are enough for every day.
fn instants(usual: usize) -> usize {
    let times = std::env::var("CKPT_SWEEP").ok().and_then(|text| text.parse::<usize>().ok());
    usual * times.unwrap_or(1)
}

/// At most `wanted` of `0..count`, evenly, always with a first one that differs from sweep to sweep.
fn sampled(count: usize, wanted: usize) -> Vec<usize> {
    let wanted = wanted.clamp(1, count.max(1));
    let shift = random(u64::try_from(count / wanted).unwrap_or(0).max(1));
    (0..wanted).map(|index| (index * count / wanted + shift).min(count.saturating_sub(1))).collect()
}

/// A number below `end`.
fn random(end: u64) -> usize {
    use std::hash::{BuildHasher, Hasher};
    // Every RandomState has keys of its own.
    let number = std::collections::hash_map::RandomState::new().build_hasher().finish();
    usize::try_from(number % end.max(1)).unwrap_or(0)
}
