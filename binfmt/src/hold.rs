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
mod table;

use netlink::Netlink;
use netlink_packet_netfilter::nftables::{
    NfTablesMessage, SetElementList, SetElementMessage, TableAttribute, TableFlags, TableMessage,
};
use nix::errno::Errno;
use std::net::SocketAddr;
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
        Netlink::open().map(Link)
    }

    /// Holds connections, in a table of this name, which replaces one that is there.
    pub fn hold(&self, name: &str, flows: &[Flow], until: Until) -> nix::Result<()> {
        self.0.transact(table::make(name, flows, until))
    }

    /// Removes a table of ours, if it is there.
    pub fn release(&self, name: &str) -> nix::Result<()> {
        if !is_ours(name) {
            return Err(Errno::EINVAL);
        }
        match self.0.transact(vec![table::delete(name)]) {
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
        for version in &table::VERSIONS {
            let attributes =
                vec![SetElementList::Table(table.to_owned()), SetElementList::Set(version.set.to_owned())];
            let question = NfTablesMessage::GetSetElement(SetElementMessage { attributes });
            let told = match self.0.ask(question) {
                Err(Errno::ENOENT) => continue,
                told => told?,
            };
            let has_some =
                |part: &SetElementList| matches!(part, SetElementList::Elements(list) if !list.is_empty());
            let holds = |message: &NfTablesMessage| match message {
                NfTablesMessage::NewSetElement(message) => message.attributes.iter().any(has_some),
                _ => false,
            };
            if told.iter().any(holds) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// All tables of the family: name, and whether somebody owns it.
    pub fn tables(&self) -> nix::Result<Vec<(String, bool)>> {
        let told = self.0.ask(NfTablesMessage::GetTable(TableMessage { attributes: Vec::new() }))?;
        let table = |message: NfTablesMessage| {
            let NfTablesMessage::NewTable(TableMessage { attributes }) = message else { return None };
            let is_owned = |part: &TableAttribute| matches!(part, TableAttribute::Flags(flags) if flags.contains(TableFlags::Owner));
            let is_owned = attributes.iter().any(is_owned);
            attributes.into_iter().find_map(|part| match part {
                TableAttribute::Name(name) => Some((name, is_owned)),
                _ => None,
            })
        };
        Ok(told.into_iter().filter_map(table).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
