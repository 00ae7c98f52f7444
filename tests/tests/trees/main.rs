//! Trees of many tasks, for real: `cargo test -p ckpt-tests --test trees -- NAME`.
//!
//! `CKPT_SEED` chooses other random trees; `CKPT_SWEEP=10` tries ten times as many.

mod at_once;
mod detached;
mod grown;
mod killed;
mod random;
mod storm;
mod terminal;

use ckpt_tests::tools::{self, Tools};
use ckpt_tests::trial::{conclude, trial};
use ckpt_tests::{Outcome, Stopped, machine, sys};
use libtest_mimic::Arguments;
use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

/// Where a test runs, and with what.
struct Place<'a> {
    tools: &'a Tools,
    folder: PathBuf,
}

type Test = fn(&Place<'_>) -> Outcome<()>;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    sys::leave_runner()?;
    let arguments = Arguments::from_args();
    let tests: Vec<(&str, Test)> =
        [at_once::TESTS, detached::TESTS, random::TESTS, killed::TESTS, storm::TESTS, terminal::TESTS]
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
    if !machine::has_capability(machine::CHECKPOINT_RESTORE) {
        return Err(Stopped::Skipped("keeping a pid needs CAP_CHECKPOINT_RESTORE".to_owned()));
    }
    let place = Place { tools, folder: tools.folder(name)? };
    test(&place)?;
    fs::remove_dir_all(place.folder)?;
    Ok(())
}

/// How many there shall be, where `usual` are enough for every day.
fn times(usual: usize) -> usize {
    let times = std::env::var("CKPT_SWEEP").ok().and_then(|text| text.parse::<usize>().ok());
    usual * times.unwrap_or(1)
}
