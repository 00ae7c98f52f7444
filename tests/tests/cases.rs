//! Every case under `cases/`, in every flavour that applies: `cargo test -p ckpt-tests --test cases -- NAME`.
//!
//! The programs under test are built first, in the same profile; `CKPT_BIN_DIR` names a folder that has them already.
//! What a failed test leaves behind stays in a folder that is named at the end.

use ckpt_tests::flavour::{Flavour, Trial};
use ckpt_tests::spec::{self, Expect, Spec};
use ckpt_tests::stage::{Stage, Terminal};
use ckpt_tests::tools::{self, Tools};
use ckpt_tests::trial::{conclude, trial};
use ckpt_tests::{Stopped, aftermath, guest, machine, sys};
use libtest_mimic::Arguments;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

/// A case, compiled when the first of its tests runs.
struct Case {
    source: PathBuf,
    name: String,
    spec: Spec,
    program: OnceLock<Result<PathBuf, String>>,
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    sys::leave_runner()?;
    let mut arguments = Arguments::from_args();
    // They wait more than they compute.
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(cores * 3);
    let cases = find(&Path::new(env!("CARGO_MANIFEST_DIR")).join("cases"))?;
    if arguments.list {
        let trials = cases.into_iter().flat_map(|case| trials(&Arc::new(case), None)).collect();
        return Ok(libtest_mimic::run(&arguments, trials).exit_code());
    }
    let tools = Arc::new(Tools::gather(&tools::built()?)?);
    let trials = cases.into_iter().flat_map(|case| trials(&Arc::new(case), Some(&tools))).collect();
    let pool = machine::HugePagePool::remember();
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(pool);
    Ok(conclude(&conclusion, Some(&tools)))
}

/// Every `<word>/<name>.c` under `root`.
fn find(root: &Path) -> Result<Vec<Case>, Box<dyn Error>> {
    let mut cases = Vec::new();
    for folder in fs::read_dir(root)? {
        let folder = folder?;
        if !folder.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(folder.path())? {
            let source = file?.path();
            if source.extension().is_none_or(|extension| extension != "c") {
                continue;
            }
            let word = folder.file_name().to_string_lossy().into_owned();
            let stem = source.file_stem().unwrap_or_default().to_string_lossy();
            let name = format!("{word}::{stem}");
            let spec = spec::parse(&fs::read_to_string(&source)?)
                .map_err(|error| format!("{}: {error}", source.display()))?;
            cases.push(Case { name, source, spec, program: OnceLock::new() });
        }
    }
    cases.sort_by(|one, two| one.name.cmp(&two.name));
    Ok(cases)
}

fn trials(case: &Arc<Case>, tools: Option<&Arc<Tools>>) -> Vec<libtest_mimic::Trial> {
    let flavours = match (&case.spec.expect, case.spec.flavours.as_slice()) {
        // Nothing becomes of it but the original.
        (Expect::Refused(_), []) => &[Flavour::Alone, Flavour::Running],
        (_, []) => Flavour::ALL.as_slice(),
        (_, chosen) => chosen,
    };
    let of = |flavour: &Flavour| {
        let (case, flavour) = (case.clone(), *flavour);
        let name = format!("{}::{}", case.name, flavour.name());
        trial(&name, tools.cloned(), move |tools| run(&case, flavour, tools).map(|()| None))
    };
    flavours.iter().map(of).collect()
}

fn run(case: &Case, flavour: Flavour, tools: &Tools) -> Result<(), Stopped> {
    if let Some(lack) = case.spec.needs.iter().find_map(machine::lacks) {
        return Err(Stopped::Skipped(lack));
    }
    let compile = || guest::compile(&case.source, tools).map_err(|error| format!("{error:?}"));
    let program =
        case.program.get_or_init(compile).as_ref().map_err(|error| Stopped::Failed(error.clone()))?;
    let folder = tools.folder(&format!("{}::{}", case.name, flavour.name()))?;
    let terminal = if case.spec.terminal { Some(Terminal::new()?) } else { None };
    let stage = Stage { folder: folder.clone(), user: flavour.user(), terminal };
    let outcome = Trial { spec: &case.spec, flavour, program, tools, stage }.run();
    aftermath::remove_ipc(&folder)?;
    if outcome.is_ok() {
        fs::remove_dir_all(folder)?;
    }
    outcome
}
