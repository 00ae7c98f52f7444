//! POSIX message queues. Messages can only be looked at by taking them: those of a queue with a name stay in it.

use super::Collected;
use super::descriptor::Open;
use super::file::DELETED;
use crate::allow::Allow;
use crate::error::Error;
use crate::sys;
use binfmt::note::Note;
use binfmt::note::descriptor::DescriptionKind;
use binfmt::note::mqueue::MessageQueue;
use nix::sys::statfs::fstatfs;
use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt};

/// MQUEUE_MAGIC
const MAGIC: i64 = 0x1980_0202;

/// Whether a descriptor leads to a message queue.
pub fn is_queue(open: &Open<'_>, duplicate: BorrowedFd<'_>) -> bool {
    // All are in the root of a filesystem of their own.
    let label = open.place.label.as_slice();
    let may_be = label.starts_with(b"/") && !label.get(1..).unwrap_or_default().contains(&b'/');
    may_be && fstatfs(duplicate).is_ok_and(|found| found.filesystem_type().0 == MAGIC)
}

/// Completes `description`, of which `duplicate` is one. All tasks are collected already.
pub fn collect(
    description: u32,
    open: &Open<'_>,
    duplicate: BorrowedFd<'_>,
    out: &mut Collected,
) -> Result<DescriptionKind, Error> {
    let pid = open.subject.pid();
    let failed = |error| Error::question(pid, format!("asking its message queue {}", open.number), error);
    let metadata = &open.place.metadata;
    let unlinked = metadata.nlink() == 0;
    let label = open.place.label.as_slice();
    let label = label.strip_suffix(DELETED).filter(|_| unlinked).unwrap_or(label);
    let [_, max_messages, message_bytes, messages] = sys::queue_attributes(duplicate).map_err(failed)?;
    let notified = notified(duplicate);
    let is_notified = |note: &Note| matches!(note, Note::Task(task) if task.pid == notified);
    if notified != 0 && out.notes.iter().any(is_notified) {
        let what = format!("a message queue that tells process {notified} of messages (mq_notify)");
        return Ok(open.not_saved(Allow::Mqueue, &what, out));
    }
    if unlinked && messages > 0 {
        let what = format!("a message queue without a name, which holds {messages} messages");
        return Ok(open.not_saved(Allow::Mqueue, &what, out));
    }
    out.note(MessageQueue {
        description,
        name: binfmt::wire::Text::from(label.strip_prefix(b"/").unwrap_or(label)),
        inode: metadata.ino(),
        unlinked,
        max_messages: max_messages.unsigned_abs(),
        message_bytes: message_bytes.unsigned_abs(),
        messages: messages.unsigned_abs(),
        mode: metadata.mode() & 0o7777,
        user: metadata.uid(),
        group: metadata.gid(),
    });
    Ok(DescriptionKind::MessageQueue)
}

/// Which process is told of a message; 0 for none. Opened anew, since a queue may have been opened for writing only.
fn notified(duplicate: BorrowedFd<'_>) -> u32 {
    let said = || {
        let mut text = [0; 128];
        let own = File::open(format!("/proc/self/fd/{}", duplicate.as_raw_fd())).ok()?;
        let len = own.read_at(&mut text, 0).ok()?;
        who(std::str::from_utf8(text.get(..len)?).ok()?)
    };
    said().unwrap_or(0)
}

/// `QSIZE:N NOTIFY:N SIGNO:N NOTIFY_PID:N` (mq_overview(7))
fn who(said: &str) -> Option<u32> {
    said.split_once("NOTIFY_PID:")?.1.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_queue_says_is_taken_apart() {
        assert_eq!(who("QSIZE:129        NOTIFY:0     SIGNO:10    NOTIFY_PID:8260  \n"), Some(8260));
        assert_eq!(who("QSIZE:0 NOTIFY:0"), None);
    }
}
