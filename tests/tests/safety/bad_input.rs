//! What is no process, no image, or not the user's to have: one line says what and why, the next what to do, and the
//! exit status is the documented one. Nothing of the program ever runs, and nothing is left.

use crate::loader_killed::Saved;
use crate::output::refused;
use crate::{IMAGE, Place, Test, random};
use ckpt_tests::aftermath::Left;
use ckpt_tests::target::Target;
use ckpt_tests::tools::{self, Finished, User};
use ckpt_tests::{Outcome, Stopped, machine};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command};

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("bad_input::not_a_process", not_a_process),
    ("bad_input::process_of_another_user", process_of_another_user),
    ("bad_input::not_an_image", not_an_image),
    ("bad_input::damaged_image", damaged_image),
    ("bad_input::mapped_files", mapped_files),
    ("bad_input::mount_gone", mount_gone),
    ("bad_input::mounts_of_the_host", mounts_of_the_host),
    ("bad_input::few_descriptors", few_descriptors),
    ("bad_input::identity", identity),
    ("bad_input::terminal_taken", terminal_taken),
    ("bad_input::nobody_listens", nobody_listens),
];

/// Exit status of a loader that cannot resume.
const CANNOT_RESUME: i32 = 125;

fn dump_of(place: &Place<'_>, pid: &str, user: User) -> Outcome<Finished> {
    let mut command = Command::new(place.tools.program("ckpt-dump"));
    tools::run(command.args([pid, "-o", IMAGE]), &place.folder, "tool", user)
}

fn load(place: &Place<'_>, arguments: &[&str], user: User) -> Outcome<Finished> {
    let mut command = Command::new(place.tools.program("ckpt-loader"));
    tools::run(command.args(arguments).arg("--detach"), &place.folder, "tool", user)
}

fn no_image(place: &Place<'_>) -> Outcome<()> {
    let litter = place.litter(&[])?;
    if litter.is_empty() { Ok(()) } else { Err(Stopped::Failed(format!("it left {litter:?}"))) }
}

/// A child of ours that is ended at the end.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn not_a_process(place: &Place<'_>) -> Outcome<()> {
    // Above every pid_max.
    refused(&dump_of(place, "4194305", User::Own)?, 4, &["pid 4194305", "no such process"])?;
    let mut dead = Ended(Command::new("true").spawn()?);
    let pid = dead.0.id().to_string();
    while !fs::read_to_string(format!("/proc/{pid}/stat"))?.contains(") Z") {
        std::thread::yield_now();
    }
    refused(&dump_of(place, &pid, User::Own)?, 4, &["has ended"])?;
    dead.0.wait()?;
    refused(&dump_of(place, &pid, User::Own)?, 4, &["no such process"])?;
    let line = format!("exec {} $$ -o {IMAGE}", place.tools.program("ckpt-dump").display());
    let own = tools::run(Command::new("/bin/sh").args(["-c", &line]), &place.folder, "tool", User::Own)?;
    refused(&own, 4, &["ckpt-dump itself"])?;
    let kernel = fs::read_dir("/proc")?.flatten().find_map(|entry| {
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        status.contains("Kthread:\t1").then(|| entry.file_name().to_string_lossy().into_owned())
    });
    // In a pid namespace of one's own there is none to be seen.
    if let Some(kernel) = kernel {
        refused(&dump_of(place, &kernel, User::Own)?, 4, &["thread of the kernel"])?;
    }
    for nonsense in ["0", "-1", "x", "99999999999"] {
        let finished = dump_of(place, nonsense, User::Own)?;
        if finished.status.code() != Some(2) || finished.error.contains("panicked") {
            return Err(Stopped::Failed(format!("{nonsense}: {} {}", finished.status, finished.error)));
        }
    }
    no_image(place)
}

fn process_of_another_user(place: &Place<'_>) -> Outcome<()> {
    if !machine::is_root() {
        return Err(Stopped::Skipped("another user's process needs root to start it".to_owned()));
    }
    let target = Target::start(place.tools, &place.folder, &["small"], User::Own)?;
    let finished = dump_of(place, &target.pid.to_string(), User::Nobody)?;
    refused(&finished, 4, &[&format!("pid {}", target.pid), "run as its user, or as root"])?;
    no_image(place)?;
    target.ends_well()
}

fn not_an_image(place: &Place<'_>) -> Outcome<()> {
    let file = |name: &str, bytes: &[u8]| -> Outcome<()> {
        fs::write(place.path(name), bytes)?;
        fs::set_permissions(place.path(name), fs::Permissions::from_mode(0o700))?;
        Ok(())
    };
    let refuses = |name: &str, text: &str| {
        let finished = load(place, &[name], User::Own)?;
        refused(&finished, CANNOT_RESUME, &[text])
            .map_err(|error| Stopped::Failed(format!("{name}: {error:?}")))
    };
    refuses("nowhere", "cannot open nowhere")?;
    file("text", b"#!/bin/sh\necho hello, this is no checkpoint but a script of some length\n")?;
    refuses("text", "not an ELF file")?;
    file("empty", b"")?;
    refuses("empty", "it is empty")?;
    file("program", &fs::read("/bin/sh")?)?;
    refuses("program", "another kind of ELF file")?;
    fs::create_dir(place.path("folder"))?;
    refuses("folder", "folder")?;
    let saved = Saved::make(place, &["small"])?;
    let whole = fs::read(place.path(IMAGE))?;
    for (at, byte, text) in [
        (9, 0u8, "an ordinary core file"),
        (13, whole.get(13).map_or(0, |version| version + 1), "its format is version"),
        (18, 183, "another architecture"),
    ] {
        let mut forged = whole.clone();
        if let Some(place) = forged.get_mut(at) {
            *place = byte;
        }
        file("forged", &forged)?;
        refuses("forged", text)?;
    }
    match saved.left_beside(place, &["text", "empty", "program", "folder", "forged"])? {
        Left::Nothing => Ok(()),
        Left::Program(_) => Err(Stopped::Failed("something resumed".to_owned())),
    }
}

/// Cut short, or one bit wrong: in the metadata before any process exists, in the memory when that is read.
fn damaged_image(place: &Place<'_>) -> Outcome<()> {
    let saved = Saved::make(place, &["large", "1"])?;
    let image = place.path(IMAGE);
    let whole = fs::read(&image)?;
    let len = whole.len();
    let mut tries: Vec<(String, Vec<u8>)> = [1, 63, 64, len / 3, len / 2, len - 1]
        .iter()
        .map(|end| (format!("cut at {end}"), whole.iter().take(*end).copied().collect()))
        .collect();
    for index in 0..60 {
        // Some among the metadata, most in the memory.
        let at = random(if index % 4 == 0 { 16_384 } else { len as u64 });
        let mut bytes = whole.clone();
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << random(8);
        }
        tries.push((format!("a bit of byte {at} flipped"), bytes));
    }
    let mut found = 0;
    for (what, bytes) in tries {
        fs::write(&image, bytes)?;
        let finished = load(place, &[IMAGE], User::Own)?;
        let left = saved.left(place).map_err(|error| Stopped::Failed(format!("{what}: {error:?}")))?;
        let verify = place.verify(&image);
        let fails = |text: String| Err(Stopped::Failed(format!("{what}: {text}: {}", finished.error)));
        match (finished.status.code(), left, verify) {
            // Between the parts of an image stand bytes that mean nothing.
            (Some(0), Left::Program(_), Ok(())) => {}
            (Some(0), ..) => return fails("it ended well, or the program ran".to_owned()),
            (Some(CANNOT_RESUME), Left::Nothing, Err(_)) => {
                found += 1;
                refused(&finished, CANNOT_RESUME, &["cannot resume"])?;
            }
            (status, left, verify) => return fails(format!("{status:?}, {left:?}, {verify:?}")),
        }
    }
    println!("damaged_image: {found} of 66 found");
    if found < 50 { Err(Stopped::Failed(format!("only {found} of 66 were found"))) } else { Ok(()) }
}

/// The program's own file is gone, or another one.
fn mapped_files(place: &Place<'_>) -> Outcome<()> {
    let program = place.path("program");
    fs::copy(Target::program(place.tools)?, &program)?;
    let target = Target::start_program(&program, &place.folder, &["small", "resumable"], User::Own)?;
    let saved = Saved::of(place, target)?;
    let known = ["program", "away"];
    fs::rename(&program, place.path("away"))?;
    refused(&load(place, &[IMAGE], User::Own)?, CANNOT_RESUME, &["program", "cannot resume"])?;
    fs::copy("/bin/sh", &program)?;
    refused(&load(place, &[IMAGE], User::Own)?, CANNOT_RESUME, &["program", "is not the file it was"])?;
    if saved.left_beside(place, &known)? != Left::Nothing {
        return Err(Stopped::Failed("something resumed".to_owned()));
    }
    fs::rename(place.path("away"), &program)?;
    let finished = load(place, &[IMAGE], User::Own)?;
    match saved.left_beside(place, &known)? {
        Left::Program(_) => Ok(()),
        Left::Nothing => {
            Err(Stopped::Failed(format!("with its file back it does not resume: {}", finished.error)))
        }
    }
}

/// The program's own file was on a filesystem that is not mounted any more: that is what is said.
fn mount_gone(place: &Place<'_>) -> Outcome<()> {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let mounted = place.path("mounted");
    fs::create_dir(&mounted)?;
    if mount(Some("tmpfs"), &mounted, Some("tmpfs"), MsFlags::empty(), None::<&str>).is_err() {
        return Err(Stopped::Skipped("mounting takes root".to_owned()));
    }
    let program = mounted.join("program");
    let saved = fs::copy(Target::program(place.tools)?, &program).map_err(Stopped::from).and_then(|_| {
        let target = Target::start_program(&program, &place.folder, &["small", "resumable"], User::Own)?;
        Saved::of(place, target)
    });
    umount2(&mounted, MntFlags::MNT_DETACH)?;
    let (saved, finished) = (saved?, load(place, &[IMAGE], User::Own)?);
    let place_of = format!("was mounted at {}", mounted.display());
    refused(&finished, CANNOT_RESUME, &["program (executable) is not there", &place_of, "--path"])?;
    match saved.left_beside(place, &["mounted"])? {
        Left::Nothing => Ok(()),
        Left::Program(_) => Err(Stopped::Failed("something resumed".to_owned())),
    }
}

/// There are too few numbers for the loader's own descriptors above those of the program.
fn few_descriptors(place: &Place<'_>) -> Outcome<()> {
    if !machine::is_root() {
        return Err(Stopped::Skipped("who may not raise the limit is another user".to_owned()));
    }
    let saved = Saved::make(place, &["small"])?;
    fs::set_permissions(place.path(IMAGE), fs::Permissions::from_mode(0o755))?;
    let loader = place.tools.program("ckpt-loader");
    let line = format!("ulimit -n 60; exec {} {IMAGE} --detach", loader.display());
    let finished =
        tools::run(Command::new("/bin/sh").args(["-c", &line]), &place.folder, "tool", User::Nobody)?;
    refused(
        &finished,
        CANNOT_RESUME,
        &["a resume needs 64 more under the hard limit, which is 60", "ulimit -Hn"],
    )?;
    match saved.left(place)? {
        Left::Nothing => Ok(()),
        Left::Program(_) => Err(Stopped::Failed("something resumed".to_owned())),
    }
}

/// `--pid keep` without the right to it, or while somebody else has the id; and what cannot be fresh.
fn identity(place: &Place<'_>) -> Outcome<()> {
    let saved = Saved::make(place, &["small"])?;
    fs::set_permissions(place.path(IMAGE), fs::Permissions::from_mode(0o755))?;
    if machine::is_root() {
        let finished = load(place, &[IMAGE, "--pid", "keep"], User::Nobody)?;
        refused(&finished, CANNOT_RESUME, &["CAP_CHECKPOINT_RESTORE"])?;
    }
    let first = load(place, &[IMAGE], User::Own)?;
    let second = load(place, &[IMAGE, "--pid", "keep"], User::Own)?;
    let left = saved.left(place)?;
    if !first.status.success() || left == Left::Nothing {
        return Err(Stopped::Failed(format!("it did not resume: {}", first.error)));
    }
    refused(&second, CANNOT_RESUME, &[&saved.pid.to_string()])?;
    fs::remove_file(place.path(IMAGE))?;
    let saved = Saved::make(place, &["many"])?;
    refused(&load(place, &[IMAGE, "--pid", "fresh"], User::Own)?, CANNOT_RESUME, &["thread"])?;
    if saved.left(place)? == Left::Nothing { Ok(()) } else { Err(Stopped::Failed("it resumed".to_owned())) }
}

/// A tree in a mount namespace whose mounts were shared, with a /sys of its own: neither a plan nor a resume touches the mounts
/// of who resumes it. (Here that is a namespace in which they are shared, as a host's mostly are.)
fn mounts_of_the_host(place: &Place<'_>) -> Outcome<()> {
    const SCRIPT: &str = r#"
        mount --make-rshared / || exit 99
        unshare --mount --net --propagation private sh -c '
            umount -l /sys && mount -t sysfs own /sys && mount --make-rshared / && echo > up && exec sleep 60
        ' </dev/null >/dev/null 2>&1 &
        pid=$!
        trap 'kill -9 $pid' EXIT
        until [ -e up ] && [ "$(cat /proc/$pid/comm)" = sleep ]; do
            kill -0 $pid || exit 99
            sleep 0.01
        done
        rm up
        before=$(cat /proc/self/mountinfo)
        $DUMP $pid -o x.ckpt || exit 1
        kill -9 $pid
        wait $pid
        $LOADER x.ckpt --plan > plan || exit 2
        [ "$(cat /proc/self/mountinfo)" = "$before" ] || exit 3
        $LOADER x.ckpt --detach --pid keep || exit 4
        grep -q 'shared:.* - sysfs own' /proc/$pid/mountinfo && exit 5
        grep -q 'shared:.* - sysfs sysfs' /proc/$pid/mountinfo || exit 6
        [ "$(cat /proc/self/mountinfo)" = "$before" ] || exit 7
        rm plan
    "#;
    if !machine::is_root() {
        return Err(Stopped::Skipped("it takes root".to_owned()));
    }
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "/bin/sh", "-c", SCRIPT]);
    for (variable, program) in [("DUMP", "ckpt-dump"), ("LOADER", "ckpt-loader")] {
        command.env(variable, place.tools.program(program));
    }
    let finished = tools::run(&mut command, &place.folder, "tool", User::Own)?;
    match finished.status.code() {
        Some(0) => Ok(()),
        Some(99) => Err(Stopped::Skipped("there are no such namespaces here".to_owned())),
        _ => Err(Stopped::Failed(format!("{}: {}", finished.status, finished.error))),
    }
}

/// The number of a pseudo-terminal is another one's: that is named, unless there can be namespaces.
fn terminal_taken(place: &Place<'_>) -> Outcome<()> {
    const TAKEN: usize = 64;
    let saved = Saved::make(place, &["watching"])?;
    let opened = || std::fs::File::options().read(true).write(true).open("/dev/ptmx");
    let others: Vec<_> = (0..TAKEN).map(|_| opened()).collect::<Result<_, _>>()?;
    for way in ["keep", "fresh"] {
        let finished = load(place, &[IMAGE, "--pid", way], User::Own)?;
        refused(&finished, CANNOT_RESUME, &["pseudo-terminal /dev/pts/", "is another one's"])?;
    }
    if saved.left(place)? != Left::Nothing {
        return Err(Stopped::Failed("it resumed".to_owned()));
    }
    drop(others);
    Ok(())
}

/// Standard error is closed, or a pipe that nobody reads: a status is told all the same, and no panic ends it.
fn nobody_listens(place: &Place<'_>) -> Outcome<()> {
    let [dump, loader] =
        ["ckpt-dump", "ckpt-loader"].map(|name| place.tools.program(name).display().to_string());
    for (command, status) in [(format!("{dump} 4194305"), 4), (format!("{loader} nowhere"), CANNOT_RESUME)] {
        for line in [
            format!("{command} 2>&-"),
            format!(
                "mkfifo f; (exec 3<f; sleep 0.1) & exec 4>f; sleep 0.3; {command} 2>&4; s=$?; rm f; exit $s"
            ),
        ] {
            let finished =
                tools::run(Command::new("/bin/sh").args(["-c", &line]), &place.folder, "tool", User::Own)?;
            if finished.status.code() != Some(status) {
                return Err(Stopped::Failed(format!("{line}: {}", finished.status)));
            }
        }
    }
    no_image(place)
}
