//! Descriptions of terminals, and pseudo-terminals.

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

    /// A pseudo-terminal of which the tree has the master.
    pub struct PseudoTerminal {
        /// Its number N in `/dev/pts/N`.
        index: u32,
        /// The `Description` of the master.
        master: u32,
        /// The `Description`s of the slave.
        slaves: Vec<u32>,
        /// What the master was opened by, mostly `/dev/ptmx`.
        master_path: Text,
        /// Settings of the slave (TCGETS2).
        settings: Settings,
        /// Window size: rows.
        rows: u32,
        /// Window size: columns.
        columns: u32,
        /// Window size: horizontal pixels.
        pixels_wide: u32,
        /// Window size: vertical pixels.
        pixels_high: u32,
        /// Whether the master is told of what happens to the slave (TIOCPKT).
        packet_mode: bool,
        /// Whether the slave cannot be opened (TIOCSPTLCK).
        locked: bool,
        /// Whether the slave cannot be opened again (TIOCEXCL).
        exclusive: bool,
        /// The same of the master, which matters to nobody.
        master_exclusive: bool,
        /// Whether the slave was open, and is no more: the master reads EIO.
        closed: bool,
        /// The session whose controlling terminal the slave is; 0 for none.
        session: u32,
        /// The foreground group of that session.
        foreground: u32,
        /// Permission bits of the slave's node.
        mode: u32,
        /// Owner of the slave's node.
        user: u32,
        /// Group of the slave's node.
        group: u32,
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
