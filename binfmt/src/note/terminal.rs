//! Descriptions of terminals.

use crate::wire::{Text, record};

record! {
    /// A description of a terminal. The loader's own terminal takes its place, with these settings.
    pub struct OpenTerminal {
        /// The `Description` that this note completes.
        description: u32,
        /// Path when it was saved.
        path: Text,
        /// Device number.
        device_number: u64,
        /// Whether it is the controlling terminal of the task's session.
        controlling: bool,
        /// Whether it was opened by the name `/dev/tty`.
        by_alias: bool,
        /// Settings (TCGETS2).
        settings: Settings,
        /// Window size: rows.
        rows: u32,
        /// Window size: columns.
        columns: u32,
        /// Window size: horizontal pixels.
        pixels_wide: u32,
        /// Window size: vertical pixels.
        pixels_high: u32,
    }

    /// Terminal settings (termios(3)).
    pub struct Settings {
        /// c_iflag
        input_modes: u32,
        /// c_oflag
        output_modes: u32,
        /// c_cflag
        control_modes: u32,
        /// c_lflag
        local_modes: u32,
        /// c_line
        line_discipline: u32,
        /// c_cc
        control_characters: Vec<u8>,
        /// c_ispeed
        input_speed: u32,
        /// c_ospeed
        output_speed: u32,
    }
}
