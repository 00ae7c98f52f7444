//! Control groups (cgroups(7)).

use crate::wire::{Text, record};

record! {
    /// The control groups of a process.
    pub struct Cgroup {
        /// Which process.
        pid: u32,
        /// One for each hierarchy of the host.
        memberships: Vec<CgroupMembership>,
    }

    /// The control group of a process in one hierarchy.
    pub struct CgroupMembership {
        /// The hierarchy's controllers, or its name (`name=systemd`), as `/proc/PID/cgroup` has them; empty for that of version 2.
        hierarchy: Text,
        /// The path of the group, from the hierarchy's root as the dumper saw it.
        path: Text,
    }
}

/// What a `/proc/PID/cgroup` says: lines `ID:HIERARCHY:PATH`.
pub fn parse(text: &str) -> Vec<CgroupMembership> {
    let membership = |line: &str| {
        let (_, rest) = line.split_once(':')?;
        let (hierarchy, path) = rest.split_once(':')?;
        Some(CgroupMembership { hierarchy: hierarchy.into(), path: path.into() })
    };
    text.lines().filter_map(membership).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let all = parse("4:cpu,cpuacct:/a:b\n1:name=systemd:/\n0::/user.slice\nnonsense\n");
        let all: Vec<_> = all.iter().map(|it| (it.hierarchy.to_string(), it.path.to_string())).collect();
        let wanted = [("cpu,cpuacct", "/a:b"), ("name=systemd", "/"), ("", "/user.slice")];
        assert_eq!(all, wanted.map(|(hierarchy, path)| (hierarchy.to_owned(), path.to_owned())));
    }
}
