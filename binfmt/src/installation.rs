//! Where the programs of one installation find each other.

use std::io;
use std::path::{Path, PathBuf};

/// Name of the loader's file.
pub const LOADER: &str = "ckpt-loader";

/// The loader that belongs to the running program: beside its executable (a build folder), else in `../libexec/ckpt`
/// (what `scripts/install` makes: it is no command that people type).
pub fn loader() -> Result<PathBuf, io::Error> {
    loader_of(&std::env::current_exe()?)
}

fn loader_of(executable: &Path) -> Result<PathBuf, io::Error> {
    let folder = executable.parent().unwrap_or(Path::new("/"));
    let prefix = folder.parent().unwrap_or(Path::new("/"));
    let places = [folder.join(LOADER), prefix.join("libexec/ckpt").join(LOADER)];
    places.iter().find(|place| place.is_file()).cloned().ok_or_else(|| {
        let [first, second] = places.map(|place| place.display().to_string());
        io::Error::new(io::ErrorKind::NotFound, format!("there is neither {first} nor {second}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loader_that_is_nowhere_is_told_with_both_places() {
        let error = loader_of(Path::new("/nowhere/bin/ckpt")).map_err(|error| error.to_string());
        let text = "there is neither /nowhere/bin/ckpt-loader nor /nowhere/libexec/ckpt/ckpt-loader";
        assert_eq!(error, Err(text.to_owned()));
    }
}
