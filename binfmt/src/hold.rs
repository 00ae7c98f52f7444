//! The packet filter that holds the segments of connections whose program is not there: neither do those of the peer reach this
//! host's TCP, which would answer that there is no such connection, nor do those of a socket that is closed reach the peer.
//!
//! It is a table of nftables (family inet) for each image, spoken of through netlink, without any program. In it are a set of
//! connections for each version of IP and two chains that drop what is in them, before connection tracking sees it: the peer is
//! not told, and sends again later. It goes away by itself:
//!
//! * while ckpt-dump works the table is owned by its netlink socket (NFT_TABLE_F_OWNER, Linux 5.12) and ends with it;
//! * from then on the connections in its sets expire ([`LIFETIME`]), and the next one who works here removes the empty table.
//!
//! By hand: `nft delete table inet NAME`.

mod netlink;

use netlink::{DUMP, Message, Netlink, attribute, find, nested, number, text, value};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// How long a connection is held when its program was killed or stopped. A peer that sends gives up after about so long
/// (`net.ipv4.tcp_retries2`).
pub const LIFETIME: Duration = Duration::from_secs(15 * 60);
/// With what the names of all tables begin.
const PREFIX: &str = "ckpt-";

/// A connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// This host's end.
    pub own: SocketAddr,
    /// The other one.
    pub peer: SocketAddr,
}

/// Until when a table holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// The link is closed.
    Closed,
    /// So much time has gone.
    Elapsed(Duration),
}

/// Messages (linux/netfilter/nf_tables.h).
mod message {
    pub(super) const NEW_TABLE: u16 = 0;
    pub(super) const GET_TABLE: u16 = 1;
    pub(super) const DELETE_TABLE: u16 = 2;
    pub(super) const NEW_CHAIN: u16 = 3;
    pub(super) const NEW_RULE: u16 = 6;
    pub(super) const NEW_SET: u16 = 9;
    pub(super) const NEW_ELEMENTS: u16 = 12;
    pub(super) const GET_ELEMENTS: u16 = 13;
}

const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
/// NFNL_SUBSYS_NFTABLES
const SUBSYSTEM: u8 = 10;
const FAMILY_INET: u8 = 1;
/// How what is done all or not at all begins and ends: the subsystem that it is for, in network order.
const BATCH: [u8; 4] = [0, 0, 0, SUBSYSTEM];
/// The first of the registers of 32 bits.
const REGISTER: u32 = 8;

/// A version of IP: the name of its set, its number for filters, and where in its header the source and the destination stand, and
/// how long they are.
struct Version {
    set: &'static str,
    number: u8,
    source_at: u32,
    destination_at: u32,
    address_bytes: u32,
}

const VERSIONS: [Version; 2] = [
    Version { set: "four", number: 2, source_at: 12, destination_at: 16, address_bytes: 4 },
    Version { set: "six", number: 10, source_at: 8, destination_at: 24, address_bytes: 16 },
];

/// What segments a chain sees: its name, its hook, and whether the peer is the source.
const CHAINS: [(&str, u32, bool); 2] = [("from", 0, true), ("to", 3, false)];

fn expression(name: &str, parts: &[Vec<u8>]) -> Vec<u8> {
    nested(1, &[text(1, name), nested(2, parts)])
}

/// A message of the packet filter, with the attributes.
fn message(kind: u16, flags: u16, parts: &[Vec<u8>]) -> Message {
    (u16::from(SUBSYSTEM) << 8 | kind, flags, [vec![FAMILY_INET, 0, 0, 0], parts.concat()].concat())
}

/// The rule that drops what is in the set of a version.
fn rule(table: &str, chain: &str, version: &Version, peer_is_source: bool) -> Message {
    let meta = |key| expression("meta", &[number(1, REGISTER), number(2, key)]);
    let is = |byte| expression("cmp", &[number(1, REGISTER), number(2, 0), value(3, &[byte])]);
    let load = |register, base, at, len| {
        expression("payload", &[number(1, register), number(2, base), number(3, at), number(4, len)])
    };
    const META_NFPROTO: u32 = 15;
    const META_L4PROTO: u32 = 16;
    const IPPROTO_TCP: u8 = 6;
    let (source, destination) = ((version.source_at, 0), (version.destination_at, 2));
    let (peer, own) = if peer_is_source { (source, destination) } else { (destination, source) };
    let words = version.address_bytes / 4;
    let drop = nested(2, &[nested(2, &[number(1, 0)])]);
    let expressions = [
        meta(META_NFPROTO),
        is(version.number),
        meta(META_L4PROTO),
        is(IPPROTO_TCP),
        load(REGISTER, 1, peer.0, version.address_bytes),
        load(REGISTER + words, 2, peer.1, 2),
        load(REGISTER + words + 1, 1, own.0, version.address_bytes),
        load(REGISTER + 2 * words + 1, 2, own.1, 2),
        expression("lookup", &[text(1, version.set), number(2, REGISTER)]),
        expression("immediate", &[number(1, 0), drop]),
    ];
    message(message::NEW_RULE, CREATE | APPEND, &[text(1, table), text(2, chain), nested(4, &expressions)])
}

/// A connection as it stands in a set: peer, its port, own address, own port, each in whole words.
fn key(flow: &Flow) -> (u8, Vec<u8>) {
    let mut bytes = Vec::new();
    let mut version = 2;
    for end in [flow.peer, flow.own] {
        match end.ip().to_canonical() {
            IpAddr::V4(ip) => bytes.extend_from_slice(&ip.octets()),
            IpAddr::V6(ip) => {
                version = 10;
                bytes.extend_from_slice(&ip.octets());
            }
        }
        bytes.extend_from_slice(&end.port().to_be_bytes());
        bytes.extend_from_slice(&[0, 0]);
    }
    (version, bytes)
}

/// What makes a table, in place of one of the same name.
fn table(name: &str, flows: &[Flow], until: Until) -> Vec<Message> {
    const OWNER: u32 = 2;
    const SET_TIMEOUT: u32 = 0x10;
    const ELEMENTS_MAX: usize = 500;
    let flags = if until == Until::Closed { OWNER } else { 0 };
    let mut all = vec![message(message::NEW_TABLE, CREATE, &[text(1, name), number(2, flags)])];
    if until != Until::Closed {
        all.push(message(message::DELETE_TABLE, 0, &[text(1, name)]));
        all.push(message(message::NEW_TABLE, CREATE, &[text(1, name), number(2, flags)]));
    }
    for (index, version) in (1..).zip(&VERSIONS) {
        let key_bytes = 2 * (version.address_bytes + 4);
        let set = [text(1, name), text(2, version.set), number(3, SET_TIMEOUT), number(4, 0)];
        let set = [set.as_slice(), &[number(5, key_bytes), number(10, index)]].concat();
        all.push(message(message::NEW_SET, CREATE, &set));
    }
    for (chain, hook, peer_is_source) in CHAINS {
        const BEFORE_TRACKING: i32 = -400;
        let hook = nested(4, &[number(1, hook), number(2, BEFORE_TRACKING.cast_unsigned())]);
        let parts = [text(1, name), text(3, chain), hook, text(7, "filter")];
        all.push(message(message::NEW_CHAIN, CREATE, &parts));
        all.extend(VERSIONS.iter().map(|version| rule(name, chain, version, peer_is_source)));
    }
    for version in &VERSIONS {
        let keys: Vec<Vec<u8>> = flows
            .iter()
            .map(key)
            .filter(|(number, _)| *number == version.number)
            .map(|(_, key)| key)
            .collect();
        for keys in keys.chunks(ELEMENTS_MAX) {
            let element = |key: &Vec<u8>| {
                let timeout = match until {
                    Until::Closed => Vec::new(),
                    Until::Elapsed(time) => {
                        let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
                        attribute(4, &time_ms.to_be_bytes())
                    }
                };
                nested(1, &[value(1, key), timeout])
            };
            let elements: Vec<Vec<u8>> = keys.iter().map(element).collect();
            let parts = [text(1, name), text(2, version.set), nested(3, &elements)];
            all.push(message(message::NEW_ELEMENTS, CREATE, &parts));
        }
    }
    all
}

/// Whether a table could bear this name for an image: only such are ever removed.
pub fn is_ours(name: &str) -> bool {
    const LEN_MAX: usize = 64;
    let rest = name.strip_prefix(PREFIX).unwrap_or_default();
    !rest.is_empty()
        && name.len() <= LEN_MAX
        && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Speaks with the packet filter.
#[derive(Debug)]
pub struct Link(Netlink);

impl Link {
    /// Opens one. Only who has CAP_NET_ADMIN can do something with it.
    pub fn open() -> nix::Result<Link> {
        Netlink::open(SockProtocol::NetlinkNetFilter).map(Link)
    }

    /// Holds connections, in a table of this name, which replaces one that is there.
    pub fn hold(&self, name: &str, flows: &[Flow], until: Until) -> nix::Result<()> {
        self.0.transact(BATCH, table(name, flows, until))
    }

    /// Removes a table of ours, if it is there.
    pub fn release(&self, name: &str) -> nix::Result<()> {
        if !is_ours(name) {
            return Err(Errno::EINVAL);
        }
        match self.0.transact(BATCH, vec![message(message::DELETE_TABLE, 0, &[text(1, name)])]) {
            Err(Errno::ENOENT) => Ok(()),
            result => result,
        }
    }

    /// Removes those tables of ours in which everything has expired.
    pub fn tidy(&self) -> nix::Result<()> {
        for (name, is_owned) in self.tables()? {
            if !is_owned && name.starts_with(PREFIX) && self.is_empty(&name)? {
                self.release(&name)?;
            }
        }
        Ok(())
    }

    /// A name for a table that nobody else has.
    pub fn new_name() -> String {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        format!("{PREFIX}{:x}-{:x}", since.as_nanos() & 0xffff_ffff_ffff, std::process::id())
    }

    fn is_empty(&self, table: &str) -> nix::Result<bool> {
        for version in &VERSIONS {
            let parts = [text(1, table), text(2, version.set)];
            let elements = match self.0.ask(message(message::GET_ELEMENTS, DUMP, &parts)) {
                Err(Errno::ENOENT) => continue,
                elements => elements?,
            };
            const ELEMENTS: u16 = 3;
            let has_some = |body: &Vec<u8>| find(body, ELEMENTS).is_some_and(|list| !list.is_empty());
            if elements.iter().any(has_some) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All tables of the family: name, and whether somebody owns it.
    fn tables(&self) -> nix::Result<Vec<(String, bool)>> {
        let bodies = self.0.ask(message(message::GET_TABLE, DUMP, &[]))?;
        let table = |body: Vec<u8>| {
            let name = find(&body, 1)?;
            let name = String::from_utf8_lossy(name.strip_suffix(&[0])?).into_owned();
            const OWNER: u8 = 2;
            let is_owned =
                find(&body, 2).is_some_and(|flags| flags.last().is_some_and(|bits| bits & OWNER != 0));
            Some((name, is_owned))
        };
        Ok(bodies.into_iter().filter_map(table).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_of_whole_words() {
        let flow = |own: &str, peer: &str| Flow { own: own.parse().unwrap(), peer: peer.parse().unwrap() };
        let expected = vec![10, 0, 0, 2, 0, 80, 0, 0, 127, 0, 0, 1, 1, 0, 0, 0];
        assert_eq!(key(&flow("127.0.0.1:256", "10.0.0.2:80")), (2, expected.clone()));
        assert_eq!(key(&flow("[::ffff:127.0.0.1]:256", "[::ffff:10.0.0.2]:80")), (2, expected));
        let (version, bytes) = key(&flow("[::1]:256", "[fe80::1]:80"));
        assert_eq!(
            (version, bytes.len(), &bytes[16..20], &bytes[36..]),
            (10, 40, &[0, 80, 0, 0][..], &[1, 0, 0, 0][..])
        );
    }

    /// In a network namespace of its own, where one can be had.
    #[test]
    fn what_is_held_expires() {
        let done = std::thread::spawn(|| {
            use nix::sched::{CloneFlags, unshare};
            if unshare(CloneFlags::CLONE_NEWNET).is_err() {
                return;
            }
            let Ok(link) = Link::open() else { return };
            let flow = Flow { own: "127.0.0.1:1".parse().unwrap(), peer: "[::1]:2".parse().unwrap() };
            let four = Flow { peer: "127.0.0.1:3".parse().unwrap(), ..flow };
            let hold = |name, until| match link.hold(name, &[four], until) {
                // This kernel has no packet filter.
                Err(Errno::EPROTONOSUPPORT | Errno::EOPNOTSUPP) => false,
                held => held.map(|()| true).unwrap(),
            };
            if !hold("ckpt-a", Until::Elapsed(Duration::from_millis(1500))) {
                return;
            }
            hold("other", Until::Elapsed(Duration::from_millis(1)));
            hold("ckpt-b", Until::Elapsed(LIFETIME));
            {
                let second = Link::open().unwrap();
                second.hold("ckpt-c", &[four], Until::Closed).unwrap();
                let names: Vec<(String, bool)> = link.tables().unwrap();
                assert!(names.contains(&("ckpt-c".to_owned(), true)), "{names:?}");
            }
            link.tidy().unwrap();
            let names =
                |link: &Link| link.tables().unwrap().into_iter().map(|(name, _)| name).collect::<Vec<_>>();
            assert_eq!(names(&link), ["ckpt-a", "other", "ckpt-b"]);
            std::thread::sleep(Duration::from_millis(1600));
            link.tidy().unwrap();
            assert_eq!(names(&link), ["other", "ckpt-b"]);
            link.release("ckpt-b").unwrap();
            link.release("ckpt-b").unwrap();
            assert_eq!(link.release("other"), Err(Errno::EINVAL), "somebody else's");
            assert_eq!(names(&link), ["other"]);
        });
        done.join().unwrap();
    }
}
