//! What a program has left of a connection that was stopped with it (`ckpt-dump --stop`) and ended later: a socket that nobody has
//! any more, and that says its end again and again to a peer who is held back. The connection that goes on needs its place.
//!
//! It is told to end at once (sock_diag(7), SOCK_DESTROY). What it says then to a peer outside of the tree is dropped by the
//! loader's own hold.

use super::InetAddress;
use binfmt::note::inet::InetSocket;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags};
use netlink_packet_sock_diag::{AF_INET, AF_INET6, IPPROTO_TCP, SockDiagDestroy, SockDiagMessage};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket,
};
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

/// Ends the one in the place of this socket's connection, if there is one. Whether it did.
pub(super) fn end(note: &InetSocket) -> nix::Result<bool> {
    let netlink = ask()?;
    let Some(found) = find(&netlink, note)? else { return Ok(false) };
    // The very one that was looked at.
    destroy(&netlink, found).map(|()| true)
}

/// Whether there is one that [`end`] would end.
pub(super) fn can_be_ended(note: &InetSocket) -> nix::Result<bool> {
    let netlink = ask()?;
    let Some(found) = find(&netlink, note)? else { return Ok(false) };
    // No socket has that cookie: a kernel that ends none says so, all others that there is no such socket.
    destroy(&netlink, SocketId { cookie: found.cookie.map(|byte| !byte), ..found }).map(|()| true)
}

fn ask() -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkSockDiag)
}

/// The one in the place of this socket's connection.
fn find(netlink: &OwnedFd, note: &InetSocket) -> nix::Result<Option<SocketId>> {
    // FIN_WAIT1, FIN_WAIT2, TIME_WAIT, LAST_ACK, CLOSING: who has no owner in any other waits to be accepted.
    const ENDED: [u8; 5] = [4, 5, 6, 9, 11];
    let Some(id) = id(note) else { return Ok(None) };
    send(netlink, SockDiagMessage::InetRequest(request(id)), 0)?;
    let found = answer(netlink)?;
    let found = found.filter(|found| found.header.inode == 0 && ENDED.contains(&found.header.state));
    Ok(found.map(|found| found.header.socket_id))
}

/// Ends a socket, if it is there.
fn destroy(netlink: &OwnedFd, id: SocketId) -> nix::Result<()> {
    let message = SockDiagMessage::InetRequest(request(id));
    send(netlink, SockDiagDestroy::new(message), NLM_F_ACK)?;
    answer(netlink).map(drop)
}

fn id(note: &InetSocket) -> Option<SocketId> {
    const ANY_COOKIE: [u8; 8] = [0xff; 8];
    let ip = |address: &InetAddress| Some(address.ip()?.to_canonical());
    let mut id = SocketId::new_v4();
    (id.source_address, id.destination_address) = (ip(&note.local)?, ip(&note.peer)?);
    (id.source_port, id.destination_port) = (note.local.port, note.peer.port);
    (id.interface_id, id.cookie) = (note.local.scope, ANY_COOKIE);
    Some(id)
}

fn request(socket_id: SocketId) -> InetRequest {
    let family = if matches!(socket_id.source_address, IpAddr::V4(_)) { AF_INET } else { AF_INET6 };
    let (extensions, states) = (ExtensionFlags::empty(), StateFlags::all());
    InetRequest { family, protocol: IPPROTO_TCP, extensions, states, socket_id }
}

fn send<M: NetlinkSerializable>(netlink: &OwnedFd, message: M, flags: u16) -> nix::Result<()> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    sendto(netlink.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty()).map(drop)
}

/// The socket that was asked for; none if there is none, or none was asked for.
fn answer(netlink: &OwnedFd) -> nix::Result<Option<Box<InetResponse>>> {
    let mut bytes = vec![0; 1 << 14];
    let len = recv(netlink.as_raw_fd(), &mut bytes, MsgFlags::empty())?;
    let answer = NetlinkMessage::deserialize(bytes.get(..len).unwrap_or_default());
    match answer.map_err(|_| Errno::EBADMSG)?.payload {
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)) => Ok(Some(found)),
        NetlinkPayload::Error(error) => match error.raw_code().saturating_neg() {
            0 | libc::ENOENT => Ok(None),
            error => Err(Errno::from_raw(error)),
        },
        _ => Ok(None),
    }
}
