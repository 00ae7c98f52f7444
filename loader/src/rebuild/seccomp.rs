//! Seccomp: the very last calls of a thread, after which it may only return.

use crate::arena::Arena;
use crate::error::Result;
use crate::index::Threads;
use binfmt::note::seccomp::SeccompMode;
use binfmt::program::Program;
use binfmt::system_call;

const SECCOMP_MODE_STRICT: u64 = 1;
const SECCOMP_SET_MODE_FILTER: u64 = 1;
/// Bytes of one instruction of classic BPF.
const INSTRUCTION_BYTES: usize = 8;

/// Appends the calls that restrict a thread as it was.
pub fn program(
    threads: &Threads<'_>,
    saved_tid: u32,
    arena: &mut Arena,
    program: &mut Program,
) -> Result<()> {
    let Some(wanted) = threads.restriction(saved_tid) else { return Ok(()) };
    let who = format!("thread {saved_tid}");
    match wanted.mode {
        SeccompMode::Disabled => {}
        SeccompMode::Strict => {
            let args = [u64::from(libc::PR_SET_SECCOMP.unsigned_abs()), SECCOMP_MODE_STRICT];
            program.must(system_call!(SYS_prctl), &args, format!("strict seccomp of {who}"));
        }
        SeccompMode::Filter => {
            for filter in &wanted.filters {
                let instructions = arena.put(&filter.instructions.0)?;
                let count = (filter.instructions.0.len() / INSTRUCTION_BYTES) as u64;
                // struct sock_fprog: a 16-bit count, padding, a pointer.
                let header = arena.put(&[count.to_le_bytes(), instructions.to_le_bytes()].concat())?;
                let args = [SECCOMP_SET_MODE_FILTER, filter.flags.into(), header];
                program.must(system_call!(SYS_seccomp), &args, format!("a seccomp filter of {who}"));
            }
        }
    }
    Ok(())
}
