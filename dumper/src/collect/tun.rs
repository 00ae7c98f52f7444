//! Descriptions of `/dev/net/tun`: ioctl(2) tells what is their own, rtnetlink(7) what is their interface's.

use super::Collected;
use super::descriptor::Open;
use crate::allow::Allow;
use crate::error::Error;
use crate::sys::{self, AskTun};
use binfmt::netlink::{DUMP, Netlink, find, word};
use binfmt::note::descriptor::DescriptionKind;
use binfmt::note::tun::{Interface, InterfaceAddress, Route, Tun};
use binfmt::wire::{Bytes, Text};
use nix::errno::Errno;
use nix::sys::socket::SockProtocol;
use std::fs::{self, File};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;

/// The device number of `/dev/net/tun`.
pub fn is_tun(device: u64) -> bool {
    (libc::major(device), libc::minor(device)) == (10, 200)
}

/// Completes `description`, or says what stands against it.
pub fn collect(
    description: u32,
    open: &Open<'_>,
    duplicate: BorrowedFd<'_>,
    out: &mut Collected,
) -> Result<DescriptionKind, Error> {
    let failed = |error| Error::question(open.subject.pid(), "asking for its network interface", error);
    let nobody = u32::MAX;
    let mut tun = Tun { description, owner: nobody, group: nobody, ..Tun::default() };
    match sys::tun_interface(duplicate) {
        Err(Errno::EBADFD) => {}
        Err(error) => return Err(failed(error)),
        Ok((name, flags)) => {
            let named = Text::from(name.as_slice());
            if !is_here(duplicate) {
                let what =
                    format!("at the network interface {named}, which is not in the network of ckpt-dump");
                return Ok(open.not_saved(Allow::Device, &what, out));
            }
            // The bit of IFF_NO_PI is that of IFF_NOFILTER there: the interface tells.
            (tun.name, tun.flags) = (named, flags & !IFF_NO_PI);
            tun.send_buffer_bytes = sys::ask_tun(duplicate, AskTun::SendBuffer).map_err(failed)?;
            tun.header_bytes = sys::ask_tun(duplicate, AskTun::Header).map_err(failed)?;
            let is_part = look(&mut tun).map_err(failed)?;
            if is_part && tun.flags & IFF_PERSIST == 0 {
                let what = format!(
                    "at the network interface {}, which is a part of another one (a bridge) and ends with the program",
                    tun.name
                );
                let advice = "take it out (ip link set nomaster), or have it stay (ip tuntap add)";
                return Ok(open.not_saved_but(Allow::Device, &what, advice, out));
            }
        }
    }
    out.note(tun);
    Ok(DescriptionKind::Tun)
}

/// Whether the interface is in the network namespace of this process. Kernels that do not tell have it where it was opened.
fn is_here(duplicate: BorrowedFd<'_>) -> bool {
    let Ok(namespace) = sys::tun_namespace(duplicate) else { return true };
    let its = File::from(namespace).metadata().map(|found| found.ino()).ok();
    its.is_some() && its == fs::metadata("/proc/self/ns/net").map(|found| found.ino()).ok()
}

const IFF_PERSIST: u32 = 0x800;
const IFF_NO_PI: u32 = 0x1000;
const LINK_ADDRESS: u16 = 1;
const LINK_NAME: u16 = 3;
const LINK_MTU: u16 = 4;
const LINK_MASTER: u16 = 10;
const LINK_QUEUE: u16 = 13;
const LINK_INFO: u16 = 18;
const INFO_DATA: u16 = 2;
const TUN_OWNER: u16 = 1;
const TUN_GROUP: u16 = 2;
const TUN_PACKET_INFORMATION: u16 = 4;

/// Asks for the interface of that name; whether it is a part of another one.
fn look(tun: &mut Tun) -> nix::Result<bool> {
    const GET_LINK: u16 = 18;
    const GET_ADDRESS: u16 = 22;
    const GET_ROUTE: u16 = 26;
    const LINK_BYTES: usize = 16;
    let route = Netlink::open(SockProtocol::NetlinkRoute)?;
    let links = route.ask_whole((GET_LINK, DUMP, vec![0; LINK_BYTES]))?;
    let name = [tun.name.0.as_slice(), b"\0"].concat();
    let is_it = |link: &&Vec<u8>| attributes(link, LINK_BYTES, LINK_NAME) == Some(name.as_slice());
    let link = links.iter().find(is_it).ok_or(Errno::ENODEV)?;
    let index = word(link, 4).ok_or(Errno::EPROTO)?;
    let number = |kind| attributes(link, LINK_BYTES, kind).and_then(|value| word(value, 0));
    let data =
        attributes(link, LINK_BYTES, LINK_INFO).and_then(|info| find(info, INFO_DATA)).unwrap_or_default();
    let id = |kind| find(data, kind).and_then(|value| word(value, 0)).unwrap_or(u32::MAX);
    (tun.owner, tun.group) = (id(TUN_OWNER), id(TUN_GROUP));
    let information = find(data, TUN_PACKET_INFORMATION).and_then(|value| value.first());
    if *information.ok_or(Errno::EPROTO)? == 0 {
        tun.flags |= IFF_NO_PI;
    }
    let addresses = route.ask_whole((GET_ADDRESS, DUMP, vec![0; 8]))?;
    let routes = route.ask_whole((GET_ROUTE, DUMP, vec![0; 12]))?;
    tun.interface = Interface {
        flags: word(link, 8).unwrap_or_default(),
        mtu_bytes: number(LINK_MTU).unwrap_or_default(),
        queue_packets: number(LINK_QUEUE).unwrap_or_default(),
        hardware: Bytes(attributes(link, LINK_BYTES, LINK_ADDRESS).unwrap_or_default().to_vec()),
        addresses: addresses.iter().filter_map(|body| address(body, index)).collect(),
        routes: routes.iter().filter_map(|body| gone_with(body, index)).collect(),
    };
    Ok(number(LINK_MASTER).is_some_and(|master| master != 0))
}

/// The value of an attribute behind a header.
fn attributes(body: &[u8], header_bytes: usize, kind: u16) -> Option<&[u8]> {
    find(body.get(header_bytes..)?, kind)
}

/// An address of that interface (struct ifaddrmsg), unless the kernel has given it one.
fn address(body: &[u8], index: u32) -> Option<InterfaceAddress> {
    const HEADER_BYTES: usize = 8;
    /// IFAPROT_KERNEL_LL
    const LINK_LOCAL: u8 = 3;
    let &[family, prefix_bits, low_flags, scope, ..] = body else { return None };
    let value = |kind| attributes(body, HEADER_BYTES, kind);
    if word(body, 4)? != index || value(11) == Some(&[LINK_LOCAL]) {
        return None;
    }
    let bytes = |kind| Bytes(value(kind).unwrap_or_default().to_vec());
    let (peer, local) = (bytes(1), bytes(2));
    Some(InterfaceAddress {
        family,
        prefix_bits,
        scope,
        flags: value(8).and_then(|flags| word(flags, 0)).unwrap_or(low_flags.into()),
        local: if local.0.is_empty() { peer.clone() } else { local },
        peer,
        broadcast: bytes(4),
    })
}

/// A route through that interface (struct rtmsg) that goes with it and does not come again with its addresses.
fn gone_with(body: &[u8], index: u32) -> Option<Route> {
    const HEADER_BYTES: usize = 12;
    /// RTPROT_KERNEL
    const BY_KERNEL: u8 = 2;
    const UNICAST: u8 = 1;
    const CLONED: u32 = 0x200;
    let &[family, prefix_bits, _, _, table, protocol, scope, kind, ..] = body else { return None };
    let value = |kind| attributes(body, HEADER_BYTES, kind);
    let through = value(4).and_then(|index| word(index, 0)) == Some(index);
    if !through || protocol == BY_KERNEL || kind != UNICAST || word(body, 8)? & CLONED != 0 {
        return None;
    }
    let bytes = |kind| Bytes(value(kind).unwrap_or_default().to_vec());
    let number = |kind| value(kind).and_then(|value| word(value, 0));
    Some(Route {
        family,
        prefix_bits,
        table: number(15).unwrap_or(table.into()),
        protocol,
        scope,
        destination: bytes(1),
        gateway: bytes(5),
        source: bytes(7),
        metric: number(6).unwrap_or_default(),
    })
}
