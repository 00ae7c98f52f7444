//! Making processes and threads, and turning into them.

use super::check;
use nix::errno::Errno;
use nix::sys::wait::WaitPidFlag;
use nix::unistd::Pid;
use std::sync::atomic::{AtomicU32, Ordering};

/// Who runs Rust, where several processes share this memory (CLONE_VM): they share the C library's and Rust's state of one
/// thread as well, so only the holder of the baton may run anything but waiting.
static BATON: AtomicU32 = AtomicU32::new(HELD);
const FREE: u32 = 0;
const HELD: u32 = 1;

/// Waits without the baton.
pub fn while_waiting<T>(wait: impl FnOnce() -> T) -> T {
    give_baton();
    let result = wait();
    take_baton();
    result
}

fn give_baton() {
    BATON.store(FREE, Ordering::SeqCst);
    // SAFETY: a wake only reads the address.
    unsafe { libc::syscall(libc::SYS_futex, BATON.as_ptr(), libc::FUTEX_WAKE, 1) };
}

fn take_baton() {
    while BATON.swap(HELD, Ordering::SeqCst) == HELD {
        let time = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
        // SAFETY: the kernel reads the word and the timeout and writes nothing.
        unsafe { libc::syscall(libc::SYS_futex, BATON.as_ptr(), libc::FUTEX_WAIT, HELD, &raw const time) };
    }
}

/// All that a process that shares this memory does.
type Life<'a> = Box<dyn FnOnce() + 'a>;

/// Starts a process with these ids, the innermost first, that shares this memory (CLONE_VM; `flags` say what else) and runs
/// `life` on a stack of its own as soon as the baton is free. The caller must never return from the frames that `life`
/// borrows from while it gives the baton away: it becomes a program, or ends with the baton.
pub fn fork_sharing(ids: &[i32], exit_signal: i32, flags: u64, life: Life<'_>) -> Result<i32, Errno> {
    const STACK_BYTES: usize = 512 << 10;
    const ALIGN: usize = 64;
    // Never freed: all memory of the loader's goes at once.
    let stack = Box::leak(vec![0u8; STACK_BYTES + ALIGN].into_boxed_slice());
    let base = stack.as_mut_ptr().expose_provenance().next_multiple_of(ALIGN);
    let args = CloneArgs {
        flags: flags | u64::from(libc::CLONE_VM.unsigned_abs()),
        exit_signal: exit_signal.unsigned_abs().into(),
        stack: base as u64,
        stack_size: STACK_BYTES as u64,
        set_tid: ids.as_ptr().expose_provenance() as u64,
        set_tid_size: ids.len() as u64,
        ..CloneArgs::default()
    };
    let life = Box::into_raw(Box::new(life));
    let entry: extern "C" fn(*mut Life<'static>) -> ! = live;
    let result: i64;
    // SAFETY: the child runs `live` on the new stack, of which nobody else knows; what it shares with us it touches only
    // with the baton. `life` is handed over to it, and is ours again only if there is no child.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r14",
            "call r15",
            "ud2",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") &raw const args,
            in("rsi") size_of::<CloneArgs>(),
            in("r14") life,
            in("r15") entry,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    match i32::try_from(result) {
        Ok(child) if child > 0 => Ok(child),
        Ok(error) => Err(Errno::from_raw(-error)),
        Err(_) => Err(Errno::EINVAL),
    }
}

extern "C" fn live(life: *mut Life<'static>) -> ! {
    take_baton();
    // SAFETY: `fork_sharing` made it from a box and gave it up to this process alone.
    let life = unsafe { Box::from_raw(life) };
    life();
    super::exit_now(super::super::error::EXIT_CANNOT_RESUME.into())
}

/// Leaves Rust for good: the calling task runs the program at `program` with the stub at `run`.
pub fn become_program(run: u64, program: u64) -> ! {
    give_baton();
    // SAFETY: `run` is the stub's entry in executable memory of the arena, `program` ends with a Return.
    unsafe {
        std::arch::asm!("mov r12, {program}", "jmp {run}", program = in(reg) program, run = in(reg) run,
            options(noreturn));
    }
}

/// `struct clone_args` (clone3(2)).
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// fork(2), with these ids, the innermost first, and others where none are given. Returns 0 in the child.
///
/// The caller must have a single thread.
///
/// `flags` say what is shared or new: CLONE_FILES, CLONE_FS, CLONE_NEWPID.
pub fn fork(ids: &[i32], exit_signal: i32, flags: u64) -> Result<i32, Errno> {
    clone(flags, ids, exit_signal)
}

/// fork(2) of a sibling: a child of the caller's parent, with the caller's exit signal.
pub fn fork_sibling(ids: &[i32], flags: u64) -> Result<i32, Errno> {
    clone(flags | u64::from(libc::CLONE_PARENT.unsigned_abs()), ids, 0)
}

fn clone(flags: u64, ids: &[i32], exit_signal: i32) -> Result<i32, Errno> {
    let args = CloneArgs {
        flags,
        exit_signal: exit_signal.unsigned_abs().into(),
        set_tid: if ids.is_empty() { 0 } else { ids.as_ptr().expose_provenance() as u64 },
        set_tid_size: ids.len() as u64,
        ..CloneArgs::default()
    };
    // SAFETY: without CLONE_VM the child has a copy of everything; the caller is single-threaded, so no lock is held.
    let child = check(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>()) })?;
    Ok(i32::try_from(child).unwrap_or(i32::MAX))
}

/// The flags of clone3 for what threads of a process have in common.
pub fn thread_flags() -> u64 {
    let flags = libc::CLONE_VM
        | libc::CLONE_FS
        | libc::CLONE_FILES
        | libc::CLONE_SIGHAND
        | libc::CLONE_THREAD
        | libc::CLONE_SYSVSEM;
    flags.unsigned_abs().into()
}

/// Starts a thread of this process with these ids, the innermost first, that runs the program at `program` with the stub at
/// `run`, and nothing of Rust's. It needs no stack: the stub has none. `flags` say what else is shared: CLONE_IO.
pub fn start_thread(ids: &[i32], flags: u64, run: u64, program: u64) -> Result<i32, Errno> {
    let args = CloneArgs {
        flags: flags | thread_flags(),
        set_tid: ids.as_ptr().expose_provenance() as u64,
        set_tid_size: ids.len() as u64,
        ..CloneArgs::default()
    };
    let result: i64;
    // SAFETY: the child shares the caller's stack pointer but never touches the stack: its next instruction loads the
    // program and leaves for the stub, which uses none.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "mov r12, r14",
            "jmp r15",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") &raw const args,
            in("rsi") size_of::<CloneArgs>(),
            in("r14") program,
            in("r15") run,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    match i32::try_from(result) {
        Ok(tid) if tid > 0 => Ok(tid),
        Ok(error) => Err(Errno::from_raw(-error)),
        Err(_) => Err(Errno::EINVAL),
    }
}

/// wait4(2) for a child, or for any where none is named: its status, if there is one. nix knows no real-time signals.
pub fn wait_status(child: Option<Pid>, options: WaitPidFlag) -> Result<Option<i32>, Errno> {
    let mut status = 0;
    // SAFETY: the kernel writes one int to `status`.
    let found = unsafe { libc::waitpid(child.map_or(-1, Pid::as_raw), &raw mut status, options.bits()) };
    check(found.into()).map(|found| (found != 0).then_some(status))
}

/// Waits until a child has ended, and leaves it a zombie.
pub fn await_end(child: Pid) -> Result<(), Errno> {
    let options = libc::WEXITED | libc::WNOWAIT | libc::__WALL;
    let id = child.as_raw().unsigned_abs();
    // SAFETY: waitid(2) writes nothing where no information is asked for.
    check(unsafe { libc::waitid(libc::P_PID, id, std::ptr::null_mut(), options) }.into()).map(drop)
}
