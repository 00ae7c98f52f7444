//! Every system call of a dump and of a resume is failed in turn: nothing hangs, nothing panics, no task stays stopped, a
//! dump that says it worked has written the same image, and a resume that did not work leaves nothing.

use crate::loader_killed::{Saved, loader};
use crate::{IMAGE, Place, Test, instants, sampled};
use ckpt_tests::aftermath::Left;
use ckpt_tests::target::Target;
use ckpt_tests::tools::User;
use ckpt_tests::tracer::{self, Deed, Traced};
use ckpt_tests::{Outcome, Stopped};
use nix::errno::Errno;
use nix::sys::wait::WaitStatus;
use std::fs;
use std::path::Path;
use std::time::Duration;

pub(crate) const TESTS: &[(&str, Test)] = &[
    ("calls_failed::dump_of_still", |place| dump(place, &["still"], 400)),
    ("calls_failed::dump_of_many", |place| dump(place, &["many"], 120)),
    ("calls_failed::dump_of_passing", |place| dump(place, &["passing"], 120)),
    ("calls_failed::keep_small", |place| resume(place, &["small"], "keep", 120)),
    ("calls_failed::keep_many", |place| resume(place, &["many"], "keep", 100)),
    ("calls_failed::keep_passing", |place| resume(place, &["passing"], "keep", 120)),
    ("calls_failed::keep_segments", |place| resume(place, &["segments"], "keep", 120)),
    ("calls_failed::keep_watching", |place| resume(place, &["watching"], "keep", 120)),
    ("calls_failed::fresh", |place| resume(place, &["small"], "fresh", 120)),
];

const PATIENCE: Duration = Duration::from_secs(40);

/// Calls that cannot fail as we make them fail. A failed futex ends a program in the C library, a failed close of a
/// directory in Rust's own library; the kernel answers brk with where the break is, never with an error; and who one is can
/// always be asked.
const NEVER_FAIL: [i64; 9] = [
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_rt_sigreturn,
    libc::SYS_futex,
    libc::SYS_close,
    libc::SYS_brk,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
];

fn errors(index: usize) -> Errno {
    if index.is_multiple_of(2) { Errno::ENOMEM } else { Errno::EIO }
}

fn dump(place: &Place<'_>, args: &[&str], usual: usize) -> Outcome<()> {
    let target = Target::start(place.tools, &place.folder, args, User::Own)?;
    let command = place.dumper(target.pid, &["-o", IMAGE]);
    let start = tracer::calls_of_start(&place.tools.program("ckpt-dump"))?;
    let whole = tracer::run(&command, None, PATIENCE)?;
    let still = args == ["still"];
    let reference = fs::read(place.path(IMAGE))?;
    fs::remove_file(place.path(IMAGE))?;
    let (mut failed, mut bad) = (0, Vec::new());
    for (index, at) in sampled(whole.calls.len(), instants(usual)).into_iter().enumerate() {
        if whole.calls.get(at).is_none_or(|call| NEVER_FAIL.contains(&call.number)) {
            continue;
        }
        forget(place);
        let error = errors(index);
        let traced = tracer::run(&command, Some((at, Deed::Fail(error))), PATIENCE)?;
        if never_fails(&traced, at) {
            let _ = fs::remove_file(place.path(IMAGE));
            continue;
        }
        let judged = judge_dump(place, &traced, is_start(&traced, at, start), still.then_some(&reference));
        let judged = judged.and_then(|()| target.is_unharmed());
        failed += usize::from(traced.done);
        if let Err(error_found) = judged {
            let call = traced.calls.get(at);
            bad.push(format!(
                "call {at} of {} fails with {error}: {call:?}: {error_found:?}",
                whole.calls.len()
            ));
        }
        let _ = fs::remove_file(place.path(IMAGE));
    }
    let pid = target.pid;
    let ended = match still {
        true => {
            drop(target);
            Ok(())
        }
        false => target.ends_well(),
    };
    ckpt_tests::aftermath::remove_socket(pid);
    ended?;
    told(args, failed, &bad)
}

/// Whether call `at` is among the first that a process makes after its start, or after the loader's second one, or a
/// thread after its: they are the C library's and Rust's own. Their number is `start` for a process.
fn is_start(traced: &Traced, at: usize, start: usize) -> bool {
    const PR_SET_MM_MAP: u64 = 14;
    let Some(call) = traced.calls.get(at) else { return false };
    let earlier = || traced.calls.iter().take(at).filter(|earlier| earlier.by == call.by);
    // A thread registers itself first, and last it asks whether it has a stack for signals, and takes one.
    if earlier().next().unwrap_or(call).number == libc::SYS_rseq
        && earlier().filter(|earlier| earlier.number == libc::SYS_sigaltstack).count() < 2
    {
        return true;
    }
    // What was forked goes on in the middle.
    let mut since = call.by_first.then_some(0);
    for earlier in earlier() {
        let set_mm = [u64::from(libc::PR_SET_MM.unsigned_abs()), PR_SET_MM_MAP];
        let again = earlier.number == libc::SYS_execve
            || (earlier.number == libc::SYS_prctl && earlier.args.starts_with(&set_mm));
        since = match since {
            _ if again => Some(0),
            Some(count) if count < start => Some(count + 1),
            _ => None,
        };
    }
    since.is_some()
}

/// What two runs make at this place may differ: what is not to be failed was failed then, and says nothing.
fn never_fails(traced: &Traced, at: usize) -> bool {
    traced.calls.get(at).is_none_or(|call| NEVER_FAIL.contains(&call.number))
}

fn told(args: &[&str], failed: usize, bad: &[String]) -> Outcome<()> {
    println!("{args:?}: {failed} calls failed");
    match bad {
        [] if failed > 0 => Ok(()),
        [] => Err(Stopped::Failed("no call was failed".to_owned())),
        bad => Err(Stopped::Failed(format!("{} of {failed}:\n{}", bad.len(), bad.join("\n")))),
    }
}

/// What the program before printed.
fn forget(place: &Place<'_>) {
    for name in ["traced.out", "traced.err"] {
        let _ = fs::remove_file(place.path(name));
    }
}

fn said(place: &Place<'_>) -> String {
    fs::read_to_string(place.path("traced.err")).unwrap_or_default()
}

/// Neither hung nor panicked. In its first calls the C library and Rust's own start give up by SIGABRT or with 127,
/// before anything of ours runs; there is nobody to tell then.
fn ended_decently(place: &Place<'_>, traced: &Traced, in_start: bool) -> Outcome<Option<i32>> {
    let said = said(place);
    let failed = |what: &str| Err(Stopped::Failed(format!("{what}: {:?} {said}", traced.status)));
    if traced.hung {
        return failed("it hangs");
    }
    match traced.status {
        _ if in_start => Ok(None),
        _ if said.contains("panicked") => failed("it panics"),
        Some(WaitStatus::Exited(_, code @ (101 | 134))) => failed(&format!("status {code}")),
        Some(WaitStatus::Exited(_, 0)) => Ok(Some(0)),
        Some(WaitStatus::Exited(_, code)) if said.contains("cannot ") => Ok(Some(code)),
        Some(WaitStatus::Exited(..)) => failed("it does not say what is wrong"),
        None => Ok(Some(0)),
        _ => failed("it was ended by a signal"),
    }
}

fn judge_dump(
    place: &Place<'_>,
    traced: &Traced,
    in_start: bool,
    reference: Option<&Vec<u8>>,
) -> Outcome<()> {
    let code = ended_decently(place, traced, in_start)?;
    let failed = |what: String| Err(Stopped::Failed(format!("{what}; it says: {}", said(place))));
    let image = place.path(IMAGE);
    let litter = place.litter(&[IMAGE])?;
    if !litter.is_empty() {
        return failed(format!("it left {litter:?}"));
    }
    match code {
        Some(0) => {
            place.verify(&image)?;
            match reference {
                Some(reference) => same(reference, &image),
                None => Ok(()),
            }
        }
        Some(3..=7) if image.exists() => failed("it failed, and there is an image".to_owned()),
        Some(3..=7) | None => Ok(()),
        Some(code) => failed(format!("status {code} is not documented")),
    }
}

/// A target that does nothing gives the same image every time, but for what counts the time that passes.
fn same(reference: &[u8], image: &Path) -> Outcome<()> {
    let bytes = fs::read(image)?;
    if bytes.len() != reference.len() {
        let (has, had) = (bytes.len(), reference.len());
        return Err(Stopped::Failed(format!("the image has {has} bytes and should have {had}")));
    }
    Ok(())
}

fn resume(place: &Place<'_>, args: &[&str], identity: &str, usual: usize) -> Outcome<()> {
    let saved = Saved::make(place, args)?;
    let command = loader(place, identity);
    let start = tracer::calls_of_start(&place.tools.program("ckpt-loader"))?;
    let whole = tracer::run(&command, None, PATIENCE)?;
    saved.left(place)?;
    let (mut failed, mut bad) = (0, Vec::new());
    for (index, at) in sampled(whole.calls.len(), instants(usual)).into_iter().enumerate() {
        if whole.calls.get(at).is_none_or(|call| NEVER_FAIL.contains(&call.number)) {
            continue;
        }
        forget(place);
        let error = errors(index);
        let traced = tracer::run(&command, Some((at, Deed::Fail(error))), PATIENCE)?;
        if never_fails(&traced, at) {
            saved.left(place)?;
            continue;
        }
        let judged = judge_resume(place, &saved, &traced, is_start(&traced, at, start));
        failed += usize::from(traced.done);
        if let Err(error_found) = judged {
            let call = traced.calls.get(at);
            bad.push(format!(
                "call {at} of {} fails with {error}: {call:?}: {error_found:?}",
                whole.calls.len()
            ));
        }
    }
    told(args, failed, &bad)
}

fn judge_resume(place: &Place<'_>, saved: &Saved, traced: &Traced, in_start: bool) -> Outcome<()> {
    let left = saved.left(place)?;
    // Where the process itself becomes the program, a helper that fails ends it by a signal, and says why.
    let by_helper =
        matches!(traced.status, Some(WaitStatus::Signaled(_, nix::sys::signal::Signal::SIGKILL, _)));
    let by_helper = by_helper || (traced.status.is_none() && left == Left::Nothing);
    let code = match by_helper && said(place).contains("cannot ") && !traced.hung {
        true => Some(125),
        false => ended_decently(place, traced, in_start)?,
    };
    match (code, left) {
        (Some(0), Left::Nothing) => {
            Err(Stopped::Failed(format!("it ended well, and there is no program: {}", said(place))))
        }
        (Some(125), Left::Program(_)) => {
            Err(Stopped::Failed(format!("it failed, and the program runs: {}", said(place))))
        }
        (Some(0 | 125) | None, _) => Ok(()),
        (Some(code), _) => Err(Stopped::Failed(format!("status {code} is not documented: {}", said(place)))),
    }
}
