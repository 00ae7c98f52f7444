//! The end of a connection (FIN), said in the name of a peer who has said it before and will not again.
//!
//! It is a segment that this host sends to itself; that takes CAP_NET_RAW.

use super::storage;
use crate::sys;
use binfmt::note::inet::{InetAddress, InetConnection, InetSocket};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, sendto};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

const FIN_AND_ACK: u8 = 0x11;
const TCP_BYTES: u16 = 20;

fn ip(address: &InetAddress) -> nix::Result<IpAddr> {
    address.ip().map(|ip| ip.to_canonical()).ok_or(Errno::EINVAL)
}

/// A raw socket by which it can be said.
pub(super) fn prepare(socket: &InetSocket) -> nix::Result<OwnedFd> {
    const IP_HDRINCL: i32 = 3;
    const IPV6_HDRINCL: i32 = 36;
    let (domain, level, name) = match ip(&socket.local)? {
        IpAddr::V4(_) => (libc::AF_INET, libc::IPPROTO_IP, IP_HDRINCL),
        IpAddr::V6(_) => (libc::AF_INET6, libc::IPPROTO_IPV6, IPV6_HDRINCL),
    };
    let raw = sys::make_socket(domain, libc::SOCK_RAW, libc::IPPROTO_RAW)?;
    sys::set_socket_option(raw.as_fd(), level, name, &1i32.to_ne_bytes())?;
    Ok(raw)
}

/// Says it.
pub(super) fn say(raw: &OwnedFd, socket: &InetSocket, connection: &InetConnection) -> nix::Result<()> {
    let (own, peer) = (ip(&socket.local)?, ip(&socket.peer)?);
    let packet = packet(own, peer, segment(socket, connection)).ok_or(Errno::EINVAL)?;
    let bytes = match own {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let mut to = socket.local.clone();
    // A raw socket of IPv6 takes no port.
    (to.address, to.port) = (bytes.into(), 0);
    let to = storage(&to).ok_or(Errno::EINVAL)?;
    sendto(raw.as_raw_fd(), &packet, &to, MsgFlags::empty()).map(drop)
}

/// The segment, without its checksum.
fn segment(socket: &InetSocket, connection: &InetConnection) -> Vec<u8> {
    let window = connection.window.send_bytes >> connection.agreed.send_shift.min(14);
    let window = u16::try_from(window).unwrap_or(u16::MAX);
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&socket.peer.port.to_be_bytes());
    bytes.extend_from_slice(&socket.local.port.to_be_bytes());
    bytes.extend_from_slice(&connection.receive_sequence.to_be_bytes());
    bytes.extend_from_slice(&connection.send_sequence.to_be_bytes());
    bytes.extend_from_slice(&[5 << 4, FIN_AND_ACK]);
    bytes.extend_from_slice(&window.to_be_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes
}

/// A packet from the peer with a segment; its checksum stands at 16. The kernel completes the header of IPv4.
fn packet(own: IpAddr, peer: IpAddr, mut segment: Vec<u8>) -> Option<Vec<u8>> {
    const TCP: u8 = 6;
    const TTL: u8 = 64;
    let (header, addresses) = match (own, peer) {
        (IpAddr::V4(own), IpAddr::V4(peer)) => {
            let addresses = [peer.octets(), own.octets()].concat();
            let head = [0x45, 0, 0, 20 + 20, 0, 0, 0, 0, TTL, TCP, 0, 0];
            ([&head[..], &addresses].concat(), addresses)
        }
        (IpAddr::V6(own), IpAddr::V6(peer)) => {
            let addresses = [peer.octets(), own.octets()].concat();
            let head = [0x60, 0, 0, 0, 0, 20, TCP, TTL];
            ([&head[..], &addresses].concat(), addresses)
        }
        _ => return None,
    };
    let pseudo = [addresses.as_slice(), &[0, TCP], &TCP_BYTES.to_be_bytes(), &segment].concat();
    let sum = checksum(&pseudo).to_be_bytes();
    segment.get_mut(16..18)?.copy_from_slice(&sum);
    Some([header, segment].concat())
}

/// The checksum of the internet (RFC 1071) over an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).filter_map(|pair| Some(u16::from_be_bytes(*pair.first_chunk()?)));
    let mut sum: u32 = words.map(u32::from).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_internet() {
        // The example of RFC 1071.
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), !0xddf2);
    }
}
