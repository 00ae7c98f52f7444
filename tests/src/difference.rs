//! Two snapshots compared, and the differences that are known.
//!
//! The table is short, and every row has its reason. A row that allows too much hides a defect: it names the narrowest
//! set of keys, and says how much where it can.

use crate::snapshot::Snapshot;
use std::collections::BTreeSet;

/// What happened between the two snapshots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Between {
    /// A checkpoint was made of the process, and it ran on.
    Dump,
    /// It was killed, and resumed with its old pid.
    Resume,
    /// It was resumed with its old pid in namespaces of its own.
    Namespace,
    /// The same by somebody without privileges, in a user namespace too.
    UserNamespace,
    /// It was resumed with a new pid.
    Fresh,
    /// It was resumed with a new pid by somebody without privileges.
    Unprivileged,
}

impl Between {
    /// Whether what is explained by `other` is explained by this too.
    fn implies(self, other: Between) -> bool {
        match other {
            Between::Dump => true,
            Between::Resume => self != Between::Dump,
            Between::Namespace => matches!(self, Between::Namespace | Between::UserNamespace),
            Between::Fresh => matches!(self, Between::Fresh | Between::Unprivileged),
            Between::UserNamespace | Between::Unprivileged => self == other,
        }
    }
}

/// How much a value may change.
enum Change {
    Any,
    /// At most so much more; it may be any amount less.
    GrowsByAtMost(u64),
    /// Nothing but these bits, of a decimal number.
    Bits(u64),
}

struct Known {
    /// `*` stands for anything.
    key: &'static str,
    /// From which event on.
    since: Between,
    change: Change,
    #[allow(dead_code, reason = "the reason is for the reader of this table")]
    reason: &'static str,
}

const fn known(key: &'static str, since: Between, change: Change, reason: &'static str) -> Known {
    Known { key, since, change, reason }
}

use Between::{Dump, Fresh, Namespace, Resume, Unprivileged, UserNamespace};
use Change::{Any, Bits, GrowsByAtMost};

const COUNTER: &str = "a counter of what the task has done so far";
const PRESENT: &str = "clean pages come when they are touched, and go as the kernel likes";
const ANOTHER_LIFE: &str = "counts from the start of this process";
const OBJECT: &str = "pages of a shared object are mapped when they are touched";
const OWN: &str = "namespaces of its own, as was asked";
const NEW_PID: &str = "it has a new pid, as was asked";

/// Every difference that is no defect.
const TABLE: &[Known] = &[
    known("task/*/stat/minflt", Dump, Any, COUNTER),
    known("task/*/stat/majflt", Dump, Any, COUNTER),
    known("task/*/stat/utime", Dump, Any, COUNTER),
    known("task/*/stat/stime", Dump, Any, COUNTER),
    known("task/*/stat/guest_time", Dump, Any, COUNTER),
    known("task/*/stat/delayacct_blkio_ticks", Dump, Any, COUNTER),
    known("task/*/stat/processor", Dump, Any, "the scheduler moves it"),
    known("task/*/status/*voluntary_ctxt_switches", Dump, Any, COUNTER),
    known("task/*/status/SigQ", Dump, Any, "counts the signals of all processes of the user"),
    known("task/*/stat/rss", Dump, Any, PRESENT),
    known("task/*/status/VmRSS", Dump, Any, PRESENT),
    known("task/*/status/RssFile", Dump, Any, PRESENT),
    known("task/*/status/RssShmem", Dump, Any, PRESENT),
    known(
        "task/*/status/RssAnon",
        Dump,
        GrowsByAtMost(64),
        "the guest's own next steps; checked per mapping below",
    ),
    known("task/*/status/VmHWM", Dump, Any, "the highest VmRSS so far"),
    known(
        "task/*/status/VmPeak",
        Dump,
        Any,
        "the highest VmSize so far, with the dumper's or the loader's pages",
    ),
    known("task/*/status/VmPTE", Dump, Any, "page tables of the pages above"),
    known("task/*/status/VmSwap", Dump, Any, PRESENT),
    known(
        "smaps/*/Anonymous",
        Dump,
        GrowsByAtMost(16),
        "the guest's own next steps, and one page of [vdso], where the stub ran; never a page that was not present",
    ),
    known("timers", Dump, Any, "counts down; the cases of timers look closer"),
    known("fd/*/it_value", Dump, Any, "a timerfd counts down; the cases of timerfds look closer"),
    known("task/*/stat/flags", Dump, Bits(0x100), "PF_SUPERPRIV: whether it ever used a privilege"),
    known(
        "task/*/stat/flags",
        Resume,
        Bits(0x0040_0000),
        "PF_RANDOMIZE: whether the loader's exec drew addresses",
    ),
    known("task/*/stat/starttime", Resume, Any, ANOTHER_LIFE),
    known("task/*/stat/cminflt", Resume, Any, ANOTHER_LIFE),
    known("task/*/stat/cmajflt", Resume, Any, ANOTHER_LIFE),
    known("task/*/stat/cutime", Resume, Any, ANOTHER_LIFE),
    known("task/*/stat/cstime", Resume, Any, ANOTHER_LIFE),
    known("task/*/stat/cguest_time", Resume, Any, ANOTHER_LIFE),
    known("autogroup", Resume, Any, "belongs to the session"),
    known("smaps/*/Private_Hugetlb", Resume, GrowsByAtMost(0), OBJECT),
    known("smaps/*/Shared_Hugetlb", Resume, GrowsByAtMost(0), OBJECT),
    known("task/*/status/HugetlbPages", Resume, GrowsByAtMost(0), OBJECT),
    known(
        "task/*/status/FDSize",
        Resume,
        Any,
        "room for descriptors that were open once, the loader's above the task's, too",
    ),
    known(
        "exe",
        Unprivileged,
        Any,
        "PR_SET_MM_EXE_FILE needs CAP_CHECKPOINT_RESTORE; the message of the loader says so",
    ),
    known("ns/pid", Namespace, Any, OWN),
    known("ns/pid_for_children", Namespace, Any, OWN),
    known("ns/mnt", Namespace, Any, OWN),
    known("ns/ipc", Namespace, Any, OWN),
    known("fd/*/mnt_id", Namespace, Any, OWN),
    known("ns/user", UserNamespace, Any, OWN),
    known("uid_map", UserNamespace, Any, OWN),
    known("gid_map", UserNamespace, Any, OWN),
    known("projid_map", UserNamespace, Any, OWN),
    known("setgroups", UserNamespace, Any, OWN),
    known("pid", Fresh, Any, NEW_PID),
    known("task/*/tid", Fresh, Any, NEW_PID),
];

/// The differences that nothing explains, one line each; `extra` are keys that may differ in this case alone.
pub fn unexplained(
    before: &Snapshot,
    after: &Snapshot,
    between: Between,
    extra: &[(String, String)],
) -> Vec<String> {
    let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    keys.into_iter()
        .filter(|key| !extra.iter().any(|(pattern, _)| matches(pattern, key)))
        .filter_map(|key| {
            let (was, is) = (before.get(key), after.get(key));
            if of_missing_thread(key, before) || of_missing_thread(key, after) {
                return None;
            }
            let same = was == is;
            let explained = || {
                let rows = TABLE.iter().filter(|row| between.implies(row.since) && matches(row.key, key));
                explains(rows, was.map(String::as_str), is.map(String::as_str))
            };
            if same || explained() { None } else { Some(line(key, was, is)) }
        })
        .collect()
}

/// Whether `key` is a detail of a thread that is not in `snapshot`; that it is not there is told once.
fn of_missing_thread(key: &str, snapshot: &Snapshot) -> bool {
    let Some((index, detail)) = key.strip_prefix("task/").and_then(|rest| rest.split_once('/')) else {
        return false;
    };
    detail != "tid" && !snapshot.contains_key(&format!("task/{index}/tid"))
}

fn line(key: &str, was: Option<&String>, is: Option<&String>) -> String {
    match (was, is) {
        (Some(was), Some(is)) => format!("{key}: was `{was}`, is `{is}`"),
        (Some(was), None) => format!("{key}: was `{was}`, is gone"),
        (None, is) => format!("{key}: is new, `{}`", is.map_or("", String::as_str)),
    }
}

/// Whether the rows that speak of a key together allow this change of its value.
fn explains<'a>(rows: impl Iterator<Item = &'a Known>, was: Option<&str>, is: Option<&str>) -> bool {
    let mut free_bits = 0;
    for row in rows {
        match (&row.change, was, is) {
            (Any, Some(_), Some(_)) => return true,
            (GrowsByAtMost(limit), Some(was), Some(is)) => {
                let (was, is) = (number(was), number(is));
                if was.zip(is).is_some_and(|(was, is)| is <= was + limit) {
                    return true;
                }
            }
            (Bits(mask), ..) => free_bits |= mask,
            _ => {}
        }
    }
    // Without such a row, values that only begin with the same number differ.
    free_bits != 0
        && was.and_then(number).zip(is.and_then(number)).is_some_and(|(was, is)| (was ^ is) & !free_bits == 0)
}

/// The number at the start of a value such as `128 kB`.
fn number(value: &str) -> Option<u64> {
    value.split(' ').next().and_then(|digits| digits.parse().ok())
}

/// Whether `key` is one that `pattern` speaks of; `*` stands for any run of characters.
fn matches(pattern: &str, key: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == key,
        Some((head, tail)) => key.strip_prefix(head).is_some_and(|rest| {
            tail.is_empty()
                || rest
                    .char_indices()
                    .map(|(at, _)| at)
                    .chain([rest.len()])
                    .any(|at| rest.get(at..).is_some_and(|end| matches(tail, end)))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(entries: &[(&str, &str)]) -> Snapshot {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn patterns_stand_for_runs() {
        assert!(matches("task/*/tid", "task/12/tid"));
        assert!(matches(
            "task/*/status/*voluntary_ctxt_switches",
            "task/0/status/nonvoluntary_ctxt_switches"
        ));
        assert!(matches("maps/*", "maps/"));
        assert!(!matches("task/*/tid", "task/12/tid2"));
        assert!(!matches("pid", "pids"));
    }

    #[test]
    fn a_change_is_told_with_both_values() {
        let lines = unexplained(
            &snapshot(&[("cwd", "/a"), ("x", "1")]),
            &snapshot(&[("cwd", "/b"), ("y", "2")]),
            Dump,
            &[],
        );
        assert_eq!(lines, ["cwd: was `/a`, is `/b`", "x: was `1`, is gone", "y: is new, `2`"]);
    }

    #[test]
    fn a_thread_that_is_gone_is_told_once() {
        let two = [("task/0/tid", "5"), ("task/1/tid", "6"), ("task/1/stat/nice", "0")];
        let lines = unexplained(&snapshot(&two), &snapshot(&two[..1]), Dump, &[]);
        assert_eq!(lines, ["task/1/tid: was `6`, is gone"]);
    }

    #[test]
    fn what_is_known_is_known_only_from_its_event_on() {
        let [one, two] = ["1", "2"].map(|pid| snapshot(&[("pid", pid)]));
        assert_eq!(unexplained(&one, &two, Resume, &[]).len(), 1);
        assert!(unexplained(&one, &two, Fresh, &[]).is_empty());
        assert!(unexplained(&one, &two, Dump, &[("p*".to_owned(), "a reason".to_owned())]).is_empty());
    }

    #[test]
    fn memory_may_grow_a_little_and_flags_change_in_known_bits() {
        let grown = |by: u64| {
            let after = snapshot(&[("smaps/1-2/Anonymous", &format!("{} kB", 100 + by))]);
            unexplained(&snapshot(&[("smaps/1-2/Anonymous", "100 kB")]), &after, Resume, &[]).len()
        };
        assert_eq!((grown(0), grown(16), grown(17)), (0, 0, 1));
        let flags = |bits: u64| snapshot(&[("task/0/tid", "1"), ("task/0/stat/flags", &bits.to_string())]);
        let flagged = |bits: u64, between| unexplained(&flags(0), &flags(bits), between, &[]).len();
        assert_eq!((flagged(0x100, Dump), flagged(0x40_0000, Dump), flagged(0x40_0100, Resume)), (0, 1, 0));
        assert_eq!(flagged(0x40, Resume), 1, "PF_FORKNOEXEC is never explained");
        let watches = |events: &str| snapshot(&[("fd/4/watches.0", &format!("3 events: {events}"))]);
        let differ = unexplained(&watches("40000000"), &watches("40000018"), Resume, &[]);
        assert_eq!(differ.len(), 1, "the number that a value begins with is not all of it");
    }
}
