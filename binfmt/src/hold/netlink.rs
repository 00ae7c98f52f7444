//! Requests to the packet filter and its answers, over netlink(7). The messages themselves are netlink-packet-netfilter's; the
//! socket is nix's, which has the options that are needed here.

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_netfilter::nftables::NfTablesMessage;
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily, NetfilterSubsystem,
};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket,
    sockopt,
};
use std::os::fd::{AsRawFd, OwnedFd};

/// A message, and its flags besides those that all have.
pub(super) type Message = (NfTablesMessage, u16);

/// Speaks with the packet filter.
#[derive(Debug)]
pub(super) struct Netlink(OwnedFd);

impl Netlink {
    pub(super) fn open() -> nix::Result<Netlink> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkNetFilter)?;
        let patience = nix::sys::time::TimeVal::new(10, 0);
        setsockopt(&fd, sockopt::ReceiveTimeout, &patience)?;
        // Many connections are many bytes.
        let _ = setsockopt(&fd, sockopt::SndBufForce, &(8 << 20));
        let _ = setsockopt(&fd, sockopt::RcvBufForce, &(8 << 20));
        Ok(Netlink(fd))
    }

    /// Has all messages done, or none.
    pub(super) fn transact(&self, messages: Vec<Message>) -> nix::Result<()> {
        // The frame names the subsystem that it is for.
        let frame = |which: ControlMessage| {
            let subsystem = u16::from(u8::from(NetfilterSubsystem::NfTables));
            let header = NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, subsystem);
            (NetfilterMessage::new(header, which), 0)
        };
        let count = messages.len();
        let acknowledged = messages.into_iter().map(|(message, flags)| (of_inet(message), flags | NLM_F_ACK));
        let all = std::iter::once(frame(ControlMessage::BatchBegin)).chain(acknowledged);
        self.send(all.chain(std::iter::once(frame(ControlMessage::BatchEnd))))?;
        let mut done = 0;
        while done < count {
            for answer in self.receive()? {
                if let Answer::Done(result) = answer {
                    result?;
                    done += 1;
                }
            }
        }
        Ok(())
    }

    /// All answers to a question.
    pub(super) fn ask(&self, question: NfTablesMessage) -> nix::Result<Vec<NfTablesMessage>> {
        self.send(std::iter::once((of_inet(question), NLM_F_DUMP)))?;
        let mut told = Vec::new();
        loop {
            for answer in self.receive()? {
                match answer {
                    Answer::Told(message) => told.push(*message),
                    Answer::Done(result) => return result.map(|()| told),
                }
            }
        }
    }

    fn send(&self, messages: impl Iterator<Item = (NetfilterMessage, u16)>) -> nix::Result<()> {
        let mut bytes = Vec::new();
        for ((message, flags), sequence) in messages.zip(1u32..) {
            let mut header = NetlinkHeader::default();
            (header.flags, header.sequence_number) = (flags | NLM_F_REQUEST, sequence);
            let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
            message.finalize();
            let mut serialized = vec![0; message.buffer_len()];
            message.serialize(&mut serialized);
            bytes.extend_from_slice(&serialized);
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

fn of_inet(message: NfTablesMessage) -> NetfilterMessage {
    NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Inet, 0, 0), message)
}

/// What the kernel says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// One of the things that were asked for.
    Told(Box<NfTablesMessage>),
    /// A message was done, or all were told; or the error.
    Done(nix::Result<()>),
}

/// The messages in a datagram. Of somebody else's tables is left out what the library cannot read.
fn answers(mut bytes: &[u8]) -> Vec<Answer> {
    let result = |code: i32| if code == 0 { Ok(()) } else { Err(Errno::from_raw(code.saturating_neg())) };
    let mut all = Vec::new();
    while let Ok(checked) = NetlinkBuffer::new_checked(bytes) {
        let len = usize::try_from(checked.length()).unwrap_or(usize::MAX);
        let message: Option<NetlinkMessage<NetfilterMessage>> =
            bytes.get(..len).and_then(|one| NetlinkMessage::deserialize(one).ok());
        match message.map(|message| message.payload) {
            Some(NetlinkPayload::Error(error)) => all.push(Answer::Done(result(error.raw_code()))),
            Some(NetlinkPayload::Done(done)) => all.push(Answer::Done(result(done.code))),
            Some(NetlinkPayload::InnerMessage(message)) => {
                if let NetfilterMessageInner::NfTables(message) = message.inner {
                    all.push(Answer::Told(Box::new(message)));
                }
            }
            _ => {}
        }
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_answers_are_no_answers() {
        assert_eq!(answers(&[]), []);
        assert_eq!(answers(&[200, 0, 0, 0, 2, 0, 0, 0]), []);
        assert_eq!(answers(&[4; 20]), []);
        assert_eq!(answers(&[0; 64]), []);
        let mut denied = vec![36, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
        denied.resize(36, 0);
        denied.extend_from_slice(&[20, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(answers(&denied), [Answer::Done(Err(Errno::EPERM)), Answer::Done(Ok(()))]);
    }
}
