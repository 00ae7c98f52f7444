//! Namespaces (namespaces(7)) of all kinds but that of pids, which is a word of its own.
//!
//! Where all tasks live in the namespace of a kind in which the dumper lives, the image does not speak of that kind. Where one
//! does not, there is a note for each namespace of that kind in which tasks live, also for the dumper's own.
//!
//! At the resume a namespace is entered if it still exists, and is made anew otherwise. Its inode does not tell: Linux gives the
//! number of one that is gone to the next. Since 6.18 each has an id as well that is given once in a boot
//! ([`crate::note::host::Host`]); before, only one of a network that has a name is found again.

use crate::note::cgroup::CgroupMembership;
use crate::wire::{Text, enumeration, record};
use std::fs::File;

enumeration! {
    /// What a namespace is of.
    pub enum NamespaceKind: u8 {
        /// Host name and domain name (uts_namespaces(7)).
        Uts = 0,
        /// System V objects and POSIX message queues (ipc_namespaces(7)).
        Ipc = 1,
        /// Networks (network_namespaces(7)).
        Net = 2,
        /// Mounts (mount_namespaces(7)).
        Mount = 3,
        /// Clocks (time_namespaces(7)).
        Time = 4,
        /// Roots of control groups (cgroup_namespaces(7)).
        Cgroup = 5,
        /// Ids and capabilities (user_namespaces(7)).
        User = 6,
    }
}

enumeration! {
    /// How mounts come from one mount namespace to another (mount_namespaces(7)).
    pub enum Propagation: u8 {
        /// Not at all.
        Private = 0,
        /// Those that are made outside are seen inside.
        Slave = 1,
        /// In both directions.
        Shared = 2,
    }
}

record! {
    /// A namespace in which tasks live. What is not of its kind is empty.
    pub struct Namespace {
        /// Its number, from 1.
        id: u32,
        /// What it is of.
        kind: NamespaceKind,
        /// Its inode in nsfs (`/proc/PID/ns/...`).
        inode: u64,
        /// Its id, which is given once in a boot (NS_GET_ID, Linux 6.18); 0 if the kernel does not tell.
        unique: u64,
        /// Whether the dumper lived in it. Its content is not recorded then.
        dumpers: bool,
        /// Which `Namespace` of users owns it, or is its parent if it is one; 0 for the dumper's.
        owner: u32,
        /// Process ids of the tasks that live in it.
        members: Vec<u32>,
        /// A name by which it can be found, as `ip netns` gives it (`/run/netns/NAME`).
        path: Text,
        /// Host name (UTS).
        host_name: Text,
        /// NIS domain name (UTS).
        domain_name: Text,
        /// What was set otherwise than in a new one, or may have been (IPC, net).
        settings: Vec<Setting>,
        /// What CLOCK_MONOTONIC was in it when the tasks stood still, in nanoseconds (time).
        monotonic_ns: i64,
        /// The same of CLOCK_BOOTTIME.
        boottime_ns: i64,
        /// Its root in each hierarchy, as the dumper saw it (control groups).
        roots: Vec<CgroupMembership>,
        /// How user ids in it lead to those that the dumper saw (users).
        user_ids: Vec<IdRange>,
        /// The same of group ids.
        group_ids: Vec<IdRange>,
        /// Whether supplementary groups cannot be set in it (`/proc/PID/setgroups`).
        denies_groups: bool,
        /// The network interfaces in it besides the loopback (net).
        interfaces: Vec<Text>,
        /// Whether the loopback was up (net).
        loopback_is_up: bool,
        /// How mounts come to it (mount).
        propagation: Propagation,
        /// Whether `/sys` is that of its network namespace; but for that it has the mounts that the dumper's had (mount).
        own_sysfs: bool,
    }

    /// A setting of a namespace.
    pub struct Setting {
        /// Its name below `/proc/sys`.
        name: Text,
        /// What stands there.
        value: Text,
    }

    /// Ids in a row.
    pub struct IdRange {
        /// The first inside of the namespace.
        inside: u32,
        /// The first as the dumper saw it.
        outside: u32,
        /// How many there are.
        count: u32,
    }
}

/// What may be set of an IPC namespace, below `/proc/sys`.
pub const IPC_SETTINGS: [&str; 13] = [
    "kernel/shmmax",
    "kernel/shmall",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "fs/mqueue/msg_default",
    "fs/mqueue/msg_max",
    "fs/mqueue/msgsize_default",
    "fs/mqueue/msgsize_max",
    "fs/mqueue/queues_max",
];

/// What a program may notice of a network namespace that has but a loopback, below `/proc/sys`.
pub const NET_SETTINGS: [&str; 9] = [
    "net/core/somaxconn",
    "net/ipv4/ip_forward",
    "net/ipv4/ip_local_port_range",
    "net/ipv4/ip_local_reserved_ports",
    "net/ipv4/ip_nonlocal_bind",
    "net/ipv4/ip_unprivileged_port_start",
    "net/ipv4/ping_group_range",
    "net/ipv4/tcp_fin_timeout",
    "net/ipv6/conf/all/disable_ipv6",
];

impl NamespaceKind {
    /// All, in an order in which they can be entered: each gives the right to what comes after it.
    pub const ALL: [NamespaceKind; 7] = [
        NamespaceKind::User,
        NamespaceKind::Cgroup,
        NamespaceKind::Ipc,
        NamespaceKind::Uts,
        NamespaceKind::Net,
        NamespaceKind::Time,
        NamespaceKind::Mount,
    ];

    /// Its name in `/proc/PID/ns`.
    pub fn file(self) -> &'static str {
        match self {
            NamespaceKind::Uts => "uts",
            NamespaceKind::Ipc => "ipc",
            NamespaceKind::Net => "net",
            NamespaceKind::Mount => "mnt",
            NamespaceKind::Time => "time",
            NamespaceKind::Cgroup => "cgroup",
            NamespaceKind::User => "user",
        }
    }

    /// What a person calls it.
    pub fn noun(self) -> &'static str {
        match self {
            NamespaceKind::Uts => "UTS",
            NamespaceKind::Ipc => "IPC",
            NamespaceKind::Net => "network",
            NamespaceKind::Mount => "mount",
            NamespaceKind::Time => "time",
            NamespaceKind::Cgroup => "cgroup",
            NamespaceKind::User => "user",
        }
    }
}

/// The id of the namespace that a file leads to, which is given once in a boot; an error before Linux 6.18.
pub fn unique_id(file: &File) -> nix::Result<u64> {
    crate::sys::namespace_id(file)
}

/// The ranges that a `/proc/PID/uid_map` or `gid_map` says.
pub fn parse_ids(text: &str) -> Vec<IdRange> {
    let range = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(IdRange { inside: next()?, outside: next()?, count: next()? })
    };
    text.lines().filter_map(range).collect()
}

/// The id inside of the namespace with these ranges that is `outside` out of it; the overflow id where there is none
/// (`/proc/sys/kernel/overflowuid`).
pub fn inside(ranges: &[IdRange], outside: u32) -> u32 {
    const OVERFLOW: u32 = 65_534;
    let place = |range: &IdRange| {
        let offset = outside.checked_sub(range.outside).filter(|offset| *offset < range.count)?;
        range.inside.checked_add(offset)
    };
    ranges.iter().find_map(place).unwrap_or(OVERFLOW)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_led_inside() {
        let ranges = parse_ids("         0       1000          1\n 1 100000 65536\nnonsense\n");
        assert_eq!(ranges.len(), 2);
        assert_eq!([1000, 100_000, 100_032, 0].map(|id| inside(&ranges, id)), [0, 1, 33, 65_534]);
        assert_eq!(inside(&parse_ids("0 0 4294967295\n"), 7), 7);
    }
}
