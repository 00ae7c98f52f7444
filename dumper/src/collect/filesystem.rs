//! Root, working directory and umask.

use super::{Collected, Subject, file};
use crate::error::Error;
use crate::parse;
use crate::procdir::ProcDir;
use binfmt::note::filesystem::Filesystem;

/// What its links lead to.
#[derive(Debug)]
pub struct Seen {
    root: file::Place,
    working_directory: file::Place,
}

/// Looks what they are.
pub fn look(proc: ProcDir) -> Result<Seen, Error> {
    let directory = |link: &str| {
        file::Place::magic_link(proc.path(link))
            .map_err(|error| Error::question(proc.pid(), format!("reading its {link}"), error))
    };
    Ok(Seen { root: directory("root")?, working_directory: directory("cwd")? })
}

/// Collects them.
pub fn collect(subject: &Subject<'_>, seen: &Seen, out: &mut Collected) {
    let mut identify = |place| file::identify(place, file::Naming::Ordinary, out);
    let (root, working_directory) = (identify(&seen.root), identify(&seen.working_directory));
    let umask = parse::value(subject.status, "Umask").and_then(|umask| u32::from_str_radix(umask, 8).ok());
    let id = subject.shares.filesystem.id;
    out.note(Filesystem { id, root, working_directory, umask: umask.unwrap_or_default() });
}
