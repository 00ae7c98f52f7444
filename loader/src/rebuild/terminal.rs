//! Terminals: the loader's own takes the place of the one that was saved.

use crate::error::Result;
use crate::rebuild::descriptor::OwnStdio;
use binfmt::note::terminal::OpenTerminal;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::io::IsTerminal;
use std::os::fd::OwnedFd;

/// The descriptor that stands for a terminal whose lowest number was `number`: for 0, 1 and 2 the loader's own of that
/// number, whatever it is; for others (a shell keeps its terminal at 255) the loader's terminal, else its descriptor 0.
pub fn take(note: &OpenTerminal, number: u32, own: &OwnStdio) -> Result<OwnedFd> {
    if number < 3 {
        return own.get(number);
    }
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let path = if note.controlling { "/dev/tty" } else { note.path.as_path().to_str().unwrap_or("/dev/tty") };
    if let Ok(fd) = open(path, flags, Mode::empty()) {
        return Ok(fd);
    }
    let terminal = own.0.iter().flatten().position(IsTerminal::is_terminal);
    own.get(terminal.and_then(|index| u32::try_from(index).ok()).unwrap_or(0))
}
