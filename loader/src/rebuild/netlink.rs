//! Sockets of the domain AF_NETLINK: all get their old ids before anything else is said to the kernel.
//!
//! What waited to be read is gone, and the kernel tells of that as it does when there was no room for a message: ENOBUFS, upon which
//! a program asks anew. To make it say so, a message that is to be ignored (NLMSG_NOOP) fills the smallest buffer that there is,
//! and then the kernel is asked for an answer, for which there is no room. The message stays: it can be read after the error.

use crate::error::{Error, Refusal, Result};
use crate::rebuild::descriptor::Opened;
use crate::rebuild::socket::{self, Room};
use crate::sys;
use binfmt::image::Image;
use binfmt::note::netlink::NetlinkSocket;
use binfmt::note::socket::Socket;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, NetlinkAddr, bind, connect, sendto};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// A socket, as the image has it.
#[derive(Clone, Copy, Debug)]
struct Saved<'a> {
    image: &'a Image,
    note: &'a NetlinkSocket,
    socket: &'a Socket,
}

fn all(image: &Image) -> impl Iterator<Item = Saved<'_>> {
    image.all::<NetlinkSocket>().filter_map(move |note| {
        let socket = image.about::<Socket>(note.description).next()?;
        Some(Saved { image, note, socket })
    })
}

/// Makes all sockets of this domain.
pub fn rebuild_all(image: &Image, opened: &mut Opened) -> Result<()> {
    let mut made = Vec::new();
    for saved in all(image) {
        made.push((saved, saved.begin()?));
    }
    for (saved, fd) in made {
        saved.go_on(&fd)?;
        socket::finish(image, saved.socket, &fd)?;
        opened.insert(saved.note.description, fd);
    }
    Ok(())
}

/// What stands against making them on this host.
pub fn refusals(image: &Image) -> Vec<Refusal> {
    let (mut refusals, mut made) = (Vec::new(), Vec::new());
    for saved in all(image) {
        match saved.begin().and_then(|fd| saved.go_on(&fd).map(|()| fd)) {
            Ok(fd) => made.push(fd),
            Err(Error::Refused(reasons)) => refusals.extend(reasons),
            Err(error) => refusals.push(saved.refusal(&error.to_string(), "dump it without that socket")),
        }
    }
    refusals
}

/// What `--plan` says of a socket.
pub fn step(image: &Image, description: u32) -> Option<String> {
    let saved = all(image).find(|saved| saved.note.description == description)?;
    let NetlinkSocket { port, groups, lost, .. } = saved.note;
    let bound = if *port == 0 { String::new() } else { format!(" bind({port})") };
    let joined = if groups.is_empty() { String::new() } else { format!(" groups {groups:?}") };
    let told = if *lost { " ENOBUFS" } else { "" };
    Some(format!("socket(AF_NETLINK, {}){bound}{joined}{told}", saved.socket.protocol))
}

impl Saved<'_> {
    /// A socket with its options and its id.
    fn begin(&self) -> Result<OwnedFd> {
        let fd = socket::make(self.socket)?;
        if self.note.port != 0 {
            let own = NetlinkAddr::new(self.note.port, 0);
            bind(fd.as_raw_fd(), &own).map_err(|error| self.refused("have its id", error))?;
        }
        Ok(fd)
    }

    /// Tells of what is gone, and joins the groups and the peer.
    fn go_on(&self, fd: &OwnedFd) -> Result<()> {
        if self.note.lost {
            self.tell_of_loss(fd).map_err(|error| self.refused("be told what it has not read", error))?;
        }
        for group in &self.note.groups {
            let (level, name) = (libc::SOL_NETLINK, libc::NETLINK_ADD_MEMBERSHIP);
            sys::set_socket_option(fd.as_fd(), level, name, &group.to_ne_bytes())
                .map_err(|error| self.refused(&format!("join the group {group}"), error))?;
        }
        let NetlinkSocket { peer_port, peer_groups, .. } = *self.note;
        if (peer_port, peer_groups) != (0, 0) {
            let peer = NetlinkAddr::new(peer_port, peer_groups);
            connect(fd.as_raw_fd(), &peer).map_err(|error| self.refused("have its peer", error))?;
        }
        Ok(())
    }

    /// Has the kernel find no room for an answer.
    fn tell_of_loss(&self, fd: &OwnedFd) -> nix::Result<()> {
        const NLM_F_REQUEST_ACK: u16 = 5;
        /// Takes more than the smallest buffer.
        const FILLS_BYTES: usize = 2048;
        let (own, kernel) = (NetlinkAddr::new(self.note.port, 0), NetlinkAddr::new(0, 0));
        let room = Room::least(fd.as_fd())?;
        sendto(fd.as_raw_fd(), &ignored(FILLS_BYTES, 0), &own, MsgFlags::MSG_DONTWAIT)?;
        // It does not matter whether the kernel wants such a thing: its answer has no room.
        let _ = sendto(fd.as_raw_fd(), &ignored(0, NLM_F_REQUEST_ACK), &kernel, MsgFlags::MSG_DONTWAIT);
        room.give_back()
    }

    fn refused(&self, verb: &str, error: Errno) -> Error {
        let (cause, remedy) = match error {
            Errno::EADDRINUSE => (
                format!("cannot have its id again, which {} has", self.holder()),
                "end that one first, or give the program a network of its own: `unshare --net ./FILE`",
            ),
            Errno::EPERM => (format!("cannot {verb} without CAP_NET_ADMIN"), "resume it as root"),
            error => (format!("cannot {verb}: {error}"), "dump it without that socket"),
        };
        Error::Refused(vec![self.refusal(&cause, remedy)])
    }

    fn refusal(&self, cause: &str, remedy: &str) -> Refusal {
        let NetlinkSocket { port, description, .. } = self.note;
        let what = format!("a netlink socket of protocol {} with the id {port}", self.socket.protocol);
        let reason = format!("{}, and {cause}", socket::owned(self.image, *description, &what));
        Refusal { reason, remedy: remedy.to_owned() }
    }

    /// Who has its id.
    fn holder(&self) -> String {
        let table = fs::read_to_string("/proc/self/net/netlink").unwrap_or_default();
        let inodes = inodes_of(&table, self.socket.protocol, self.note.port);
        socket::holder(&inodes).unwrap_or_else(|| "somebody else".to_owned())
    }
}

/// A message that whoever gets it ignores: struct nlmsghdr and some zeros.
fn ignored(len_bytes: usize, flags: u16) -> Vec<u8> {
    const HEADER_BYTES: usize = 16;
    const NLMSG_NOOP: u16 = 1;
    let len = len_bytes.max(HEADER_BYTES);
    let mut message = u32::try_from(len).unwrap_or(0).to_ne_bytes().to_vec();
    message.extend_from_slice(&NLMSG_NOOP.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    message.resize(len, 0);
    message
}

/// The inodes of the sockets of a protocol with an id, in the table of all (`/proc/net/netlink`).
fn inodes_of(table: &str, protocol: u32, port: u32) -> Vec<u64> {
    let inode = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        let is_it = number(1)? == u64::from(protocol) && number(2)? == u64::from(port);
        number(9).filter(|_| is_it)
    };
    table.lines().skip(1).filter_map(inode).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_are_found_by_their_id() {
        let table = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n0000000046a797fd 0   77         00000551 768      0        0     2        3        4711    \n0000000046a797fe 16  77         00000000 0        0        1     2        0        4712    \n";
        assert_eq!((inodes_of(table, 0, 77), inodes_of(table, 16, 77)), (vec![4711], vec![4712]));
        assert!(inodes_of(table, 0, 78).is_empty() && inodes_of("x\ny z", 0, 0).is_empty());
    }

    #[test]
    fn messages_to_ignore_say_how_long_they_are() {
        assert_eq!(ignored(0, 5), [16, 0, 0, 0, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(ignored(2048, 0).len(), 2048);
    }
}
