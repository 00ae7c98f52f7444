//! Whether a process is the loader: as a supervisor, or in the middle of a resume.

use crate::procdir::ProcDir;
use binfmt::address::Tid;
use binfmt::underway::{CONTROL_PAGE, LOADER, STAGE_MARK};

/// What is wrong with a checkpoint of the loader, and what to do; nothing for a program, resumed or not.
///
/// This is asked before the process is frozen: the loader traces what it builds, and could not if we did.
pub fn objection(proc: ProcDir) -> Option<(&'static str, String)> {
    // A program that was resumed without the right to set the link keeps the loader as its executable.
    if !executes_loader(proc)? {
        return None;
    }
    let is_stage =
        proc.text("cmdline").is_ok_and(|text| text.split('\0').take(4).any(|word| word == STAGE_MARK));
    if !is_stage && !maps_control_page(&proc.text("maps").ok()?) {
        return None;
    }
    let children = proc.children(&[Tid(proc.pid().0)]).unwrap_or_default();
    // A midwife may be there too, who was made before the program.
    let program = children.iter().find(|child| executes_loader(ProcDir::new(**child)) == Some(false));
    Some(match program.or(children.last()) {
        Some(child) => (
            "it is the supervisor of a resumed program",
            format!("give the program's own process id: {child}"),
        ),
        None => ("it is being resumed at this moment", "try again when it runs".to_owned()),
    })
}

/// Nothing if it has ended.
fn executes_loader(proc: ProcDir) -> Option<bool> {
    let name = proc.link("exe").ok()?;
    Some(name.file_name()?.to_string_lossy().starts_with(LOADER))
}

fn maps_control_page(maps: &str) -> bool {
    let name = format!("/memfd:{} (deleted)", CONTROL_PAGE.to_string_lossy());
    maps.lines().any(|line| line.ends_with(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_control_page_gives_the_loader_away() {
        let line = "10000001000-10000002000 rw-s 00000000 00:01 2048 /memfd:ckpt-control (deleted)";
        assert!(maps_control_page(&format!("7f00-7f01 r--p 00000000 00:00 0 [vvar]\n{line}\n")));
        assert!(!maps_control_page("7f00-7f01 rw-s 00000000 00:01 7 /memfd:ckpt-controls (deleted)\n"));
        assert!(!maps_control_page("7f00-7f01 r--p 00000000 fe:00 7 /usr/bin/ckpt-loader\n"));
    }
}
