//! A loader that is killed at any time while it makes a tree leaves all of it or nothing.

use crate::grown::{Grown, How, Saved, children, reaped};
use crate::{Place, Test, times};
use ckpt_tests::moments::Moments;
use ckpt_tests::script::{self, Shape};
use ckpt_tests::{Outcome, Stopped};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs;
use std::process::Child;
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[(&str, Test)] =
    &[("killed::loader_of_twenty", |place| loader_killed(place, 300, 20))];

const PATIENCE: Duration = Duration::from_secs(20);

fn loader_killed(place: &Place<'_>, usual: usize, living: usize) -> Outcome<()> {
    let mut moments = Moments::new("a loader is killed");
    let script = script::write(Shape { living, steps: 40 }, &mut moments);
    let saved = Grown::start(place, &script, How::Job)?.save(place)?;
    // How long it takes undisturbed; nobody may have the ids yet.
    let mut duration = Duration::ZERO;
    if !killed_after(place, &saved, None, &mut duration)? {
        return Err(Stopped::Failed("undisturbed it did not resume".to_owned()));
    }
    let (mut whole, mut cut) = (0, 0);
    for _ in 0..times(usual) {
        let at = moments.below(duration * 9 / 8);
        let mut took = at;
        let left = killed_after(place, &saved, Some(at), &mut took)
            .map_err(|error| Stopped::Failed(format!("killed after {at:?} of {duration:?}: {error:?}")))?;
        whole += usize::from(left);
        cut += usize::from(!left);
    }
    println!("{living} tasks: {whole} times all of them ran on, {cut} times nothing was left");
    if cut == 0 { Err(Stopped::Failed("it was never cut short".to_owned())) } else { Ok(()) }
}

/// Kills the loader after some time, or says how long it takes. Whether the tree runs on, all of it; else nothing must be
/// left.
fn killed_after(
    place: &Place<'_>,
    saved: &Saved,
    at: Option<Duration>,
    took: &mut Duration,
) -> Outcome<bool> {
    let loader = place.tools.program("ckpt-loader");
    let words = [loader.to_string_lossy().into_owned(), crate::grown::IMAGE.to_owned()];
    let words: Vec<&str> = words.iter().map(String::as_str).chain(["--pid", "keep", "--detach"]).collect();
    let mut reaper = reaped(place, How::Job, &words)?.spawn()?;
    let begin = Instant::now();
    let loader = loop {
        if let Some(first) = children(reaper.id())?.first() {
            break *first;
        }
        if begin.elapsed() > PATIENCE {
            return Err(Stopped::Failed("the loader does not start".to_owned()));
        }
    };
    let start = Instant::now();
    match at {
        Some(at) => std::thread::sleep(at),
        None => while children(reaper.id())?.contains(&loader) && start.elapsed() < PATIENCE {},
    }
    *took = start.elapsed();
    // It may have ended: then its id is nobody's, or that of one of ours, which the reaper has for a child.
    if at.is_some() && children(reaper.id())?.contains(&loader) && !saved.tree.members.contains_key(&loader) {
        let _ = kill(Pid::from_raw(i32::try_from(loader)?), Signal::SIGKILL);
    }
    let left = left(place, saved, &mut reaper);
    crate::grown::end_all(reaper.id());
    let _ = reaper.wait();
    left
}

fn left(place: &Place<'_>, saved: &Saved, reaper: &mut Child) -> Outcome<bool> {
    let start = Instant::now();
    loop {
        let lines = saved.differences();
        let said = fs::read_to_string(place.folder.join("said")).unwrap_or_default();
        if lines.is_empty() {
            return Ok(true);
        }
        if reaper.try_wait()?.is_some() {
            let said = said.trim();
            // Whoever sees what became of the others may say so, whatever it is; but nobody may panic.
            return match !said.contains("panicked") {
                true => Ok(false),
                false => Err(Stopped::Failed(said.to_owned())),
            };
        }
        if start.elapsed() > PATIENCE {
            let shown: Vec<&str> = lines.iter().take(30).map(String::as_str).collect();
            return Err(Stopped::Failed(format!(
                "neither all nor nothing is left; {said}\n    {}\n    {}",
                shown.join("\n    "),
                crate::grown::shown(reaper.id())
            )));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
