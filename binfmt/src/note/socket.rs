//! Sockets: what those of all domains have in common.
//!
//! What differs from a fresh socket of the same kind is recorded, option by option, by the table below. A domain adds a note
//! of its own (`UnixSocket`, ...), and options of its own levels by a table of its own.

use crate::note::{inet, netlink, packet};
use crate::wire::{Bytes, record};

record! {
    /// A socket: what those of all domains have in common.
    pub struct Socket {
        /// The `Description` that this note completes.
        description: u32,
        /// Inode number: which socket it is.
        inode: u64,
        /// AF_UNIX, ...: which note completes it further.
        domain: u32,
        /// SOCK_STREAM, ...
        kind: u32,
        /// IPPROTO_*, 0 for the only one.
        protocol: u32,
        /// Options that differ from those of a fresh socket, in the order in which they are set.
        options: Vec<SocketOption>,
    }

    /// An option of a socket.
    pub struct SocketOption {
        /// SOL_SOCKET, ...
        level: u32,
        /// SO_REUSEADDR, ...
        name: u32,
        /// What getsockopt(2) said.
        value: Bytes,
    }
}

/// An option that getsockopt(2) can read and setsockopt(2) can write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownOption {
    /// SOL_SOCKET, ...
    pub level: i32,
    /// By which it is read.
    pub name: i32,
    /// For messages.
    pub label: &'static str,
    /// How it is set.
    pub setter: Setter,
    /// When it is set.
    pub moment: Moment,
}

/// How an option is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setter {
    /// By the value that was read.
    Same,
    /// By half of it, since the kernel doubles what is set; beyond the host's limit by this option, which takes a privilege.
    Half(i32),
    /// The value is a classic BPF program of 8 bytes an instruction, whose number is counted in those.
    Filter,
}

/// When an option is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    /// Before the socket gets a name, a peer or anything in its queue.
    First,
    /// When all that stands.
    Last,
}

/// Numbers of options that libc does not have (include/uapi/asm-generic/socket.h).
mod number {
    pub(super) const SO_TIMESTAMP_NEW: i32 = 63;
    pub(super) const SO_TIMESTAMPNS_NEW: i32 = 64;
    pub(super) const SO_TIMESTAMPING_NEW: i32 = 65;
    pub(super) const SO_RESERVE_MEM: i32 = 73;
    pub(super) const SO_TXREHASH: i32 = 74;
    pub(super) const SO_RCVMARK: i32 = 75;
    pub(super) const SO_PASSPIDFD: i32 = 76;
    pub(super) const SO_RCVPRIORITY: i32 = 82;
    pub(super) const SO_PASSRIGHTS: i32 = 83;
}

const fn first(name: i32, label: &'static str) -> KnownOption {
    KnownOption { level: libc::SOL_SOCKET, name, label, setter: Setter::Same, moment: Moment::First }
}

const fn last(name: i32, label: &'static str) -> KnownOption {
    KnownOption { moment: Moment::Last, ..first(name, label) }
}

const fn size(name: i32, force: i32, label: &'static str) -> KnownOption {
    KnownOption { setter: Setter::Half(force), ..last(name, label) }
}

/// The options that sockets of all domains may have, in the order in which they are set. A socket that does not know one
/// says so.
///
/// Not here: what cannot be set (SO_TYPE, SO_ERROR, SO_ACCEPTCONN, ...) and so is made otherwise or is gone; what cannot be read
/// (SO_BUSY_POLL_BUDGET, SO_ATTACH_REUSEPORT_CBPF); what the kernel itself overwrites (SO_INCOMING_CPU); and the same under a
/// second number (SO_BINDTOIFINDEX, SO_RCVTIMEO_NEW).
pub const SOCKET_OPTIONS: &[KnownOption] = &[
    first(libc::SO_DEBUG, "SO_DEBUG"),
    first(libc::SO_REUSEADDR, "SO_REUSEADDR"),
    first(libc::SO_REUSEPORT, "SO_REUSEPORT"),
    first(libc::SO_BINDTODEVICE, "SO_BINDTODEVICE"),
    first(libc::SO_MARK, "SO_MARK"),
    first(libc::SO_PRIORITY, "SO_PRIORITY"),
    first(libc::SO_DONTROUTE, "SO_DONTROUTE"),
    first(libc::SO_BROADCAST, "SO_BROADCAST"),
    first(libc::SO_NO_CHECK, "SO_NO_CHECK"),
    last(libc::SO_KEEPALIVE, "SO_KEEPALIVE"),
    last(libc::SO_OOBINLINE, "SO_OOBINLINE"),
    last(libc::SO_LINGER, "SO_LINGER"),
    last(libc::SO_RCVTIMEO, "SO_RCVTIMEO"),
    last(libc::SO_SNDTIMEO, "SO_SNDTIMEO"),
    // Timestamps of the new kind raise a flag that makes those of the old kind read as off.
    last(libc::SO_TIMESTAMP, "SO_TIMESTAMP"),
    last(libc::SO_TIMESTAMPNS, "SO_TIMESTAMPNS"),
    last(libc::SO_TIMESTAMPING, "SO_TIMESTAMPING"),
    last(number::SO_TIMESTAMP_NEW, "SO_TIMESTAMP_NEW"),
    last(number::SO_TIMESTAMPNS_NEW, "SO_TIMESTAMPNS_NEW"),
    last(number::SO_TIMESTAMPING_NEW, "SO_TIMESTAMPING_NEW"),
    last(libc::SO_BUSY_POLL, "SO_BUSY_POLL"),
    last(libc::SO_PREFER_BUSY_POLL, "SO_PREFER_BUSY_POLL"),
    last(libc::SO_RXQ_OVFL, "SO_RXQ_OVFL"),
    last(libc::SO_WIFI_STATUS, "SO_WIFI_STATUS"),
    last(libc::SO_NOFCS, "SO_NOFCS"),
    last(libc::SO_SELECT_ERR_QUEUE, "SO_SELECT_ERR_QUEUE"),
    last(libc::SO_MAX_PACING_RATE, "SO_MAX_PACING_RATE"),
    last(libc::SO_ZEROCOPY, "SO_ZEROCOPY"),
    last(libc::SO_TXTIME, "SO_TXTIME"),
    last(number::SO_TXREHASH, "SO_TXREHASH"),
    last(number::SO_RCVMARK, "SO_RCVMARK"),
    last(number::SO_RCVPRIORITY, "SO_RCVPRIORITY"),
    size(libc::SO_SNDBUF, libc::SO_SNDBUFFORCE, "SO_SNDBUF"),
    size(libc::SO_RCVBUF, libc::SO_RCVBUFFORCE, "SO_RCVBUF"),
    // Setting a size locks it; whether it was, is said after.
    last(libc::SO_BUF_LOCK, "SO_BUF_LOCK"),
    // Bounded by the size of the buffer.
    last(libc::SO_RCVLOWAT, "SO_RCVLOWAT"),
    last(number::SO_RESERVE_MEM, "SO_RESERVE_MEM"),
    last(libc::SO_PASSCRED, "SO_PASSCRED"),
    last(libc::SO_PASSSEC, "SO_PASSSEC"),
    last(number::SO_PASSPIDFD, "SO_PASSPIDFD"),
    last(number::SO_PASSRIGHTS, "SO_PASSRIGHTS"),
    last(libc::SO_PEEK_OFF, "SO_PEEK_OFF"),
    KnownOption {
        level: libc::SOL_SOCKET,
        name: libc::SO_ATTACH_FILTER,
        label: "SO_ATTACH_FILTER",
        setter: Setter::Filter,
        moment: Moment::Last,
    },
    last(libc::SO_LOCK_FILTER, "SO_LOCK_FILTER"),
];

/// Tables of options of one level each, which are set by the value that was read.
macro_rules! options {
    ($($(#[doc = $doc:literal])* $table:ident $level:ident { $($name:ident $number:literal $moment:ident,)* })*) => {$(
        $(#[doc = $doc])*
        pub const $table: &[$crate::note::socket::KnownOption] = &[$($crate::note::socket::KnownOption {
            level: libc::$level,
            name: $number,
            label: stringify!($name),
            setter: $crate::note::socket::Setter::Same,
            moment: $crate::note::socket::Moment::$moment,
        },)*];
    )*};
}

pub(crate) use options;

/// Which options sockets of which domains may have. A domain with options of its own levels has a row here; no domain
/// stands for all.
const TABLES: &[(&[i32], &[KnownOption])] = &[
    (&[], SOCKET_OPTIONS),
    (IP, inet::IP_OPTIONS),
    (&[libc::AF_INET6], inet::IPV6_OPTIONS),
    (IP, inet::TCP_OPTIONS),
    (IP, inet::UDP_OPTIONS),
    (&[libc::AF_INET], inet::RAW_OPTIONS),
    (&[libc::AF_INET6], inet::ICMPV6_OPTIONS),
    (&[libc::AF_NETLINK], netlink::NETLINK_OPTIONS),
    (&[libc::AF_PACKET], packet::PACKET_OPTIONS),
];

const IP: &[i32] = &[libc::AF_INET, libc::AF_INET6];

/// The options that sockets of a domain may have, in the order in which they are set.
pub fn options_of(domain: u32) -> impl Iterator<Item = &'static KnownOption> {
    let has = move |domains: &[i32]| domains.is_empty() || domains.contains(&domain.cast_signed());
    TABLES.iter().filter(move |(domains, _)| has(domains)).flat_map(|(_, options)| *options)
}

impl SocketOption {
    /// What is known of it on sockets of a domain.
    pub fn known(&self, domain: u32) -> Option<&'static KnownOption> {
        options_of(domain).find(|known| {
            (known.level.cast_unsigned(), known.name.cast_unsigned()) == (self.level, self.name)
        })
    }
}
