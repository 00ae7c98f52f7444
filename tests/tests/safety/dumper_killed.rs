//! The dumper is killed with SIGKILL at any time: the target runs on, unharmed.

use crate::{IMAGE, Place, Test, instants, random, sampled};
use ckpt_tests::target::Target;
use ckpt_tests::tools::{self, User};
use ckpt_tests::tracer::{self, Deed};
use ckpt_tests::{Outcome, Stopped};
use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("dumper_killed::small_at_calls", |place| at_calls(place, &["small"], 500)),
    ("dumper_killed::many_at_calls", |place| at_calls(place, &["many"], 200)),
    ("dumper_killed::passing_at_calls", |place| at_calls(place, &["passing"], 200)),
    ("dumper_killed::large_at_calls", |place| at_calls(place, &["large", "256"], 40)),
    ("dumper_killed::refused_at_calls", |place| at_calls(place, &["refused"], 40)),
    ("dumper_killed::small_at_any_time", |place| at_times(place, &["small"], 100)),
    ("dumper_killed::many_at_any_time", |place| at_times(place, &["many"], 100)),
    ("dumper_killed::large_at_any_time", |place| at_times(place, &["large", "256"], 50)),
    ("dumper_killed::as_nobody", as_nobody),
];

const PATIENCE: Duration = Duration::from_secs(60);

/// Kills it after its N-th system call, for N over all that it makes.
fn at_calls(place: &Place<'_>, args: &[&str], usual: usize) -> Outcome<()> {
    let target = Target::start(place.tools, &place.folder, args, User::Own)?;
    let command = place.dumper(target.pid, &["-o", IMAGE]);
    let whole = tracer::run(&command, None, PATIENCE)?;
    let is_refused = args == ["refused"];
    if !is_refused {
        place.verify(&place.path(IMAGE))?;
    }
    clean(place, "the first dump", false)?;
    let mut killed = 0;
    for at in sampled(whole.calls.len(), instants(usual)) {
        let traced = tracer::run(&command, Some((at, Deed::KillCaller)), PATIENCE)?;
        let what = format!(
            "{} killed after call {at} of {}: {:?}",
            args.concat(),
            whole.calls.len(),
            traced.calls.get(at)
        );
        if traced.hung {
            return Err(Stopped::Failed(format!("{what}: it hangs")));
        }
        killed += usize::from(traced.done);
        after(place, &target, &what)?;
    }
    finish(place, target, is_refused, killed)
}

/// Kills it at random instants of its whole duration.
fn at_times(place: &Place<'_>, args: &[&str], usual: usize) -> Outcome<()> {
    let target = Target::start(place.tools, &place.folder, args, User::Own)?;
    let start = Instant::now();
    dump(place, &target)?;
    let duration_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
    let mut killed = 0;
    for _ in 0..instants(usual) {
        let mut command = place.dumper(target.pid, &["-o", IMAGE]);
        let mut dumper = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let at = Duration::from_micros(random(duration_us) as u64);
        std::thread::sleep(at);
        dumper.kill()?;
        killed += usize::from(!dumper.wait()?.success());
        after(place, &target, &format!("{} killed after {at:?} of {duration_us} us", args.concat()))?;
    }
    finish(place, target, false, killed)
}

/// The same without any privilege.
fn as_nobody(place: &Place<'_>) -> Outcome<()> {
    let target = Target::start(place.tools, &place.folder, &["small"], User::Nobody)?;
    for _ in 0..instants(20) {
        let mut command = place.dumper(target.pid, &["-o", IMAGE]);
        let mut dumper = tools::as_user(&mut command, User::Nobody).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(Duration::from_micros(random(30_000) as u64));
        dumper.kill()?;
        dumper.wait()?;
        after(place, &target, "small, as nobody")?;
    }
    target.ends_well()
}

fn after(place: &Place<'_>, target: &Target, what: &str) -> Outcome<()> {
    target.is_unharmed().map_err(|error| Stopped::Failed(format!("{what}: {error:?}")))?;
    clean(place, what, true)
}

/// What lies about is either the whole image or nothing.
fn clean(place: &Place<'_>, what: &str, verify: bool) -> Outcome<()> {
    let litter = place.litter(&[IMAGE])?;
    if !litter.is_empty() {
        return Err(Stopped::Failed(format!("{what}: it left {litter:?}")));
    }
    let image = place.path(IMAGE);
    if image.exists() {
        if verify {
            place.verify(&image).map_err(|error| Stopped::Failed(format!("{what}: {error:?}")))?;
        }
        fs::remove_file(image)?;
    }
    Ok(())
}

fn dump(place: &Place<'_>, target: &Target) -> Outcome<()> {
    let finished =
        tools::run(&mut place.dumper(target.pid, &["-o", IMAGE]), &place.folder, "tool", User::Own)?;
    if !finished.status.success() {
        return Err(Stopped::Failed(format!("{}: {}", finished.status, finished.error)));
    }
    verify_and_remove(place, &place.path(IMAGE))
}

fn verify_and_remove(place: &Place<'_>, image: &Path) -> Outcome<()> {
    place.verify(image)?;
    fs::remove_file(image)?;
    Ok(())
}

/// A last dump works, and the target finds nothing wrong at its end.
fn finish(place: &Place<'_>, target: Target, is_refused: bool, killed: usize) -> Outcome<()> {
    if !is_refused {
        dump(place, &target)?;
    }
    let pid = target.pid;
    let ended = target.ends_well();
    ckpt_tests::aftermath::remove_socket(pid);
    ended?;
    println!("{}: killed {killed} times", place.folder.file_name().unwrap_or_default().to_string_lossy());
    if killed == 0 { Err(Stopped::Failed("it was never killed".to_owned())) } else { Ok(()) }
}
