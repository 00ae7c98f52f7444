//! Sockets of the domain AF_PACKET. What they hear tells packet_diag (sock_diag(7)); frames that wait cannot be put back.

use super::Collected;
use super::socket::{Fate, Held};
use crate::diag;
use crate::error::Error;
use crate::parse::u32_at;
use crate::sys;
use binfmt::note::packet::{PacketMembership, PacketSocket};
use binfmt::wire::{Bytes, Text};
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;

/// A socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    memberships: Vec<Membership>,
    has_ring: bool,
    shares: bool,
    /// How much memory what waits takes.
    waiting_bytes: u32,
}

/// struct packet_diag_mclist
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Membership {
    interface: u32,
    count: u32,
    kind: u16,
    address: Vec<u8>,
}

/// Adds the notes of packet sockets, or says why there is none, each with its description.
pub fn collect(sockets: &[&Held<'_>], out: &mut Collected) -> Result<Vec<(u32, Fate)>, Error> {
    let Some(first) = sockets.first() else { return Ok(Vec::new()) };
    let told = all().map_err(|error| first.failed("asking the kernel (packet_diag) for the state", error))?;
    let names = names();
    let fates = sockets.iter().map(|socket| {
        let told = told.get(&socket.inode()).ok_or(Errno::ENOENT);
        let fate = told.and_then(|told| collect_one(socket, told, &names, out));
        Ok((socket.description, fate.map_err(|error| socket.failed("asking for the state", error))?))
    });
    fates.collect()
}

fn collect_one(
    socket: &Held<'_>,
    told: &Told,
    names: &BTreeMap<u32, String>,
    out: &mut Collected,
) -> Result<Fate, Errno> {
    const FANOUT_CBPF: u32 = 6;
    const FANOUT_EBPF: u32 = 7;
    let not_saved = |what: &str| Ok(Fate::NotSaved(format!("a packet socket {what}")));
    if !matches!(socket.family.kind, libc::SOCK_RAW | libc::SOCK_DGRAM) {
        return not_saved("of the old type (SOCK_PACKET)");
    }
    if told.has_ring {
        return not_saved("with a ring (PACKET_RX_RING, PACKET_TX_RING)");
    }
    if told.waiting_bytes > 0 {
        let advice = "they cannot be put back; try again when they have been read";
        let what = "a packet socket with frames that nobody has read";
        return Ok(Fate::NotYet(what.to_owned(), advice.to_owned()));
    }
    let fanout = match told.shares {
        true => sys::socket_option(socket.duplicate.as_fd(), libc::SOL_PACKET, libc::PACKET_FANOUT, 4)?,
        false => Vec::new(),
    };
    let fanout = fanout.first_chunk().map_or(0, |word| u32::from_ne_bytes(*word));
    if told.shares && matches!(fanout >> 16 & 0xff, FANOUT_CBPF | FANOUT_EBPF) {
        return not_saved("that shares frames by a program (PACKET_FANOUT_CBPF, PACKET_FANOUT_EBPF)");
    }
    let (protocol, interface) = sys::packet_name(socket.duplicate.as_fd())?;
    let name = |index: u32| Text::from(names.get(&index).map_or("", String::as_str));
    let gone = |index: u32| index != 0 && !names.contains_key(&index);
    if gone(interface) || told.memberships.iter().any(|own| gone(own.interface)) {
        return not_saved("of a network interface that is gone");
    }
    let membership = |own: &Membership| PacketMembership {
        interface: own.interface,
        interface_name: name(own.interface),
        kind: own.kind,
        count: own.count,
        address: Bytes(own.address.clone()),
    };
    out.note(PacketSocket {
        description: socket.description,
        protocol,
        interface,
        interface_name: name(interface),
        memberships: told.memberships.iter().map(membership).collect(),
        shares: told.shares,
        fanout,
    });
    Ok(Fate::Saved)
}

/// The names of the network interfaces by their indices.
fn names() -> BTreeMap<u32, String> {
    let index = |name: &str| nix::net::if_::if_nametoindex(name).ok();
    let table = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let names = table.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim()));
    names.filter_map(|name| Some((index(name)?, name.to_owned()))).collect()
}

/// Every socket by its inode.
fn all() -> Result<BTreeMap<u64, Told>, Errno> {
    const SHOW_MEMBERSHIPS_RINGS_FANOUT_MEMORY: u32 = 2 | 4 | 8 | 16;
    // struct packet_diag_req: the domain (a byte, the first of this order), inode, what to show, cookie.
    let domain = libc::AF_PACKET.cast_unsigned();
    let request = [domain, 0, SHOW_MEMBERSHIPS_RINGS_FANOUT_MEMORY, u32::MAX, u32::MAX];
    let mut found = BTreeMap::new();
    diag::all(&request.map(u32::to_le_bytes).concat(), |message| {
        let (inode, told) = socket_of(message)?;
        found.insert(inode, told);
        Some(())
    })?;
    Ok(found)
}

/// struct packet_diag_msg and its attributes.
fn socket_of(message: &[u8]) -> Option<(u64, Told)> {
    const MESSAGE_BYTES: usize = 16;
    const MEMBERSHIPS: u32 = 1;
    const RX_RING: u32 = 2;
    const TX_RING: u32 = 3;
    const FANOUT: u32 = 4;
    const MEMORY: u32 = 6;
    let mut told = Told::default();
    for (kind, value) in diag::attributes(message, MESSAGE_BYTES)? {
        match kind {
            MEMBERSHIPS => told.memberships = memberships(value)?,
            RX_RING | TX_RING => told.has_ring = true,
            FANOUT => told.shares = true,
            // SK_MEMINFO_RMEM_ALLOC is the first word.
            MEMORY => told.waiting_bytes = u32_at(value, 0),
            _ => {}
        }
    }
    Some((u32_at(message, 4).into(), told))
}

fn memberships(value: &[u8]) -> Option<Vec<Membership>> {
    const ENTRY_BYTES: usize = 44;
    const ADDRESS_AT: usize = 12;
    let one = |entry: &[u8]| {
        let kind_and_length = u32_at(entry, 8);
        let len = usize::try_from(kind_and_length >> 16).ok()?;
        let kind = u16::try_from(kind_and_length & 0xffff).ok()?;
        let address = entry.get(ADDRESS_AT..ADDRESS_AT + len)?.to_vec();
        Some(Membership { interface: u32_at(entry, 0), count: u32_at(entry, 4), kind, address })
    };
    value.chunks_exact(ENTRY_BYTES).map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_let_through_is_read() {
        let mut message = vec![17, 3, 3, 0];
        message.extend([4711u32, 0, 0].map(u32::to_ne_bytes).concat());
        message.extend([48 | 1 << 16, 2, 3, 6 << 16].map(u32::to_ne_bytes).concat());
        message.extend([1, 2, 3, 4, 5, 6]);
        message.resize(16 + 48, 0);
        message.extend([8u32 | 6 << 16, 768].map(u32::to_ne_bytes).concat());
        let own = Membership { interface: 2, count: 3, kind: 0, address: vec![1, 2, 3, 4, 5, 6] };
        let told = Told { memberships: vec![own], waiting_bytes: 768, ..Told::default() };
        assert_eq!(socket_of(&message), Some((4711, told)));
    }
}
