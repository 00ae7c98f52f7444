//! Sockets of the domain AF_PACKET. They get their options, filters among them, before they hear anything.

use crate::error::{Error, Refusal, Result};
use crate::rebuild::descriptor::Opened;
use crate::rebuild::socket;
use crate::sys;
use binfmt::image::Image;
use binfmt::netlink::{DUMP, Netlink, find, word};
use binfmt::note::packet::{PacketMembership, PacketSocket};
use binfmt::note::socket::Socket;
use binfmt::wire::Text;
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};

/// A socket, as the image has it.
#[derive(Clone, Copy, Debug)]
struct Saved<'a> {
    image: &'a Image,
    note: &'a PacketSocket,
    socket: &'a Socket,
}

fn all(image: &Image) -> impl Iterator<Item = Saved<'_>> {
    image.all::<PacketSocket>().filter_map(move |note| {
        let socket = image.about::<Socket>(note.description).next()?;
        Some(Saved { image, note, socket })
    })
}

/// Makes all sockets of this domain.
pub fn rebuild_all(image: &Image, opened: &mut Opened) -> Result<()> {
    for saved in all(image) {
        opened.insert(saved.note.description, saved.make(true)?);
    }
    Ok(())
}

/// What stands against making them on this host.
pub fn refusals(image: &Image) -> Vec<Refusal> {
    let mut made = Vec::new();
    let mut refusals = Vec::new();
    // To join others would take frames from them: it is done only where there are none for certain.
    let groups = if all(image).any(|saved| saved.note.shares) { groups().ok() } else { None };
    for saved in all(image) {
        let group = saved.note.fanout & GROUP;
        if saved.note.shares && groups.as_ref().is_some_and(|groups| groups.contains(&group)) {
            let cause = format!(
                "which shares what comes with others of group {group} (PACKET_FANOUT), and others here are of that"
            );
            let remedy = "end them, or resume in a network of its own: unshare --net";
            refusals.push(saved.refusal(&cause, remedy));
            continue;
        }
        match saved.make(groups.is_some()) {
            Ok(fd) => made.push(fd),
            Err(Error::Refused(reasons)) => refusals.extend(reasons),
            Err(error) => refusals.push(saved.refusal(&error.to_string(), "dump it without that socket")),
        }
    }
    refusals
}

/// The part of a PACKET_FANOUT value that says the group.
const GROUP: u32 = 0xffff;

/// The groups (PACKET_FANOUT) that there are in this network.
fn groups() -> nix::Result<BTreeSet<u32>> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const SHOW_FANOUT: u32 = 8;
    const MESSAGE_BYTES: usize = 16;
    const FANOUT: u16 = 4;
    // struct packet_diag_req: the domain (a byte, the first of this order), inode, what to show, cookie.
    let request = [libc::AF_PACKET.cast_unsigned(), 0, SHOW_FANOUT, u32::MAX, u32::MAX];
    let request = request.map(u32::to_le_bytes).concat();
    let diag = Netlink::open(SockProtocol::NetlinkSockDiag)?;
    let sockets = diag.ask_whole((SOCK_DIAG_BY_FAMILY, DUMP, request))?;
    let group =
        |socket: &Vec<u8>| word(find(socket.get(MESSAGE_BYTES..)?, FANOUT)?, 0).map(|told| told & GROUP);
    Ok(sockets.iter().filter_map(group).collect())
}

/// What `--plan` says of a socket.
pub fn step(image: &Image, description: u32) -> Option<String> {
    let saved = all(image).find(|saved| saved.note.description == description)?;
    let PacketSocket { protocol, interface_name, memberships, .. } = saved.note;
    let interface = if interface_name.0.is_empty() { String::new() } else { format!(", {interface_name}") };
    let joined = if memberships.is_empty() { "" } else { " PACKET_ADD_MEMBERSHIP" };
    Some(format!("socket(AF_PACKET) bind({protocol:#x}{interface}){joined}"))
}

impl Saved<'_> {
    /// Makes it; whether it joins its group (PACKET_FANOUT) is said.
    fn make(&self, joins: bool) -> Result<OwnedFd> {
        let fd = socket::make(self.socket)?;
        socket::finish(self.image, self.socket, &fd)?;
        let PacketSocket { protocol, interface, interface_name, memberships, .. } = self.note;
        if (*protocol, *interface) != (0, 0) {
            let interface = self.interface(*interface, interface_name)?;
            sys::bind_packet(fd.as_fd(), *protocol, interface)
                .map_err(|error| self.refused("be bound", error))?;
        }
        for membership in memberships {
            let interface = self.interface(membership.interface, &membership.interface_name)?;
            let request = request(membership, interface);
            for _ in 0..membership.count {
                sys::set_socket_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
                    .map_err(|error| self.refused("have an interface let something through", error))?;
            }
        }
        if self.note.shares && joins {
            let value = self.note.fanout.to_ne_bytes();
            sys::set_socket_option(fd.as_fd(), libc::SOL_PACKET, libc::PACKET_FANOUT, &value)
                .map_err(|error| self.refused("share what comes (PACKET_FANOUT)", error))?;
        }
        Ok(fd)
    }

    /// The index that an interface has here; 0 for all.
    fn interface(&self, index: u32, name: &Text) -> Result<u32> {
        if index == 0 {
            return Ok(0);
        }
        nix::net::if_::if_nametoindex(name.as_path()).map_err(|error| {
            let cause = format!("of the network interface {name}: {error}");
            Error::Refused(vec![self.refusal(&cause, "make that network interface first")])
        })
    }

    fn refused(&self, verb: &str, error: Errno) -> Error {
        Error::Refused(vec![self.refusal(&format!("cannot {verb}: {error}"), "dump it without that socket")])
    }

    fn refusal(&self, cause: &str, remedy: &str) -> Refusal {
        let what = socket::owned(self.image, self.note.description, "a packet socket");
        Refusal { reason: format!("{what}, {cause}"), remedy: remedy.to_owned() }
    }
}

/// struct packet_mreq: the interface, what it is, how long the address is, the address.
fn request(membership: &PacketMembership, interface: u32) -> Vec<u8> {
    const SHORTEST_BYTES: usize = 16;
    let address = membership.address.0.as_slice();
    let mut bytes = interface.to_ne_bytes().to_vec();
    bytes.extend_from_slice(&membership.kind.to_ne_bytes());
    bytes.extend_from_slice(&u16::try_from(address.len()).unwrap_or(u16::MAX).to_ne_bytes());
    bytes.extend_from_slice(address);
    bytes.resize(bytes.len().max(SHORTEST_BYTES), 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_as_the_kernel_reads_them() {
        let membership =
            PacketMembership { kind: 1, address: vec![1, 2].into(), ..PacketMembership::default() };
        assert_eq!(request(&membership, 3), [3, 0, 0, 0, 1, 0, 2, 0, 1, 2, 0, 0, 0, 0, 0, 0]);
    }
}
