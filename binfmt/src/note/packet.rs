//! Sockets of the domain AF_PACKET: which frames of which network interface they hear.

use crate::note::socket::options;
use crate::wire::{Bytes, Text, record};

record! {
    /// A socket of the domain AF_PACKET.
    pub struct PacketSocket {
        /// The `Description` and the `Socket` that this note completes.
        description: u32,
        /// What it hears, as people write it (ETH_P_ALL, ...); 0 for nothing.
        protocol: u16,
        /// Index of the interface that it is bound to; 0 for all.
        interface: u32,
        /// The name of that interface, by which it is found again.
        interface_name: Text,
        /// What else it has interfaces let through.
        memberships: Vec<PacketMembership>,
        /// Whether it shares what comes with other sockets.
        shares: bool,
        /// The id of those together, how they share, and flags, as PACKET_FANOUT says them.
        fanout: u32,
    }

    /// What an interface lets through for a socket (struct packet_mreq).
    pub struct PacketMembership {
        /// Index of the interface.
        interface: u32,
        /// Name of the interface, by which it is found again.
        interface_name: Text,
        /// PACKET_MR_MULTICAST (0), PROMISC (1), ALLMULTI (2), UNICAST (3).
        kind: u16,
        /// How often it was asked for.
        count: u32,
        /// The address, if it is one's.
        address: Bytes,
    }
}

options! {
    /// Options of AF_PACKET (packet(7)), in the order in which they are set.
    PACKET_OPTIONS SOL_PACKET {
        PACKET_AUXDATA 8 First,
        PACKET_ORIGDEV 9 First,
        PACKET_VERSION 10 First,
        PACKET_RESERVE 12 First,
        PACKET_LOSS 14 First,
        PACKET_VNET_HDR 15 First,
        PACKET_TIMESTAMP 17 First,
        PACKET_TX_HAS_OFF 19 First,
        PACKET_QDISC_BYPASS 20 First,
        PACKET_IGNORE_OUTGOING 23 First,
        PACKET_VNET_HDR_SZ 24 First,
    }
}
