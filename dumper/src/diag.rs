//! What the kernel tells of all sockets of a domain in this network namespace (sock_diag(7)), where no crate knows its messages.

use crate::parse::u32_at;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};
use std::os::fd::AsRawFd;

const HEADER_BYTES: usize = 16;

/// Asks for all sockets that `request`, whose first byte is the domain, is about: `take` takes what is told of each, and
/// says whether it makes sense.
pub fn all(request: &[u8], mut take: impl FnMut(&[u8]) -> Option<()>) -> Result<(), Errno> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let netlink = socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkSockDiag)?;
    send(netlink.as_raw_fd(), &message(request), MsgFlags::empty())?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let len = recv(netlink.as_raw_fd(), &mut buffer, MsgFlags::empty())?;
        if read(buffer.get(..len).unwrap_or_default(), &mut take)? {
            return Ok(());
        }
    }
}

/// struct nlmsghdr and a request.
fn message(request: &[u8]) -> Vec<u8> {
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const NLM_F_REQUEST_DUMP: u16 = 0x301;
    let len = u32::try_from(HEADER_BYTES + request.len()).unwrap_or(0);
    let mut message = len.to_le_bytes().to_vec();
    message.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_le_bytes());
    message.extend_from_slice(&NLM_F_REQUEST_DUMP.to_le_bytes());
    // Sequence and port.
    message.extend_from_slice(&[0; 8]);
    message.extend_from_slice(request);
    message
}

/// Takes the messages of one answer; whether it was the last.
fn read(mut answer: &[u8], take: &mut impl FnMut(&[u8]) -> Option<()>) -> Result<bool, Errno> {
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
            _ => take(message).ok_or(Errno::EBADMSG)?,
        }
        answer = answer.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// The attributes behind the first `fixed` bytes of what is told of a socket: what each is, and its value.
pub fn attributes(message: &[u8], fixed: usize) -> Option<Vec<(u32, &[u8])>> {
    let mut rest = message.get(fixed..)?;
    let mut attributes = Vec::new();
    while rest.len() >= 4 {
        let head = u32_at(rest, 0);
        let (len, kind) = (usize::try_from(head & 0xffff).ok()?, head >> 16 & 0x3fff);
        attributes.push((kind, rest.get(4..len)?));
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(attributes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_cut_short_is_an_error() {
        let mut answer = vec![0; 32];
        answer[0] = 200;
        assert_eq!(read(&answer, &mut |_| Some(())), Err(Errno::EBADMSG));
        assert_eq!(attributes(&[8, 0, 1, 0, 7], 0), None);
        assert_eq!(attributes(&[8, 0, 1, 0, 7, 0, 0, 0], 0), Some(vec![(1, &[7, 0, 0, 0][..])]));
    }
}
