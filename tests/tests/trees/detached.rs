//! A daemon that gets a new process id leads a session again, and outlives the terminal of whoever resumed it.

use crate::grown::{Grown, How, IMAGE, end_all, reaped};
use crate::{Place, Test};
use ckpt_tests::moments::Moments;
use ckpt_tests::script::{self, Shape};
use ckpt_tests::{Outcome, Stopped, tools};
use std::fs;
use std::time::Duration;

pub(crate) const TESTS: &[(&str, Test)] = &[("detached::leads_its_session", leads_its_session)];

fn leads_its_session(place: &Place<'_>) -> Outcome<()> {
    let script = script::write(Shape { living: 1, steps: 0 }, &mut Moments::new("a daemon is detached"));
    let saved = Grown::start(place, &script, How::Session)?.save(place)?;
    let loader = place.tools.program("ckpt-loader").to_string_lossy().into_owned();
    let mut reaper = reaped(place, How::Job, &[&loader, IMAGE, "--pid", "fresh", "--detach"])?.spawn()?;
    let mut said = String::new();
    for _ in 0..2000 {
        said = fs::read_to_string(place.folder.join("said"))?;
        if said.ends_with('\n') {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let stat = fs::read_to_string(format!("/proc/{}/stat", said.trim())).unwrap_or_default();
    end_all(reaper.id());
    tools::wait(&mut reaper, Duration::from_secs(20))?;
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let (group, session) = (fields.get(2).copied(), fields.get(3).copied());
    if saved.roots == [said.trim().parse().unwrap_or(0)] || [group, session] != [Some(said.trim()); 2] {
        return Err(Stopped::Failed(format!("{said} of group {group:?}, session {session:?}: {stat}")));
    }
    Ok(())
}
