//! What becomes of a system call that the stop interrupted.
//!
//! A stop ends a sleeping call with a code that tells the kernel how to restart it (include/linux/errno.h). In the same
//! task the kernel does that by itself when the registers are put back; where something else must do it (the stub after
//! the dumper's death, or another process after a resume), the rules below decide. Three groups:
//!
//! * calls that start again with the same arguments: nothing was consumed, or the kernel wrote what remained of the time
//!   back to the caller's memory (select, ppoll);
//! * calls with a restart block (-516): relative sleeps, poll, futex with a timeout. The block holds the deadline, dies
//!   with the task, and cannot be read. Where what remained stands in the very argument (`nanosleep(&t, &t)`, so
//!   glibc's `sleep`), and where nothing can run out (`poll` without a timeout, `futex` until a time that its argument
//!   names, so glibc's timed locks), the call starts again. Everywhere else it returns EINTR, which the man page of each
//!   allows, with what remained in `rem` if there is one: a sleep never silently starts anew in full;
//! * calls that any stop ends with EINTR (signal(7), last list). Without a timeout they start again; with one they return
//!   EINTR, again so that no timeout starts anew. If a signal waits, EINTR is its doing and stays.

use crate::note::thread::Registers;

const EINTR: i64 = -4;
const ERESTARTSYS: i64 = -512;
const ERESTARTNOINTR: i64 = -513;
const ERESTARTNOHAND: i64 = -514;
const ERESTART_RESTARTBLOCK: i64 = -516;
/// Length of the `syscall` instruction in bytes.
const SYSCALL_BYTES: u64 = 2;

/// Whether a signal that is not blocked waits for the thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signals {
    /// None does.
    Quiet,
    /// One does: its handler will run, or it will end the process.
    Waiting,
}

/// The registers with which the *same* task goes on by itself, its restart block still alive.
pub fn in_place(at_stop: &Registers, signals: Signals) -> Registers {
    match code(at_stop) {
        Some(ERESTARTSYS | ERESTARTNOINTR | ERESTARTNOHAND) => again(at_stop, at_stop.orig_rax),
        Some(ERESTART_RESTARTBLOCK) => again(at_stop, call(libc::SYS_restart_syscall)),
        Some(EINTR) if signals == Signals::Quiet && waits_for_ever(at_stop) => {
            again(at_stop, at_stop.orig_rax)
        }
        _ => outside(at_stop),
    }
}

/// The registers with which *another* task, made from the image, goes on.
pub fn elsewhere(at_stop: &Registers, signals: Signals) -> Registers {
    match code(at_stop) {
        Some(ERESTARTSYS | ERESTARTNOINTR | ERESTARTNOHAND) => again(at_stop, at_stop.orig_rax),
        Some(ERESTART_RESTARTBLOCK) if arguments_still_hold(at_stop) => again(at_stop, at_stop.orig_rax),
        Some(ERESTART_RESTARTBLOCK) => Registers { rax: EINTR.cast_unsigned(), ..outside(at_stop) },
        Some(EINTR) if signals == Signals::Quiet && waits_for_ever(at_stop) => {
            again(at_stop, at_stop.orig_rax)
        }
        _ => outside(at_stop),
    }
}

/// The result that stands in rax, if the thread is in a system call.
fn code(at_stop: &Registers) -> Option<i64> {
    at_stop.system_call().map(|_| at_stop.rax.cast_signed())
}

fn call(number: libc::c_long) -> u64 {
    number.cast_unsigned()
}

/// Back on the `syscall` instruction, with the number of the call.
fn again(at_stop: &Registers, number: u64) -> Registers {
    Registers { rip: at_stop.rip.wrapping_sub(SYSCALL_BYTES), rax: number, ..outside(at_stop) }
}

/// Not in a system call, so that the kernel does not restart what we have restarted.
fn outside(at_stop: &Registers) -> Registers {
    Registers { orig_rax: u64::MAX, ..at_stop.clone() }
}

/// Whether a call with a restart block means the same when it is made again: it sleeps for a relative time and the
/// kernel has written what remains over that very argument, or it waits without a timeout, or until a point in time.
fn arguments_still_hold(at_stop: &Registers) -> bool {
    match i64::try_from(at_stop.orig_rax).unwrap_or(-1) {
        libc::SYS_nanosleep => at_stop.rdi == at_stop.rsi,
        libc::SYS_clock_nanosleep => at_stop.rdx == at_stop.r10,
        libc::SYS_poll => is_negative(at_stop.rdx),
        libc::SYS_futex => futex_command(at_stop.rsi) == Some(libc::FUTEX_WAIT_BITSET),
        _ => false,
    }
}

/// What a futex call does, without the bits that say on which clock and whether across processes.
fn futex_command(operation: u64) -> Option<i32> {
    let operation = i32::try_from(operation & 0xffff_ffff).ok()?;
    Some(operation & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME))
}

/// Whether a register holds a negative int.
fn is_negative(register: u64) -> bool {
    register & 0xffff_ffff >= 0x8000_0000
}

/// Whether the call is one that every stop ends with EINTR, and was made without a timeout.
fn waits_for_ever(at_stop: &Registers) -> bool {
    match i64::try_from(at_stop.orig_rax).unwrap_or(-1) {
        libc::SYS_epoll_wait | libc::SYS_epoll_pwait => is_negative(at_stop.r10),
        libc::SYS_epoll_pwait2 | libc::SYS_semtimedop => at_stop.r10 == 0,
        libc::SYS_rt_sigtimedwait => at_stop.rdx == 0,
        libc::SYS_io_getevents => at_stop.r8 == 0,
        libc::SYS_semop => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped(number: libc::c_long, result: i64) -> Registers {
        Registers { rip: 0x1002, orig_rax: call(number), rax: result.cast_unsigned(), ..Registers::default() }
    }

    #[test]
    fn a_read_starts_again() {
        let registers = elsewhere(&stopped(libc::SYS_read, ERESTARTSYS), Signals::Quiet);
        assert_eq!((registers.rip, registers.rax, registers.orig_rax), (0x1000, 0, u64::MAX));
    }

    #[test]
    fn a_relative_sleep_never_starts_anew() {
        let glibc_sleep = Registers { rdi: 0x5000, rsi: 0x5000, ..stopped(libc::SYS_nanosleep, -516) };
        assert_eq!(
            elsewhere(&glibc_sleep, Signals::Quiet).rax,
            call(libc::SYS_nanosleep),
            "what remains is there"
        );
        let blind = Registers { rdi: 0x5000, rsi: 0, ..stopped(libc::SYS_nanosleep, -516) };
        assert_eq!(elsewhere(&blind, Signals::Quiet).rax.cast_signed(), EINTR);
        assert_eq!(elsewhere(&blind, Signals::Quiet).rip, 0x1002);
        assert_eq!(
            in_place(&blind, Signals::Quiet).rax,
            call(libc::SYS_restart_syscall),
            "its block is alive"
        );
        let polled = Registers { rdx: 500, ..stopped(libc::SYS_poll, -516) };
        assert_eq!(elsewhere(&polled, Signals::Quiet).rax.cast_signed(), EINTR);
    }

    #[test]
    fn what_cannot_run_out_starts_again() {
        let endless = Registers { rdx: 0xffff_ffff, ..stopped(libc::SYS_poll, -516) };
        assert_eq!(elsewhere(&endless, Signals::Quiet).rip, 0x1000);
        let futex = |operation: i32| {
            let rsi = u64::from(operation.unsigned_abs());
            elsewhere(&Registers { rsi, ..stopped(libc::SYS_futex, -516) }, Signals::Quiet)
        };
        let until = libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME;
        assert_eq!(futex(until).rip, 0x1000, "its time is a point in time");
        let for_a_while = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        assert_eq!(futex(for_a_while).rax.cast_signed(), EINTR);
    }

    #[test]
    fn an_endless_epoll_wait_goes_on_unless_a_signal_ended_it() {
        let endless = Registers { r10: 0xffff_ffff, ..stopped(libc::SYS_epoll_wait, EINTR) };
        assert_eq!(elsewhere(&endless, Signals::Quiet).rip, 0x1000);
        assert_eq!(elsewhere(&endless, Signals::Waiting).rip, 0x1002);
        let limited = Registers { r10: 500, ..stopped(libc::SYS_epoll_wait, EINTR) };
        assert_eq!(elsewhere(&limited, Signals::Quiet).rip, 0x1002);
    }

    #[test]
    fn outside_of_a_call_nothing_changes() {
        let running =
            Registers { rip: 7, rax: (-512i64).cast_unsigned(), orig_rax: u64::MAX, ..Registers::default() };
        assert_eq!(elsewhere(&running, Signals::Quiet), running);
    }
}
