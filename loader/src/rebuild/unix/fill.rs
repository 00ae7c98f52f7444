//! What waited to be read, sent again: by the peer, by what stands for one that is gone, or by the socket of the sender's name.

use super::agent::Who;
use super::{Building, are_mutual, name};
use crate::error::{Error, Refusal, Result};
use crate::rebuild::content;
use crate::rebuild::socket::{Buffer, Room};
use binfmt::note::unix::UnixSocket;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, sendmsg, socket,
};
use std::collections::BTreeMap;
use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

/// Sends what waited in a socket to be read.
pub(super) fn fill(building: &Building<'_>, note: &UnixSocket) -> Result<()> {
    if note.messages.is_empty() {
        return Ok(());
    }
    let failed = |verb: &str, error| building.failed(note, verb, error);
    let bytes = if note.content == 0 { Vec::new() } else { content(building.image, note.content)? };
    let nobody = socket(AddressFamily::Unix, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .map_err(|error| failed("fill", error))?;
    let mut senders = BTreeMap::new();
    for message in &note.messages {
        let name = message.sender.0.as_slice();
        if !senders.contains_key(name) {
            let (fd, way) = sender(building, note, name, &nobody)?;
            let room = Room::make(fd, Buffer::Send, bytes.len(), note.messages.len());
            senders.insert(name, (room.map_err(|error| failed("make room to fill", error))?, way));
        }
    }
    let mut rest = bytes.as_slice();
    for message in &note.messages {
        let len = usize::try_from(message.len_bytes).unwrap_or(usize::MAX).min(rest.len());
        let (own, after) = rest.split_at(len);
        let Some((room, way)) = senders.get(message.sender.0.as_slice()) else { continue };
        let rights = message.rights.iter().map(|id| building.description(*id)).collect::<Result<Vec<_>>>()?;
        let names = Who::sender(message).map(|who| building.agents.names(who)).transpose()?;
        let enclosed = Enclosed { rights: &rights, names: names.as_deref() };
        match way {
            Way::Connected => send_all(room.socket, own, enclosed).map_err(|error| match error {
                Errno::ETOOMANYREFS => too_many(),
                error => failed("fill", error),
            })?,
            Way::ByName => send_to(note, room.socket, own, enclosed)?,
        }
        rest = after;
    }
    let mut rooms = senders.into_values().map(|(room, _)| room);
    rooms.try_for_each(Room::give_back).map_err(|error| failed("fill", error))
}

/// How a message comes to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// From who is connected to it.
    Connected,
    /// To its name.
    ByName,
}

/// What goes with a message.
#[derive(Clone, Copy)]
struct Enclosed<'a> {
    /// Descriptors.
    rights: &'a [BorrowedFd<'a>],
    /// Whom it names as its sender, the truest first, if it does.
    names: Option<&'a [Who]>,
}

/// Who sends messages that bear a name.
fn sender<'a>(
    building: &'a Building<'_>,
    note: &UnixSocket,
    name: &[u8],
    nobody: &'a OwnedFd,
) -> Result<(BorrowedFd<'a>, Way)> {
    let peer = building.peers_with(note).filter(|peer| are_mutual(note, peer) || note.name.0.is_empty());
    let stands_for = building.gone.get(&note.description).map(|fd| (fd, note.peer_name.0.as_slice()));
    let peer = peer.and_then(|peer| Some((building.made.get(&peer.description)?, peer.name.0.as_slice())));
    let connected = stands_for.or(peer);
    if let Some((fd, own)) = connected
        && (own == name || name.is_empty() || !building.is_datagram(note)?)
    {
        return Ok((fd.as_fd(), Way::Connected));
    }
    if name.is_empty() {
        return Ok((nobody.as_fd(), Way::ByName));
    }
    let named = building.image.all::<UnixSocket>().find(|other| other.name.0 == name);
    let named = named.and_then(|other| building.made.get(&other.description));
    let named = named.ok_or(Error::Internal("nobody can have sent what waits in a socket"))?;
    Ok((named.as_fd(), Way::ByName))
}

/// Sends a message to the name of a socket.
fn send_to(note: &UnixSocket, sender: BorrowedFd<'_>, bytes: &[u8], enclosed: Enclosed<'_>) -> Result<()> {
    let failed = |error| match error {
        Errno::ETOOMANYREFS => too_many(),
        error => Error::step(format!("send to the unix socket {}", note.name), error),
    };
    let address = name::address(&note.name.0).map_err(failed)?;
    let back = name::stand_for(note)?;
    let sent = send(sender, bytes, enclosed, Some(&address));
    name::go_back(back)?;
    sent.map(drop).map_err(failed)
}

/// Sends a message, or a piece of a stream, which may go in several.
fn send_all(
    sender: BorrowedFd<'_>,
    mut bytes: &[u8],
    mut enclosed: Enclosed<'_>,
) -> std::result::Result<(), Errno> {
    loop {
        let sent = send(sender, bytes, enclosed, None)?;
        enclosed.rights = &[];
        bytes = bytes.get(sent..).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
    }
}

fn send(
    sender: BorrowedFd<'_>,
    bytes: &[u8],
    enclosed: Enclosed<'_>,
    address: Option<&UnixAddr>,
) -> std::result::Result<usize, Errno> {
    let numbers: Vec<RawFd> = enclosed.rights.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = (!numbers.is_empty()).then_some(ControlMessage::ScmRights(&numbers));
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    let send = |control: &[ControlMessage<'_>]| {
        sendmsg(sender.as_raw_fd(), &[IoSlice::new(bytes)], control, flags, address)
    };
    let Some(names) = enclosed.names else { return send(rights.as_slice()) };
    let mut sent = Err(Errno::EPERM);
    for Who { pid, user, group } in names {
        let credentials = libc::ucred { pid: pid.cast_signed(), uid: *user, gid: *group }.into();
        let control: Vec<_> =
            rights.into_iter().chain([ControlMessage::ScmCredentials(&credentials)]).collect();
        sent = send(&control);
        // Not everybody may be named by everybody.
        if !matches!(sent, Err(Errno::EPERM | Errno::ESRCH | Errno::EINVAL)) {
            break;
        }
    }
    sent
}

fn too_many() -> Error {
    Error::Refused(vec![Refusal {
        reason: "more descriptors are on their way through unix sockets than this user may have there"
            .to_owned(),
        remedy: "raise the limit of open files (`ulimit -n`), or resume as root".to_owned(),
    }])
}
