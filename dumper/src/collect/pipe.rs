//! Pipes and FIFOs. What is in one is copied by tee(2) through a duplicate of its reading end, which takes nothing.

use super::descriptor::Open;
use super::{Collected, file};
use crate::error::Error;
use crate::sys;
use binfmt::note::file::FileIdentity;
use binfmt::note::pipe::Pipe;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, tee};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// One end of a pipe in the tree.
#[derive(Debug)]
pub struct End<'a> {
    /// Its description's id.
    pub description: u32,
    /// One of its descriptors.
    pub open: &'a Open<'a>,
    /// The lowest number that any task has for it.
    pub lowest: u32,
    /// A duplicate of it.
    pub duplicate: OwnedFd,
}

impl End<'_> {
    fn mode(&self) -> u32 {
        self.open.flags & libc::O_ACCMODE.cast_unsigned()
    }

    fn reads(&self) -> bool {
        self.mode() != libc::O_WRONLY.cast_unsigned()
    }

    fn writes(&self) -> bool {
        self.mode() != libc::O_RDONLY.cast_unsigned()
    }

    fn has(&self, flag: PollFlags) -> bool {
        let mut asked = [PollFd::new(self.duplicate.as_fd(), PollFlags::empty())];
        let answered = poll(&mut asked, PollTimeout::ZERO);
        answered.is_ok() && asked.iter().any(|end| end.revents().is_some_and(|events| events.contains(flag)))
    }
}

/// Whether a pipe leads out of the tree: an end that is not in it, and yet is open somewhere.
pub fn leads_out(ends: &[End<'_>]) -> bool {
    let (read, written) = (ends.iter().any(End::reads), ends.iter().any(End::writes));
    let out = |end: &End<'_>| match (read, written) {
        (true, true) => false,
        // No writer is left when a reader is told that the other side hung up, no reader when a writer meets an error.
        (true, false) => !end.has(PollFlags::POLLHUP),
        _ => !end.has(PollFlags::POLLERR),
    };
    ends.first().is_some_and(out)
}

/// Collects a pipe that begins and ends in the tree.
pub fn collect(ends: &[End<'_>], out: &mut Collected) -> Result<(), Error> {
    let Some(first) = ends.first() else { return Ok(()) };
    let metadata = &first.open.place.metadata;
    let failed = |error: Errno| {
        Error::question(
            first.open.subject.pid(),
            format!("reading the pipe behind descriptor {}", first.open.number),
            error,
        )
    };
    let capacity = fcntl(&first.duplicate, FcntlArg::F_GETPIPE_SZ).map_err(failed)?;
    // With no reader left nobody can ever have what is in it.
    let packets = match ends.iter().find(|end| end.reads()) {
        Some(reader) => contents(reader.duplicate.as_fd(), capacity).map_err(failed)?,
        None => Vec::new(),
    };
    let content_bytes = packets.iter().map(|packet| packet.len() as u64).sum();
    let in_packets = ends.iter().any(|end| end.open.flags & libc::O_DIRECT.cast_unsigned() != 0);
    let lens = packets.iter().map(|packet| u32::try_from(packet.len()).unwrap_or(u32::MAX));
    let packet_lens = if in_packets { lens.collect() } else { Vec::new() };
    let content = out.waiting(metadata, packets.concat());
    let named = first.open.place.label.starts_with(b"/");
    let fifo = match named {
        true => file::identify(&first.open.place, file::Naming::Ordinary, out),
        false => FileIdentity::default(),
    };
    out.note(Pipe {
        inode: metadata.ino(),
        descriptions: ends.iter().map(|end| end.description).collect(),
        capacity_bytes: capacity.cast_unsigned(),
        content,
        content_bytes,
        packets: packet_lens,
        fifo,
    });
    Ok(())
}

/// A copy of what is in a pipe, as it is read piece by piece.
fn contents(reader: BorrowedFd<'_>, capacity_bytes: i32) -> Result<Vec<Vec<u8>>, Errno> {
    let waiting = sys::bytes_waiting(reader)?;
    if waiting == 0 {
        return Ok(Vec::new());
    }
    let (from, into) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    fcntl(&into, FcntlArg::F_SETPIPE_SZ(capacity_bytes))?;
    let copied = tee(reader, &into, waiting, SpliceFFlags::SPLICE_F_NONBLOCK)?;
    if copied != waiting {
        return Err(Errno::EIO);
    }
    let mut pieces = Vec::new();
    let mut left = waiting;
    while left > 0 {
        let mut piece = vec![0; left];
        let len = nix::unistd::read(&from, &mut piece)?;
        if len == 0 {
            return Err(Errno::EIO);
        }
        piece.truncate(len);
        left -= len;
        pieces.push(piece);
    }
    Ok(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_takes_nothing_and_keeps_packets() {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_DIRECT | OFlag::O_CLOEXEC).expect("a pipe");
        for packet in [&b"one"[..], b"three"] {
            nix::unistd::write(&writer, packet).expect("room");
        }
        let capacity = fcntl(&reader, FcntlArg::F_GETPIPE_SZ).expect("a capacity");
        for _ in 0..2 {
            let copied = contents(reader.as_fd(), capacity).expect("copied");
            assert_eq!(copied, [b"one".to_vec(), b"three".to_vec()]);
        }
    }
}
