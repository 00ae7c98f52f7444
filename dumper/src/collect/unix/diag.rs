//! What the kernel tells of all sockets of the domain AF_UNIX in this network namespace: unix_diag (sock_diag(7)).
//!
//! The crates that know this protocol take names for UTF-8, and refuse an answer with one that is not.

use crate::parse::u32_at;
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

const HEADER_BYTES: usize = 16;
/// struct unix_diag_msg
const MESSAGE_BYTES: usize = 16;

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

/// struct nlmsghdr and struct unix_diag_req: all sockets, whatever their state.
fn request() -> Vec<u8> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST_DUMP: u16 = 0x301;
    const SHOW_FILE_PEER_PENDING_LENGTHS: u32 = 2 | 4 | 8 | 16;
    const LEN_BYTES: u32 = 40;
    let mut request = Vec::new();
    request.extend_from_slice(&LEN_BYTES.to_le_bytes());
    request.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_le_bytes());
    request.extend_from_slice(&NLM_F_REQUEST_DUMP.to_le_bytes());
    // Sequence, port; family (a byte, the first of this order); states, inode, what to show, cookie.
    let family = libc::AF_UNIX.cast_unsigned();
    for word in [0, 0, family, u32::MAX, 0, SHOW_FILE_PEER_PENDING_LENGTHS, u32::MAX, u32::MAX] {
        request.extend_from_slice(&word.to_le_bytes());
    }
    request
}

/// Takes the messages of one answer; whether it was the last.
fn read(mut answer: &[u8], found: &mut BTreeMap<u64, Told>) -> Result<bool, Errno> {
    const NLMSG_ERROR: u32 = 2;
    const NLMSG_DONE: u32 = 3;
    while answer.len() >= HEADER_BYTES {
        let len = usize::try_from(u32_at(answer, 0)).unwrap_or(0);
        let message = answer.get(HEADER_BYTES..len).ok_or(Errno::EBADMSG)?;
        match u32_at(answer, 4) & 0xffff {
            NLMSG_DONE => return Ok(true),
            NLMSG_ERROR => {
                let error = u32_at(message, 0).cast_signed();
                return Err(Errno::from_raw(error.saturating_neg()));
            }
            _ => {
                let (inode, told) = socket_of(message).ok_or(Errno::EBADMSG)?;
                found.insert(inode, told);
            }
        }
        answer = answer.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// struct unix_diag_msg and its attributes.
fn socket_of(message: &[u8]) -> Option<(u64, Told)> {
    const FILE: u32 = 1;
    const PEER: u32 = 2;
    const PENDING: u32 = 3;
    const LENGTHS: u32 = 4;
    const SHUTDOWN: u32 = 6;
    let inode = u32_at(message, 4).into();
    let mut told = Told { state: *message.get(2)?, ..Told::default() };
    let mut rest = message.get(MESSAGE_BYTES..)?;
    while rest.len() >= 4 {
        let head = u32_at(rest, 0);
        let (len, kind) = (usize::try_from(head & 0xffff).ok()?, head >> 16 & 0x3fff);
        let value = rest.get(4..len)?;
        match kind {
            FILE => told.file = Some((u32_at(value, 0), u32_at(value, 4))),
            PEER => told.peer = Some(u32_at(value, 0).into()),
            PENDING => told.pending = value.chunks_exact(4).map(|inode| u32_at(inode, 0).into()).collect(),
            LENGTHS => told.backlog = u32_at(value, 4),
            SHUTDOWN => told.shutdown = *value.first()?,
            _ => {}
        }
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Some((inode, told))
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
