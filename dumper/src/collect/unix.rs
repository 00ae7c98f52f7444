//! Sockets of the domain AF_UNIX.
//!
//! Who is connected to whom, and what is shut, tells unix_diag ([`diag`]); names, options and credentials, a duplicate of the
//! socket; what waits to be read, MSG_PEEK through it ([`queue`]), descriptors on their way included ([`rights`]).

pub mod diag;
pub mod file;
pub mod queue;
pub mod rights;

use super::Collected;
use super::socket::{Fate, Held};
use crate::error::Error;
use crate::sys;
use binfmt::note::file::FileIdentity;
use binfmt::note::unix::{UnixMessage, UnixSocket, UnixState};
use binfmt::wire::Text;
use diag::Told;
use nix::errno::Errno;
use nix::sys::socket::{UnixAddr, getpeername, getsockname, getsockopt, sockopt};
use queue::{Message, Queue};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};

const RCV_SHUTDOWN: u8 = 1;
const SEND_SHUTDOWN: u8 = 2;

/// What is known of a socket.
struct Known<'a> {
    held: &'a Held<'a>,
    told: Told,
    queue: &'a Queue,
    name: Vec<u8>,
    peer_name: Vec<u8>,
    /// The listening socket where it waits to be accepted.
    waits_at: Option<u64>,
    /// How much of what it has sent nobody has read.
    unread: usize,
}

/// All of the tree by their inodes.
type All<'a> = BTreeMap<u64, Known<'a>>;

impl<'a> Known<'a> {
    fn new(
        held: &'a Held<'a>,
        queue: &'a Queue,
        told: &BTreeMap<u64, Told>,
        waiting: &BTreeMap<u64, u64>,
    ) -> Result<Known<'a>, Error> {
        let named = |error| held.failed("asking for the name", error);
        let number = held.duplicate.as_raw_fd();
        let own = told.get(&held.inode()).cloned();
        let told = own.ok_or_else(|| held.failed(ASKING_PEER, Errno::ENOENT))?;
        let name = getsockname::<UnixAddr>(number).map_err(named)?;
        let peer_name = match getpeername::<UnixAddr>(number) {
            Ok(name) => queue::name_of(&name),
            Err(Errno::ENOTCONN) => Vec::new(),
            Err(error) => return Err(named(error)),
        };
        let is_listening = told.state == diag::LISTEN;
        let unread = if is_listening { Ok(0) } else { sys::bytes_unsent(held.duplicate.as_fd()) };
        Ok(Known {
            held,
            told,
            queue,
            name: queue::name_of(&name),
            peer_name,
            waits_at: waiting.get(&held.inode()).copied(),
            unread: unread.map_err(|error| held.failed("asking what was read", error))?,
        })
    }

    fn state(&self) -> UnixState {
        match (self.told.state, self.told.peer, self.waits_at) {
            (diag::LISTEN, ..) => UnixState::Listening,
            (_, None, _) => UnixState::Alone,
            (_, Some(0), Some(_)) => UnixState::Pending,
            (_, Some(0), None) => UnixState::PeerGone,
            (_, Some(_), _) => UnixState::Connected,
        }
    }

    /// The inode of the one that it needs.
    fn needs(&self) -> Option<u64> {
        self.waits_at.or(self.told.peer.filter(|peer| *peer != 0))
    }

    fn is(&self, kind: i32) -> bool {
        self.held.family.kind == kind
    }
}

const ASKING_PEER: &str = "asking the kernel (unix_diag) for the peer";

/// Collects all sockets of this domain, and says by their descriptions what becomes of them.
pub fn collect(
    sockets: &[&Held<'_>],
    queues: &rights::Queues,
    out: &mut Collected,
) -> Result<Vec<(u32, Fate)>, Error> {
    let Some(first) = sockets.first() else { return Ok(Vec::new()) };
    let told = diag::all().map_err(|error| first.failed(ASKING_PEER, error))?;
    let waiting = told.iter().flat_map(|(at, told)| told.pending.iter().map(|inode| (*inode, *at)));
    let waiting: BTreeMap<u64, u64> = waiting.filter(|(inode, _)| *inode != 0).collect();
    let unseen = Queue::default();
    let known = sockets.iter().map(|held| {
        let queue = queues.get(&held.inode()).unwrap_or(&unseen);
        Ok((held.inode(), Known::new(held, queue, &told, &waiting)?))
    });
    let mut all: All<'_> = known.collect::<Result<_, Error>>()?;
    let mut fates: BTreeMap<u64, Fate> =
        all.iter().map(|(inode, known)| (*inode, fate(known, &all))).collect();
    let mut files = BTreeMap::new();
    for (inode, known) in &all {
        if fates.get(inode) != Some(&Fate::Saved) || known.told.file.is_none() || known.name.is_empty() {
            continue;
        }
        out.look_at(known.held.open.subject.pid());
        match file::identify(known.held, &known.told, &known.name, out) {
            Some(file) => drop(files.insert(*inode, file)),
            None => {
                let what = format!("a socket whose file, {}, is not at its place", text(&known.name));
                fates.insert(*inode, Fate::NotSaved(what));
            }
        }
    }
    // What is connected to one that cannot be saved cannot be either.
    loop {
        let is_saved = |inode: &u64| fates.get(inode) == Some(&Fate::Saved);
        let is_lost = |known: &&Known<'_>| {
            is_saved(&known.held.inode()) && known.needs().is_some_and(|peer| !is_saved(&peer))
        };
        let Some(lost) = all.values().find(is_lost).map(|known| known.held.inode()) else { break };
        fates.insert(lost, Fate::NotSaved("a socket whose peer cannot be saved".to_owned()));
    }
    let decided =
        all.iter().filter_map(|(inode, known)| Some((known.held.description, fates.get(inode)?.clone())));
    let decided = decided.collect();
    all.retain(|inode, _| fates.get(inode) == Some(&Fate::Saved));
    for (inode, known) in &all {
        out.look_at(known.held.open.subject.pid());
        let note = note(known, files.remove(inode).unwrap_or_default(), &all, out)?;
        out.note(note);
    }
    Ok(decided)
}

fn text(name: &[u8]) -> Text {
    Text(name.to_vec())
}

/// What becomes of a socket.
fn fate(known: &Known<'_>, all: &All<'_>) -> Fate {
    let not_saved = |what: &str| Fate::NotSaved(format!("a socket {what}"));
    let state = known.state();
    let is_ours = |inode: &u64| all.contains_key(inode);
    let listens =
        |name: &[u8]| all.values().any(|other| other.state() == UnixState::Listening && other.name == name);
    if known.needs().is_some_and(|peer| !is_ours(&peer)) {
        return Fate::Outside("a socket connected to a process outside of the tree".to_owned());
    }
    if let Some(what) = known.queue.unreadable {
        return not_saved(what);
    }
    if known.queue.reset && (state != UnixState::PeerGone || known.is(libc::SOCK_DGRAM)) {
        return not_saved("with an error that waits to be told");
    }
    // Most servers accept at once.
    let not_yet = |what: &str| {
        let advice = "wait a moment, or `--allow socket` restores it closed";
        Fate::NotYet(format!("a socket {what}"), advice.to_owned())
    };
    if known.told.pending.iter().any(|inode| !is_ours(inode)) {
        return not_yet("where a connection waits whose other end is gone or outside of the tree");
    }
    if state == UnixState::Pending && known.unread != 0 {
        return not_yet("that has sent something over a connection which nobody has accepted yet");
    }
    if state == UnixState::PeerGone && !known.peer_name.is_empty() && !listens(&known.peer_name) {
        return not_saved(&format!("whose peer, {}, is gone", text(&known.peer_name)));
    }
    if known.is(libc::SOCK_DGRAM) {
        return fate_of_datagrams(known, all);
    }
    Fate::Saved
}

/// The same for what only datagram sockets can have: a peer that is connected elsewhere, messages of others.
fn fate_of_datagrams(known: &Known<'_>, all: &All<'_>) -> Fate {
    let peer = known.told.peer.and_then(|peer| all.get(&peer));
    if peer.is_some_and(|peer| {
        peer.name.is_empty() && peer.told.peer.is_some_and(|other| other != known.held.inode())
    }) {
        return Fate::NotSaved("a socket whose peer has no name and is connected to another".to_owned());
    }
    let is_there = |name: &[u8]| name.is_empty() || all.values().any(|other| other.name == name);
    let messages = &known.queue.messages;
    if let Some(message) = messages.iter().find(|message| !is_there(&message.sender)) {
        let sender = text(&message.sender);
        return Fate::NotSaved(format!("a socket with a message from {sender}, which is not in the tree"));
    }
    let has_sender = || {
        // That is mostly the peer.
        known.told.peer == Some(0)
            || peer.is_some_and(|peer| peer.told.peer == Some(known.held.inode()))
            || all.values().any(|other| other.told.peer == Some(known.held.inode()))
    };
    if !messages.is_empty() && known.name.is_empty() && !has_sender() {
        return Fate::NotSaved("a socket without name and peer, in which messages wait".to_owned());
    }
    Fate::Saved
}

fn note(
    known: &Known<'_>,
    file: FileIdentity,
    saved: &All<'_>,
    out: &mut Collected,
) -> Result<UnixSocket, Error> {
    let Known { held, told, queue, name, peer_name, .. } = known;
    let failed = |error| held.failed("asking who is the peer", error);
    let description = |inode: &u64| saved.get(inode).map_or(0, |other| other.held.description);
    let state = known.state();
    let credentials = getsockopt(&held.duplicate, sockopt::PeerCredentials).map_err(failed)?;
    let bytes = queue.messages.iter().flat_map(|message| &message.bytes).copied().collect();
    Ok(UnixSocket {
        description: held.description,
        state,
        peer: known.needs().map_or(0, |peer| description(&peer)),
        name: name.clone().into(),
        peer_name: peer_name.clone().into(),
        file,
        backlog: if state == UnixState::Listening { told.backlog } else { 0 },
        pending: told.pending.iter().filter(|inode| saved.contains_key(inode)).map(description).collect(),
        shut_read: told.shutdown & RCV_SHUTDOWN != 0,
        shut_write: told.shutdown & SEND_SHUTDOWN != 0,
        reset: queue.reset,
        peer_pid: credentials.pid().cast_unsigned(),
        peer_user: credentials.uid(),
        peer_group: credentials.gid(),
        content: out.waiting(&held.open.place.metadata, bytes),
        messages: queue.messages.iter().map(message).collect(),
    })
}

fn message(message: &Message) -> UnixMessage {
    let (pid, user, group) = message.credentials.unwrap_or_default();
    UnixMessage {
        len_bytes: message.bytes.len() as u64,
        sender: message.sender.clone().into(),
        rights: message.passed.clone(),
        has_credentials: message.credentials.is_some(),
        pid: pid.cast_unsigned(),
        user,
        group,
    }
}

#[cfg(test)]
mod tests;
