//! Descriptions of `/dev/net/tun`, attached to their interfaces again.
//!
//! One that was not persistent went with the program: it is made again, with its addresses and routes. One that is there,
//! because it is persistent or because somebody has made it, is taken as it is.

use crate::error::{Error, Refusal, Result};
use crate::sys::{self, TellTun};
use binfmt::image::Image;
use binfmt::netlink::{DUMP, Netlink, attribute, find, text, word};
use binfmt::note::descriptor::Description;
use binfmt::note::tun::{Interface, InterfaceAddress, Route, Tun};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::SockProtocol;
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, OwnedFd};

const IFF_TAP: u32 = 2;
const IFF_MULTI_QUEUE: u32 = 0x100;
const IFF_DETACH_QUEUE: u32 = 0x400;
const IFF_PERSIST: u32 = 0x800;
/// What TUNSETIFF takes: the two kinds, NAPI, NO_CARRIER, packet information, header, several queues.
const ATTACHED: u32 = 0x1 | IFF_TAP | 0x10 | 0x20 | 0x40 | 0x100 | 0x1000 | 0x4000;
const CREATE_AND_EXCLUDE: u16 = 0x400 | 0x200;

/// What of the interfaces stands against a resume; `is_admin` says whether the caller has CAP_NET_ADMIN.
pub fn refusals(image: &Image, is_admin: bool) -> Vec<Refusal> {
    let mut refusals = Vec::new();
    for note in image.all::<Tun>().filter(|note| !note.name.0.is_empty()) {
        let (name, is_there) = (&note.name, is_there(note));
        let (reason, remedy) = match (is_there, note.flags & IFF_PERSIST != 0) {
            (false, true) => ("is not there, and was to stay without the program", "make it: ip tuntap add"),
            (false, false) if !is_admin => ("is made again only with CAP_NET_ADMIN", "resume it as root"),
            (true, _) => match try_to_attach(note) {
                Ok(()) => continue,
                Err(Errno::EBUSY) => {
                    ("is in use", "end who uses it, or resume in a network of its own: unshare --net")
                }
                Err(Errno::EPERM) => ("is another user's", "resume it as its owner, or as root"),
                Err(Errno::EINVAL) => ("is of another kind", "remove it: ip link delete"),
                Err(Errno::ENOENT) => {
                    ("needs /dev/net/tun, which is not there", "load the module: modprobe tun")
                }
                Err(_) => ("cannot be used", "remove it: ip link delete"),
            },
            (false, false) => continue,
        };
        refusals.push(Refusal {
            reason: format!("the network interface {name} {reason}"),
            remedy: remedy.to_owned(),
        });
    }
    refusals
}

fn is_there(note: &Tun) -> bool {
    if_nametoindex(note.name.as_path()).is_ok()
}

fn open_device(flags: OFlag) -> nix::Result<OwnedFd> {
    open("/dev/net/tun", flags | OFlag::O_CLOEXEC, Mode::empty())
}

/// Attaches to one that is there, and lets go of it. Nobody else is attached then: to one of several queues, packets would go for
/// that time.
fn try_to_attach(note: &Tun) -> nix::Result<()> {
    if note.flags & IFF_MULTI_QUEUE != 0 && queues(note)? != 0 {
        return Err(Errno::EBUSY);
    }
    let device = open_device(OFlag::O_RDWR)?;
    sys::tell_interface(device.as_fd(), sys::ATTACH, &note.name.0, note.flags & ATTACHED)
}

/// How many queues of an interface with several somebody has.
fn queues(note: &Tun) -> nix::Result<u32> {
    const GET_LINK: u16 = 18;
    const LINK_BYTES: usize = 16;
    const LINK_INFO: u16 = 18;
    const INFO_DATA: u16 = 2;
    const QUEUES: u16 = 8;
    const DISABLED_QUEUES: u16 = 9;
    let index = if_nametoindex(note.name.as_path())?;
    let route = Netlink::open(SockProtocol::NetlinkRoute)?;
    let links = route.ask_whole((GET_LINK, DUMP, vec![0; LINK_BYTES]))?;
    let link = links.iter().find(|link| word(link, 4) == Some(index)).and_then(|link| link.get(LINK_BYTES..));
    let data = link.and_then(|link| find(find(link, LINK_INFO)?, INFO_DATA)).unwrap_or_default();
    let number = |kind| find(data, kind).and_then(|value| word(value, 0)).unwrap_or(0);
    Ok(number(QUEUES).saturating_add(number(DISABLED_QUEUES)))
}

/// Opens that of a description.
pub fn reopen(note: &Tun, description: &Description) -> Result<OwnedFd> {
    let name = &note.name;
    let failed = |what: &str| {
        let what = format!("{what} the network interface {name}");
        move |error| Error::step(what, error)
    };
    let kept = libc::O_ACCMODE | libc::O_APPEND | libc::O_NONBLOCK | libc::O_ASYNC | libc::O_LARGEFILE;
    let flags = OFlag::from_bits_retain(description.flags.cast_signed() & kept);
    let fd = open_device(flags).map_err(|error| Error::step("open /dev/net/tun", error))?;
    if name.0.is_empty() {
        return Ok(fd);
    }
    let was_there = is_there(note);
    sys::tell_interface(fd.as_fd(), sys::ATTACH, &name.0, note.flags & ATTACHED)
        .map_err(failed("attach to"))?;
    let tell = |what, value| sys::tell_tun(fd.as_fd(), what, value);
    tell(TellTun::SendBuffer, note.send_buffer_bytes).map_err(failed("set the buffer of"))?;
    tell(TellTun::Header, note.header_bytes).map_err(failed("set the header of"))?;
    if !was_there {
        for (what, id) in [(TellTun::Owner, note.owner), (TellTun::Group, note.group)] {
            if id != u32::MAX {
                tell(what, id).map_err(failed("set the owner of"))?;
            }
        }
        furnish(note).map_err(failed("set up"))?;
    }
    if note.flags & IFF_DETACH_QUEUE != 0 {
        sys::tell_interface(fd.as_fd(), sys::QUEUE, b"", IFF_DETACH_QUEUE).map_err(failed("detach from"))?;
    }
    Ok(fd)
}

/// Gives a new interface what it had.
fn furnish(note: &Tun) -> nix::Result<()> {
    let Interface { addresses, routes, .. } = &note.interface;
    let index = if_nametoindex(note.name.as_path())?;
    let route = Netlink::open(SockProtocol::NetlinkRoute)?;
    route.tell((RTM_NEW_LINK, 0, link(note, index)))?;
    for address in addresses {
        route.tell((RTM_NEW_ADDRESS, CREATE_AND_EXCLUDE, address_of(address, index)))?;
    }
    for one in routes {
        route.tell((RTM_NEW_ROUTE, CREATE_AND_EXCLUDE, route_of(one, index)))?;
    }
    Ok(())
}

const RTM_NEW_LINK: u16 = 16;
const RTM_NEW_ADDRESS: u16 = 20;
const RTM_NEW_ROUTE: u16 = 24;

fn link(note: &Tun, index: u32) -> Vec<u8> {
    /// IFF_UP, DEBUG, NOTRAILERS, NOARP, PROMISC, ALLMULTI, MULTICAST, DYNAMIC
    const SETTABLE: u32 = 0x1 | 0x4 | 0x20 | 0x80 | 0x100 | 0x200 | 0x1000 | 0x8000;
    let interface = &note.interface;
    // struct ifinfomsg
    let mut body = [0, index, interface.flags & SETTABLE, SETTABLE].map(u32::to_ne_bytes).concat();
    let bytes = |value: u32| value.to_ne_bytes();
    body.extend(text(3, &note.name.to_string()));
    body.extend(attribute(4, &bytes(interface.mtu_bytes)));
    body.extend(attribute(13, &bytes(interface.queue_packets)));
    if note.flags & IFF_TAP != 0 && !interface.hardware.0.is_empty() {
        body.extend(attribute(1, &interface.hardware.0));
    }
    body
}

fn address_of(address: &InterfaceAddress, index: u32) -> Vec<u8> {
    /// IFA_F_NODAD, HOMEADDRESS, MANAGETEMPADDR, NOPREFIXROUTE, MCAUTOJOIN
    const SETTABLE: u32 = 0x2 | 0x10 | 0x100 | 0x200 | 0x400;
    let flags = address.flags & SETTABLE;
    // struct ifaddrmsg
    let mut body = vec![address.family, address.prefix_bits, 0, address.scope];
    body.extend(index.to_ne_bytes());
    body.extend(attribute(1, &address.peer.0));
    body.extend(attribute(2, &address.local.0));
    if !address.broadcast.0.is_empty() {
        body.extend(attribute(4, &address.broadcast.0));
    }
    body.extend(attribute(8, &flags.to_ne_bytes()));
    body
}

fn route_of(route: &Route, index: u32) -> Vec<u8> {
    const UNICAST: u8 = 1;
    // struct rtmsg
    let mut body =
        vec![route.family, route.prefix_bits, 0, 0, 0, route.protocol, route.scope, UNICAST, 0, 0, 0, 0];
    for (kind, bytes) in [(1, &route.destination), (5, &route.gateway), (7, &route.source)] {
        if !bytes.0.is_empty() {
            body.extend(attribute(kind, &bytes.0));
        }
    }
    body.extend(attribute(4, &index.to_ne_bytes()));
    if route.metric != 0 {
        body.extend(attribute(6, &route.metric.to_ne_bytes()));
    }
    body.extend(attribute(15, &route.table.to_ne_bytes()));
    body
}
