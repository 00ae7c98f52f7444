//! Descriptions of `/dev/net/tun`: network interfaces whose other end is a program (tun and tap).
//!
//! An interface that is not persistent ends with the last description that is attached to it, and with it go its addresses and
//! routes: so these are part of its state.

use crate::wire::{Bytes, Text, record};

record! {
    /// A description of `/dev/net/tun`.
    pub struct Tun {
        /// The `Description` that this note completes.
        description: u32,
        /// The name of the interface; empty if it is attached to none.
        name: Text,
        /// IFF_TUN or IFF_TAP and what goes with it (TUNGETIFF).
        flags: u32,
        /// Who may attach to it: a user id, or all bits set.
        owner: u32,
        /// The same of a group.
        group: u32,
        /// How many bytes may wait to be sent (TUNGETSNDBUF).
        send_buffer_bytes: u32,
        /// Length of the header before each packet (TUNGETVNETHDRSZ).
        header_bytes: u32,
        /// The interface itself.
        interface: Interface,
    }

    /// A network interface.
    pub struct Interface {
        /// IFF_UP and others (SIOCGIFFLAGS).
        flags: u32,
        /// Its MTU in bytes.
        mtu_bytes: u32,
        /// How many packets may wait to be sent.
        queue_packets: u32,
        /// Its hardware address; empty if it has none.
        hardware: Bytes,
        /// Its addresses, but for those that the kernel gives it.
        addresses: Vec<InterfaceAddress>,
        /// The routes that lead through it, but for those that the kernel makes for its addresses.
        routes: Vec<Route>,
    }

    /// An address of a network interface.
    pub struct InterfaceAddress {
        /// AF_INET or AF_INET6
        family: u8,
        /// Length of the network's part.
        prefix_bits: u8,
        /// RT_SCOPE_*
        scope: u8,
        /// IFA_F_*
        flags: u32,
        /// The own one.
        local: Bytes,
        /// That of the other end, or again the own one.
        peer: Bytes,
        /// That of all; empty if there is none.
        broadcast: Bytes,
    }

    /// A route.
    pub struct Route {
        /// AF_INET or AF_INET6
        family: u8,
        /// Length of the network's part of the destination.
        prefix_bits: u8,
        /// Which table of routes.
        table: u32,
        /// Who has made it (RTPROT_*).
        protocol: u8,
        /// RT_SCOPE_*
        scope: u8,
        /// Where it leads to; empty for everywhere.
        destination: Bytes,
        /// Over whom; empty for nobody.
        gateway: Bytes,
        /// The address that is preferred for what is sent; empty if none is.
        source: Bytes,
        /// The lower, the better.
        metric: u32,
    }
}
