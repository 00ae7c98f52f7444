//! What waited to be read, sent again.

use super::{Made, failed, peers_with};
use crate::error::{Error, Result};
use crate::rebuild::content;
use crate::sys;
use binfmt::image::Image;
use binfmt::note::unix::UnixSocket;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// Has a socket's peer, or in its place that in `gone`, send what waited there to be read.
pub(super) fn fill(image: &Image, note: &UnixSocket, made: &Made, gone: &Made) -> Result<()> {
    if note.messages.is_empty() {
        return Ok(());
    }
    let peer = || peers_with(image, note).and_then(|peer| made.get(&peer.description));
    let sender = gone.get(&note.description).or_else(peer);
    let sender = sender.ok_or(Error::Internal("nobody can have sent what waits in a socket"))?;
    let bytes = if note.content == 0 { Vec::new() } else { content(image, note.content)? };
    let room = Room::make(sender, bytes.len(), note.messages.len());
    let room = room.map_err(|error| failed(image, note, "make room to fill", error))?;
    let mut rest = bytes.as_slice();
    for message in &note.messages {
        let len = usize::try_from(message.len_bytes).unwrap_or(usize::MAX).min(rest.len());
        let (own, after) = rest.split_at(len);
        send_all(sender, own).map_err(|error| failed(image, note, "fill", error))?;
        rest = after;
    }
    room.give_back().map_err(|error| failed(image, note, "fill", error))
}

/// Sends a message, or a piece of a stream, which may go in several.
fn send_all(sender: &OwnedFd, mut bytes: &[u8]) -> std::result::Result<(), Errno> {
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
    loop {
        let sent = send(sender.as_raw_fd(), bytes, flags)?;
        bytes = bytes.get(sent..).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
    }
}

/// A send buffer that has been made larger for a while.
struct Room<'a> {
    sender: BorrowedFd<'a>,
    /// Its size in bytes and whether that is locked, as they were.
    before: Option<(i32, i32)>,
}

impl<'a> Room<'a> {
    /// Makes room for so many bytes in so many messages, each of which takes some more.
    fn make(sender: &'a OwnedFd, bytes: usize, messages: usize) -> std::result::Result<Room<'a>, Errno> {
        const EACH_BYTES: usize = 4 << 10;
        let sender = sender.as_fd();
        let needed = bytes.saturating_mul(2).saturating_add((messages + 16).saturating_mul(EACH_BYTES));
        let needed = i32::try_from(needed).map_err(|_| Errno::EFBIG)?;
        let size = sys::socket_number(sender, libc::SOL_SOCKET, libc::SO_SNDBUF)?;
        if size >= needed {
            return Ok(Room { sender, before: None });
        }
        let lock = sys::socket_number(sender, libc::SOL_SOCKET, libc::SO_BUF_LOCK).unwrap_or(0);
        let half = (needed / 2).to_ne_bytes();
        if sys::set_socket_option(sender, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &half).is_err() {
            // Up to net.core.wmem_max: what has once been sent may still fit.
            sys::set_socket_option(sender, libc::SOL_SOCKET, libc::SO_SNDBUF, &half)?;
        }
        Ok(Room { sender, before: Some((size, lock)) })
    }

    fn give_back(self) -> std::result::Result<(), Errno> {
        let Some((size, lock)) = self.before else { return Ok(()) };
        let half = (size / 2).to_ne_bytes();
        sys::set_socket_option(self.sender, libc::SOL_SOCKET, libc::SO_SNDBUF, &half)?;
        // Linux before 5.14 does not know it.
        let _ = sys::set_socket_option(self.sender, libc::SOL_SOCKET, libc::SO_BUF_LOCK, &lock.to_ne_bytes());
        Ok(())
    }
}
