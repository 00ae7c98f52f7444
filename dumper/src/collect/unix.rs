//! Sockets of the domain AF_UNIX.
//!
//! Who is connected to whom, and what is shut, tells unix_diag ([`diag`]); names, options and credentials, a duplicate of the
//! socket; what waits to be read, MSG_PEEK through it ([`queue`]).

pub mod diag;
pub mod queue;

use super::socket::{Fate, Held};
use super::{Collected, Source};
use crate::error::Error;
use crate::sys;
use binfmt::image::Owner;
use binfmt::note::unix::{UnixMessage, UnixSocket, UnixState};
use diag::Told;
use nix::errno::Errno;
use nix::sys::socket::{UnixAddr, getpeername, getsockname, getsockopt, sockopt};
use queue::{Message, Queue};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

const RCV_SHUTDOWN: u8 = 1;
const SEND_SHUTDOWN: u8 = 2;

/// What is known of a socket.
struct Known<'a> {
    held: &'a Held<'a>,
    told: Told,
    queue: Queue,
    name: Vec<u8>,
}

/// Collects all sockets of this domain, and says by their descriptions what becomes of them.
pub fn collect(sockets: &[&Held<'_>], out: &mut Collected) -> Result<Vec<(u32, Fate)>, Error> {
    let Some(first) = sockets.first() else { return Ok(Vec::new()) };
    let told =
        diag::all().map_err(|error| first.failed("asking the kernel (unix_diag) for the peer", error))?;
    let queues = queues(sockets)?;
    let known = sockets.iter().zip(queues).map(|(held, queue)| {
        let told = told.get(&held.inode()).cloned().ok_or(Errno::ENOENT);
        let told = told.map_err(|error| held.failed("asking the kernel (unix_diag) for the peer", error))?;
        let name = getsockname::<UnixAddr>(held.duplicate.as_raw_fd());
        let name = name.map_err(|error| held.failed("asking for the name", error))?;
        Ok(Known { held, told, queue, name: queue::name_of(&name) })
    });
    let known: Vec<Known<'_>> = known.collect::<Result<_, Error>>()?;
    let by_inode: BTreeMap<u64, &Known<'_>> = known.iter().map(|known| (known.held.inode(), known)).collect();
    let mut fates: BTreeMap<u64, Fate> =
        known.iter().map(|known| (known.held.inode(), fate(known, &by_inode))).collect();
    // What is connected to one that cannot be saved cannot be either.
    for known in &known {
        let peer = known.told.peer.and_then(|peer| fates.get(&peer));
        if fates.get(&known.held.inode()) == Some(&Fate::Saved)
            && peer.is_some_and(|peer| *peer != Fate::Saved)
        {
            let what = "a socket whose peer cannot be saved".to_owned();
            fates.insert(known.held.inode(), Fate::NotSaved(what));
        }
    }
    for known in &known {
        if fates.get(&known.held.inode()) == Some(&Fate::Saved) {
            let note = note(known, &by_inode, out)?;
            out.note(note);
        }
    }
    let fate_of = |known: &Known<'_>| fates.remove(&known.held.inode()).unwrap_or(Fate::Saved);
    let mut fate_of = fate_of;
    Ok(known.iter().map(|known| (known.held.description, fate_of(known))).collect())
}

/// What waits to be read from each.
fn queues(sockets: &[&Held<'_>]) -> Result<Vec<Queue>, Error> {
    let failed = |held: &Held<'_>, error| held.failed("looking at what waits to be read", error);
    let looks = sockets.iter().map(|held| {
        let offset = held.number(libc::SO_PEEK_OFF).map_err(|error| failed(held, error))?;
        let is_listening = held.number(libc::SO_ACCEPTCONN).map_err(|error| failed(held, error))? != 0;
        let queue = match is_listening {
            true => Queue::default(),
            false => queue::look(held.duplicate.as_fd(), held.family.kind, offset)
                .map_err(|error| failed(held, error))?,
        };
        Ok((queue, offset))
    });
    let mut looks = looks.collect::<Result<Vec<_>, Error>>()?;
    let guarded = sockets.iter().zip(&looks).filter(|(_, (queue, _))| queue.has_more());
    let guarded: Vec<_> = guarded.map(|(held, (_, offset))| (held.duplicate.as_raw_fd(), *offset)).collect();
    if let Some(first) = sockets.first().filter(|_| !guarded.is_empty()) {
        let _guard = sys::PeekGuard::new(&guarded).map_err(|error| failed(first, error))?;
        for (held, (queue, _)) in sockets.iter().zip(&mut looks).filter(|(_, (queue, _))| queue.has_more()) {
            queue.look_on(held.duplicate.as_fd(), held.family.kind).map_err(|error| failed(held, error))?;
        }
    }
    Ok(looks.into_iter().map(|(queue, _)| queue).collect())
}

/// What becomes of a socket.
fn fate(known: &Known<'_>, all: &BTreeMap<u64, &Known<'_>>) -> Fate {
    let not_saved = |what: &str| Fate::NotSaved(what.to_owned());
    if let Some(what) = known.queue.unreadable {
        return Fate::NotSaved(format!("a socket {what}"));
    }
    if known.told.state == diag::LISTEN {
        return not_saved("a listening socket");
    }
    if !known.name.is_empty() {
        return Fate::NotSaved(format!("a socket named {}", binfmt::wire::Text(known.name.clone())));
    }
    if known.queue.messages.iter().any(|message| !message.rights.is_empty()) {
        return not_saved("a socket with descriptors on their way (SCM_RIGHTS)");
    }
    let from_whom = |message: &Message| message.credentials.is_some_and(|(pid, ..)| pid != 0);
    if known.queue.messages.iter().any(from_whom) {
        return not_saved("a socket with credentials on their way (SCM_CREDENTIALS)");
    }
    match known.told.peer {
        Some(peer) if peer != 0 && !all.contains_key(&peer) => {
            Fate::Outside("a socket connected to a process outside of the tree".to_owned())
        }
        _ => Fate::Saved,
    }
}

fn note(
    known: &Known<'_>,
    all: &BTreeMap<u64, &Known<'_>>,
    out: &mut Collected,
) -> Result<UnixSocket, Error> {
    let Known { held, told, queue, name } = known;
    let failed = |error| held.failed("asking who is the peer", error);
    let peer = told.peer.and_then(|peer| all.get(&peer));
    let state = match (told.state, told.peer) {
        (diag::LISTEN, _) => UnixState::Listening,
        (_, None) => UnixState::Alone,
        (_, Some(0)) => UnixState::PeerGone,
        (_, Some(_)) => UnixState::Connected,
    };
    let peer_name = match getpeername::<UnixAddr>(held.duplicate.as_raw_fd()) {
        Ok(name) => queue::name_of(&name),
        Err(Errno::ENOTCONN) => Vec::new(),
        Err(error) => return Err(failed(error)),
    };
    let credentials = getsockopt(&held.duplicate, sockopt::PeerCredentials).map_err(failed)?;
    Ok(UnixSocket {
        description: held.description,
        state,
        peer: peer.map_or(0, |peer| peer.held.description),
        name: name.clone().into(),
        peer_name: peer_name.into(),
        backlog: if state == UnixState::Listening { told.backlog } else { 0 },
        shut_read: told.shutdown & RCV_SHUTDOWN != 0,
        shut_write: told.shutdown & SEND_SHUTDOWN != 0,
        reset: queue.reset,
        peer_pid: credentials.pid().cast_unsigned(),
        peer_user: credentials.uid(),
        peer_group: credentials.gid(),
        content: content(held, &queue.messages, out),
        messages: queue.messages.iter().map(message).collect(),
        ..UnixSocket::default()
    })
}

fn message(message: &Message) -> UnixMessage {
    let (pid, user, group) = message.credentials.unwrap_or_default();
    UnixMessage {
        len_bytes: message.bytes.len() as u64,
        sender: message.sender.clone().into(),
        rights: Vec::new(),
        has_credentials: message.credentials.is_some(),
        pid: pid.cast_unsigned(),
        user,
        group,
    }
}

/// Adds the bytes of all messages, and says under which id.
fn content(held: &Held<'_>, messages: &[Message], out: &mut Collected) -> u32 {
    let bytes: Vec<u8> = messages.iter().flat_map(|message| &message.bytes).copied().collect();
    if bytes.is_empty() {
        return 0;
    }
    let metadata = &held.open.place.metadata;
    let id = out.object(metadata.dev(), metadata.ino());
    out.content(Owner::Object(id), 0, bytes.len() as u64, 0, Source::Bytes(Arc::new(bytes)));
    id
}

#[cfg(test)]
mod tests;
