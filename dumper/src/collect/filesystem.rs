//! Root, working directory and umask.

use super::{Collected, Subject, file};
use crate::error::Error;
use crate::parse;
use crate::procdir::ProcDir;
use binfmt::note::file::Presence;
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
pub fn collect(subject: &Subject<'_>, seen: &Seen, out: &mut Collected) -> Result<(), Error> {
    let root = file::identify(&seen.root, file::Naming::Ordinary, out);
    if root.presence == Presence::Deleted {
        out.unsupported(
            format!("its root directory {} was deleted", root.path),
            "make it again and chroot there",
        );
    }
    let mut working_directory = file::identify(&seen.working_directory, file::Naming::Ordinary, out);
    file::carry(subject, &seen.working_directory, &mut working_directory, out)?;
    let umask = parse::value(subject.status, "Umask").and_then(|umask| u32::from_str_radix(umask, 8).ok());
    let id = subject.shares.filesystem.id;
    out.note(Filesystem { id, root, working_directory, umask: umask.unwrap_or_default() });
    Ok(())
}
