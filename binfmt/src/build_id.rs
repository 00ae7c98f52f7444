//! The build id of an ELF file (NT_GNU_BUILD_ID): which build of a library it is, wherever it lies.

use goblin::elf64::header::{ELFMAG, Header};
use goblin::elf64::program_header::{PT_NOTE, ProgramHeader};
use scroll::Pread;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

const NT_GNU_BUILD_ID: u32 = 3;
/// More notes than this in one segment are not a linker's.
const NOTES_MAX_BYTES: u64 = 64 << 10;

/// The build id of the file at `path`, if it is a 64-bit ELF file that has one.
pub fn of_file(path: &Path) -> Option<Vec<u8>> {
    of(&File::open(path).ok()?)
}

/// The build id of `file`, if it is a 64-bit ELF file that has one. The file's offset stays where it is.
pub fn of(file: &File) -> Option<Vec<u8>> {
    let bytes = read(file, 0, size_of::<Header>() as u64)?;
    let header: Header = bytes.pread_with(0, scroll::LE).ok()?;
    if !header.e_ident.starts_with(ELFMAG) || usize::from(header.e_phentsize) != size_of::<ProgramHeader>() {
        return None;
    }
    let table = read(file, header.e_phoff, u64::from(header.e_phnum) * size_of::<ProgramHeader>() as u64)?;
    table
        .chunks_exact(size_of::<ProgramHeader>())
        .filter_map(|entry| entry.pread_with::<ProgramHeader>(0, scroll::LE).ok())
        .filter(|entry| entry.p_type == PT_NOTE && entry.p_filesz <= NOTES_MAX_BYTES)
        .find_map(|entry| in_notes(&read(file, entry.p_offset, entry.p_filesz)?))
}

fn read(file: &File, offset: u64, len_bytes: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len_bytes).ok()?];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

/// The build id among the notes of one segment.
fn in_notes(bytes: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize| bytes.pread_with::<u32>(at, scroll::LE).ok();
    let mut at = 0usize;
    loop {
        let (name_len, desc_len, number) = (word(at)?, word(at.checked_add(4)?)?, word(at.checked_add(8)?)?);
        let name_at = at.checked_add(12)?;
        let name_end = name_at.checked_add(usize::try_from(name_len).ok()?)?;
        let desc_at = name_end.checked_next_multiple_of(4)?;
        let desc_end = desc_at.checked_add(usize::try_from(desc_len).ok()?)?;
        if number == NT_GNU_BUILD_ID && bytes.get(name_at..name_end)? == b"GNU\0" {
            return bytes.get(desc_at..desc_end).map(<[u8]>::to_vec);
        }
        at = desc_end.checked_next_multiple_of(4)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_program_has_one_or_none_and_nothing_else_panics() {
        assert_eq!(of_file(Path::new("/proc/self/status")), None);
        if let Some(id) = std::env::current_exe().ok().and_then(|path| of_file(&path)) {
            assert!(id.len() >= 8);
        }
        assert_eq!(in_notes(&[0xff; 40]), None);
    }
}
