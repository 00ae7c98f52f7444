//! Terminals: the loader's own takes the place of the one that was saved.

pub mod pseudo;

use crate::error::{Error, Result};
use crate::rebuild::descriptor::{OwnStdio, dup_above};
use crate::shelf::Shelf;
use binfmt::image::Image;
use binfmt::note::terminal::{OpenTerminal, Settings};
use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

/// The descriptor that stands for a terminal whose lowest number was `number`: for 0, 1 and 2 the loader's own of that
/// number, whatever it is; for others (a shell keeps its terminal at 255) the loader's terminal, else its descriptor 0.
pub fn take(note: &OpenTerminal, number: u32, own: &OwnStdio, above: RawFd) -> Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let path = if note.controlling { Path::new("/dev/tty") } else { note.path.as_path() };
    if number >= 3
        && let Ok(fd) = open(path, flags, Mode::empty())
    {
        return Ok(fd);
    }
    let fd = if number < 3 { own.get(number) } else { own.terminal().unwrap_or(own.get(0)) };
    dup_above(fd.as_raw_fd(), above)
        .map_err(|error| Error::step(format!("take the place of {}", note.path), error))
}

/// Gives the loader's terminal, in whose foreground it must be, the settings of the one that was saved: a program that
/// had it in raw mode still expects that.
pub fn apply_settings(image: &Image, shelf: &Shelf) -> Result<()> {
    let Some(terminal) = shelf.terminal() else { return Ok(()) };
    let controlling = image.all::<OpenTerminal>().find(|note| note.controlling);
    let Some(note) = controlling else { return Ok(()) };
    let fd = terminal.as_raw_fd().unsigned_abs().into();
    let wanted = encode(&note.settings);
    let args = [fd, libc::TCSETS2, wanted.as_ptr().addr() as u64, 0, 0, 0];
    crate::sys::call(libc::SYS_ioctl, args)
        .map(drop)
        .map_err(|error| Error::step("give the terminal the settings that the program had made", error))
}

/// `struct termios2`: four mode words, the line discipline, 19 control characters, two speeds.
fn encode(settings: &Settings) -> Vec<u8> {
    const CONTROL_CHARACTERS: usize = 19;
    let modes = [settings.input_modes, settings.output_modes, settings.control_modes, settings.local_modes]
        .map(u32::to_le_bytes);
    let mut bytes = modes.concat();
    bytes.extend(settings.line_discipline.to_le_bytes().iter().take(1));
    let mut characters = settings.control_characters.clone();
    characters.resize(CONTROL_CHARACTERS, 0);
    bytes.extend_from_slice(&characters);
    bytes.extend_from_slice(&settings.input_speed.to_le_bytes());
    bytes.extend_from_slice(&settings.output_speed.to_le_bytes());
    bytes
}
