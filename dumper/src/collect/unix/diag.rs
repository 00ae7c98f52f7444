//! What the kernel tells of all sockets of the domain AF_UNIX in this network namespace: unix_diag (sock_diag(7)).
//!
//! Its messages are netlink-packet-sock-diag's.

use netlink_packet_core::{
    Emitable, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::unix::nlas::Nla;
use netlink_packet_sock_diag::unix::{ShowFlags, StateFlags, UnixRequest, UnixResponse};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use std::collections::BTreeMap;
use std::os::fd::AsRawFd;

/// The state of a listening socket; TCP's numbers serve here too.
pub const LISTEN: u8 = 10;

/// A socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// TCP_ESTABLISHED, LISTEN, ...
    pub state: u8,
    /// Inode of its peer; 0 if that has no descriptor: it is gone, or waits to be accepted.
    pub peer: Option<u64>,
    /// Inodes of the sockets that wait to be accepted, the first to come first; 0 for one that is gone.
    pub pending: Vec<u64>,
    /// How many may wait to be accepted.
    pub backlog: u32,
    /// Inode of the file that has its name, and the kernel's number of its device.
    pub file: Option<(u32, u32)>,
    /// RCV_SHUTDOWN (1), SEND_SHUTDOWN (2)
    pub shutdown: u8,
}

/// Every socket by its inode.
pub fn all() -> Result<BTreeMap<u64, Told>, Errno> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let netlink = socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkSockDiag)?;
    send(netlink.as_raw_fd(), &request(), MsgFlags::empty())?;
    let mut found = BTreeMap::new();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let len = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        if read(buffer.get(..len).unwrap_or_default(), &mut found)? {
            return Ok(found);
        }
    }
}

/// For all sockets, whatever their state.
fn request() -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let show_flags = ShowFlags::VFS | ShowFlags::PEER | ShowFlags::ICONS | ShowFlags::RQLEN;
    let state_flags = StateFlags::from_bits_retain(u32::MAX);
    let request = UnixRequest { state_flags, inode: 0, show_flags, cookie: [0xff; 8] };
    let request = NetlinkPayload::InnerMessage(SockDiagMessage::UnixRequest(request));
    let mut message = NetlinkMessage::new(header, request);
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// Takes the messages of one answer; whether it was the last.
fn read(mut answer: &[u8], found: &mut BTreeMap<u64, Told>) -> Result<bool, Errno> {
    while !answer.is_empty() {
        let checked = NetlinkBuffer::new_checked(answer).map_err(|_| Errno::EBADMSG)?;
        let len = usize::try_from(checked.length()).map_err(|_| Errno::EBADMSG)?;
        let message = NetlinkMessage::deserialize(answer.get(..len).unwrap_or_default());
        match message.map_err(|_| Errno::EBADMSG)?.payload {
            NetlinkPayload::Done(_) => return Ok(true),
            NetlinkPayload::Error(error) => return Err(Errno::from_raw(error.raw_code().saturating_neg())),
            NetlinkPayload::InnerMessage(SockDiagMessage::UnixResponse(told)) => {
                found.insert(told.header.inode.into(), socket_of(&told));
            }
            _ => {}
        }
        answer = answer.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

fn socket_of(response: &UnixResponse) -> Told {
    let mut told = Told { state: response.header.state, ..Told::default() };
    for attribute in &response.nlas {
        match attribute {
            Nla::Vfs(file) => {
                // Nothing else tells of its fields: the inode, then the device.
                let mut bytes = [0; 8];
                file.emit(&mut bytes);
                let word = |half: &[u8]| half.first_chunk().map_or(0, |word| u32::from_ne_bytes(*word));
                let (inode, device) = bytes.split_at(4);
                told.file = Some((word(inode), word(device)));
            }
            Nla::Peer(inode) => told.peer = Some((*inode).into()),
            Nla::PendingConnections(inodes) => {
                told.pending = inodes.iter().map(|inode| (*inode).into()).collect()
            }
            Nla::ReceiveQueueLength(_, backlog) => told.backlog = *backlog,
            Nla::Shutdown(how) => told.shutdown = *how,
            _ => {}
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;

    fn inode(socket: &UnixStream) -> u64 {
        std::fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd())).expect("its inode").ino()
    }

    #[test]
    fn the_kernel_tells_who_is_connected_to_whom() {
        let (one, two) = UnixStream::pair().expect("a pair");
        one.shutdown(std::net::Shutdown::Write).expect("half of it shut");
        let told = all().expect("an answer");
        assert_eq!(
            told.get(&inode(&one)).map(|told| (told.peer, told.shutdown)),
            Some((Some(inode(&two)), 2))
        );
        drop(two);
        // A child that another test forks may have it for a moment.
        let is_gone =
            || all().is_ok_and(|told| told.get(&inode(&one)).is_some_and(|told| told.peer == Some(0)));
        while !is_gone() {
            std::thread::yield_now();
        }
        assert_eq!(all().expect("an answer").get(&inode(&one)).map(|told| told.shutdown), Some(3));
    }

    #[test]
    fn an_answer_cut_short_is_an_error() {
        let mut answer = vec![0; 32];
        answer[0] = 200;
        assert_eq!(read(&answer, &mut BTreeMap::new()), Err(Errno::EBADMSG));
    }
}
