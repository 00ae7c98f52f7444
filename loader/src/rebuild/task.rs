//! What belongs to the whole process: modes, memory layout, executable, what others may see of it.

use crate::arena::Arena;
use crate::error::{Error, Result};
use crate::rebuild::{file, prctl};
use crate::shelf::Shelf;
use crate::sys::MmMap;
use binfmt::note::mapping::Memory;
use binfmt::note::task::Task;
use binfmt::program::Program;
use binfmt::system_call;
use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};

const PR_SET_MM_MAP: u64 = 14;
const PR_SET_MDWE: i32 = 65;
const PR_SET_MEMORY_MERGE: i32 = 67;
const AT_NULL: u64 = 0;
/// Registrations that membarrier(2) can give back: each bit is the command that registers.
const MEMBARRIER_BITS: u32 = 32;

/// What Rust can set while it still runs, because the loader does not depend on it.
pub fn rebuild(task: &Task, memory: &Memory) -> Result<()> {
    write_unless_equal("/proc/self/oom_score_adj", &task.oom_score_adj.to_string())?;
    let filter = format!("{:#x}", task.coredump_filter);
    let same = fs::read_to_string("/proc/self/coredump_filter")
        .is_ok_and(|now| u64::from_str_radix(now.trim(), 16) == Ok(task.coredump_filter));
    if !same {
        write_unless_equal("/proc/self/coredump_filter", &filter)?;
    }
    for bit in (0..MEMBARRIER_BITS).filter(|bit| task.membarrier_registrations >> bit & 1 == 1) {
        crate::sys::call(libc::SYS_membarrier, [1 << bit, 0, 0, 0, 0, 0])
            .map_err(|error| Error::step("register for membarrier", error))?;
    }
    let set = |option: i32, value: u64, what: &str| match value {
        0 => Ok(()),
        value => prctl(option, [value, 0, 0, 0])
            .map(drop)
            .map_err(|error| Error::step(format!("set {what}"), error)),
    };
    set(libc::PR_SET_THP_DISABLE, memory.thp_disable.into(), "PR_SET_THP_DISABLE")?;
    set(PR_SET_MEMORY_MERGE, memory.memory_merge.into(), "PR_SET_MEMORY_MERGE")?;
    set(libc::PR_SET_CHILD_SUBREAPER, task.child_subreaper.into(), "PR_SET_CHILD_SUBREAPER")
}

fn write_unless_equal(path: &str, value: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    fs::write(path, value).map_err(|error| Error::io(format!("write {value} to {path}"), &error))
}

/// Opens the executable, if the exe link may be set: that takes CAP_CHECKPOINT_RESTORE.
pub fn open_executable(memory: &Memory, shelf: &Shelf, permitted: bool) -> Result<Option<OwnedFd>> {
    if !permitted {
        return Ok(None);
    }
    file::open_identity(shelf, &memory.executable, libc::O_RDONLY).map(Some)
}

/// Appends the calls that must come when Rust allocates no more, and before the task gives up its rights.
pub fn memory_program(
    task: &Task,
    memory: &Memory,
    executable: Option<&OwnedFd>,
    arena: &mut Arena,
    program: &mut Program,
) -> Result<()> {
    let auxv = trimmed(&memory.auxv.0);
    let m = memory;
    let map = MmMap {
        layout: [
            m.start_code,
            m.end_code,
            m.start_data,
            m.end_data,
            m.start_brk,
            m.brk,
            m.start_stack,
            m.arg_start,
            m.arg_end,
            m.env_start,
            m.env_end,
        ],
        auxv: arena.put(auxv)?,
        auxv_bytes: u32::try_from(auxv.len()).unwrap_or(0),
        executable_fd: executable.map_or(u32::MAX, |fd| fd.as_raw_fd().unsigned_abs()),
    };
    let option = |option: i32| u64::from(option.unsigned_abs());
    let args =
        [option(libc::PR_SET_MM), PR_SET_MM_MAP, arena.put(&map.to_bytes())?, size_of::<MmMap>() as u64];
    program.must(
        system_call!(SYS_prctl),
        &args,
        format!("memory layout and executable of process {}", task.pid),
    );
    if memory.deny_write_execute != 0 {
        let args = [option(PR_SET_MDWE), memory.deny_write_execute.into()];
        program.must(system_call!(SYS_prctl), &args, format!("PR_SET_MDWE of process {}", task.pid));
    }
    if memory.lock_future != 0 {
        let args = [memory.lock_future.into()];
        program.must(system_call!(SYS_mlockall), &args, format!("mlockall of process {}", task.pid));
    }
    Ok(())
}

/// Appends the modes of the process itself, whoever's memory it uses.
pub fn early_program(task: &Task, program: &mut Program) {
    program.must(
        system_call!(SYS_personality),
        &[task.personality],
        format!("personality of process {}", task.pid),
    );
    for mode in &task.modes {
        let args = [mode.option.into(), mode.value];
        program.must(system_call!(SYS_prctl), &args, format!("mode {} of process {}", mode.option, task.pid));
    }
}

/// Appends the calls that a change of credentials would undo.
pub fn late_program(task: &Task, program: &mut Program) {
    // 2 (readable by root only) can only be reached by what set it; a task that had it gets the stricter 0.
    let dumpable = u64::from(task.dumpable == 1);
    let args = [u64::from(libc::PR_SET_DUMPABLE.unsigned_abs()), dumpable];
    program.must(system_call!(SYS_prctl), &args, format!("dumpable of process {}", task.pid));
}

/// The vector up to its end mark: another kernel may keep room for fewer entries.
fn trimmed(auxv: &[u8]) -> &[u8] {
    let entries = auxv.chunks_exact(16);
    let end =
        entries.take_while(|entry| entry.iter().take(8).any(|byte| u64::from(*byte) != AT_NULL)).count();
    auxv.get(..(end + 1) * 16).unwrap_or(auxv)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vector_ends_with_its_mark() {
        let mut auxv = [33u64, 7, 0, 0, 0, 0].map(u64::to_le_bytes).concat();
        assert_eq!(trimmed(&auxv).len(), 32);
        auxv.truncate(16);
        assert_eq!(trimmed(&auxv).len(), 16, "without a mark nothing is made up");
    }
}
