//! How a thread is scheduled, set by the thread itself. What is so already is left alone: raising needs rights.

use crate::arena::Arena;
use crate::error::Error;
use crate::index::Threads;
use binfmt::note::schedule::Schedule;
use binfmt::program::Program;
use binfmt::system_call;
use nix::errno::Errno;

const SCHED_OTHER: u32 = 0;
const SCHED_DEADLINE: u32 = 6;
const SCHED_FLAG_UTIL_CLAMP: u64 = 0x60;
const IOPRIO_WHO_PROCESS: u64 = 1;
const PRIO_PROCESS: u64 = 0;
/// Bytes of `struct sched_attr` with utilization clamps (SCHED_ATTR_SIZE_VER1).
const ATTRIBUTE_BYTES: u32 = 56;

/// Appends the calls that schedule a thread as it was.
pub fn program(
    threads: &Threads<'_>,
    saved_tid: u32,
    arena: &mut Arena,
    program: &mut Program,
) -> Result<(), Error> {
    let Some(wanted) = threads.schedule(saved_tid) else { return Ok(()) };
    let who = format!("thread {saved_tid}");
    // A processor that this host lacks is no reason not to run: the kernel refuses only a mask with none that exists.
    let affinity = arena.put(&wanted.affinity.0)?;
    let args = [0, wanted.affinity.0.len() as u64, affinity];
    program.ask(system_call!(SYS_sched_setaffinity), &args, format!("processors of {who}"));
    if wanted.io_priority != 0 {
        let args = [IOPRIO_WHO_PROCESS, 0, wanted.io_priority.into()];
        program.must(system_call!(SYS_ioprio_set), &args, format!("I/O priority of {who}"));
    }
    let slack = [u64::from(libc::PR_SET_TIMERSLACK.unsigned_abs()), wanted.timer_slack_ns];
    if wanted.timer_slack_ns != 0 {
        program.must(system_call!(SYS_prctl), &slack, format!("timer slack of {who}"));
    }
    if wanted.nice != 0 {
        // sched_setattr takes it for SCHED_OTHER and SCHED_BATCH only.
        let args = [PRIO_PROCESS, 0, i64::from(wanted.nice).cast_unsigned()];
        program.must(system_call!(SYS_setpriority), &args, format!("nice value {} of {who}", wanted.nice));
    }
    if *wanted != (Schedule { policy: SCHED_OTHER, nice: 0, flags: 0, ..wanted.clone() }) {
        let attributes = arena.put(&encode(wanted))?;
        let purpose = format!("policy {} and nice value {} of {who}", wanted.policy, wanted.nice);
        program.must(system_call!(SYS_sched_setattr), &[0, attributes, 0], purpose);
    }
    Ok(())
}

/// Gives this process an I/O context, without a priority.
pub fn begin_io_context() -> Result<(), Errno> {
    crate::sys::call(libc::SYS_ioprio_set, [IOPRIO_WHO_PROCESS, 0, 0, 0, 0, 0]).map(drop)
}

/// `struct sched_attr`.
fn encode(wanted: &Schedule) -> Vec<u8> {
    let deadline = wanted.policy == SCHED_DEADLINE;
    let times = if deadline { [wanted.runtime_ns, wanted.deadline_ns, wanted.period_ns] } else { [0; 3] };
    let flags = wanted.flags & !SCHED_FLAG_UTIL_CLAMP;
    let mut bytes = Vec::new();
    [ATTRIBUTE_BYTES, wanted.policy].iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
    bytes.extend_from_slice(&flags.to_le_bytes());
    bytes.extend_from_slice(&wanted.nice.to_le_bytes());
    bytes.extend_from_slice(&wanted.priority.to_le_bytes());
    times.iter().for_each(|time| bytes.extend_from_slice(&time.to_le_bytes()));
    let clamps = [wanted.utilization_min, wanted.utilization_max];
    clamps.iter().for_each(|clamp| bytes.extend_from_slice(&clamp.to_le_bytes()));
    bytes
}
