//! Multicast groups. No call lists those of a socket; the kernel lists those of every interface (`/proc/PID/net/igmp`,
//! `igmp6`), and of each the socket can be asked whether it is a member (MCAST_MSFILTER).

use super::super::socket::{Family, Held};
use crate::sys::{self, SourceFilter};
use binfmt::note::inet::InetMembership;
use binfmt::wire::{Bytes, Text};
use nix::errno::Errno;
use std::os::fd::AsFd;

/// A group that somebody on this host is a member of.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Group {
    interface: u32,
    interface_name: String,
    address: Vec<u8>,
}

/// All groups that a socket can be a member of.
#[derive(Debug)]
pub(super) struct Groups {
    four: Vec<Group>,
    six: Vec<Group>,
}

impl Groups {
    /// Those of the network namespace of a socket.
    pub(super) fn look(socket: &Held<'_>) -> Groups {
        let table = |name: &str| socket.open.subject.proc.text(name).unwrap_or_default();
        Groups { four: four(&table("net/igmp")), six: six(&table("net/igmp6")) }
    }
}

/// The groups that a socket is a member of.
pub(super) fn memberships(
    socket: &Held<'_>,
    family: Family,
    groups: &Groups,
) -> Result<Vec<InetMembership>, Errno> {
    let six = if family.domain == libc::AF_INET6 { groups.six.as_slice() } else { &[] };
    let groups = groups.four.iter().chain(six);
    let mut memberships = Vec::new();
    for group in groups {
        let asked = sys::source_filter(socket.duplicate.as_fd(), group.interface, &group.address);
        let SourceFilter { include, sources } = match asked {
            Ok(filter) => filter,
            // Not a member; no such interface for this socket; nothing known of this protocol.
            Err(Errno::EADDRNOTAVAIL | Errno::EINVAL | Errno::ENODEV | Errno::ENOPROTOOPT) => continue,
            Err(error) => return Err(error),
        };
        memberships.push(InetMembership {
            group: Bytes(group.address.clone()),
            interface: group.interface,
            interface_name: Text::from(group.interface_name.as_str()),
            include,
            sources: sources.into_iter().map(Bytes).collect(),
        });
    }
    Ok(memberships)
}

/// The kernel itself is a member of this one, on every interface.
const ALL_HOSTS: [u8; 4] = [224, 0, 0, 1];

/// The groups in `/proc/PID/net/igmp` that somebody else than the kernel may be a member of: a line for each interface, then one for each of its groups.
fn four(table: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut interface = (0, String::new());
    for line in table.lines().skip(1) {
        let mut words = line.split_whitespace();
        let Some(first) = words.next() else { continue };
        if !line.starts_with('\t') {
            interface = (first.parse().unwrap_or(0), words.next().unwrap_or_default().to_owned());
        } else if let Ok(address) = u32::from_str_radix(first, 16)
            && (address.to_ne_bytes() != ALL_HOSTS || words.next() != Some("1"))
        {
            let (interface, interface_name) = interface.clone();
            groups.push(Group { interface, interface_name, address: address.to_ne_bytes().to_vec() });
        }
    }
    groups
}

/// The groups in `/proc/PID/net/igmp6`, one a line.
fn six(table: &str) -> Vec<Group> {
    let group = |line: &str| {
        let mut words = line.split_whitespace();
        let (interface, name, digits) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
        let address = u128::from_str_radix(digits, 16).ok().filter(|_| digits.len() == 32)?;
        let address = address.to_be_bytes().to_vec();
        Some(Group { interface, interface_name: name.to_owned(), address })
    };
    table.lines().filter_map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_read_from_both_tables() {
        let igmp = "Idx\tDevice    : Count Querier\tGroup    Users Timer\tReporter\n1\tlo        :     1      V3\n\t\t\t\t010000E0     2 0:00000000\t\t0\n4\teth0      :     2      V3\n\t\t\t\t010000E0     1 0:00000000\t\t0\n\t\t\t\t0A0102EF     1 0:00000000\t\t0\n";
        let group = |interface, name: &str, address: &[u8]| Group {
            interface,
            interface_name: name.to_owned(),
            address: address.to_vec(),
        };
        assert_eq!(four(igmp), [group(1, "lo", &[224, 0, 0, 1]), group(4, "eth0", &[239, 2, 1, 10])]);
        let igmp6 = "1    lo              ff020000000000000000000000000001     1 0000000C 0\nx\n";
        let mut all_nodes = [0; 16];
        (all_nodes[0], all_nodes[1], all_nodes[15]) = (0xff, 2, 1);
        assert_eq!(six(igmp6), [group(1, "lo", &all_nodes)]);
        assert_eq!((four(""), six("")), (Vec::new(), Vec::new()));
    }
}
