//! What the loader relies on of sockets of all domains.

use super::Checker;
use crate::image::Image;
use crate::note::FromNote;
use crate::note::inet::InetSocket;
use crate::note::netlink::NetlinkSocket;
use crate::note::packet::PacketSocket;
use crate::note::socket::Socket;
use crate::note::unix::UnixSocket;
use std::collections::BTreeSet;

/// The notes of one domain.
struct Domain {
    numbers: &'static [i32],
    name: &'static str,
    /// The descriptions that they complete, as long as no socket has been found for them.
    left: BTreeSet<u32>,
}

/// Every socket has one note of its domain, which is of a socket of that domain.
pub(super) fn check(image: &Image, checker: &mut Checker) {
    let mut domains = [
        domain::<UnixSocket>(image, checker, &[libc::AF_UNIX], "unix socket", |note| note.description),
        domain::<InetSocket>(image, checker, &[libc::AF_INET, libc::AF_INET6], "IP socket", |note| {
            note.description
        }),
        domain::<NetlinkSocket>(image, checker, &[libc::AF_NETLINK], "netlink socket", |note| {
            note.description
        }),
        domain::<PacketSocket>(image, checker, &[libc::AF_PACKET], "packet socket", |note| note.description),
    ];
    /// Nobody asks for the same more often.
    const COUNT_MAX: u32 = 4096;
    let memberships = image.all::<PacketSocket>().flat_map(|note| &note.memberships);
    if memberships.into_iter().any(|membership| membership.count > COUNT_MAX) {
        checker.wrong.push("a packet socket asks for the same too often".to_owned());
    }
    for Socket { description, domain, .. } in image.all::<Socket>() {
        let own = domains.iter_mut().find(|known| known.numbers.contains(&domain.cast_signed()));
        if !own.is_some_and(|known| known.left.remove(description)) {
            checker.wrong.push(format!("no note of domain {domain} completes the socket {description}"));
        }
    }
    for Domain { name, left, .. } in &domains {
        left.iter().for_each(|id| checker.wrong.push(format!("description {id} is no {name}")));
    }
}

fn domain<N: FromNote>(
    image: &Image,
    checker: &mut Checker,
    numbers: &'static [i32],
    name: &'static str,
    id: impl Fn(&N) -> u32,
) -> Domain {
    Domain { numbers, name, left: checker.once(name, image.all::<N>().map(id)) }
}
