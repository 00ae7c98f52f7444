//! Sockets of the domain AF_NETLINK: their place among the others of their protocol, and what they hear.

use crate::note::socket::options;
use crate::wire::record;

record! {
    /// A socket of the domain AF_NETLINK.
    pub struct NetlinkSocket {
        /// The `Description` and the `Socket` that this note completes; its protocol is NETLINK_ROUTE, ...
        description: u32,
        /// By which id others reach it; 0 if it has none.
        port: u32,
        /// The multicast groups that it is a member of, by their numbers from 1 on.
        groups: Vec<u32>,
        /// The id of its peer (connect(2)); 0 for the kernel, or for none.
        peer_port: u32,
        /// The groups of its peer, a bit for each of the first 32.
        peer_groups: u32,
        /// Whether it had something to read that is gone, or was already to be told of such a loss (ENOBUFS).
        lost: bool,
    }
}

options! {
    /// Options of AF_NETLINK (netlink(7)), in the order in which they are set.
    NETLINK_OPTIONS SOL_NETLINK {
        NETLINK_PKTINFO 3 First,
        NETLINK_BROADCAST_ERROR 4 First,
        NETLINK_NO_ENOBUFS 5 Last,
        NETLINK_LISTEN_ALL_NSID 8 First,
        NETLINK_CAP_ACK 10 Last,
        NETLINK_EXT_ACK 11 Last,
        NETLINK_GET_STRICT_CHK 12 First,
    }
}
