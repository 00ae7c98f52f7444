//! Descriptions of terminals: their settings, read through a duplicate of the descriptor.

pub mod pseudo;

use super::Collected;
use super::descriptor::Open;
use crate::sys;
use binfmt::note::terminal::{OpenTerminal, Settings};
use binfmt::wire::Text;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;

/// Whether a device is the master of a pseudo-terminal, whose slave would have to come back with it (`/dev/ptmx`;
/// Documentation/admin-guide/devices.txt of the kernel: 5:2, and 128 to 135 before there was devpts).
pub fn is_master(device: u64) -> bool {
    matches!((libc::major(device), libc::minor(device)), (5, 2) | (128..=135, _))
}

/// Completes `description` if `duplicate` is a terminal, and says whether it is. `terminals` are the controlling ones of
/// the tasks that have it.
pub fn collect(
    description: u32,
    open: &Open<'_>,
    terminals: &[u64],
    duplicate: BorrowedFd<'_>,
    out: &mut Collected,
) -> bool {
    let Ok(settings) = settings(duplicate) else { return false };
    let size = sys::window_size(duplicate).ok();
    let place = &open.place;
    let by_alias = place.label == b"/dev/tty";
    let device_number = place.metadata.rdev();
    // The alias is the controlling terminal whatever its number; tty_nr holds the minor's upper bits above the major.
    let controlling = by_alias || terminals.contains(&device_number);
    out.note(OpenTerminal {
        description,
        path: Text::from(place.label.as_slice()),
        device_number,
        controlling,
        by_alias,
        settings,
        rows: size.map_or(0, |size| size.ws_row.into()),
        columns: size.map_or(0, |size| size.ws_col.into()),
        pixels_wide: size.map_or(0, |size| size.ws_xpixel.into()),
        pixels_high: size.map_or(0, |size| size.ws_ypixel.into()),
    });
    true
}

/// The settings of a terminal.
fn settings(duplicate: BorrowedFd<'_>) -> nix::Result<Settings> {
    let found = sys::terminal_settings(duplicate)?;
    Ok(Settings {
        input_modes: found.c_iflag,
        output_modes: found.c_oflag,
        control_modes: found.c_cflag,
        local_modes: found.c_lflag,
        line_discipline: found.c_line.into(),
        control_characters: found.c_cc.to_vec(),
        input_speed: found.c_ispeed,
        output_speed: found.c_ospeed,
    })
}
