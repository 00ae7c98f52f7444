//! A loader, its midwife or the task that they make is killed at any time: either the program runs whole, or nothing of
//! it is left.

use crate::{IMAGE, Place, Test, instants, random, sampled};
use ckpt_tests::aftermath::{self, Left};
use ckpt_tests::target::{Beats, Target};
use ckpt_tests::tools::{self, User};
use ckpt_tests::tracer::{self, Deed, Traced};
use ckpt_tests::{Outcome, Stopped};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use std::cell::Cell;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("loader_killed::keep_small", |place| at_calls(place, &["small"], "keep", 120)),
    ("loader_killed::keep_many", |place| at_calls(place, &["many"], "keep", 100)),
    ("loader_killed::keep_passing", |place| at_calls(place, &["passing"], "keep", 120)),
    ("loader_killed::keep_segments", |place| at_calls(place, &["segments"], "keep", 120)),
    ("loader_killed::fresh_segments", |place| at_calls(place, &["segments"], "fresh", 60)),
    ("loader_killed::fresh", |place| at_calls(place, &["small"], "fresh", 120)),
    ("loader_killed::fresh_apart", |place| at_calls(place, &["small"], "apart", 60)),
    ("loader_killed::detaches", detaches),
    ("loader_killed::keep_many_at_any_time", |place| at_times(place, &["many"], "keep", 50)),
    ("loader_killed::keep_segments_at_any_time", |place| at_times(place, &["segments"], "keep", 50)),
    ("loader_killed::fresh_at_any_time", |place| at_times(place, &["small"], "fresh", 60)),
];

const PATIENCE: Duration = Duration::from_secs(60);
const A_LOOK: Duration = Duration::from_millis(20);

/// An image whose program was killed, and how to see whether a copy of it runs.
pub(crate) struct Saved {
    pub(crate) pid: Pid,
    /// Whether the program itself was killed, maybe when it ran already: then its System V objects stay, as always.
    pub(crate) ended: Cell<bool>,
    pub(crate) beats: Beats,
}

impl Saved {
    /// Saves a target of this kind and kills it.
    pub(crate) fn make(place: &Place<'_>, args: &[&str]) -> Outcome<Saved> {
        if !ckpt_tests::machine::has_capability(ckpt_tests::machine::CHECKPOINT_RESTORE) {
            return Err(Stopped::Skipped("keeping a pid needs CAP_CHECKPOINT_RESTORE".to_owned()));
        }
        let args = [args, &["resumable"]].concat();
        Saved::of(place, Target::start(place.tools, &place.folder, &args, User::Own)?)
    }

    /// Saves this target and kills it.
    pub(crate) fn of(place: &Place<'_>, target: Target) -> Outcome<Saved> {
        let mut dumper = place.dumper(target.pid, &["--kill", "-o", IMAGE]);
        let finished = tools::run(&mut dumper, &place.folder, "tool", User::Own)?;
        if !finished.status.success() {
            return Err(Stopped::Failed(finished.error));
        }
        let saved = Saved { pid: target.pid, ended: Cell::new(false), beats: target.beats() };
        target.was_killed()?;
        // No process owns it. It is to be made again each time.
        aftermath::remove_objects(saved.pid);
        aftermath::remove_socket(saved.pid);
        Ok(saved)
    }

    /// What the resume left; a program that runs is ended.
    pub(crate) fn left(&self, place: &Place<'_>) -> Outcome<Left> {
        self.left_beside(place, &[])
    }

    /// The same beside files that the test made.
    pub(crate) fn left_beside(&self, place: &Place<'_>, known: &[&str]) -> Outcome<Left> {
        let left = aftermath::look(&place.folder, self.beats, self.pid)?;
        if let Left::Program(pid) = left {
            aftermath::end(pid);
        }
        let was_killed = self.ended.take();
        if aftermath::remove_objects(self.pid) && left == Left::Nothing && !was_killed {
            return Err(Stopped::Failed("it left System V objects".to_owned()));
        }
        if aftermath::remove_socket(self.pid) && left == Left::Nothing && !was_killed {
            return Err(Stopped::Failed("it left the file of a socket".to_owned()));
        }
        if let Ok(result) = std::fs::read_to_string(place.path("result.setup")) {
            return Err(Stopped::Failed(format!("the program says: {result}")));
        }
        let litter = place.litter(&[known, &[IMAGE]].concat())?;
        match litter.is_empty() {
            true => Ok(left),
            false => Err(Stopped::Failed(format!("it left {litter:?}"))),
        }
    }
}

pub(crate) fn loader(place: &Place<'_>, identity: &str) -> Command {
    let mut command = Command::new(place.tools.program("ckpt-loader"));
    let options: &[&str] = match identity {
        // The process that is started becomes the program.
        "fresh" => &["--pid", "fresh"],
        // A child of it does.
        "apart" => &["--pid", "fresh", "--detach"],
        kept => &["--pid", kept, "--detach"],
    };
    command.arg(IMAGE).args(options).current_dir(&place.folder);
    command
}

fn at_calls(place: &Place<'_>, args: &[&str], identity: &str, usual: usize) -> Outcome<()> {
    let saved = Saved::make(place, args)?;
    let command = loader(place, identity);
    let whole = tracer::run(&command, None, PATIENCE)?;
    if saved.left(place)? == Left::Nothing {
        return Err(Stopped::Failed(format!("undisturbed it did not resume: {:?}", whole.status)));
    }
    let (mut killed, mut survived) = (0, 0);
    for (index, at) in sampled(whole.calls.len(), instants(usual)).into_iter().enumerate() {
        let deed = match index % 3 {
            0 => Deed::KillCaller,
            1 => Deed::KillFirst,
            _ if identity == "keep" => Deed::Kill(saved.pid),
            _ => Deed::KillCaller,
        };
        let traced = tracer::run(&command, Some((at, deed)), PATIENCE)?;
        let what = format!("{deed:?} at call {at} of {}: {:?}", whole.calls.len(), traced.calls.get(at));
        let judged = judge(place, &saved, &traced, deed, identity);
        survived += usize::from(judged.map_err(|error| Stopped::Failed(format!("{what}: {error:?}")))?);
        killed += usize::from(traced.done);
    }
    println!("{args:?} {identity}: killed {killed} times, {survived} times the program ran on whole");
    if killed == 0 { Err(Stopped::Failed("it was never killed".to_owned())) } else { Ok(()) }
}

/// A loader that was told to detach returns while the program runs, whose process id it prints, old or new.
fn detaches(place: &Place<'_>) -> Outcome<()> {
    let saved = Saved::make(place, &["small"])?;
    for identity in ["keep", "apart"] {
        let finished = tools::run(&mut loader(place, identity), &place.folder, "tool", User::Own)?;
        let left = saved.left_beside(place, &["tool.out", "tool.err"])?;
        if finished.output.trim().parse().map(Pid::from_raw).map(Left::Program) != Ok(left) {
            let (said, error) = (finished.output, finished.error);
            return Err(Stopped::Failed(format!("{identity}: it said {said:?} and left {left:?} {error}")));
        }
    }
    Ok(())
}

/// Whether the program ran whole.
fn judge(place: &Place<'_>, saved: &Saved, traced: &Traced, deed: Deed, identity: &str) -> Outcome<bool> {
    if traced.hung {
        return Err(Stopped::Failed("it hangs".to_owned()));
    }
    saved.ended.set(matches!(deed, Deed::Kill(_)) || deed == Deed::KillFirst && identity != "keep");
    let left = saved.left(place)?;
    // Who kills the program himself gets what he asked for; else a loader that says it resumed has.
    let promised = matches!(traced.status, Some(WaitStatus::Exited(_, 0))) && !matches!(deed, Deed::Kill(_));
    if promised && left == Left::Nothing {
        return Err(Stopped::Failed("it ended well, and there is no program".to_owned()));
    }
    Ok(left != Left::Nothing)
}

/// Kills the process that was started at random instants: also while the task runs what no tracer of ours sees.
fn at_times(place: &Place<'_>, args: &[&str], identity: &str, usual: usize) -> Outcome<()> {
    let saved = Saved::make(place, args)?;
    let start = || -> Outcome<_> {
        let mut command = loader(place, identity);
        Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    };
    let begin = Instant::now();
    let mut child = start()?;
    let first = Pid::from_raw(i32::try_from(child.id())?);
    while saved.beats.all_go_on_within(saved.pid, A_LOOK).is_err()
        && saved.beats.all_go_on_within(first, A_LOOK).is_err()
        && begin.elapsed() < PATIENCE
    {}
    let duration_us = u64::try_from(begin.elapsed().as_micros()).unwrap_or(u64::MAX);
    if saved.left(place)? == Left::Nothing {
        return Err(Stopped::Failed("undisturbed it did not resume".to_owned()));
    }
    let _ = child.wait();
    let mut survived = 0;
    for _ in 0..instants(usual) {
        let mut child = start()?;
        let at = Duration::from_micros(random(duration_us * 5 / 4) as u64);
        std::thread::sleep(at);
        let victim = if identity == "keep" && random(3) == 0 {
            saved.pid
        } else {
            Pid::from_raw(i32::try_from(child.id())?)
        };
        let _ = nix::sys::signal::kill(victim, nix::sys::signal::Signal::SIGKILL);
        saved.ended.set(identity != "keep" || victim == saved.pid);
        let left =
            saved.left(place).map_err(|error| Stopped::Failed(format!("killed after {at:?}: {error:?}")))?;
        survived += usize::from(left != Left::Nothing);
        let _ = child.wait();
    }
    println!(
        "{args:?} {identity}: killed {} times, {survived} times the program ran on whole",
        instants(usual)
    );
    Ok(())
}
