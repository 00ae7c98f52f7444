//! Pidfds: of whom they are stands in `/proc/PID/fdinfo`. Who is not of the tree is not there at a resume.

use super::Collected;
use super::descriptor::Open;
use crate::allow::Allow;
use crate::error::Error;
use crate::parse;
use binfmt::note::Note;
use binfmt::note::descriptor::DescriptionKind;
use binfmt::note::pidfd::Pidfd;

/// Completes `description`, or says what stands against it. All tasks and threads are collected already.
pub fn collect(description: u32, open: &Open<'_>, out: &mut Collected) -> Result<DescriptionKind, Error> {
    let whose = parse::value(&open.info, "Pid").and_then(|pid| pid.parse::<i32>().ok());
    let pid = whose.ok_or_else(|| open.makes_no_sense())?;
    let is_it = |note: &Note| match note {
        Note::Task(task) => task.pid == pid.cast_unsigned(),
        Note::Thread(thread) => thread.tid == pid.cast_unsigned(),
        _ => false,
    };
    if pid > 0 && out.notes.iter().any(is_it) {
        out.note(Pidfd { description, pid: pid.cast_unsigned() });
        return Ok(DescriptionKind::Pidfd);
    }
    let whose = match pid {
        1.. => format!("process {pid}, which is not of the tree"),
        // Of another pid namespace.
        0 => "a process that cannot be seen from here".to_owned(),
        _ => "a process that has ended and was waited for".to_owned(),
    };
    Ok(open.not_saved(Allow::Pidfd, &format!("a pidfd of {whose}"), out))
}
