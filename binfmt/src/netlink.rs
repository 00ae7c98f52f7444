//! Messages of rtnetlink(7): attributes, requests and answers.

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
    sockopt,
};
use std::os::fd::{AsRawFd, OwnedFd};

/// NLM_F_DUMP: all there are.
pub const DUMP: u16 = 0x300;
/// A message: its type, its flags, and what follows its header.
pub type Message = (u16, u16, Vec<u8>);

/// An attribute.
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let len = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = [len.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A text, with a zero byte behind it.
pub fn text(kind: u16, value: &str) -> Vec<u8> {
    attribute(kind, format!("{value}\0").as_bytes())
}

/// Speaks with a part of the kernel.
#[derive(Debug)]
pub struct Netlink(OwnedFd);

impl Netlink {
    /// Opens one to a part of the kernel.
    pub fn open(part: SockProtocol) -> nix::Result<Netlink> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let family = AddressFamily::Netlink;
        let fd = socket(family, SockType::Raw, flags, part)?;
        let patience = nix::sys::time::TimeVal::new(10, 0);
        setsockopt(&fd, sockopt::ReceiveTimeout, &patience)?;
        // Many connections are many bytes.
        let _ = setsockopt(&fd, sockopt::SndBufForce, &(8 << 20));
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &(8 << 20));
        Ok(Netlink(fd))
    }

    /// Has one message done.
    pub fn tell(&self, (kind, flags, body): Message) -> nix::Result<()> {
        const ACK: u16 = 4;
        self.send(std::iter::once((kind, flags | ACK, body)))?;
        loop {
            for answer in self.receive()? {
                match answer {
                    Answer::Done(0) => return Ok(()),
                    Answer::Done(error) => return Err(Errno::from_raw(error)),
                    Answer::Body(_) => {}
                }
            }
        }
    }

    /// The bodies of all answers to a question.
    pub fn ask_whole(&self, question: Message) -> nix::Result<Vec<Vec<u8>>> {
        self.send(std::iter::once(question))?;
        let mut bodies = Vec::new();
        loop {
            for answer in self.receive()? {
                match answer {
                    Answer::Body(body) => bodies.push(body),
                    Answer::Done(0) => return Ok(bodies),
                    Answer::Done(error) => return Err(Errno::from_raw(error)),
                }
            }
        }
    }

    fn send(&self, messages: impl Iterator<Item = Message>) -> nix::Result<()> {
        const REQUEST: u16 = 1;
        let mut bytes = Vec::new();
        for ((kind, flags, body), sequence) in messages.zip(1u32..) {
            let len = u32::try_from(body.len() + 16).map_err(|_| Errno::EMSGSIZE)?;
            bytes.extend_from_slice(&len.to_ne_bytes());
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
            bytes.extend_from_slice(&sequence.to_ne_bytes());
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&body);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        sendto(self.0.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty()).map(drop)
    }

    fn receive(&self) -> nix::Result<Vec<Answer>> {
        let mut bytes = vec![0; 1 << 18];
        let len = recv(self.0.as_raw_fd(), &mut bytes, MsgFlags::empty())?;
        bytes.truncate(len);
        Ok(answers(&bytes))
    }
}

/// What the kernel says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// One of the things that were asked for.
    Body(Vec<u8>),
    /// A message was done, or all were told; 0 or the error.
    Done(i32),
}

/// The messages in a datagram.
fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    const ERROR: u16 = 2;
    const DONE: u16 = 3;
    const HEADER_BYTES: usize = 16;
    let mut all = Vec::new();
    while let (Some(len), Some(kind)) = (word(bytes, 0), half(bytes, 4)) {
        let len = usize::try_from(len).unwrap_or(0);
        let Some(body) = bytes.get(HEADER_BYTES..len) else { break };
        all.push(match kind {
            ERROR | DONE => Answer::Done(word(body, 0).map_or(0, |error| -error.cast_signed())),
            _ => Answer::Body(body.to_vec()),
        });
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

/// The value of an attribute.
pub fn find(mut bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    const KIND: u16 = 0x3fff;
    loop {
        let len = usize::from(half(bytes, 0)?);
        if half(bytes, 2)? & KIND == wanted {
            return bytes.get(4..len);
        }
        bytes = bytes.get(len.max(4).next_multiple_of(4)..)?;
    }
}

/// Sixteen bits at a place.
pub fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|half| u16::from_ne_bytes(*half))
}

/// Thirty-two bits at a place.
pub fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_answers_are_no_answers() {
        assert_eq!(answers(&[]), []);
        assert_eq!(answers(&[200, 0, 0, 0, 2, 0, 0, 0]), []);
        assert_eq!(answers(&[4; 20]), []);
        assert_eq!(find(&[0; 64], 7), None);
        assert_eq!(find(&[8, 0, 1, 0, 5, 6, 7, 8], 1), Some(&[5, 6, 7, 8][..]));
        assert_eq!(find(&[9, 0, 1, 0, 5], 1), None);
    }
}
