//! Real programs, checkpointed at random moments and compared with an undisturbed run:
//! `cargo test --release -p ckpt-tests --test programs -- NAME`.
//!
//! Each of them is one test for each way in which it goes on. What they are given to do lies in `programs/`, and
//! `scripts/needs` what must be installed. `CKPT_SEED` chooses other moments.

use ckpt_tests::program::{Disturbed, Reference, Start, Way, undisturbed};
use ckpt_tests::tools::Tools;
use ckpt_tests::trial::{conclude, trial};
use ckpt_tests::{Stopped, machine, sys};
use libtest_mimic::{Arguments, Trial};
use std::error::Error;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What comes before a program can be started.
#[derive(Clone, Copy)]
enum Before {
    Nothing,
    /// A text of 100 MB is written.
    Text,
    /// A command, in the folder of the sources, makes it; `{bin}` is where to.
    Build(&'static [&'static str]),
}

/// A program and what is to be done to it. In its arguments `{source}` is where the sources are, `{bin}` where built
/// programs are, `{data}` where the text is.
struct Program {
    name: &'static str,
    before: Before,
    arguments: &'static [&'static str],
    input: Option<&'static str>,
    ways: &'static [Way],
}

/// One thread: it needs no process id of its own.
const SINGLE: &[Way] = &[Way::Running, Way::Killed, Way::User];
const THREADS: &[Way] = &[Way::Running, Way::Killed];
/// Many processes: they need their process ids, too.
const TREE: &[Way] = THREADS;

const PROGRAMS: &[Program] = &[
    program("tree_daemons", &["/usr/bin/python3", "{source}/daemons.py"], TREE),
    program("tree_ledger", &["/usr/bin/python3", "{source}/ledger.py"], TREE),
    program("tree_make", &["/usr/bin/make", "-s", "-j4", "-f", "{source}/project.mk"], TREE),
    program("tree_pipeline", &["/bin/bash", "{source}/pipeline.bash"], TREE),
    program("tree_pool", &["/usr/bin/python3", "{source}/pool.py"], TREE),
    program("tree_postgres", &["/bin/bash", "{source}/postgres.bash"], TREE),
    program("tree_prefork", &["/usr/bin/python3", "{source}/prefork.py"], TREE),
    program(
        "tree_script",
        &["/usr/bin/script", "-q", "-e", "-c", "/bin/bash {source}/terminal.bash", "/dev/null"],
        TREE,
    ),
    program("tree_tmux", &["/bin/bash", "{source}/tmux.bash"], TREE),
    program("tree_xargs", &["/bin/sh", "{source}/parallel.sh"], TREE),
    program("bash", &["/bin/bash", "{source}/traps.bash"], SINGLE),
    Program {
        before: Before::Build(&["/usr/bin/go", "build", "-o", "{bin}/goroutines", "goroutines.go"]),
        ..program("go", &["{bin}/goroutines"], THREADS)
    },
    Program {
        before: Before::Build(&["/usr/bin/go", "build", "-o", "{bin}/sleeps", "sleeps.go"]),
        ..program("go_timers", &["{bin}/sleeps"], THREADS)
    },
    Program {
        before: Before::Text,
        input: Some("{data}/text"),
        ..program("gzip", &["/bin/gzip", "-4"], SINGLE)
    },
    Program {
        before: Before::Build(&["/usr/bin/javac", "-d", "{bin}", "Threads.java"]),
        ..program("java", &["/usr/bin/java", "-cp", "{bin}", "Threads"], THREADS)
    },
    program("node", &["/usr/bin/node", "{source}/timers.js"], THREADS),
    program("perl", &["/usr/bin/perl", "{source}/words.pl"], SINGLE),
    program("python3", &["/usr/bin/python3", "{source}/numbers.py"], SINGLE),
    program("python3_threads", &["/usr/bin/python3", "{source}/threads.py"], THREADS),
    Program {
        before: Before::Build(&["rustc", "--edition", "2024", "-O", "-o", "{bin}/threads", "threads.rs"]),
        ..program("rust", &["{bin}/threads"], THREADS)
    },
    Program {
        input: Some("{source}/transaction.sql"),
        ..program("sqlite3", &["/usr/bin/sqlite3", "-batch", "accounts.db"], SINGLE)
    },
    program("tclsh", &["/usr/bin/tclsh", "{source}/events.tcl"], THREADS),
    Program {
        before: Before::Text,
        input: Some("{data}/text"),
        ..program("xz", &["/usr/bin/xz", "-T2", "-0", "-c"], THREADS)
    },
];

const fn program(name: &'static str, arguments: &'static [&'static str], ways: &'static [Way]) -> Program {
    Program { name, before: Before::Nothing, arguments, input: None, ways }
}

/// What all tests share.
struct Shared {
    tools: Tools,
    text: OnceLock<Result<(), String>>,
}

/// Folders where every user can read: the sources, what is built from them, the text.
const PLACES: [&str; 3] = ["source", "built", "data"];

impl Shared {
    fn gather() -> std::io::Result<Shared> {
        let tools = Tools::gather(&ckpt_tests::tools::built()?)?;
        let places = PLACES.map(|name| tools.program("..").join(name));
        for place in &places {
            fs::create_dir(place)?;
        }
        let [copies, ..] = places;
        for source in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("programs"))? {
            let source = source?;
            fs::copy(source.path(), copies.join(source.file_name()))?;
        }
        Ok(Shared { tools, text: OnceLock::new() })
    }
}

/// A program with what came of it undisturbed, which the first of its tests finds out.
struct Prepared {
    program: &'static Program,
    reference: OnceLock<Result<(Start, Reference), String>>,
    /// Held by the one of its tests that runs. Programs clean up after others of their kind that they find dead: a
    /// starting java removes the mapped /tmp/hsperfdata_USER/PID of one that was killed, which then cannot be resumed.
    turn: Mutex<()>,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    sys::leave_runner()?;
    let arguments = Arguments::from_args();
    let shared = if arguments.list { None } else { Some(Arc::new(Shared::gather()?)) };
    let prepare = |program| Arc::new(Prepared { program, reference: OnceLock::new(), turn: Mutex::new(()) });
    let prepared: Vec<_> = PROGRAMS.iter().map(prepare).collect();
    // Tests of one program wait for each other, so they should not stand side by side.
    let nth =
        |nth| prepared.iter().filter_map(move |prepared| Some((prepared, *prepared.program.ways.get(nth)?)));
    let trials = (0..SINGLE.len())
        .flat_map(nth)
        .map(|(prepared, way)| to_try(prepared, way, shared.as_ref()))
        .collect();
    let conclusion = libtest_mimic::run(&arguments, trials);
    Ok(conclude(&conclusion, shared.as_ref().map(|shared| &shared.tools)))
}

fn to_try(prepared: &Arc<Prepared>, way: Way, shared: Option<&Arc<Shared>>) -> Trial {
    let prepared = prepared.clone();
    let name = format!("{}::{}", prepared.program.name, way.name());
    trial(&name.clone(), shared.cloned(), move |shared| run(&prepared, &name, way, shared).map(Some))
}

fn run(prepared: &Prepared, name: &str, way: Way, shared: &Shared) -> Result<String, Stopped> {
    if way == Way::Killed && !machine::has_capability(machine::CHECKPOINT_RESTORE) {
        return Err(Stopped::Skipped("keeping a pid needs CAP_CHECKPOINT_RESTORE".to_owned()));
    }
    if let Some(missing) = missing(prepared.program) {
        return Err(Stopped::Skipped(format!(
            "{missing} is not installed; scripts/needs names what is needed"
        )));
    }
    let reference = prepared.reference.get_or_init(|| {
        prepare(prepared.program, shared).map_err(|error| match error {
            Stopped::Failed(text) | Stopped::Skipped(text) => text,
        })
    });
    let (start, reference) = reference.as_ref().map_err(|error| Stopped::Failed(error.clone()))?;
    let _turn = prepared.turn.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = shared.tools.folder(name)?;
    let told = Disturbed { name, start, way, reference, tools: &shared.tools, folder: &folder }.check()?;
    fs::remove_dir_all(folder)?;
    Ok(told)
}

/// The first program that is needed and is not there.
fn missing(program: &Program) -> Option<&'static str> {
    let build = if let Before::Build(command) = program.before { command } else { &[] };
    [build, program.arguments]
        .into_iter()
        .filter_map(|command| command.first().copied())
        .find(|path| path.starts_with('/') && !Path::new(path).exists())
}

/// Makes what the program needs, and runs it undisturbed.
fn prepare(program: &Program, shared: &Shared) -> Result<(Start, Reference), Stopped> {
    let [copies, bin, data] = PLACES.map(|name| shared.tools.program("..").join(name));
    let place = |text: &str| {
        let path = |path: &PathBuf| path.to_string_lossy().into_owned();
        text.replace("{source}", &path(&copies)).replace("{bin}", &path(&bin)).replace("{data}", &path(&data))
    };
    match program.before {
        Before::Nothing => {}
        Before::Text => {
            let write = || write_text(&data).map_err(|error| format!("cannot write the text: {error}"));
            shared.text.get_or_init(write).clone()?;
        }
        Before::Build(command) => {
            build(&command.iter().map(|word| place(word)).collect::<Vec<_>>(), &copies)?
        }
    }
    let arguments = program.arguments.iter().map(|argument| place(argument)).collect();
    let start = Start { arguments, input: program.input.map(|input| place(input).into()) };
    let folder = shared.tools.folder(&format!("{}::undisturbed", program.name))?;
    let reference = undisturbed(&start, &folder)?;
    fs::remove_dir_all(folder)?;
    Ok((start, reference))
}

fn build(command: &[String], folder: &Path) -> Result<(), Stopped> {
    let (program, arguments) = command.split_first().ok_or("no command builds it")?;
    let output = Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("GO111MODULE", "off")
        .env("GOCACHE", folder.join("go-cache"))
        .output()
        .map_err(|error| format!("cannot run {program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Stopped::Failed(format!("it does not build:\n{}", String::from_utf8_lossy(&output.stderr))))
}

/// 100 MB of lines that repeat themselves about as much as a log does.
fn write_text(folder: &Path) -> std::io::Result<()> {
    const WORDS: [&str; 16] = [
        "accepted", "request", "from", "client", "in", "session", "after", "timeout", "closed", "by", "peer",
        "retry", "with", "token", "queue", "depth",
    ];
    const BYTES: usize = 100 << 20;
    let mut out = BufWriter::new(File::create(folder.join("text"))?);
    let (mut state, mut written, mut line) = (1_u64, 0, String::new());
    while written < BYTES {
        line.clear();
        for _ in 0..10 {
            // A linear congruential generator (MMIX).
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let word = WORDS.get((state >> 60) as usize).copied().unwrap_or_default();
            let _ =
                if state >> 58 & 3 == 0 { write!(line, "{} ", state >> 44) } else { write!(line, "{word} ") };
        }
        line.push('\n');
        out.write_all(line.as_bytes())?;
        written += line.len();
    }
    out.flush()
}
