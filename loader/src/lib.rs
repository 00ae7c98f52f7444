//! The loader: what runs when a checkpoint is executed.
//!
//! The story, phase by phase, each a file:
//!
//! * [`cli`] understands the call, `binfmt::image` opens and checks the image;
//! * [`turn`] lets resumes of the same image begin one after the other;
//! * [`plan`] decides everything that can be decided beforehand: under which process id, where to stand, and what
//!   stands against it, all at once;
//! * [`shelf`] opens everything that tasks share;
//! * [`supervisor`] makes the process where the old id is kept, and stays as the job that the shell sees;
//! * [`apart`] lets who was started return where a new process becomes the program and is detached;
//! * [`aside`] starts the loader a second time in a hole of the address space;
//! * [`grow`] takes every process through its steps of the tree's skeleton ([`plan::skeleton`]): forks, execs, sessions;
//!   children of another thread than the main one are forked by that thread ([`lodger`]);
//! * [`assemble`] builds the task around it, one file in `rebuild` for each kind of kernel state;
//! * [`commit`] turns threads into programs and leaves Rust for good;
//! * [`namespace`] makes a world for those whose process ids cannot be had;
//! * [`keeper`] makes what no process owns, System V objects (see [`ipc`]), and removes it if the tree never lives;
//! * [`midwife`], outside of the tree, lets all threads go at once when the last trace of the loader is gone.

pub mod apart;
pub mod arena;
pub mod aside;
pub mod assemble;
pub mod cli;
pub mod commit;
pub mod control;
pub mod error;
pub mod fill;
pub mod frame;
pub mod grow;
pub mod index;
pub mod ipc;
pub mod keeper;
pub mod lodger;
pub mod midwife;
pub mod namespace;
pub mod plan;
pub mod rebuild;
pub mod shelf;
pub mod stage;
pub mod supervisor;
pub mod sys;
pub mod turn;
pub mod wish;
pub mod world;

use apart::Side;
use binfmt::image::Image;
use cli::{Call, PidChoice};
use error::{EXIT_CANNOT_RESUME, Error, Refusal, Result};
use plan::{Host, Plan};
use stage::{Identity, Point, Stage};
use std::io::Write;
use std::process::ExitCode;
use turn::Turn;
use wish::Wishes;

/// Everything the loader does, from its arguments to its exit status. A start that becomes the program never returns.
pub fn run(arguments: &[String]) -> ExitCode {
    match Stage::from_arguments(arguments) {
        Ok(None) => resume(arguments),
        Ok(Some(stage)) => stage_run(stage),
        Err(error) => told("ckpt-loader", &error),
    }
}

/// The first start: open, verify, plan, then make or become the process.
fn resume(arguments: &[String]) -> ExitCode {
    let call = match Call::from_arguments(arguments) {
        Ok(call) => call,
        Err(error) => return told("ckpt-loader", &error),
    };
    let name = call.name.clone();
    match resume_image(call) {
        Ok(status) => status,
        Err(error) => told(&name, &error),
    }
}

fn resume_image(call: Call) -> Result<ExitCode> {
    let mut image = Image::open(call.file)?;
    let misfits = binfmt::consistency::check(&image);
    if !misfits.is_empty() {
        let remedy = "no dumper writes this: `ckpt verify` tells all of it";
        let refusal = |reason| Refusal { reason, remedy: remedy.to_owned() };
        return Err(Error::Refused(misfits.into_iter().map(refusal).collect()));
    }
    Wishes::of(&call.options).apply(&mut image, false)?;
    let may_keep = matches!(call.options.pid, None | Some(PidChoice::Keep));
    let turn = if may_keep && !call.options.plan { Turn::wait(&image) } else { None };
    let host = Host::look(&image, &call.options)?;
    let plan = Plan::new(&image, &host, &call.options, call.by_handler)?;
    if call.options.plan {
        // A closed pipe is the reader's wish.
        let _ = std::io::stdout().write_all(plan.to_string().as_bytes());
        return Ok(ExitCode::SUCCESS);
    }
    let turn = turn.filter(|_| plan.identity == Identity::Keep);
    match plan.identity {
        Identity::Keep | Identity::Namespace => supervisor::resume(image, host, plan, &call.options, turn),
        Identity::Fresh if call.options.detach => match apart::fork()? {
            Side::Caller(status) => Ok(status),
            Side::Child(announcement) => {
                let stage =
                    midwife::helper::spawn_helper(&image, &host, &plan, &call.options, Some(announcement))?;
                supervisor::go_on(&stage, plan.skeleton.processes.get(stage.process))
            }
        },
        Identity::Fresh => {
            let stage = midwife::helper::spawn_helper(&image, &host, &plan, &call.options, None)?;
            match aside::start(&stage)? {}
        }
    }
}

/// A later start. What becomes the task never comes back here.
fn stage_run(stage: Stage) -> ExitCode {
    match stage.point {
        Point::Aside => {
            cli::close_second_image();
            let next = Stage { point: Point::Assemble, ..stage };
            let Err(error) = aside::start(&next);
            return told("ckpt", &error);
        }
        Point::Assemble => assemble::assemble(&stage),
    }
    ExitCode::from(EXIT_CANNOT_RESUME)
}

fn told(name: &str, error: &Error) -> ExitCode {
    if !matches!(error, Error::Told) {
        // Nobody may be there to read it.
        let _ = writeln!(std::io::stderr(), "{name}: {error}");
    }
    ExitCode::from(EXIT_CANNOT_RESUME)
}
