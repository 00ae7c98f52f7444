//! Sockets of the domain AF_UNIX: all are made, then connected, then filled with what waited to be read, then shut.
//!
//! What waits in a socket is sent by its peer, and where that is gone, by one that goes as it did when all is sent.

mod fill;

use crate::error::{Error, Result};
use crate::rebuild::descriptor::Opened;
use crate::rebuild::{set_status, socket};
use crate::sys;
use binfmt::image::Image;
use binfmt::note::descriptor::Description;
use binfmt::note::socket::Moment;
use binfmt::note::unix::{UnixSocket, UnixState};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, Shutdown, SockFlag, SockType, send, shutdown, socketpair};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Sockets by their descriptions.
type Made = BTreeMap<u32, OwnedFd>;

/// Makes all sockets of this domain.
pub fn rebuild_all(image: &Image, opened: &mut Opened) -> Result<()> {
    let (mut made, mut gone) = (Made::new(), Made::new());
    for note in image.all::<UnixSocket>() {
        if !made.contains_key(&note.description) {
            make(image, note, &mut made, &mut gone)?;
        }
    }
    for note in image.all::<UnixSocket>() {
        fill::fill(image, note, &made, &gone)?;
    }
    for note in image.all::<UnixSocket>() {
        shut(note, &made, &gone).map_err(|error| failed(image, note, "shut", error))?;
    }
    drop(gone);
    for note in image.all::<UnixSocket>() {
        let Some(fd) = made.remove(&note.description) else { continue };
        socket::set_options(fd.as_fd(), socket::of(image, note.description)?, Moment::Last)?;
        if let Some(description) = image.about::<Description>(note.description).next() {
            set_status(&fd, description).map_err(|error| failed(image, note, "make", error))?;
        }
        opened.insert(note.description, fd);
    }
    Ok(())
}

fn failed(image: &Image, note: &UnixSocket, verb: &str, error: Errno) -> Error {
    let description = image.about::<Description>(note.description).next();
    let label = description.map_or_else(String::new, |description| description.label.to_string());
    Error::step(format!("{verb} the unix {label}"), error)
}

/// Makes a socket, and with it the one that it is connected to. One that is gone is kept in `gone` for a while.
fn make(image: &Image, note: &UnixSocket, made: &mut Made, gone: &mut Made) -> Result<()> {
    match note.state {
        UnixState::Alone if peers_with(image, note).is_none() => {
            made.insert(note.description, socket::make(socket::of(image, note.description)?)?);
        }
        UnixState::Alone | UnixState::Connected => {
            let other = match note.state {
                UnixState::Connected => image.about::<UnixSocket>(note.peer).next(),
                _ => peers_with(image, note),
            };
            let other = other.ok_or(Error::Internal("the peer of a socket is not there"))?;
            if made.contains_key(&other.description) {
                return Err(Error::Internal("two sockets have the same peer"));
            }
            let (one, two) = pair(image, note)?;
            socket::set_options(two.as_fd(), socket::of(image, other.description)?, Moment::First)?;
            for (note, fd) in [(note, &one), (other, &two)] {
                if note.peer == 0 {
                    sys::disconnect(fd.as_fd()).map_err(|error| failed(image, note, "make", error))?;
                }
            }
            made.insert(note.description, one);
            made.insert(other.description, two);
        }
        UnixState::PeerGone => {
            let (one, two) = pair(image, note)?;
            made.insert(note.description, one);
            gone.insert(note.description, two);
        }
        UnixState::Listening | UnixState::Pending => {
            return Err(Error::Internal("a socket listens, which nobody saves"));
        }
    }
    Ok(())
}

/// The socket that is connected to this one.
fn peers_with<'a>(image: &'a Image, note: &UnixSocket) -> Option<&'a UnixSocket> {
    image.all::<UnixSocket>().find(|other| other.peer == note.description)
}

/// A pair of sockets, the first of which has the options that it has from the start.
fn pair(image: &Image, note: &UnixSocket) -> Result<(OwnedFd, OwnedFd)> {
    let common = socket::of(image, note.description)?;
    let kind =
        SockType::try_from(common.kind.cast_signed()).map_err(|error| failed(image, note, "make", error))?;
    let (one, two) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)
        .map_err(|error| failed(image, note, "make", error))?;
    socket::set_options(one.as_fd(), common, Moment::First)?;
    Ok((one, two))
}

/// Shuts what was shut. Has the peer that goes leave something unread if its end was told as ECONNRESET.
fn shut(note: &UnixSocket, made: &Made, gone: &Made) -> std::result::Result<(), Errno> {
    let Some(fd) = made.get(&note.description) else { return Ok(()) };
    if note.reset && gone.contains_key(&note.description) {
        send(fd.as_raw_fd(), &[0], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?;
    }
    let how = match (note.shut_read, note.shut_write) {
        (false, false) => return Ok(()),
        // The end of the peer does it.
        _ if gone.contains_key(&note.description) => return Ok(()),
        (true, false) => Shutdown::Read,
        (false, true) => Shutdown::Write,
        (true, true) => Shutdown::Both,
    };
    shutdown(fd.as_raw_fd(), how)
}
