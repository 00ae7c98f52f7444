//! Descriptions of memfds. The memfd itself is a `MappedObject`, whether it is mapped or not.

use super::file::Place;
use super::{Collected, Subject, mapping};
use crate::error::Error;
use binfmt::note::memfd::OpenMemfd;

/// Completes `description`.
pub fn collect(
    subject: &Subject<'_>,
    description: u32,
    place: &Place,
    out: &mut Collected,
) -> Result<(), Error> {
    let object = mapping::memfd(subject, place, out)?;
    out.note(OpenMemfd { description, object });
    Ok(())
}
