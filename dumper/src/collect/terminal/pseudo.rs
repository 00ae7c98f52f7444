//! Pseudo-terminals of which the tree has the master: both ends come back.
//!
//! All is asked of the master, which answers for the slave: opening a slave would tell the master that it is open. Bytes on the
//! way, in either direction, can only be looked at by taking them, so they must have been read first: it is tried again for a
//! moment. The beginning of a line that was typed and not ended is not told by Linux while the terminal gathers lines
//! (ICANON).

use super::super::Collected;
use super::super::descriptor::{Group, Open};
use super::{is_master, settings};
use crate::allow::Allow;
use crate::error::Error;
use crate::parse;
use crate::sys::{self, Ask};
use binfmt::note::terminal::PseudoTerminal;
use binfmt::wire::Text;
use nix::errno::Errno;
use nix::poll::PollFlags;
use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

/// Where the slaves are.
const SLAVES: &str = "/dev/pts";
/// UNIX98_PTY_SLAVE_MAJOR
const SLAVE_MAJOR: u32 = 136;

/// A description of an end of a pseudo-terminal.
#[derive(Debug)]
pub struct End<'a> {
    /// Its id.
    pub description: u32,
    /// A descriptor of it.
    pub open: &'a Open<'a>,
    /// A duplicate of that.
    pub duplicate: OwnedFd,
}

impl End<'_> {
    fn is_master(&self) -> bool {
        is_master(self.open.place.metadata.rdev())
    }
}

/// The numbers of the pseudo-terminals whose masters the tree has.
pub fn masters(groups: &[Group<'_>]) -> BTreeSet<u32> {
    let masters = groups.iter().filter(|group| is_master(group.first.place.metadata.rdev()));
    masters.filter_map(|group| number(group.first)).collect()
}

fn number(master: &Open<'_>) -> Option<u32> {
    u32::try_from(parse::decimal(&master.info, "tty-index")?).ok()
}

/// The number of the pseudo-terminal that an open device is an end of, if its master is among `masters`.
pub fn index(open: &Open<'_>, duplicate: BorrowedFd<'_>, masters: &BTreeSet<u32>) -> Option<u32> {
    if masters.is_empty() {
        return None;
    }
    let metadata = &open.place.metadata;
    if is_master(metadata.rdev()) {
        return number(open);
    }
    let device = u64::from(sys::ask_terminal(duplicate, Ask::Device).ok()?);
    // As the kernel writes it for programs: the major number above 8 bits of the minor.
    let (major, minor) = (device >> 8 & 0xfff, device & 0xff | device >> 12 & 0xf_ff00);
    let index = u32::try_from(minor).ok().filter(|_| major == u64::from(SLAVE_MAJOR))?;
    // There may be other instances of devpts. The alias /dev/tty does not tell.
    let is_alias = libc::major(metadata.rdev()) != SLAVE_MAJOR;
    let is_here = is_alias || fs::metadata(SLAVES).is_ok_and(|slaves| slaves.dev() == metadata.dev());
    (is_here && masters.contains(&index)).then_some(index)
}

/// Collects a pseudo-terminal, all of whose descriptions in the tree these are.
pub fn collect(index: u32, ends: &[End<'_>], out: &mut Collected) -> Result<(), Error> {
    let Some(master) = ends.iter().find(|end| end.is_master()) else { return Ok(()) };
    let pid = master.open.subject.pid();
    out.look_at(pid);
    let failed = |error| Error::question(pid, format!("asking pseudo-terminal {index}"), error);
    let fd = master.duplicate.as_fd();
    let slaves = || ends.iter().filter(|end| !end.is_master());
    let found = settings(fd).map_err(failed)?;
    let size = sys::window_size(fd).map_err(failed)?;
    let own = master.open.name();
    let node = match fs::metadata(format!("{SLAVES}/{index}")) {
        Ok(node) if libc::major(node.rdev()) == SLAVE_MAJOR => node,
        _ => {
            out.unsupported(
                format!("{own} is the master of pseudo-terminal {index}, which is not in {SLAVES}"),
                "such an instance of devpts cannot be made again yet",
            );
            return Ok(());
        }
    };
    if found.line_discipline != 0 {
        out.unsupported(
            format!(
                "{own} is the master of pseudo-terminal {index} with line discipline {}",
                found.line_discipline
            ),
            "only that of terminals can be saved",
        );
    }
    let mut unread = sys::bytes_waiting(fd).map_err(failed)?;
    for slave in slaves().take(1) {
        unread += sys::bytes_waiting(slave.duplicate.as_fd()).map_err(failed)?;
    }
    if unread > 0 && !master.open.subject.options.allow.contains(&Allow::TerminalInput) {
        out.passing(
            format!("pseudo-terminal {index} holds {unread} bytes that nobody has read"),
            format!(
                "try again when they were read, or `--allow {}` leaves them behind",
                Allow::TerminalInput.word()
            ),
        );
    }
    let ask = |fd, what| match sys::ask_terminal(fd, what) {
        // It is nobody's controlling terminal.
        Err(Errno::ENOTTY) => Ok(0),
        answer => answer.map_err(failed),
    };
    let exclusive = slaves().next().map(|slave| ask(slave.duplicate.as_fd(), Ask::Exclusive)).transpose()?;
    let session = ask(fd, Ask::Session)?;
    out.note(PseudoTerminal {
        index,
        master: master.description,
        slaves: slaves().map(|slave| slave.description).collect(),
        master_path: Text::from(master.open.place.label.as_slice()),
        settings: found,
        rows: size.ws_row.into(),
        columns: size.ws_col.into(),
        pixels_wide: size.ws_xpixel.into(),
        pixels_high: size.ws_ypixel.into(),
        packet_mode: ask(fd, Ask::PacketMode)? != 0,
        locked: ask(fd, Ask::Lock)? != 0,
        exclusive: exclusive.unwrap_or(0) != 0,
        master_exclusive: ask(fd, Ask::Exclusive)? != 0,
        closed: sys::events(fd, PollFlags::empty()).map_err(failed)?.contains(PollFlags::POLLHUP),
        session,
        foreground: if session == 0 { 0 } else { ask(fd, Ask::Foreground)? },
        mode: node.mode() & 0o7777,
        user: node.uid(),
        group: node.gid(),
    });
    Ok(())
}
