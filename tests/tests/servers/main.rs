//! Real servers, which somebody asks before and after, and while they are saved:
//! `cargo test --release -p ckpt-tests --test servers -- NAME`.
//!
//! Each serves a file from a folder of its own at a port of its own, as the tree of processes that it is. `scripts/needs` names
//! what must be installed.

mod browser;
mod carried;
mod client;
mod kinds;
mod memory;
mod messages;
mod postgres;
mod redis;
mod server;
mod ssh;
mod web;

use ckpt_tests::tools::{self, Tools};
use ckpt_tests::trial::{conclude, trial};
use ckpt_tests::{Outcome, Stopped, aftermath, machine, sys};
use kinds::{KINDS, Kind, Test};
use libtest_mimic::Arguments;
use server::Server;
use std::error::Error;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> Result<ExitCode, Box<dyn Error>> {
    sys::leave_runner()?;
    let arguments = Arguments::from_args();
    // Daemons, that leave their parent, come to us.
    nix::sys::prctl::set_child_subreaper(true)?;
    let tools = match arguments.list {
        true => None,
        false => Some(Arc::new(Tools::gather(&tools::built()?)?)),
    };
    let mut trials = Vec::new();
    for (kind, (way, test)) in KINDS.iter().flat_map(|kind| kind.tests.iter().map(move |test| (kind, *test)))
    {
        let name = format!("{}::{way}", kind.name);
        let port = port(trials.len());
        trials.push(trial(&name.clone(), tools.clone(), move |tools| run(&name, kind, port, test, tools)));
    }
    trials.push(trial("ssh::session", tools.clone(), |tools| {
        match ssh::NEEDS.iter().find(|program| !Path::new(program).exists()) {
            Some(missing) => Err(not_installed(missing)),
            None => in_folder("ssh::session", tools, |folder| ssh::session(tools, folder)),
        }
    }));
    let port = port(trials.len());
    trials.push(trial("chromium::page", tools.clone(), move |tools| {
        match Path::new(browser::BROWSER).exists() {
            false => Err(not_installed(browser::BROWSER)),
            true => in_folder("chromium::page", tools, |folder| {
                let outcome = browser::page(tools, folder, port);
                aftermath::end_all_in(folder);
                outcome
            }),
        }
    }));
    let conclusion = libtest_mimic::run(&arguments, trials);
    Ok(conclude(&conclusion, tools.as_deref()))
}

/// A port that the kernel gives nobody by itself, and that nobody has.
fn port(nth: usize) -> u16 {
    let own = usize::try_from(std::process::id()).unwrap_or(0) * 64 + nth;
    let ports = (0..30_000).filter_map(|step| u16::try_from(2_000 + (own + step * 67) % 30_000).ok());
    let mut free = ports.filter(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    free.next().unwrap_or(2_000)
}

fn run(name: &str, kind: &'static Kind, port: u16, test: Test, tools: &Tools) -> Outcome<Option<String>> {
    match kind.missing() {
        Some(missing) => Err(not_installed(&missing)),
        None => in_folder(name, tools, |folder| test(&Server::start(kind, port, tools, folder.to_owned())?)),
    }
}

fn not_installed(program: &str) -> Stopped {
    Stopped::Skipped(format!("{program} is not installed; scripts/needs names what is needed"))
}

/// Runs a test in a folder of its own, which is left if it fails.
fn in_folder(name: &str, tools: &Tools, test: impl FnOnce(&Path) -> Outcome<()>) -> Outcome<Option<String>> {
    if !machine::has_capability(machine::CHECKPOINT_RESTORE) {
        return Err(Stopped::Skipped("keeping a pid needs CAP_CHECKPOINT_RESTORE".to_owned()));
    }
    let folder = tools.folder(name)?;
    test(&folder)?;
    fs::remove_dir_all(folder)?;
    Ok(None)
}
