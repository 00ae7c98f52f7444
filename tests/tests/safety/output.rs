//! The place to write to fails, or the target does not stand still for it: one line says so, with the documented exit
//! status, the target runs on, and nothing stands under the final name.

use crate::{IMAGE, Place, Test, instants, random};
use ckpt_tests::target::Target;
use ckpt_tests::tools::{self, Finished, User};
use ckpt_tests::{Outcome, Stopped};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("output::disk_full", disk_full),
    ("output::pipe_closed", pipe_closed),
    ("output::file_size_limit", file_size_limit),
    ("output::no_such_folder", no_such_folder),
    ("output::target_dies_meanwhile", target_dies_meanwhile),
    ("output::threads_come_and_go", threads_come_and_go),
    ("output::debugger_attached", debugger_attached),
];

/// Fails unless `finished` refused in the documented way.
pub(crate) fn refused(finished: &Finished, status: i32, texts: &[&str]) -> Outcome<()> {
    let failed = |what: &str| {
        Err(Stopped::Failed(format!("{what}: {}: {}{}", finished.status, finished.error, finished.output)))
    };
    if finished.status.code() != Some(status) {
        return failed(&format!("the status should be {status}"));
    }
    if finished.error.contains("panicked") || finished.error.trim().is_empty() {
        return failed("it does not say what is wrong");
    }
    if let Some(text) = texts.iter().find(|text| !finished.error.contains(**text)) {
        return failed(&format!("it does not say `{text}`"));
    }
    // What and why, then what to do.
    let lines: Vec<&str> = finished.error.trim_end().lines().collect();
    if lines.len() < 2 || !lines.iter().skip(1).all(|line| line.starts_with("  ") || line.contains("cannot "))
    {
        return failed("it should say what and why in a line, and what to do in the next");
    }
    Ok(())
}

/// Nothing but what the test itself made.
fn nothing_left(place: &Place<'_>, known: &[&str]) -> Outcome<()> {
    let litter = place.litter(known)?;
    if litter.is_empty() { Ok(()) } else { Err(Stopped::Failed(format!("it left {litter:?}"))) }
}

/// Runs a shell line in which `$dump` is the dumper with the target's pid.
fn shell(place: &Place<'_>, target: &Target, line: &str) -> Outcome<Finished> {
    let dump = format!("{} {}", place.tools.program("ckpt-dump").display(), target.pid);
    let mut command = Command::new("/bin/sh");
    command.args(["-c", line]).env("dump", dump);
    tools::run(&mut command, &place.folder, "tool", User::Own)
}

fn small(place: &Place<'_>) -> Outcome<Target> {
    Target::start(place.tools, &place.folder, &["small"], User::Own)
}

fn disk_full(place: &Place<'_>) -> Outcome<()> {
    if !ckpt_tests::machine::has_capability(21) {
        return Err(Stopped::Skipped("mounting a small disk needs CAP_SYS_ADMIN".to_owned()));
    }
    // A thread of its own may have mounts of its own, which end with it; what it starts shares them.
    std::thread::scope(|scope| {
        let test = scope.spawn(|| {
            let none = None::<&str>;
            unshare(CloneFlags::CLONE_NEWNS)?;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
            fs::create_dir(place.path("disk"))?;
            mount(Some("none"), &place.path("disk"), Some("tmpfs"), MsFlags::empty(), Some("size=64k"))?;
            on_a_full_disk(place)
        });
        test.join().unwrap_or_else(|_| Err(Stopped::Failed("the test has panicked".to_owned())))
    })
}

fn on_a_full_disk(place: &Place<'_>) -> Outcome<()> {
    let target = small(place)?;
    for line in ["cd disk; $dump -o x.ckpt", "cd disk; $dump > y.ckpt"] {
        let finished = shell(place, &target, line)?;
        refused(&finished, 5, &["No space left on device", "make room"])?;
        target.is_unharmed()?;
    }
    let mut left = Vec::new();
    for entry in fs::read_dir(place.path("disk"))? {
        let entry = entry?;
        left.push((entry.file_name().to_string_lossy().into_owned(), entry.metadata()?.len()));
    }
    // The shell made the second file, before the dumper ran.
    if left != [("y.ckpt".to_owned(), 0)] {
        return Err(Stopped::Failed(format!("it left {left:?}")));
    }
    nothing_left(place, &["disk"])?;
    target.ends_well()
}

fn pipe_closed(place: &Place<'_>) -> Outcome<()> {
    let target = small(place)?;
    // Closed at once, and closed after the first bytes.
    for reader in ["true", "head -c 1 >/dev/null"] {
        let line = format!("{{ $dump; echo $? > status; }} | {reader}; sleep 0.1; exit $(cat status)");
        let finished = shell(place, &target, &line)?;
        refused(&finished, 5, &["Broken pipe", "the reader ended early"])?;
        target.is_unharmed()?;
    }
    nothing_left(place, &["status"])?;
    target.ends_well()
}

fn file_size_limit(place: &Place<'_>) -> Outcome<()> {
    let target = small(place)?;
    for line in ["ulimit -f 32; $dump -o x.ckpt", "ulimit -f 32; $dump > y.ckpt"] {
        refused(&shell(place, &target, line)?, 5, &["File too large", "ulimit -f"])?;
        target.is_unharmed()?;
    }
    if fs::metadata(place.path("y.ckpt"))?.len() > 0 {
        return Err(Stopped::Failed("a part of an image is left".to_owned()));
    }
    nothing_left(place, &["y.ckpt"])?;
    target.ends_well()
}

fn no_such_folder(place: &Place<'_>) -> Outcome<()> {
    let target = small(place)?;
    let finished = shell(place, &target, "$dump -o nowhere/x.ckpt")?;
    refused(&finished, 5, &["nowhere/x.ckpt", "No such file or directory"])?;
    nothing_left(place, &[])?;
    target.ends_well()
}

fn target_dies_meanwhile(place: &Place<'_>) -> Outcome<()> {
    let mut seen = std::collections::BTreeSet::new();
    for kind in ["small", "many"] {
        for _ in 0..instants(12) {
            let target = Target::start(place.tools, &place.folder, &[kind], User::Own)?;
            let mut command = place.dumper(target.pid, &["-o", IMAGE]);
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(tools::log(&place.folder, "tool.err")?);
            let mut dumper = command.spawn()?;
            std::thread::sleep(Duration::from_micros(
                random(if kind == "many" { 200_000 } else { 40_000 }) as u64
            ));
            kill(target.pid, Signal::SIGKILL)?;
            let status = tools::wait(&mut dumper, Duration::from_secs(20))?
                .ok_or("the dumper hangs after its target has died")?;
            let said = fs::read_to_string(place.path("tool.err"))?;
            target.was_killed()?;
            let code = status.code().unwrap_or(-1);
            seen.insert(code);
            let image = place.path(IMAGE).exists();
            let fine = match code {
                0 => image,
                // It died before it was looked at (4), or meanwhile (6).
                4 | 6 => !image && said.contains("cannot checkpoint pid") && !said.contains("panicked"),
                _ => false,
            };
            if !fine {
                return Err(Stopped::Failed(format!("{status}, image: {image}, it says: {said}")));
            }
            nothing_left(place, &[IMAGE])?;
            for name in [IMAGE, "tool.err", "ready", "beats"] {
                let _ = fs::remove_file(place.path(name));
            }
        }
    }
    println!("target_dies_meanwhile: statuses {seen:?}");
    Ok(())
}

fn threads_come_and_go(place: &Place<'_>) -> Outcome<()> {
    let target = Target::start(place.tools, &place.folder, &["churn"], User::Own)?;
    for _ in 0..instants(12) {
        let finished = shell(place, &target, "$dump -o x.ckpt")?;
        if !finished.status.success() {
            return Err(Stopped::Failed(format!("{}: {}", finished.status, finished.error)));
        }
        place.verify(&place.path(IMAGE))?;
        target.goes_on()?;
    }
    fs::remove_file(place.path(IMAGE))?;
    // Killed as well: threads that start meanwhile are frozen, too.
    for _ in 0..instants(20) {
        let mut dumper = place.dumper(target.pid, &["-o", IMAGE]).stderr(Stdio::null()).spawn()?;
        std::thread::sleep(Duration::from_micros(random(60_000) as u64));
        dumper.kill()?;
        dumper.wait()?;
        target.goes_on()?;
        let _ = fs::remove_file(place.path(IMAGE));
    }
    nothing_left(place, &[])?;
    target.ends_well_as_it_is()
}

fn debugger_attached(place: &Place<'_>) -> Outcome<()> {
    let target = small(place)?;
    // The tracer is a thread: it must be the one that attaches and lets go.
    let pid = target.pid;
    nix::sys::ptrace::seize(pid, nix::sys::ptrace::Options::empty())?;
    let finished = shell(place, &target, "$dump -o x.ckpt")?;
    nix::sys::ptrace::interrupt(pid)?;
    nix::sys::wait::waitpid(pid, Some(nix::sys::wait::WaitPidFlag::__WALL))?;
    nix::sys::ptrace::detach(pid, None)?;
    refused(&finished, 4, &["it is being traced by pid", "detach that one first"])?;
    nothing_left(place, &[])?;
    target.ends_well()
}
