//! IP sockets: TCP, UDP, UDP-Lite, raw ones and those for pings, of IPv4 and IPv6. The table of their protocols' options is here, too.

use crate::note::socket::options;
use crate::wire::{Bytes, Text, enumeration, record};

enumeration! {
    /// What has become of an IP socket.
    pub enum InetState: u8 {
        /// Neither connected nor listening.
        Idle = 0,
        /// It listens (TCP).
        Listening = 1,
        /// It has a peer (not TCP).
        Connected = 2,
        /// It is on its way to its peer (TCP); the resume sets out again.
        Connecting = 3,
        /// Its connection is over (TCP): what had been received can be read, then it tells of a reset.
        Reset = 4,
        /// It has a connection that goes on (TCP), of which an `InetConnection` tells.
        Established = 5,
    }

    /// Which sides of a connection have said that nothing more will come (FIN).
    pub enum InetEnds: u8 {
        /// Neither.
        None = 0,
        /// The program (FIN_WAIT1, FIN_WAIT2).
        Own = 1,
        /// The peer (CLOSE_WAIT).
        Peer = 2,
        /// Both, the program first (CLOSING).
        OwnFirst = 3,
        /// Both, the peer first (LAST_ACK).
        PeerFirst = 4,
    }
}

record! {
    /// An IP socket.
    pub struct InetSocket {
        /// The `Description` and the `Socket` that this note completes.
        description: u32,
        /// What has become of it.
        state: InetState,
        /// Its own address; the port is 0 if it has none, of a raw one its protocol, of one for pings their id.
        local: InetAddress,
        /// That of its peer; the port is 0 if it has none.
        peer: InetAddress,
        /// How many connections may wait to be accepted (listen(2)).
        backlog: u32,
        /// Multicast groups.
        memberships: Vec<InetMembership>,
        /// What was received and not read, in order: datagrams, or the bytes of a connection as one piece.
        received: Vec<InetPiece>,
        /// Which object segments carry its bytes; 0 if there are none. What a connection has yet to send follows what was received.
        content: u32,
    }

    /// A TCP connection that goes on. Sequence numbers are those of the wire; an end (FIN) is not counted in them.
    pub struct InetConnection {
        /// The `Description` and the `InetSocket` that this note completes.
        description: u32,
        /// Who has said that nothing more will come.
        ends: InetEnds,
        /// Whether the other end is a socket of the image, too: then nothing is on the way between them.
        within: bool,
        /// The sequence number of the first byte that has yet to be sent or acknowledged.
        send_sequence: u32,
        /// How many bytes were sent and not acknowledged; they come first.
        unacknowledged_bytes: u32,
        /// How many bytes were not sent.
        unsent_bytes: u32,
        /// The sequence number of the next byte that comes from the peer, behind those that were received and not read.
        receive_sequence: u32,
        /// What was agreed upon at the start.
        agreed: InetAgreement,
        /// The clock of its timestamps at the checkpoint (TCP_TIMESTAMP).
        timestamp: u32,
        /// Both windows (TCP_REPAIR_WINDOW).
        window: InetWindow,
        /// TCP_WINDOW_CLAMP.
        window_clamp: u32,
        /// SO_SNDBUF, which the kernel lets grow.
        send_buffer_bytes: u32,
        /// SO_RCVBUF, likewise.
        receive_buffer_bytes: u32,
        /// The table of the packet filter (nftables, family inet) that holds back the peer's segments; none if nothing does.
        hold: Text,
    }

    /// What the two ends of a connection agreed upon.
    pub struct InetAgreement {
        /// The longest segment that the peer takes (MSS).
        segment_bytes: u32,
        /// Whether windows are scaled.
        scaled: bool,
        /// The shift of the peer's window.
        send_shift: u8,
        /// That of the own window.
        receive_shift: u8,
        /// Whether received ranges are told (SACK).
        selective: bool,
        /// Whether segments bear timestamps.
        timestamps: bool,
    }

    /// struct tcp_repair_window.
    pub struct InetWindow {
        /// The sequence number of the segment that told the peer's window last.
        told_by: u32,
        /// The peer's window, from `send_sequence` on, in bytes.
        send_bytes: u32,
        /// The largest that it has been.
        send_max_bytes: u32,
        /// The own window, from `receive_from` on, in bytes.
        receive_bytes: u32,
        /// The sequence number from which it was told.
        receive_from: u32,
    }

    /// An address and a port.
    pub struct InetAddress {
        /// 4 or 16 bytes, in network order; none if there is no address.
        address: Bytes,
        /// The port, as people write it.
        port: u16,
        /// The interface of a link-local address (sin6_scope_id).
        scope: u32,
    }

    /// A multicast group that a socket is a member of.
    pub struct InetMembership {
        /// The group: 4 or 16 bytes.
        group: Bytes,
        /// Index of the interface.
        interface: u32,
        /// Name of the interface, by which it is found again.
        interface_name: Text,
        /// Whether `sources` are all that is heard (MCAST_INCLUDE), not all that is not.
        include: bool,
        /// Addresses of sources.
        sources: Vec<Bytes>,
    }

    /// A piece of what was received.
    pub struct InetPiece {
        /// From whom, if it is a datagram.
        source: InetAddress,
        /// How long it is.
        len_bytes: u32,
    }
}

// Numbers of linux/in.h, in6.h, tcp.h, udp.h. What is not here is not the program's to set, or tells nothing: IP_PROTOCOL, TCP_INFO, ...
options! {
    /// Options of IP, in the order in which they are set; sockets of IPv6 have them, too. Here and below, a socket that does not
    /// know one says so.
    IP_OPTIONS IPPROTO_IP {
        IP_HDRINCL 3 First,
        IP_NODEFRAG 22 First,
        IP_FREEBIND 15 First,
        IP_TRANSPARENT 19 First,
        IP_BIND_ADDRESS_NO_PORT 24 First,
        IP_LOCAL_PORT_RANGE 51 First,
        IP_TOS 1 First,
        IP_TTL 2 First,
        IP_OPTIONS 4 First,
        IP_RECVOPTS 6 First,
        IP_RETOPTS 7 First,
        IP_PKTINFO 8 First,
        IP_MTU_DISCOVER 10 First,
        IP_RECVERR 11 First,
        IP_RECVTTL 12 First,
        IP_RECVTOS 13 First,
        IP_PASSSEC 18 First,
        IP_ORIGDSTADDR 20 First,
        IP_MINTTL 21 First,
        IP_CHECKSUM 23 First,
        IP_RECVFRAGSIZE 25 First,
        IP_RECVERR_RFC4884 26 First,
        IP_MULTICAST_IF 32 Last,
        IP_MULTICAST_TTL 33 First,
        IP_MULTICAST_LOOP 34 First,
        IP_MULTICAST_ALL 49 First,
        IP_UNICAST_IF 50 First,
    }
    /// Options of IPv6.
    IPV6_OPTIONS IPPROTO_IPV6 {
        IPV6_V6ONLY 26 First,
        IPV6_HDRINCL 36 First,
        IPV6_CHECKSUM 7 First,
        IPV6_TRANSPARENT 75 First,
        IPV6_FREEBIND 78 First,
        IPV6_UNICAST_HOPS 16 First,
        IPV6_MULTICAST_IF 17 Last,
        IPV6_MULTICAST_HOPS 18 First,
        IPV6_MULTICAST_LOOP 19 First,
        IPV6_MTU_DISCOVER 23 First,
        IPV6_RECVERR 25 First,
        IPV6_MULTICAST_ALL 29 First,
        IPV6_RECVERR_RFC4884 31 First,
        IPV6_FLOWINFO_SEND 33 First,
        IPV6_RECVPKTINFO 49 First,
        IPV6_RECVHOPLIMIT 51 First,
        IPV6_RECVHOPOPTS 53 First,
        IPV6_HOPOPTS 54 First,
        IPV6_RTHDRDSTOPTS 55 First,
        IPV6_RECVRTHDR 56 First,
        IPV6_RTHDR 57 First,
        IPV6_RECVDSTOPTS 58 First,
        IPV6_DSTOPTS 59 First,
        IPV6_RECVPATHMTU 60 First,
        IPV6_DONTFRAG 62 First,
        IPV6_RECVTCLASS 66 First,
        IPV6_TCLASS 67 First,
        IPV6_AUTOFLOWLABEL 70 First,
        IPV6_ADDR_PREFERENCES 72 First,
        IPV6_MINHOPCOUNT 73 First,
        IPV6_RECVORIGDSTADDR 74 First,
        IPV6_UNICAST_IF 76 First,
        IPV6_RECVFRAGSIZE 77 First,
    }
    /// Options of TCP.
    TCP_OPTIONS IPPROTO_TCP {
        TCP_CONGESTION 13 First,
        TCP_MAXSEG 2 First,
        TCP_NODELAY 1 First,
        TCP_KEEPIDLE 4 First,
        TCP_KEEPINTVL 5 First,
        TCP_KEEPCNT 6 First,
        TCP_SYNCNT 7 First,
        TCP_LINGER2 8 First,
        TCP_DEFER_ACCEPT 9 First,
        TCP_WINDOW_CLAMP 10 Last,
        TCP_QUICKACK 12 Last,
        TCP_THIN_LINEAR_TIMEOUTS 16 First,
        TCP_USER_TIMEOUT 18 First,
        TCP_NOTSENT_LOWAT 25 First,
        TCP_SAVE_SYN 27 First,
        TCP_FASTOPEN 23 Last,
        TCP_FASTOPEN_KEY 33 First,
        TCP_FASTOPEN_CONNECT 30 First,
        TCP_FASTOPEN_NO_COOKIE 34 First,
        TCP_INQ 36 First,
        TCP_TX_DELAY 37 First,
        TCP_RTO_MAX_MS 44 First,
        TCP_RTO_MIN_US 45 First,
        TCP_DELACK_MAX_US 46 First,
        TCP_CORK 3 Last,
    }
    /// Options of raw sockets of ICMP.
    RAW_OPTIONS SOL_RAW {
        ICMP_FILTER 1 First,
    }
    /// Options of raw sockets of ICMPv6.
    ICMPV6_OPTIONS IPPROTO_ICMPV6 {
        ICMPV6_FILTER 1 First,
    }
    /// Options of UDP and UDP-Lite.
    UDP_OPTIONS IPPROTO_UDP {
        UDP_CORK 1 Last,
        UDPLITE_SEND_CSCOV 10 First,
        UDPLITE_RECV_CSCOV 11 First,
        UDP_ENCAP 100 Last,
        UDP_NO_CHECK6_TX 101 First,
        UDP_NO_CHECK6_RX 102 First,
        UDP_SEGMENT 103 First,
        UDP_GRO 104 Last,
    }
}

impl InetConnection {
    /// How many bytes it has yet to send, or has sent and may have to send again.
    pub fn to_send_bytes(&self) -> u64 {
        u64::from(self.unacknowledged_bytes) + u64::from(self.unsent_bytes)
    }

    /// Whether the program has said that nothing more will come from it.
    pub fn has_ended(&self) -> bool {
        matches!(self.ends, InetEnds::Own | InetEnds::OwnFirst | InetEnds::PeerFirst)
    }

    /// Whether the peer has.
    pub fn peer_has_ended(&self) -> bool {
        matches!(self.ends, InetEnds::Peer | InetEnds::OwnFirst | InetEnds::PeerFirst)
    }
}

impl InetAddress {
    /// The address, if it is one.
    pub fn ip(&self) -> Option<std::net::IpAddr> {
        let four = <[u8; 4]>::try_from(self.address.0.as_slice()).map(std::net::IpAddr::from);
        four.or_else(|_| <[u8; 16]>::try_from(self.address.0.as_slice()).map(std::net::IpAddr::from)).ok()
    }
}

impl std::fmt::Display for InetAddress {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.ip() {
            Some(std::net::IpAddr::V4(ip)) => write!(out, "{ip}:{}", self.port),
            Some(std::net::IpAddr::V6(ip)) if self.scope != 0 => {
                write!(out, "[{ip}%{}]:{}", self.scope, self.port)
            }
            Some(std::net::IpAddr::V6(ip)) => write!(out, "[{ip}]:{}", self.port),
            None => write!(out, "*:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_option_stands_twice() {
        let all = || {
            [IP_OPTIONS, IPV6_OPTIONS, TCP_OPTIONS, UDP_OPTIONS, RAW_OPTIONS, ICMPV6_OPTIONS]
                .into_iter()
                .flatten()
        };
        let labels: BTreeSet<&str> = all().map(|option| option.label).collect();
        let numbers: BTreeSet<_> = all().map(|option| (option.level, option.name)).collect();
        assert_eq!((labels.len(), numbers.len()), (all().count(), all().count()));
    }

    #[test]
    fn addresses_are_written_as_usual() {
        let address = |bytes: &[u8], scope| InetAddress { address: bytes.into(), port: 80, scope };
        assert_eq!(address(&[127, 0, 0, 1], 0).to_string(), "127.0.0.1:80");
        assert_eq!(address(&[0; 16], 0).to_string(), "[::]:80");
        let mut link_local = [0; 16];
        (link_local[0], link_local[1], link_local[15]) = (0xfe, 0x80, 1);
        assert_eq!(address(&link_local, 2).to_string(), "[fe80::1%2]:80");
        assert_eq!(address(&[], 0).to_string(), "*:80");
        assert_eq!(address(&[1, 2, 3], 0).to_string(), "*:80");
    }
}
