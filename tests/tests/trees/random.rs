//! Random trees of up to fifty tasks are saved, killed and resumed, and compared with what they were.

use crate::grown::{Grown, How};
use crate::{Place, Test, times};
use ckpt_tests::moments::Moments;
use ckpt_tests::script::{self, Shape};
use ckpt_tests::{Outcome, Stopped, tools};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[(&str, Test)] =
    &[("random::small", |place| several(place, 50, 8)), ("random::large", |place| several(place, 50, 50))];

fn several(place: &Place<'_>, usual: usize, living: usize) -> Outcome<()> {
    for number in 0..times(usual) {
        let name = format!("random tree {number} of {living}");
        let mut moments = Moments::new(&name);
        one(place, living, &mut moments).map_err(|stopped| match stopped {
            Stopped::Failed(text) => {
                let script = fs::read_to_string(place.folder.join("script")).unwrap_or_default();
                Stopped::Failed(format!("{name}: {text}\n{script}"))
            }
            skipped => skipped,
        })?;
    }
    Ok(())
}

fn one(place: &Place<'_>, most: usize, moments: &mut Moments) -> Outcome<()> {
    let mut below = |end: usize| usize::try_from(moments.draw()).unwrap_or(usize::MAX) % end.max(1);
    let hows = [How::Job, How::Member, How::Session];
    let how = hows.get(below(3)).copied().unwrap_or(How::Job);
    let shape = Shape { living: 2 + below(most - 1), steps: 10 + below(2 * most) };
    let stopped = below(3);
    let script = script::write(shape, moments);
    let mut grown = Grown::start(place, &script, how)?;
    stop_some(&mut grown, stopped, moments)?;
    let saved = grown.save(place)?;
    let resumed = saved.resume(place, how)?;
    resumed.go("resumed")
}

/// Stops that many tasks, never the root, which the supervisor would follow.
fn stop_some(grown: &mut Grown, count: usize, moments: &mut Moments) -> Outcome<()> {
    let root = grown.roots.first().copied();
    for _ in 0..count {
        let living = grown.tree.members.iter().filter(|(_, member)| member.contains_key("exe"));
        let others: Vec<u32> = living.map(|(pid, _)| *pid).filter(|pid| Some(*pid) != root).collect();
        let index = usize::try_from(moments.draw()).unwrap_or(0) % others.len().max(1);
        let Some(pid) = others.get(index) else { return Ok(()) };
        kill(Pid::from_raw(i32::try_from(*pid)?), Signal::SIGSTOP)?;
        let start = Instant::now();
        loop {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
            if tools::stat_field(&stat, 3) == Some("T") {
                break;
            }
            if start.elapsed() > Duration::from_secs(10) {
                return Err(Stopped::Failed(format!("{pid} does not stop")));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    grown.tree = ckpt_tests::tree::take_all(&ckpt_tests::namespace::View::own(), &grown.roots)?;
    Ok(())
}
