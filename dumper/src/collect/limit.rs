//! The resource limits, from `/proc/PID/limits`: `prlimit` on another user's process needs CAP_SYS_RESOURCE.

use super::{Collected, Subject};
use crate::error::Error;
use crate::procdir::ProcDir;
use binfmt::note::limit::{Limit, ResourceLimit};

/// Looks what they are.
pub fn look(proc: ProcDir) -> Result<Vec<ResourceLimit>, Error> {
    parse(&proc.text("limits")?).ok_or_else(|| {
        Error::question(proc.pid(), "reading its limits", "the kernel's answer makes no sense")
    })
}

/// Collects the limits.
pub fn collect(subject: &Subject<'_>, out: &mut Collected) {
    out.note(Limit { pid: subject.pid_number(), limits: subject.seen.limits.clone() });
}

/// The lines stand in the order of RLIMIT_*; the names end at column 26 (fs/proc/base.c).
fn parse(text: &str) -> Option<Vec<ResourceLimit>> {
    let number = |word: &str| if word == "unlimited" { Some(u64::MAX) } else { word.parse().ok() };
    let lines = text.lines().skip(1).enumerate();
    lines
        .map(|(resource, line)| {
            let mut words = line.get(26..)?.split_whitespace();
            Some(ResourceLimit {
                resource: u32::try_from(resource).ok()?,
                soft: number(words.next()?)?,
                hard: number(words.next()?)?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_taken_apart() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max cpu time              unlimited            unlimited            seconds   \n\
                    Max realtime priority     0                    99                   \n";
        let limits = parse(text).expect("as the kernel prints them");
        assert_eq!(limits[0], ResourceLimit { resource: 0, soft: u64::MAX, hard: u64::MAX });
        assert_eq!(limits[1], ResourceLimit { resource: 1, soft: 0, hard: 99 });
        assert_eq!(parse("Limit\nMax cpu time\n"), None);
    }
}
