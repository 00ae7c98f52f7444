//! Descriptions of memfds. The memfd itself is a `MappedObject`, whether it is mapped or not.

use super::file::Place;
use super::mapping::Objects;
use super::{Collected, Subject};
use crate::error::Error;
use binfmt::note::memfd::OpenMemfd;

/// Completes `description`.
pub fn collect(
    subject: &Subject<'_>,
    description: u32,
    place: &Place,
    objects: &mut Objects,
    out: &mut Collected,
) -> Result<(), Error> {
    let object = objects.memfd(subject, place, out)?;
    out.note(OpenMemfd { description, object });
    Ok(())
}
