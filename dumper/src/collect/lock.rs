//! Locks and leases on files: the `lock` lines of a descriptor's fdinfo.

use super::{Collected, Subject};
use binfmt::note::lock::{FileLock, LockKind};

/// Which of the locks that a descriptor shows are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All: those of the description, and those of the table of descriptors.
    All,
    /// Those of the table: POSIX locks, which each table shows for itself.
    OfTable,
}

/// Collects the locks taken through a description; `info` is the fdinfo of one of the process's descriptors.
pub fn collect(subject: &Subject<'_>, description: u32, info: &str, which: Which, out: &mut Collected) {
    for line in info.lines().filter_map(|line| line.strip_prefix("lock:")) {
        match parse(line) {
            Some(lock) if which == Which::OfTable && lock.kind != LockKind::Posix => {}
            Some(lock) => out.note(FileLock { pid: subject.pid_number(), description, ..lock }),
            None if which == Which::OfTable => {}
            None => out.unsupported(
                format!("a lock of an unknown kind is held ({})", line.trim()),
                "wait until the program has released it",
            ),
        }
    }
}

/// `N: KIND MODE TYPE PID DEVICE:INODE START END` (Documentation/filesystems/proc.rst, 3.8 and 1.8).
fn parse(line: &str) -> Option<FileLock> {
    let mut words = line.split_whitespace().skip(1);
    let kind = match words.next()? {
        "FLOCK" => LockKind::Flock,
        "POSIX" => LockKind::Posix,
        "OFDLCK" => LockKind::OpenFile,
        "LEASE" => LockKind::Lease,
        _ => return None,
    };
    let _mode = words.next()?;
    let exclusive = match words.next()? {
        "WRITE" => true,
        "READ" => false,
        _ => return None,
    };
    let mut words = words.skip(2);
    let start: u64 = words.next()?.parse().ok()?;
    let len_bytes = match words.next()? {
        "EOF" => 0,
        end => end.parse::<u64>().ok()?.checked_sub(start)?.checked_add(1)?,
    };
    Some(FileLock { kind, exclusive, start, len_bytes, ..FileLock::default() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_taken_apart() {
        let lock = parse("\t1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF").expect("as proc(5) shows it");
        assert_eq!((lock.kind, lock.exclusive, lock.start, lock.len_bytes), (LockKind::Flock, true, 0, 0));
        let lock = parse("\t2: OFDLCK ADVISORY  READ  -1 08:01:99 10 19").expect("a range");
        assert_eq!(
            (lock.kind, lock.exclusive, lock.start, lock.len_bytes),
            (LockKind::OpenFile, false, 10, 10)
        );
        assert_eq!(parse("1: POSIX  ADVISORY  WRITE 3 08:01:99 10 10").map(|lock| lock.len_bytes), Some(1));
        assert_eq!(parse("1: POSIX  ADVISORY  WRITE 3 08:01:99 10 9"), None, "it ends before it begins");
        assert_eq!(parse("1: DELEG  ACTIVE READ 3 08:01:99 0 EOF"), None);
        assert_eq!(parse(""), None);
    }
}
