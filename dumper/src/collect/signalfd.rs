//! Signalfds: the mask stands in `/proc/PID/fdinfo`. What waits for one is in the queues of those who read it.

use super::Collected;
use super::descriptor::Open;
use crate::error::Error;
use crate::parse;
use binfmt::note::signalfd::Signalfd;

/// Completes `description`.
pub fn collect(description: u32, open: &Open<'_>, out: &mut Collected) -> Result<(), Error> {
    let mask = parse::hex(&open.info, "sigmask").ok_or_else(|| open.makes_no_sense())?;
    out.note(Signalfd { description, mask });
    Ok(())
}
