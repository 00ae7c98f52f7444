//! A tree in which a thousand processes a second are made and end is saved whole, or it is said that it was not: it goes
//! on in either case, and so does its copy.

use crate::grown::IMAGE;
use crate::{Place, Test, times};
use ckpt_tests::guest::Guest;
use ckpt_tests::spec::State;
use ckpt_tests::stage::Stage;
use ckpt_tests::target::{Beats, Target};
use ckpt_tests::tools::{self, User};
use ckpt_tests::{Outcome, Stopped};
use nix::unistd::Pid;
use std::process::Command;

pub(crate) const TESTS: &[(&str, Test)] = &[("storm::saved_and_resumed", saved_and_resumed)];

fn saved_and_resumed(place: &Place<'_>) -> Outcome<()> {
    let stage = Stage { folder: place.folder.clone(), user: User::Own, terminal: None };
    let mut guest = Guest::start(&Target::compiled(place.tools, "storm.c")?, &[], &stage)?;
    let beats = Beats::read(&place.folder)?;
    let mut given_up = 0;
    for _ in 0..times(20) {
        given_up += usize::from(!dump(place, &guest, &["--timeout", "5"])?);
        goes_on(&guest, beats)?;
    }
    for _ in 0..times(10) {
        while !dump(place, &guest, &["--timeout", "5", "--kill"])? {
            goes_on(&guest, beats)?;
            given_up += 1;
        }
        let pid = guest.pid;
        guest.was_killed()?;
        guest = resume(place, &stage, pid)?;
        goes_on(&guest, beats)?;
    }
    println!("{given_up} dumps were given up");
    if given_up > times(3) {
        return Err(Stopped::Failed(format!("{given_up} dumps were given up")));
    }
    guest.go("resumed")
}

/// Whether it was saved, and not given up.
fn dump(place: &Place<'_>, guest: &Guest, options: &[&str]) -> Outcome<bool> {
    let mut command = Command::new(place.tools.program("ckpt-dump"));
    command.arg(guest.pid.to_string()).args(["-o", IMAGE]).args(options);
    let finished = tools::run(&mut command, &place.folder, "dump", User::Own)?;
    match finished.status.success() {
        true => Ok(true),
        false if finished.error.contains("within 5 s") => Ok(false),
        false => Err(Stopped::Failed(format!("ckpt-dump: {} {}", finished.status, finished.error.trim()))),
    }
}

fn resume(place: &Place<'_>, stage: &Stage, pid: u32) -> Outcome<Guest> {
    let args = [IMAGE, "--pid", "keep"].map(str::to_owned);
    let mut tries = 0;
    loop {
        let child = stage.command(&place.tools.program("ckpt-loader"), &args, "restore")?.spawn()?;
        match Guest::adopt(child, pid, &place.folder, State::Running) {
            // Nobody else should have taken one of its ids, but everybody may.
            Err(Stopped::Failed(text)) if ckpt_tests::flavour::is_taken(&text) && tries < 50 => tries += 1,
            outcome => return outcome,
        }
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

fn goes_on(guest: &Guest, beats: Beats) -> Outcome<()> {
    beats.all_go_on(Pid::from_raw(i32::try_from(guest.pid)?))
}
