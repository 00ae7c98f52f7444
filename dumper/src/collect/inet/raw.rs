//! Raw IP sockets, and those for pings. Their peers, of which getpeername(2) tells only where there is a port, and whether packets wait
//! stand in tables (`/proc/net/raw`, ...). A packet that waits is not put back: sent once more, everybody would get it.

use super::super::socket::{Family, Held};
use super::{Found, local, multicast};
use binfmt::note::inet::{InetAddress, InetSocket, InetState};
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::fs;

/// What the tables say of a socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    peer: Option<InetAddress>,
    waiting_bytes: u64,
}

/// The sockets of this network namespace by their inodes.
#[derive(Debug, Default)]
pub(super) struct Table(BTreeMap<u64, Told>);

impl Table {
    /// Reads all tables.
    pub(super) fn look() -> Table {
        let texts =
            ["raw", "raw6", "icmp", "icmp6"].map(|name| fs::read_to_string(format!("/proc/self/net/{name}")));
        Table(texts.into_iter().filter_map(Result::ok).flat_map(|text| read(&text)).collect())
    }
}

/// Whether it is a raw socket or one for pings.
pub(super) fn is_one(family: Family) -> bool {
    family.kind == libc::SOCK_RAW || is_for_pings(family)
}

fn is_for_pings(family: Family) -> bool {
    family.kind == libc::SOCK_DGRAM && matches!(family.protocol, libc::IPPROTO_ICMP | libc::IPPROTO_ICMPV6)
}

/// What there is to say of one.
pub(super) fn collect(socket: &Held<'_>, table: &Table, groups: &multicast::Groups) -> Result<Found, Errno> {
    let told = table.0.get(&socket.inode()).cloned().unwrap_or_default();
    if told.waiting_bytes > 0 {
        let what = if is_for_pings(socket.family) { "a socket for pings" } else { "a raw socket" };
        return Ok(Found::NotYet(
            format!("{what} with packets that nobody has read"),
            "they cannot be put back; try again when they have been read".to_owned(),
        ));
    }
    let mut note = InetSocket { local: local(socket)?, ..InetSocket::default() };
    if let Some(peer) = told.peer {
        (note.state, note.peer) = (InetState::Connected, InetAddress { scope: note.local.scope, ..peer });
    }
    note.memberships = multicast::memberships(socket, socket.family, groups)?;
    Ok(Found::saved(note, Vec::new()))
}

fn read(table: &str) -> BTreeMap<u64, Told> {
    table.lines().skip(1).filter_map(line).collect()
}

/// A socket's line: its number, its address, its peer's, the state, both queues, ..., the inode.
fn line(line: &str) -> Option<(u64, Told)> {
    const ESTABLISHED: &str = "01";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let field = |at: usize| fields.get(at).copied();
    let (_, waiting) = field(4)?.split_once(':')?;
    let peer = if field(3)? == ESTABLISHED { Some(address(field(2)?)?) } else { None };
    let waiting_bytes = u64::from_str_radix(waiting, 16).ok()?;
    Some((field(9)?.parse().ok()?, Told { peer, waiting_bytes }))
}

/// Words of 32 bits, each as this machine has it, and a port.
fn address(text: &str) -> Option<InetAddress> {
    let (digits, port) = text.split_once(':')?;
    let words = digits.as_bytes().chunks(8);
    let word =
        |word: &[u8]| u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok().map(u32::to_ne_bytes);
    let bytes = words.map(word).collect::<Option<Vec<_>>>()?.concat();
    let port = u16::from_str_radix(port, 16).ok()?;
    matches!(bytes.len(), 4 | 16).then(|| InetAddress { address: bytes.into(), port, scope: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_and_what_waits_are_read_from_both_tables() {
        let four = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n    1: 00000000:0001 00000000:0000 07 00000000:00000300 00:00000000 00000000     0        0 4711 2 0000000000000000 0\n    1: 0100007F:0001 0200007F:0000 01 00000000:00000000 00:00000000 00000000     0        0 4712 2 0000000000000000 0\n";
        let peer = |bytes: &[u8]| Some(InetAddress { address: bytes.into(), port: 0, scope: 0 });
        let told = |peer, waiting_bytes| Told { peer, waiting_bytes };
        let expected = [(4711, told(None, 0x300)), (4712, told(peer(&[127, 0, 0, 2]), 0))];
        assert_eq!(read(four), BTreeMap::from(expected));
        let six = "  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n   58: 00000000000000000000000001000000:003A 00000000000000000000000001000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 4713 2 0000000000000000 0\n";
        let mut own = [0; 16];
        own[15] = 1;
        assert_eq!(read(six), BTreeMap::from([(4713, told(peer(&own), 0))]));
        assert!(read("").is_empty() && read("sl\nx y z\n").is_empty());
    }
}
