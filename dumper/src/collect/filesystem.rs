//! Root, working directory and umask.

use super::{Collected, Subject, file};
use crate::error::Error;
use crate::parse;
use binfmt::note::file::FileIdentity;
use binfmt::note::filesystem::Filesystem;

/// Collects them.
pub fn collect(subject: &Subject<'_>, out: &mut Collected) -> Result<(), Error> {
    let root = directory(subject, "root", out)?;
    let working_directory = directory(subject, "cwd", out)?;
    let umask = parse::value(subject.status, "Umask").and_then(|umask| u32::from_str_radix(umask, 8).ok());
    let id = subject.shares.filesystem.id;
    out.note(Filesystem { id, root, working_directory, umask: umask.unwrap_or_default() });
    Ok(())
}

fn directory(subject: &Subject<'_>, link: &str, out: &mut Collected) -> Result<FileIdentity, Error> {
    let place = file::Place::magic_link(subject.proc.path(link))
        .map_err(|error| Error::question(subject.pid(), format!("reading its {link}"), error))?;
    Ok(file::identify(&place, file::Naming::Ordinary, out))
}
