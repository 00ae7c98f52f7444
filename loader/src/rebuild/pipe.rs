//! Pipes and FIFOs: made, filled with what was in them, both ends opened.

use crate::error::{Error, Result};
use crate::rebuild::descriptor::Opened;
use crate::rebuild::{content, fd_path};
use binfmt::image::Image;
use binfmt::note::descriptor::Description;
use binfmt::note::pipe::Pipe;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::stat::Mode;
use std::os::fd::{AsFd, OwnedFd};

/// Makes a pipe with its content and opens its ends.
pub fn rebuild(image: &Image, pipe: &Pipe, opened: &mut Opened) -> Result<()> {
    let name = if pipe.fifo.path.0.is_empty() {
        format!("pipe:[{}]", pipe.inode)
    } else {
        pipe.fifo.path.to_string()
    };
    let failed = |error| Error::step(format!("make {name} again"), error);
    let (anchor, path) = if pipe.fifo.path.0.is_empty() {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(failed)?;
        let path = fd_path(&read);
        (vec![read, write], path)
    } else {
        let path = pipe.fifo.path.to_string();
        let flags = OFlag::O_RDWR | OFlag::O_CLOEXEC;
        (vec![open(pipe.fifo.path.as_path(), flags, Mode::empty()).map_err(failed)?], path)
    };
    let Some(writer) = anchor.last() else { return Ok(()) };
    let capacity = i32::try_from(pipe.capacity_bytes).unwrap_or(i32::MAX);
    if fcntl(writer.as_fd(), FcntlArg::F_GETPIPE_SZ) != Ok(capacity) {
        fcntl(writer.as_fd(), FcntlArg::F_SETPIPE_SZ(capacity)).map_err(failed)?;
    }
    fill(image, pipe, writer, &name)?;
    // What pipe(2) returned has no O_LARGEFILE; what was opened by a path has.
    let mut made = if pipe.fifo.path.0.is_empty() { anchor } else { Vec::new() };
    for description in image.all::<Description>().filter(|found| pipe.descriptions.contains(&found.id)) {
        let by_path = description.flags.cast_signed() & LARGE_FILE != 0;
        let writes = description.flags.cast_signed() & libc::O_ACCMODE == libc::O_WRONLY;
        let own = made.iter().position(|fd| !by_path && is_write_end(fd) == writes);
        let fd = match own {
            Some(index) => made.swap_remove(index),
            None => reopen(description, &path, &name)?,
        };
        let flags = OFlag::from_bits_retain(description.flags.cast_signed() & SETTABLE);
        fcntl(fd.as_fd(), FcntlArg::F_SETFL(flags)).map_err(failed)?;
        opened.insert(description.id, fd);
    }
    Ok(())
}

/// O_LARGEFILE as the kernel shows it; the C library's is 0 on this architecture.
const LARGE_FILE: i32 = 0o100_000;
/// Status flags of a pipe's end that can be set.
const SETTABLE: i32 = libc::O_NONBLOCK | libc::O_DIRECT | libc::O_ASYNC;

fn is_write_end(fd: &OwnedFd) -> bool {
    fcntl(fd.as_fd(), FcntlArg::F_GETFL).is_ok_and(|flags| flags & libc::O_ACCMODE == libc::O_WRONLY)
}

/// Opens one end anew, by the path of the pipe, so that it has flags of its own.
fn reopen(description: &Description, path: &str, name: &str) -> Result<OwnedFd> {
    let wanted = description.flags.cast_signed() & libc::O_ACCMODE;
    // Without O_NONBLOCK an end would wait for the other; both exist, but the flag costs nothing.
    let flags = OFlag::from_bits_retain(wanted | libc::O_NONBLOCK | libc::O_CLOEXEC);
    open(path, flags, Mode::empty()).map_err(|error| Error::step(format!("open an end of {name}"), error))
}

/// Writes what was in the pipe, packet by packet where it kept packets apart.
fn fill(image: &Image, pipe: &Pipe, writer: &OwnedFd, name: &str) -> Result<()> {
    if pipe.content == 0 {
        return Ok(());
    }
    let bytes = content(image, pipe.content)?;
    let failed = |error| Error::step(format!("fill {name}"), error);
    if pipe.packets.is_empty() {
        return write_all(writer, &bytes).map_err(failed);
    }
    fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::O_DIRECT)).map_err(failed)?;
    let mut rest = bytes.as_slice();
    for len in &pipe.packets {
        let len = usize::try_from(*len).unwrap_or(usize::MAX).min(rest.len());
        let (packet, after) = rest.split_at(len);
        write_all(writer, packet).map_err(failed)?;
        rest = after;
    }
    fcntl(writer.as_fd(), FcntlArg::F_SETFL(OFlag::empty())).map_err(failed).map(drop)
}

fn write_all(writer: &OwnedFd, mut bytes: &[u8]) -> std::result::Result<(), nix::errno::Errno> {
    while !bytes.is_empty() {
        let written = nix::unistd::write(writer, bytes)?;
        bytes = bytes.get(written..).unwrap_or_default();
    }
    Ok(())
}
