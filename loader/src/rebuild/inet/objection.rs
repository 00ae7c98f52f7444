//! Why an IP socket cannot be made: found out by binding all of them before anything is done, and told with the socket, the task
//! that had it, and what to do.

use super::established::{self, Left};
use super::{Saved, all};
use crate::error::{Error, Refusal};
use crate::rebuild::socket;
use binfmt::image::Image;
use binfmt::note::inet::InetMembership;
use nix::errno::Errno;
use std::fs;

/// What stands against making the IP sockets of an image on this host.
pub fn refusals(image: &Image) -> Vec<Refusal> {
    let (mut refusals, mut made) = (Vec::new(), Vec::new());
    for saved in all(image).filter(|saved| !saved.is_over()) {
        let made_one = match saved.connection() {
            Some(connection) => established::begin(saved, connection, Left::Stays),
            None => saved.make(),
        };
        match made_one {
            Ok(fd) => {
                let joined = saved.note.memberships.iter().map(|group| super::join(&saved, &fd, group));
                refusals.extend(joined.filter_map(Result::err).flat_map(|error| told(&saved, error)));
                made.push(fd);
            }
            Err(error) => refusals.extend(told(&saved, error)),
        }
    }
    refusals
}

fn told(saved: &Saved<'_>, error: Error) -> Vec<Refusal> {
    match error {
        Error::Refused(reasons) => reasons,
        error => vec![Refusal {
            reason: format!("{}: {error}", owned(saved)),
            remedy: "dump it when that is not so".to_owned(),
        }],
    }
}

/// A socket with who had it.
fn owned(saved: &Saved<'_>) -> String {
    socket::owned(saved.image, saved.note.description, &saved.name())
}

/// An address that cannot be had.
pub(super) fn refused(saved: &Saved<'_>, error: Errno) -> Error {
    let local = &saved.note.local;
    let (cause, remedy) = match error {
        Errno::EADDRINUSE => {
            let holder = holder(saved).unwrap_or_else(|| "somebody else".to_owned());
            (
                format!("port {} is taken by {holder}", local.port),
                "end that one first, or give the program a network of its own: `unshare --net ./FILE`"
                    .to_owned(),
            )
        }
        Errno::EADDRNOTAVAIL => (
            "this host has no such address".to_owned(),
            "give it to the host first (`ip address add`), or dump where the program listens at another one"
                .to_owned(),
        ),
        Errno::EACCES => (
            format!("ports below 1024, as {}, need CAP_NET_BIND_SERVICE", local.port),
            "resume it as root".to_owned(),
        ),
        error => (error.to_string(), "dump it without that socket".to_owned()),
    };
    Error::Refused(vec![Refusal { reason: format!("{}, and {cause}", owned(saved)), remedy }])
}

/// Repair mode that cannot be had.
pub(super) fn no_repair(saved: &Saved<'_>, error: Errno) -> Error {
    if error != Errno::EPERM {
        return saved.failed("make the connection of", error);
    }
    Error::Refused(vec![Refusal {
        reason: format!("{}, and that it goes on needs CAP_NET_ADMIN", owned(saved)),
        remedy: "resume it as root, or with --tcp=reset: the program is told of a reset".to_owned(),
    }])
}

/// A connection that cannot be made again.
pub(super) fn not_connected(saved: &Saved<'_>, error: Errno) -> Error {
    if !matches!(error, Errno::EADDRNOTAVAIL | Errno::EADDRINUSE) {
        return no_way(saved, error);
    }
    let holder = holder(saved).map_or_else(String::new, |holder| format!(" (see {holder})"));
    Error::Refused(vec![Refusal {
        reason: format!("{}, and this host still has that connection{holder}", owned(saved)),
        remedy:
            "end the program that has it first; or resume with --tcp=reset: the program is told of a reset"
                .to_owned(),
    }])
}

/// A peer that cannot be held back.
pub(super) fn not_held(saved: &Saved<'_>, error: Errno) -> Refusal {
    Refusal {
        reason: format!("{}, and the peer cannot be held back until that goes on: {error}", owned(saved)),
        remedy: "the kernel must have the packet filter nf_tables; or resume with --tcp=reset: the program is told of a reset".to_owned(),
    }
}

/// A peer that cannot be reached.
pub(super) fn no_way(saved: &Saved<'_>, error: Errno) -> Error {
    Error::Refused(vec![Refusal {
        reason: format!("{} with the peer {}: {error}", owned(saved), saved.note.peer),
        remedy: "see that there is a route to it".to_owned(),
    }])
}

/// An interface that is not here.
pub(super) fn no_interface(saved: &Saved<'_>, group: &InetMembership, error: Errno) -> Error {
    Error::Refused(vec![Refusal {
        reason: format!(
            "{}, a member of a multicast group on {}: {error}",
            owned(saved),
            group.interface_name
        ),
        remedy: "make that network interface first".to_owned(),
    }])
}

/// A datagram that cannot be sent once more in the name of who sent it.
pub(super) fn no_sender(saved: &Saved<'_>, source: &str, error: Errno) -> Error {
    Error::Refused(vec![Refusal {
        reason: format!(
            "{}, where a datagram from {source} waits, in whose name nobody may send here: {error}",
            owned(saved)
        ),
        remedy: "resume it as root".to_owned(),
    }])
}

/// Who has the port of a socket: name and process id.
fn holder(saved: &Saved<'_>) -> Option<String> {
    let names: &[&str] = match saved {
        _ if saved.is_tcp() => &["tcp", "tcp6"],
        _ if saved.is_udp() => &["udp", "udp6", "udplite", "udplite6"],
        _ => &["icmp", "icmp6"],
    };
    let tables = names.iter().filter_map(|name| fs::read_to_string(format!("/proc/self/net/{name}")).ok());
    let inodes: Vec<u64> = tables
        .flat_map(|table| inodes_at(&table, saved.note.local.port))
        .filter(|inode| *inode != 0)
        .collect();
    socket::holder(&inodes)
}

/// The inodes of those sockets in a table such as `/proc/net/tcp` that have this port.
fn inodes_at(table: &str, port: u16) -> Vec<u64> {
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (_, digits) = fields.get(1)?.rsplit_once(':')?;
        let is_it = u16::from_str_radix(digits, 16) == Ok(port);
        fields.get(9).filter(|_| is_it)?.parse().ok()
    };
    table.lines().skip(1).filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_by_their_port() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n   1: 0100007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n";
        assert_eq!((inodes_at(table, 8080), inodes_at(table, 8081)), (vec![4711], vec![4712]));
        assert!(inodes_at(table, 80).is_empty() && inodes_at("x\ny z", 80).is_empty());
    }
}
