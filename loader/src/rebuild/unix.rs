//! Sockets of the domain AF_UNIX: all are made and named, then connected, then filled with what waited to be read, then shut.
//!
//! A connection with names is made through the socket that listens, which must stand before. Datagram sockets are filled
//! before they are connected to another than who sends. What waits in a socket is sent by its peer, and where that is gone, by
//! one that goes as it did when all is sent. Last come those that wait to be accepted.
//!
//! What else there is has been made before, and all sockets stand when the first is filled: so anything can be on its way
//! through anything, itself included.

mod agent;
mod fill;
mod name;

use crate::error::{Error, Result};
use crate::rebuild::descriptor::{Opened, OwnStdio, first_number};
use crate::rebuild::socket;
use crate::stage::Identity;
use crate::sys;
use agent::{Agents, Call, Who};
use binfmt::image::Image;
use binfmt::note::descriptor::{Description, DescriptionKind};
use binfmt::note::socket::Moment;
use binfmt::note::unix::{UnixSocket, UnixState};
use name::Names;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{MsgFlags, Shutdown, SockFlag, SockType, accept4, send, shutdown};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Makes all sockets of this domain. `identity` says which ids the tree gets.
pub fn rebuild_all(image: &Image, identity: Identity, own: &OwnStdio, opened: &mut Opened) -> Result<()> {
    let connected = image.all::<UnixSocket>().filter(|note| note.state == UnixState::Connected);
    let mut building = Building {
        image,
        others: Others { own, opened },
        agents: Agents::new(identity),
        peers: connected.map(|note| (note.peer, note)).collect(),
        listening: image.all::<UnixSocket>().filter(|note| note.state == UnixState::Listening).collect(),
        made: BTreeMap::new(),
        gone: BTreeMap::new(),
        named: BTreeSet::new(),
        names: Names::default(),
    };
    let all = || image.all::<UnixSocket>();
    let is = |state: UnixState| move |note: &&UnixSocket| note.state == state;
    all().filter(is(UnixState::Listening)).try_for_each(|note| building.listen(note))?;
    for note in all() {
        if !building.made.contains_key(&note.description) {
            building.make(note)?;
        }
    }
    for note in all() {
        building.name(note)?;
    }
    for note in all() {
        fill::fill(&building, note)?;
    }
    all().try_for_each(|note| building.reach(note))?;
    all().try_for_each(|note| building.shut(note))?;
    for listening in all().filter(is(UnixState::Listening)) {
        listening.pending.iter().try_for_each(|waiting| building.knock(listening, *waiting))?;
        if u32::try_from(listening.pending.len()).is_ok_and(|count| count > listening.backlog) {
            building.listen_to(listening, listening.backlog)?;
        }
    }
    building.names.forget_deleted();
    building.gone.clear();
    for note in all() {
        let Some(fd) = building.made.get(&note.description) else {
            return Err(Error::Internal("a unix socket was not made"));
        };
        socket::finish(image, socket::of(image, note.description)?, fd)?;
    }
    let Building { made, names, .. } = building;
    opened.extend(made);
    names.keep();
    Ok(())
}

/// What `--plan` says of a socket.
pub fn what(note: &UnixSocket) -> String {
    let name = if note.name.0.is_empty() { String::new() } else { format!(" named {}", note.name) };
    let state = match note.state {
        UnixState::Alone => "",
        UnixState::Connected => ", connected",
        UnixState::PeerGone => ", its peer gone",
        UnixState::Listening => ", listening",
        UnixState::Pending => ", waiting to be accepted",
    };
    format!("{name}{state}")
}

/// Whether each is connected to the other.
fn are_mutual(one: &UnixSocket, other: &UnixSocket) -> bool {
    let is_to = |from: &UnixSocket, to: &UnixSocket| {
        from.state == UnixState::Connected && from.peer == to.description
    };
    is_to(one, other) && is_to(other, one)
}

/// How many descriptors are on their way.
pub fn rights_count(image: &Image) -> usize {
    image.all::<UnixSocket>().flat_map(|note| &note.messages).map(|message| message.rights.len()).sum()
}

/// Whether any socket has a name in a filesystem.
pub fn has_files(image: &Image) -> bool {
    image.all::<UnixSocket>().any(|note| !note.file.path.0.is_empty())
}

/// Removes those files that no socket has any more; whether none are left.
pub fn remove_dead_files(image: &Image) -> bool {
    let all = image.all::<UnixSocket>().filter(|note| !note.file.path.0.is_empty());
    all.filter(|note| !name::remove_dead_file(note)).count() == 0
}

/// Removes the files of the sockets that were made, of a tree that never lives.
pub fn remove_files(image: &Image) {
    for note in image.all::<UnixSocket>() {
        name::remove_file(note);
    }
}

fn failed(image: &Image, note: &UnixSocket, verb: &str, error: Errno) -> Error {
    let description = image.about::<Description>(note.description).next();
    let label = description.map_or_else(String::new, |description| description.label.to_string());
    Error::step(format!("{verb} the unix {label}"), error)
}

/// What is not a socket of this domain.
struct Others<'a> {
    own: &'a OwnStdio,
    opened: &'a Opened,
}

/// The sockets that are being made.
struct Building<'a> {
    image: &'a Image,
    others: Others<'a>,
    agents: Agents,
    /// Those that are connected to one, by the description of that one. Of several any.
    peers: BTreeMap<u32, &'a UnixSocket>,
    /// Those that listen.
    listening: Vec<&'a UnixSocket>,
    /// By their descriptions.
    made: BTreeMap<u32, OwnedFd>,
    /// Peers of those by whose descriptions they stand, until they go.
    gone: BTreeMap<u32, OwnedFd>,
    /// Those that have got their names.
    named: BTreeSet<u32>,
    names: Names,
}

impl<'a> Building<'a> {
    fn note(&self, description: u32) -> Result<&'a UnixSocket> {
        let note = self.image.about::<UnixSocket>(description).next();
        note.ok_or(Error::Internal("the peer of a socket is not there"))
    }

    fn failed(&self, note: &UnixSocket, verb: &str, error: Errno) -> Error {
        failed(self.image, note, verb, error)
    }

    /// The socket that is connected to this one.
    fn peers_with(&self, note: &UnixSocket) -> Option<&'a UnixSocket> {
        let own = self.image.about::<UnixSocket>(note.peer).next();
        own.filter(|own| are_mutual(note, own)).or_else(|| self.peers.get(&note.description).copied())
    }

    fn is_datagram(&self, note: &UnixSocket) -> Result<bool> {
        Ok(socket::of(self.image, note.description)?.kind == libc::SOCK_DGRAM.cast_unsigned())
    }

    /// What a description is.
    fn description(&self, id: u32) -> Result<BorrowedFd<'_>> {
        let made = self.made.get(&id).or_else(|| self.others.opened.get(&id)).map(AsFd::as_fd);
        let found = self.image.about::<Description>(id).next();
        let leads_out = found.is_some_and(|found| found.kind == DescriptionKind::Outside);
        let own = leads_out.then(|| self.others.own.get(first_number(self.image, id)));
        made.or(own).ok_or(Error::Internal("what is on its way through a socket was not made"))
    }

    /// A socket alone.
    fn single(&self, note: &UnixSocket) -> Result<OwnedFd> {
        socket::make(socket::of(self.image, note.description)?)
    }

    fn name(&mut self, note: &UnixSocket) -> Result<()> {
        // An accepted one has that of who listens.
        let Some(fd) = self.made.get(&note.description).filter(|_| self.named.insert(note.description))
        else {
            return Ok(());
        };
        self.names.give(self.image, note, fd.as_fd())
    }

    fn listen(&mut self, note: &UnixSocket) -> Result<()> {
        let fd = self.single(note)?;
        self.made.insert(note.description, fd);
        self.name(note)?;
        // The program may have wanted fewer when they were there.
        let pending = u32::try_from(note.pending.len()).unwrap_or(u32::MAX);
        self.listen_to(note, note.backlog.max(pending))
    }

    /// Has so many connections wait at the most.
    fn listen_to(&self, note: &UnixSocket, backlog: u32) -> Result<()> {
        let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        let fd = self.made.get(&note.description).ok_or(Error::Internal("a unix socket was not made"))?;
        let listen = Call::Listen(fd.as_raw_fd(), backlog);
        let done = self.agents.call(Some(Who::behind(note)), listen)?;
        done.map(drop).map_err(|error| self.failed(note, "listen with", error))
    }

    /// The listening socket of this name.
    fn listening(&self, name: &[u8]) -> Option<&'a UnixSocket> {
        self.listening.iter().copied().find(|other| !name.is_empty() && other.name.0 == name)
    }

    /// Makes a socket, and with it the one that it is connected to. One that is gone is kept in `gone` for a while.
    fn make(&mut self, note: &'a UnixSocket) -> Result<()> {
        let is_datagram = self.is_datagram(note)?;
        match note.state {
            UnixState::PeerGone => {
                let (one, two) = self.connected(note, None)?;
                self.made.insert(note.description, one);
                self.gone.insert(note.description, two);
            }
            UnixState::Connected => {
                let other = self.note(note.peer)?;
                let is_mutual = are_mutual(note, other);
                if is_datagram && !is_mutual && !other.name.0.is_empty() {
                    // It is connected by that name.
                    self.made.insert(note.description, self.single(note)?);
                    return Ok(());
                }
                if self.made.contains_key(&other.description) || !is_datagram && !is_mutual {
                    return Err(Error::Internal("two sockets have the same peer"));
                }
                let (one, two) = self.connected(note, Some(other))?;
                if !is_mutual {
                    sys::disconnect(two.as_fd()).map_err(|error| self.failed(other, "make", error))?;
                }
                self.made.insert(note.description, one);
                self.made.insert(other.description, two);
            }
            UnixState::Alone if is_datagram && note.name.0.is_empty() && self.peers_with(note).is_some() => {
                // Who is connected to it, makes it.
                if let Some(other) = self.peers_with(note) {
                    self.make(other)?;
                }
            }
            UnixState::Alone => {
                self.made.insert(note.description, self.single(note)?);
            }
            UnixState::Pending => {
                self.made.insert(note.description, self.single(note)?);
            }
            UnixState::Listening => {}
        }
        Ok(())
    }

    /// Two connected sockets: the one of `note`, and its peer.
    fn connected(&mut self, note: &UnixSocket, other: Option<&UnixSocket>) -> Result<(OwnedFd, OwnedFd)> {
        let common = socket::of(self.image, note.description)?;
        let of_other = other.map(|other| socket::of(self.image, other.description)).transpose()?;
        let peer_name = other.map_or(&note.peer_name, |other| &other.name);
        if let Some(listening) = self.listening(&note.name.0) {
            let client = socket::make(of_other.unwrap_or(common))?;
            if let Some(other) = other {
                self.named.insert(other.description);
                self.names.give(self.image, other, client.as_fd())?;
            }
            self.named.insert(note.description);
            let server = self.accepted(listening, &client, Some(Who::behind(note)))?;
            socket::set_options(server.as_fd(), common, Moment::First)?;
            return Ok((server, client));
        }
        if let Some(listening) = self.listening(&peer_name.0) {
            let client = socket::make(common)?;
            self.named.insert(note.description);
            self.names.give(self.image, note, client.as_fd())?;
            if let Some(other) = other {
                self.named.insert(other.description);
            }
            let server = self.accepted(listening, &client, other.map(Who::behind))?;
            if let Some(of_other) = of_other {
                socket::set_options(server.as_fd(), of_other, Moment::First)?;
            }
            return Ok((client, server));
        }
        let failed = |error| self.failed(note, "make", error);
        let kind = SockType::try_from(common.kind.cast_signed()).map_err(failed)?;
        // Both are told of the same; where they were not, and who listened is gone, it counts what a server was told.
        let server = other.filter(|other| !other.name.0.is_empty()).unwrap_or(note);
        let pair = self.agents.call(Some(Who::behind(server)), Call::Pair(kind))?.map_err(failed)?;
        let (one, two) = pair.ok_or(Error::Internal("a pair of unix sockets was not made"))?;
        let (one, two) = (sys::adopt(one), sys::adopt(two));
        socket::set_options(one.as_fd(), common, Moment::First)?;
        if let Some(of_other) = of_other {
            socket::set_options(two.as_fd(), of_other, Moment::First)?;
        }
        Ok((one, two))
    }

    /// What a listening socket accepts when `client` connects to it, where nobody else waits.
    fn accepted(&self, listening: &UnixSocket, client: &OwnedFd, who: Option<Who>) -> Result<OwnedFd> {
        name::reach(&self.agents, who, listening, client.as_fd())?;
        let fd =
            self.made.get(&listening.description).ok_or(Error::Internal("a unix socket was not made"))?;
        let accepted = accept4(fd.as_raw_fd(), SockFlag::SOCK_CLOEXEC);
        accepted.map(sys::adopt).map_err(|error| self.failed(listening, "accept from", error))
    }

    /// Connects a datagram socket to one by its name, whose own peer is another.
    fn reach(&self, note: &UnixSocket) -> Result<()> {
        if note.state != UnixState::Connected || !self.is_datagram(note)? {
            return Ok(());
        }
        let other = self.note(note.peer)?;
        let Some(fd) = self.made.get(&note.description) else { return Ok(()) };
        let is_mutual = are_mutual(note, other);
        if is_mutual || other.name.0.is_empty() {
            return Ok(());
        }
        name::reach(&self.agents, None, other, fd.as_fd())
    }

    /// Has a socket wait to be accepted.
    fn knock(&self, listening: &UnixSocket, waiting: u32) -> Result<()> {
        let note = self.note(waiting)?;
        let fd = self.made.get(&waiting).ok_or(Error::Internal("a unix socket was not made"))?;
        // Where there is no room, nobody would ever make some.
        fcntl(fd.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|error| self.failed(note, "set the flags of", error))?;
        name::reach(&self.agents, Who::holder(self.image, waiting), listening, fd.as_fd())?;
        self.shut(note)
    }

    /// Shuts what was shut. Has the peer that goes leave something unread if its end was told as ECONNRESET.
    fn shut(&self, note: &UnixSocket) -> Result<()> {
        let Some(fd) = self.made.get(&note.description) else { return Ok(()) };
        let is_gone = self.gone.contains_key(&note.description);
        let done = (|| {
            if note.reset && is_gone {
                send(fd.as_raw_fd(), &[0], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?;
            }
            match (note.shut_read, note.shut_write) {
                // The end of the peer does it.
                _ if is_gone && !self.is_datagram(note).unwrap_or(false) => Ok(()),
                (false, false) => Ok(()),
                (true, false) => shutdown(fd.as_raw_fd(), Shutdown::Read),
                (false, true) => shutdown(fd.as_raw_fd(), Shutdown::Write),
                (true, true) => shutdown(fd.as_raw_fd(), Shutdown::Both),
            }
        })();
        done.map_err(|error| self.failed(note, "shut", error))
    }
}
