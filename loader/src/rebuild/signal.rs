//! Signals: dispositions and what waits in the queues.

use crate::arena::Arena;
use crate::error::Result;
use crate::index::Threads;
use crate::rebuild::timer;
use binfmt::image::Image;
use binfmt::note::signal::{Action, SignalHandlers, SignalInfo};
use binfmt::note::task::Task;
use binfmt::note::timer::PosixTimer;
use binfmt::program::Program;
use binfmt::system_call;

/// Highest signal number.
const LAST_SIGNAL: u32 = 64;
/// Bytes of siginfo_t.
const INFO_BYTES: usize = 128;

/// Appends the calls that set all dispositions: those of the image, and the default for every other signal.
pub fn dispositions(image: &Image, task: &Task, arena: &mut Arena, program: &mut Program) -> Result<()> {
    let note = image.about::<SignalHandlers>(task.signal_handlers).next();
    let actions = note.map(|note| note.actions.as_slice()).unwrap_or_default();
    let default = Action::default();
    for signal in
        (1..=LAST_SIGNAL).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(&signal.cast_signed()))
    {
        let action = actions.iter().find(|action| action.signal == signal).unwrap_or(&default);
        let words = [action.handler, action.flags, action.restorer, action.mask];
        let address = arena.put(&words.map(u64::to_le_bytes).concat())?;
        let purpose = format!("disposition of signal {signal}");
        program.must(system_call!(SYS_rt_sigaction), &[signal.into(), address, 0, 8], purpose);
    }
    Ok(())
}

/// Appends the calls by which a thread sends itself what waits for it, and the leader what waits for the process. Only
/// a thread may queue for itself every kind of signal information; all signals are blocked meanwhile.
pub fn pending(
    image: &Image,
    threads: &Threads<'_>,
    saved: (u32, u32),
    now: (u32, u32),
    arena: &mut Arena,
    program: &mut Program,
) -> Result<()> {
    let (saved_pid, saved_tid) = saved;
    let (pid, tid) = now;
    let leads = saved_pid == saved_tid;
    let of_process = leads.then(|| threads.queue(saved_pid, 0)).into_iter().flatten();
    for note in threads.queue(saved_pid, saved_tid).chain(of_process) {
        let of_timer = |info: &SignalInfo| {
            let id = timer::timer_id(info);
            let mut timers = image.about::<PosixTimer>(saved_pid);
            timers.any(|timer| id == Some(timer.id) && timer::fires_again(image, timer))
        };
        // Nothing holds off a SIGSTOP: the midwife sends it when all stands.
        let later = |info: &SignalInfo| info.signal == libc::SIGSTOP.cast_unsigned();
        for info in note.signals.iter().filter(|info| !of_timer(info) && !later(info)) {
            let address = arena.put(&encode(info))?;
            let signal = u64::from(info.signal);
            let purpose = format!("signal {signal} that waits for");
            if note.tid == saved_tid {
                let purpose = format!("{purpose} thread {saved_tid}");
                program.must(
                    system_call!(SYS_rt_tgsigqueueinfo),
                    &[pid.into(), tid.into(), signal, address],
                    purpose,
                );
            } else {
                let purpose = format!("{purpose} process {saved_pid}");
                program.must(system_call!(SYS_rt_sigqueueinfo), &[pid.into(), signal, address], purpose);
            }
        }
    }
    Ok(())
}

/// siginfo_t as it stands in memory: three numbers, padding, and what depends on the signal.
fn encode(info: &SignalInfo) -> Vec<u8> {
    let mut bytes = info.signal.to_le_bytes().to_vec();
    bytes.extend_from_slice(&info.error.to_le_bytes());
    bytes.extend_from_slice(&info.code.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(&info.fields.0);
    bytes.resize(INFO_BYTES, 0);
    bytes
}
