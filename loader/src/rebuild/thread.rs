//! A thread: what it sets for itself, and the frame from which it goes on.

pub mod new_tid;

use crate::arena::Arena;
use crate::error::{Error, Result};
use crate::frame;
use crate::index::Threads;
use binfmt::note::thread::Thread;
use binfmt::program::Program;
use binfmt::restart::{self, Signals};
use binfmt::system_call;

const ARCH_SET_GS: u64 = 0x1001;
const ARCH_SET_FS: u64 = 0x1002;
/// Bytes of a thread name with its final zero.
const NAME_BYTES: usize = 16;

/// Appends the calls that do not depend on the thread's rights.
pub fn early_program(thread: &Thread, arena: &mut Arena, program: &mut Program) -> Result<()> {
    let mut name: Vec<u8> = thread.name.0.iter().copied().take(NAME_BYTES - 1).collect();
    name.resize(NAME_BYTES, 0);
    let args = [u64::from(libc::PR_SET_NAME.unsigned_abs()), arena.put(&name)?];
    program.must(system_call!(SYS_prctl), &args, format!("name of thread {}", thread.tid));
    Ok(())
}

/// Appends the calls that come last, and after a change of credentials, which clears the parent-death signal.
pub fn late_program(thread: &Thread, program: &mut Program) {
    let who = format!("thread {}", thread.tid);
    for mode in &thread.modes {
        let args = [mode.option.into(), mode.value];
        program.must(system_call!(SYS_prctl), &args, format!("mode {} of {who}", mode.option));
    }
    let death = [u64::from(libc::PR_SET_PDEATHSIG.unsigned_abs()), thread.parent_death_signal.into()];
    program.must(system_call!(SYS_prctl), &death, format!("parent-death signal of {who}"));
    program.must(
        system_call!(SYS_set_tid_address),
        &[thread.clear_tid_address],
        format!("tid address of {who}"),
    );
    if thread.robust_list != 0 {
        let args = [thread.robust_list, thread.robust_list_bytes];
        program.must(system_call!(SYS_set_robust_list), &args, format!("robust list of {who}"));
    }
    let rseq = &thread.rseq;
    if rseq.address != 0 {
        let args = [rseq.address, rseq.len_bytes.into(), rseq.flags.into(), rseq.signature.into()];
        program.must(system_call!(SYS_rseq), &args, format!("rseq of {who}"));
    }
    let registers = &thread.registers;
    program.must(
        system_call!(SYS_arch_prctl),
        &[ARCH_SET_FS, registers.fs_base],
        format!("fs base of {who}"),
    );
    program.must(
        system_call!(SYS_arch_prctl),
        &[ARCH_SET_GS, registers.gs_base],
        format!("gs base of {who}"),
    );
}

/// Puts the signal frame of a thread into the arena and returns its address.
pub fn frame(threads: &Threads<'_>, thread: &Thread, arena: &mut Arena) -> Result<u64> {
    let area = threads.area(thread.tid);
    let area = area.ok_or(Error::Internal("a thread's floating-point state is missing"))?;
    let registers = restart::elsewhere(&thread.registers, signals(threads, thread));
    let state = arena.put(&frame::extended_state(area))?;
    arena.put(&frame::ucontext(&registers, thread.signal_mask, &thread.alternate_stack, state))
}

/// Whether a signal waits that the thread does not block.
fn signals(threads: &Threads<'_>, thread: &Thread) -> Signals {
    let queues = threads.queue(thread.pid, thread.tid).chain(threads.queue(thread.pid, 0));
    let open = |signal: u32| thread.signal_mask >> signal.saturating_sub(1) & 1 == 0;
    let waits = queues.flat_map(|queue| &queue.signals).map(|info| info.signal).any(open);
    if waits { Signals::Waiting } else { Signals::Quiet }
}
