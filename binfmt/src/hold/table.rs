//! The messages that make a table: two sets of connections, two chains, and in each a rule for each set.

use super::netlink::Message;
use super::{Flow, Until};
use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook, HookNumber,
    Immediate, InetHookNumber, ListAttribute, Lookup, Meta, MetaKey, NfTablesMessage, Operator, Payload,
    Register, RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute, SetElementList,
    SetElementMessage, SetFlags, SetMessage, TableAttribute, TableFlags, TableMessage, Verdict,
    VerdictAttribute,
};
use std::net::IpAddr;

/// A version of IP: the name of its set, its number for filters, and where in its header the source and the destination stand, and
/// how long they are.
pub(super) struct Version {
    pub(super) set: &'static str,
    number: u8,
    source_at: u32,
    destination_at: u32,
    address_bytes: u32,
}

pub(super) const VERSIONS: [Version; 2] = [
    Version { set: "four", number: 2, source_at: 12, destination_at: 16, address_bytes: 4 },
    Version { set: "six", number: 10, source_at: 8, destination_at: 24, address_bytes: 16 },
];

/// What segments a chain sees: its name, its hook, and whether the peer is the source.
const CHAINS: [(&str, InetHookNumber, bool); 2] =
    [("from", InetHookNumber::PreRouting, true), ("to", InetHookNumber::LocalOut, false)];

/// What makes a table, in place of one of the same name.
pub(super) fn make(name: &str, flows: &[Flow], until: Until) -> Vec<Message> {
    let flags = if until == Until::Closed { TableFlags::Owner } else { TableFlags::empty() };
    let attributes = vec![TableAttribute::Name(name.to_owned()), TableAttribute::Flags(flags)];
    let new = (NfTablesMessage::NewTable(TableMessage { attributes }), NLM_F_CREATE);
    let mut all = vec![new.clone()];
    if until != Until::Closed {
        all.extend([delete(name), new]);
    }
    all.extend((1..).zip(&VERSIONS).map(|(id, version)| set(name, version, id)));
    for (chain, hook, peer_is_source) in CHAINS {
        all.push(self::chain(name, chain, hook));
        all.extend(VERSIONS.iter().map(|version| rule(name, chain, version, peer_is_source)));
    }
    for version in &VERSIONS {
        const ELEMENTS_MAX: usize = 500;
        let keys = flows.iter().map(key).filter(|(number, _)| *number == version.number);
        let keys: Vec<Vec<u8>> = keys.map(|(_, key)| key).collect();
        all.extend(keys.chunks(ELEMENTS_MAX).map(|keys| elements(name, version, keys, until)));
    }
    all
}

/// What removes a table.
pub(super) fn delete(name: &str) -> Message {
    let attributes = vec![TableAttribute::Name(name.to_owned())];
    (NfTablesMessage::DeleteTable(TableMessage { attributes }), 0)
}

fn set(table: &str, version: &Version, id: u32) -> Message {
    let attributes = vec![
        SetAttribute::Table(table.to_owned()),
        SetAttribute::Name(version.set.to_owned()),
        SetAttribute::Flags(SetFlags::Timeout),
        SetAttribute::KeyType(0),
        SetAttribute::KeyLen(2 * (version.address_bytes + 4)),
        SetAttribute::Id(id),
    ];
    (NfTablesMessage::NewSet(SetMessage { attributes }), NLM_F_CREATE)
}

fn chain(table: &str, name: &str, hook: InetHookNumber) -> Message {
    const BEFORE_TRACKING: i32 = -400;
    let priority = Hook::Priority(BEFORE_TRACKING.cast_unsigned());
    let attributes = vec![
        ChainAttribute::Table(table.to_owned()),
        ChainAttribute::Name(name.to_owned()),
        ChainAttribute::Hook(vec![Hook::Number(HookNumber::Inet(hook)), priority]),
        ChainAttribute::Type("filter".to_owned()),
    ];
    (NfTablesMessage::NewChain(ChainMessage { attributes }), NLM_F_CREATE)
}

/// The rule that drops what is in the set of a version.
fn rule(table: &str, chain: &str, version: &Version, peer_is_source: bool) -> Message {
    const IPPROTO_TCP: u8 = 6;
    const NETWORK_HEADER: u32 = 1;
    const TRANSPORT_HEADER: u32 = 2;
    const NF_DROP: u32 = 0;
    /// The first of the registers of 32 bits.
    const REGISTER: u32 = 8;
    let first = Register::from(REGISTER);
    let is = |key, byte| {
        let data = DataAttribute::Value(vec![byte]);
        [
            Expressions::Meta(vec![Meta::DestinationRegister(first), Meta::Key(key)]),
            Expressions::Cmp(vec![Cmp::SourceRegister(first), Cmp::Op(Operator::Equal), Cmp::Data(data)]),
        ]
    };
    let load = |register, base, at, len| {
        let register = Payload::DestinationRegister(Register::from(register));
        let from = [Payload::Base(base), Payload::Offset(at), Payload::Len(len)];
        Expressions::Payload([register].into_iter().chain(from).collect())
    };
    let (source, destination) = ((version.source_at, 0), (version.destination_at, 2));
    let (peer, own) = if peer_is_source { (source, destination) } else { (destination, source) };
    let words = version.address_bytes / 4;
    let drop = DataAttribute::Verdict(vec![VerdictAttribute::Code(Verdict::Other(NF_DROP))]);
    let key_and_verdict = [
        load(REGISTER, NETWORK_HEADER, peer.0, version.address_bytes),
        load(REGISTER + words, TRANSPORT_HEADER, peer.1, 2),
        load(REGISTER + words + 1, NETWORK_HEADER, own.0, version.address_bytes),
        load(REGISTER + 2 * words + 1, TRANSPORT_HEADER, own.1, 2),
        Expressions::Lookup(vec![Lookup::Set(version.set.to_owned()), Lookup::SourceRegister(first)]),
        Expressions::Immediate(vec![
            Immediate::DestinationRegister(Register::Verdict),
            Immediate::Data(drop),
        ]),
    ];
    let tests = [is(MetaKey::Nfproto, version.number), is(MetaKey::L4Proto, IPPROTO_TCP)];
    let expressions = tests.into_iter().flatten().chain(key_and_verdict);
    let expressions: Vec<ListAttribute<ExpressionAttribute>> = expressions.map(ListAttribute::from).collect();
    let attributes = vec![
        RuleAttribute::Table(table.to_owned()),
        RuleAttribute::Chain(chain.to_owned()),
        RuleAttribute::Expressions(expressions),
    ];
    (NfTablesMessage::NewRule(RuleMessage { attributes }), NLM_F_CREATE | NLM_F_APPEND)
}

/// Connections in the set of their version.
fn elements(table: &str, version: &Version, keys: &[Vec<u8>], until: Until) -> Message {
    let timeout = match until {
        Until::Closed => None,
        Until::Elapsed(time) => {
            let time_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            Some(SetElementAttribute::Timeout(time_ms))
        }
    };
    let element = |key: &Vec<u8>| {
        let key = SetElementAttribute::Key(DataAttribute::Value(key.clone()));
        ListAttribute::Element([key].into_iter().chain(timeout.clone()).collect())
    };
    let attributes = vec![
        SetElementList::Table(table.to_owned()),
        SetElementList::Set(version.set.to_owned()),
        SetElementList::Elements(keys.iter().map(element).collect()),
    ];
    (NfTablesMessage::NewSetElement(SetElementMessage { attributes }), NLM_F_CREATE)
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
}
