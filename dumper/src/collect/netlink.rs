//! Sockets of the domain AF_NETLINK. What waits to be read cannot be looked at but for its first message, and what the kernel has sent
//! nobody else can send: that something was there is what the image keeps.

use super::Collected;
use super::socket::{Fate, Held};
use crate::error::Error;
use crate::sys;
use binfmt::note::netlink::NetlinkSocket;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{NetlinkAddr, getpeername, getsockname};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};

/// What `/proc/net/netlink` says of a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    /// How much memory what waits takes.
    waiting_bytes: u64,
    /// Whether the kernel is in the middle of a long answer (NLM_F_DUMP).
    is_answered: bool,
}

/// The protocols by which the kernel can be asked to say that something was lost (see the loader's file of this name).
const TELL: [i32; 7] = [
    libc::NETLINK_ROUTE,
    libc::NETLINK_SOCK_DIAG,
    libc::NETLINK_XFRM,
    libc::NETLINK_AUDIT,
    libc::NETLINK_NETFILTER,
    libc::NETLINK_KOBJECT_UEVENT,
    libc::NETLINK_GENERIC,
];

/// Adds the notes of netlink sockets, or says why there is none, each with its description.
pub fn collect(sockets: &[&Held<'_>], out: &mut Collected) -> Result<Vec<(u32, Fate)>, Error> {
    if sockets.is_empty() {
        return Ok(Vec::new());
    }
    // Sockets of other network namespaces are not among them.
    let table = fs::read_to_string("/proc/self/net/netlink")
        .map_err(|error| Error::question(out.pid(), "reading /proc/self/net/netlink", error))?;
    let told = read(&table);
    let fates = sockets.iter().map(|socket| {
        let told = told.get(&socket.inode()).copied().unwrap_or_default();
        let fate =
            collect_one(socket, told, out).map_err(|error| socket.failed("asking for the state", error))?;
        Ok((socket.description, fate))
    });
    fates.collect()
}

fn collect_one(socket: &Held<'_>, told: Told, out: &mut Collected) -> Result<Fate, Errno> {
    if told.is_answered {
        let what = "a netlink socket in the middle of a long answer of the kernel (NLM_F_DUMP)";
        let advice = "try again when the program has read all of it";
        return Ok(Fate::NotYet(what.to_owned(), advice.to_owned()));
    }
    let lost = (told.waiting_bytes > 0 || has_error(socket)?) && !is_silent(socket)?;
    let protocol = socket.family.protocol;
    if lost && !TELL.contains(&protocol) {
        let what = format!("a netlink socket of protocol {protocol} with something to read");
        let advice = "nobody but its sender can send that again; try again when the program has read it";
        return Ok(Fate::NotYet(what, advice.to_owned()));
    }
    let fd = socket.duplicate.as_raw_fd();
    let (own, peer) = (getsockname::<NetlinkAddr>(fd)?, getpeername::<NetlinkAddr>(fd)?);
    if protocol == libc::NETLINK_NETFILTER
        && own.pid() != 0
        && let Some(what) = is_served(socket, own.pid())
    {
        return Ok(Fate::NotSaved(what.to_owned()));
    }
    out.note(NetlinkSocket {
        description: socket.description,
        port: own.pid(),
        groups: groups(socket)?,
        peer_port: peer.pid(),
        peer_groups: peer.groups(),
        lost,
    });
    Ok(Fate::Saved)
}

/// What the packet filter has bound to the port, and would lose.
fn is_served(socket: &Held<'_>, port: u32) -> Option<&'static str> {
    let table =
        |name: &str| socket.open.subject.proc.text_if_there(&format!("net/netfilter/nfnetlink_{name}"));
    match (table("queue"), table("log")) {
        (Ok(queues), _) if names(&queues, port) => {
            Some("a netlink socket that takes packets from a queue (NFQUEUE)")
        }
        (_, Ok(logs)) if names(&logs, port) => Some("a netlink socket to which packets are logged (NFLOG)"),
        (Ok(_), Ok(_)) => None,
        _ => Some("a netlink socket of the packet filter, which tells only root what it has bound to it"),
    }
}

/// Whether a port stands in the second column of a table.
fn names(table: &str, port: u32) -> bool {
    table.lines().any(|line| line.split_whitespace().nth(1).is_some_and(|word| word.parse() == Ok(port)))
}

/// Whether an error waits to be told; asking which would take it away. There is but one.
fn has_error(socket: &Held<'_>) -> Result<bool, Errno> {
    let mut one = [PollFd::new(socket.duplicate.as_fd(), PollFlags::empty())];
    poll(&mut one, PollTimeout::ZERO)?;
    let [one] = one;
    Ok(one.revents().is_some_and(|events| events.contains(PollFlags::POLLERR)))
}

/// Whether the program does not want to know of losses.
fn is_silent(socket: &Held<'_>) -> Result<bool, Errno> {
    let value = sys::socket_option(socket.duplicate.as_fd(), libc::SOL_NETLINK, libc::NETLINK_NO_ENOBUFS, 4)?;
    Ok(value.iter().any(|byte| *byte != 0))
}

/// The multicast groups that a socket is a member of.
fn groups(socket: &Held<'_>) -> Result<Vec<u32>, Errno> {
    /// So many bytes hold the groups of any protocol.
    const ROOM: usize = 8 << 10;
    let (level, name) = (libc::SOL_NETLINK, libc::NETLINK_LIST_MEMBERSHIPS);
    let bits = sys::socket_option(socket.duplicate.as_fd(), level, name, ROOM)?;
    let is_in = |bit: &usize| bits.get(bit / 8).is_some_and(|byte| byte >> (bit % 8) & 1 == 1);
    let groups = (0..bits.len() * 8).filter(is_in);
    groups.map(|bit| u32::try_from(bit + 1).map_err(|_| Errno::EMSGSIZE)).collect()
}

/// Every socket of the table by its inode.
fn read(table: &str) -> BTreeMap<u64, Told> {
    let one = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some((number(9)?, Told { waiting_bytes: number(4)?, is_answered: number(6)? != 0 }))
    };
    table.lines().skip(1).filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_served_is_found() {
        let table = "    7   1234     0 2 65531     0     0        0  1\n    8 4294963001     0 2 65531     0     0        0  1\n";
        assert!(names(table, 1234) && names(table, 4_294_963_001));
        assert!(!names(table, 7) && !names(table, 0) && !names("", 7));
    }

    #[test]
    fn the_table_says_what_waits_and_what_goes_on() {
        let table = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n0000000046a797fc 0   0          00000000 0        0        0     2        0        4       \n0000000046a797fd 0   4294963001 00000551 768      0        0     2        3        4711    \n0000000046a797fe 16  77         00000000 0        0        1     2        0        4712    \n";
        let told = |waiting_bytes, is_answered| Told { waiting_bytes, is_answered };
        let expected = [(4, told(0, false)), (4711, told(768, false)), (4712, told(0, true))];
        assert_eq!(read(table), BTreeMap::from(expected));
        assert!(read("").is_empty() && read("sk\nx y\n").is_empty());
    }
}
