//! A real program: run undisturbed, then checkpointed at random moments, and the results compared byte for byte.
//!
//! The result of a run is how it ended and every file that it left in its folder, its standard output among them.

mod run;

use crate::moments::Moments;
use crate::tools::{Tools, User};
use crate::{Outcome, Stopped};
use run::{Checkpoint, Run};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

/// How many checkpoints are made of each program in each way, in as many runs as that takes.
const CHECKPOINTS: usize = 5;
/// How many runs there may be.
const RUNS: usize = 12;
/// The mean pause before a checkpoint is a sixth of what the program takes, so that most runs are long enough for all.
const LONGEST_PAUSE: u32 = 3;

/// What becomes of a program at each checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// It is left running.
    Running,
    /// It is killed, and goes on from its image with its old process id, under a supervisor.
    Killed,
    /// Nobody in particular runs, checkpoints, kills and resumes it; each time it gets a new process id.
    User,
    /// The checkpoint is refused with this text, and the program runs on.
    Refused(&'static str),
}

impl Way {
    /// Its name in names of tests.
    pub fn name(self) -> &'static str {
        match self {
            Way::Running => "running",
            Way::Killed => "killed",
            Way::User => "user",
            Way::Refused(_) => "refused",
        }
    }

    fn user(self) -> User {
        if self == Way::User { User::Nobody } else { User::Own }
    }
}

/// How a program is started.
#[derive(Clone, Debug)]
pub struct Start {
    /// The program and its arguments.
    pub arguments: Vec<String>,
    /// What it reads as its standard input.
    pub input: Option<PathBuf>,
}

/// How a run ended, and the content of every file that it left.
#[derive(Debug, PartialEq, Eq)]
pub struct Left {
    status: ExitStatus,
    files: BTreeMap<String, Vec<u8>>,
}

/// What came out of an undisturbed run.
#[derive(Debug)]
pub struct Reference {
    left: Left,
    took: Duration,
}

/// Runs a program undisturbed. It must end well and leave something.
pub fn undisturbed(start: &Start, folder: &Path) -> Outcome<Reference> {
    let run = Run::start(start, folder, User::Own)?;
    let (status, took) = run.finish()?;
    let left = Left::collect(status, folder)?;
    if !status.success() || left.files.values().all(Vec::is_empty) {
        return Err(Stopped::Failed(format!("undisturbed, it leaves nothing: {status}{}", left.said())));
    }
    Ok(Reference { left, took })
}

/// One program in one way.
#[derive(Debug)]
pub struct Disturbed<'a> {
    /// Name of the test, from which the moments are drawn.
    pub name: &'a str,
    /// How it starts.
    pub start: &'a Start,
    /// What is done to it.
    pub way: Way,
    /// What must come of it.
    pub reference: &'a Reference,
    /// The programs under test.
    pub tools: &'a Tools,
    /// A folder of its own.
    pub folder: &'a Path,
}

impl Disturbed<'_> {
    /// Runs it until enough checkpoints were made, and says when that was.
    pub fn check(&self) -> Outcome<String> {
        let mut moments = Moments::new(self.name);
        let mut made = Vec::new();
        for number in 1..=RUNS {
            let told = |made: &[String]| {
                let pauses = made.join(", ");
                format!("seed {:#x}: run {number}, checkpoints after {pauses} ms", moments.seed)
            };
            let mut drawn = moments.clone();
            let outcome = self.one_run(number, &mut drawn, &mut made);
            outcome.map_err(|stopped| match stopped {
                Stopped::Failed(text) => Stopped::Failed(format!("{text}\n  {}", told(&made))),
                skipped => skipped,
            })?;
            if made.len() >= CHECKPOINTS {
                return Ok(told(&made));
            }
            moments = drawn;
        }
        Err(Stopped::Failed(format!("only {} checkpoints in {RUNS} runs: {made:?}", made.len())))
    }

    fn one_run(&self, number: usize, moments: &mut Moments, made: &mut Vec<String>) -> Outcome<()> {
        let folder = self.tools.subfolder(self.folder, &number.to_string())?;
        let mut run = Run::start(self.start, &folder, self.way.user())?;
        if matches!(self.way, Way::Refused(_)) {
            run.wait_for_report()?;
        }
        while made.len() < CHECKPOINTS {
            let pause = moments.below(self.reference.took / LONGEST_PAUSE);
            made.push(format!("{:.1}", pause.as_secs_f64() * 1e3));
            match run.checkpoint(pause, self.way, self.tools)? {
                Checkpoint::Made => {}
                Checkpoint::Late => {
                    made.pop();
                    break;
                }
            }
        }
        let (status, _) = run.finish()?;
        let left = Left::collect(status, &folder)?;
        left.compare(&self.reference.left)?;
        fs::remove_dir_all(folder)?;
        Ok(())
    }
}

impl Left {
    fn collect(status: ExitStatus, folder: &Path) -> Outcome<Left> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(run::workplace(folder))? {
            let entry = entry?;
            files.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
        }
        Ok(Left { status, files })
    }

    fn compare(&self, reference: &Left) -> Outcome<()> {
        let mut differences = Vec::new();
        if self.status != reference.status {
            differences.push(format!("it ended with {}, not {}", self.status, reference.status));
        }
        for (name, is) in &self.files {
            match reference.files.get(name) {
                None => differences.push(format!("{name} should not be there")),
                Some(should) if should == is => {}
                Some(should) => {
                    let at = should.iter().zip(is).take_while(|(one, two)| one == two).count();
                    let lengths = (is.len(), should.len());
                    differences
                        .push(format!("{name} differs from byte {at} on; lengths (is, was) {lengths:?}"));
                }
            }
        }
        let gone = reference.files.keys().filter(|name| !self.files.contains_key(*name));
        differences.extend(gone.map(|name| format!("{name} is missing")));
        if differences.is_empty() {
            return Ok(());
        }
        Err(Stopped::Failed(format!("{}{}", differences.join("\n  "), self.said())))
    }

    /// The end of what it printed as errors.
    fn said(&self) -> String {
        let text = self.files.get(run::ERRORS).map(|bytes| String::from_utf8_lossy(bytes));
        let lines: Vec<&str> = text.iter().flat_map(|text| text.lines().rev().take(12)).collect();
        lines.iter().rev().map(|line| format!("\n    {line}")).collect()
    }
}
