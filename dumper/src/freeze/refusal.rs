//! Why a task cannot be frozen, for the person who asked.

use super::has_ended;
use crate::error::Error;
use crate::parse;
use crate::procdir::ProcDir;
use binfmt::address::{Pid, Tid};
use nix::errno::Errno;

/// Its leader has ended while other threads run.
pub(super) fn leaderless(pid: Pid) -> Error {
    let cause = "its main thread has ended while others run";
    Error::target(pid, cause, "such a process cannot be saved")
}

/// The kernel does not let us seize a thread that is still there.
pub(super) fn refused(pid: Pid, tid: Tid, error: Errno) -> Error {
    let status = ProcDir::new(pid).thread_text(tid, "status").unwrap_or_default();
    let tracer = parse::decimal(&status, "TracerPid").and_then(|tracer| i32::try_from(tracer).ok());
    if let Some(tracer) = tracer.filter(|tracer| *tracer != 0) {
        let cause = format!("it is being traced by {}", ProcDir::new(Pid(tracer)).whom());
        return Error::target(pid, cause, "a process has one tracer at a time: detach that one first");
    }
    Error::target(
        pid,
        format!("the kernel does not let us freeze it ({error})"),
        remedy(std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").ok().as_deref()),
    )
}

/// What to do where a task may not be traced, with this setting of Yama, if there is one (see
/// Documentation/admin-guide/LSM/Yama.rst of the kernel).
fn remedy(ptrace_scope: Option<&str>) -> &'static str {
    match ptrace_scope.map(str::trim) {
        Some("1") => {
            "run as root: kernel.yama.ptrace_scope is 1, so users may trace only what they have started; with 0, all that \
             is theirs"
        }
        Some("2") => "run as root: kernel.yama.ptrace_scope is 2, so users may trace nothing",
        Some("3") => "kernel.yama.ptrace_scope is 3: nobody may trace anything until the next boot",
        _ => "run as its user, or as root; see ptrace(2), ptrace access mode checking",
    }
}

/// A thread does not stop in time.
pub(super) fn late(pid: Pid, tid: Tid, error: Errno) -> Error {
    let proc = ProcDir::new(pid);
    if let Some(children) = vfork_children(proc, tid) {
        return Error::target(
            pid,
            format!("it waits in vfork for {children} to call execve or to end"),
            "such a wait cannot be interrupted: try again, wait longer with --timeout, or end that child",
        );
    }
    let state = proc.thread_text(tid, "wchan").unwrap_or_default();
    let place = if matches!(state.as_str(), "" | "0") { String::new() } else { format!(" (in {state})") };
    Error::target(
        pid,
        format!("thread {tid} does not stop{place}: {error}"),
        "it waits in the kernel, for a disk or a device; try again, or wait longer with --timeout",
    )
}

/// The children that a thread waits for in vfork(2) or its kin: those of its own that have not called execve.
fn vfork_children(proc: ProcDir, tid: Tid) -> Option<String> {
    let number = parse::syscall_number(&proc.thread_text(tid, "syscall").ok()?)?;
    let waits = [libc::SYS_vfork, libc::SYS_clone, libc::SYS_clone3].contains(&number);
    if !waits || has_ended(proc.pid(), tid) {
        return None;
    }
    let children = proc.thread_text(tid, "children").ok()?;
    let children = children.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid);
    let named: Vec<String> = children
        .filter(|child| {
            let stat = ProcDir::new(*child).text("stat").unwrap_or_default();
            parse::stat_fields(&stat).is_some_and(|fields| {
                let flags: u64 = fields.get(8).and_then(|flags| flags.parse().ok()).unwrap_or_default();
                flags & parse::PF_FORKNOEXEC != 0 && fields.get(2) != Some(&"Z")
            })
        })
        .map(|child| ProcDir::new(child).whom())
        .collect();
    Some(if named.is_empty() { "a child".to_owned() } else { named.join(", ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yama_is_named_where_it_forbids() {
        assert!(remedy(None).contains("as its user") && remedy(Some("0\n")).contains("as its user"));
        for scope in ["1", "2", "3"] {
            assert!(remedy(Some(&format!("{scope}\n"))).contains(&format!("ptrace_scope is {scope}")));
        }
    }
}
