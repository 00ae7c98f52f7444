//! A daemon that gets a new process id leads a session again, and outlives the terminal of whoever resumed it.

use crate::grown::{Grown, How, IMAGE, end_all, reaped, said};
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
    let said = said(place, 1, Duration::from_secs(10))?;
    let stat = fs::read_to_string(format!("/proc/{}/stat", said.trim())).unwrap_or_default();
    end_all(reaper.id());
    tools::wait(&mut reaper, Duration::from_secs(20))?;
    let (group, session) = (tools::stat_field(&stat, 5), tools::stat_field(&stat, 6));
    if saved.roots == [said.trim().parse().unwrap_or(0)] || [group, session] != [Some(said.trim()); 2] {
        return Err(Stopped::Failed(format!("{said} of group {group:?}, session {session:?}: {stat}")));
    }
    Ok(())
}
