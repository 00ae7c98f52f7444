//! Control groups: what `/proc/PID/cgroup` says, as it looks from the dumper's cgroup namespace.

use super::{Collected, Subject};
use crate::error::Error;
use crate::procdir::ProcDir;
use binfmt::note::cgroup::{self, Cgroup, CgroupMembership};

/// The groups of a process; none where the kernel has no such thing.
pub fn look(proc: ProcDir) -> Result<Vec<CgroupMembership>, Error> {
    proc.text_if_there("cgroup").map(|text| cgroup::parse(&text))
}

/// Collects the groups of a process.
pub fn collect(subject: &Subject<'_>, out: &mut Collected) {
    let memberships = subject.seen.cgroups.clone();
    if !memberships.is_empty() {
        out.note(Cgroup { pid: subject.pid_number(), memberships });
    }
}
