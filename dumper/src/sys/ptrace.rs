//! ptrace(2), one request per function.

use binfmt::address::Tid;
use nix::errno::Errno;

type Result<T> = std::result::Result<T, Errno>;

/// `ptrace` where the kernel neither reads nor writes our memory.
fn ptrace_word(request: u32, tid: Tid, address: u64, data: u64) -> Result<()> {
    // SAFETY: every caller passes a request for which `address` and `data` are plain numbers, so the kernel touches
    // none of our memory.
    Errno::result(unsafe { libc::ptrace(request, tid.0, address, data) }).map(drop)
}

/// Attaches to `tid` without stopping it.
pub(crate) fn seize(tid: Tid, options: i32) -> Result<()> {
    ptrace_word(libc::PTRACE_SEIZE, tid, 0, u64::from(options.cast_unsigned()))
}

/// Asks a seized thread to stop.
pub(crate) fn interrupt(tid: Tid) -> Result<()> {
    ptrace_word(libc::PTRACE_INTERRUPT, tid, 0, 0)
}

/// Lets a stopped thread run, `signal` (0 for none) delivered to it.
pub(crate) fn cont(tid: Tid, signal: i32) -> Result<()> {
    ptrace_word(libc::PTRACE_CONT, tid, 0, u64::from(signal.cast_unsigned()))
}

/// Lets a stopped thread run to the next entry to or exit from a system call.
pub(crate) fn run_to_syscall(tid: Tid, signal: i32) -> Result<()> {
    ptrace_word(libc::PTRACE_SYSCALL, tid, 0, u64::from(signal.cast_unsigned()))
}

/// Lets a stopped thread go for good.
pub(crate) fn detach(tid: Tid) -> Result<()> {
    ptrace_word(libc::PTRACE_DETACH, tid, 0, 0)
}

/// Writes one word of a stopped thread's `user` area: the only atomic change of a register.
pub(crate) fn poke_user(tid: Tid, offset: u64, word: u64) -> Result<()> {
    ptrace_word(libc::PTRACE_POKEUSER, tid, offset, word)
}

/// Length of the kernel's signal set in bytes.
const SIGSET_BYTES: u64 = 8;

/// The blocked signals of a stopped thread.
pub(crate) fn signal_mask(tid: Tid) -> Result<u64> {
    let mut mask = 0u64;
    // SAFETY: the kernel writes SIGSET_BYTES bytes, which is the size of `mask`, and keeps no pointer.
    Errno::result(unsafe { libc::ptrace(libc::PTRACE_GETSIGMASK, tid.0, SIGSET_BYTES, &raw mut mask) })?;
    Ok(mask)
}

/// Replaces the blocked signals of a stopped thread.
pub(crate) fn set_signal_mask(tid: Tid, mask: u64) -> Result<()> {
    // SAFETY: the kernel reads SIGSET_BYTES bytes, which is the size of `mask`, and keeps no pointer.
    Errno::result(unsafe { libc::ptrace(libc::PTRACE_SETSIGMASK, tid.0, SIGSET_BYTES, &raw const mask) })
        .map(drop)
}

/// Reads register set `set` (NT_*) of `tid` into `buf` and returns how many bytes the kernel wrote.
/// The length is an answer, not a promise: NT_X86_XSTATE grows with the processor.
pub(crate) fn regset(tid: Tid, set: u32, buf: &mut [u8]) -> Result<usize> {
    let mut window = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
    // SAFETY: the kernel writes at most `iov_len` bytes at `iov_base`, which is `buf`, borrowed mutably for the whole
    // call; it keeps neither pointer after it returns.
    Errno::result(unsafe { libc::ptrace(libc::PTRACE_GETREGSET, tid.0, u64::from(set), &raw mut window) })?;
    Ok(window.iov_len)
}

/// Writes register set `set` of `tid`.
pub(crate) fn set_regset(tid: Tid, set: u32, buf: &[u8]) -> Result<()> {
    let mut window = libc::iovec { iov_base: buf.as_ptr().cast_mut().cast(), iov_len: buf.len() };
    // SAFETY: for this request the kernel only reads `iov_len` bytes at `iov_base`, which is `buf`; it writes the
    // length back into `window`, which is ours.
    Errno::result(unsafe { libc::ptrace(libc::PTRACE_SETREGSET, tid.0, u64::from(set), &raw mut window) })
        .map(drop)
}

/// The registration of restartable sequences: address, length, signature, flags (PTRACE_GET_RSEQ_CONFIGURATION).
pub(crate) fn rseq_configuration(tid: Tid) -> Result<(u64, u32, u32, u32)> {
    let mut buf = [0u8; 24];
    // SAFETY: the kernel writes at most the given length, which is that of `buf`.
    Errno::result(unsafe {
        libc::ptrace(libc::PTRACE_GET_RSEQ_CONFIGURATION, tid.0, buf.len(), buf.as_mut_ptr())
    })?;
    let word = |at| crate::parse::u32_at(&buf, at);
    Ok((crate::parse::u64_at(&buf, 0), word(8), word(12), word(16)))
}

/// Not in every libc: fs/ptrace.c, 5.11.
const PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG: u32 = 0x4211;

/// The mode of syscall user dispatch; 0 is off.
pub(crate) fn syscall_user_dispatch(tid: Tid) -> Result<u64> {
    let mut buf = [0u64; 4];
    // SAFETY: the kernel writes exactly the given length, which is that of `buf`.
    Errno::result(unsafe {
        libc::ptrace(PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, tid.0, size_of_val(&buf), buf.as_mut_ptr())
    })?;
    Ok(buf.first().copied().unwrap_or_default())
}

/// Which queue of pending signals is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Queue {
    /// That of the thread.
    Thread,
    /// That of its process.
    Process,
}

/// Length of siginfo_t in bytes.
pub(crate) const SIGINFO_BYTES: usize = 128;

/// The pending signals of a queue from number `from` on, at most 64 of them, without taking them.
pub(crate) fn peek_signals(tid: Tid, queue: Queue, from: u64) -> Result<Vec<[u8; SIGINFO_BYTES]>> {
    let mut found = [[0u8; SIGINFO_BYTES]; 64];
    let flags = match queue {
        Queue::Thread => 0,
        Queue::Process => libc::PTRACE_PEEKSIGINFO_SHARED,
    };
    let args = libc::ptrace_peeksiginfo_args { off: from, flags, nr: 64 };
    // SAFETY: the kernel reads `args` and writes at most `nr` siginfo_t, as many as `found` has room for.
    let count = Errno::result(unsafe {
        libc::ptrace(libc::PTRACE_PEEKSIGINFO, tid.0, &raw const args, found.as_mut_ptr())
    })?;
    Ok(found.into_iter().take(usize::try_from(count).unwrap_or(0)).collect())
}

const PTRACE_SECCOMP_GET_FILTER: u32 = 0x420c;
const PTRACE_SECCOMP_GET_METADATA: u32 = 0x420d;

/// Filter number `index` of a thread, oldest first, as classic BPF of eight bytes an instruction.
pub(crate) fn seccomp_filter(tid: Tid, index: u64) -> Result<Vec<u8>> {
    // SAFETY: with a null pointer the kernel only says how many instructions there are.
    let count = Errno::result(unsafe {
        libc::ptrace(PTRACE_SECCOMP_GET_FILTER, tid.0, index, std::ptr::null_mut::<u8>())
    })?;
    let mut code = vec![0u8; usize::try_from(count).unwrap_or(0) * 8];
    // SAFETY: the kernel writes the `count` instructions it just announced; the thread is stopped, so that its filters
    // do not change, and a filter never does.
    Errno::result(unsafe { libc::ptrace(PTRACE_SECCOMP_GET_FILTER, tid.0, index, code.as_mut_ptr()) })?;
    Ok(code)
}

/// Flags of filter number `index` (SECCOMP_FILTER_FLAG_LOG).
pub(crate) fn seccomp_flags(tid: Tid, index: u64) -> Result<u64> {
    let mut metadata = [index, 0u64];
    // SAFETY: the kernel reads and writes at most the given length, which is that of `metadata`.
    Errno::result(unsafe {
        libc::ptrace(PTRACE_SECCOMP_GET_METADATA, tid.0, size_of_val(&metadata), metadata.as_mut_ptr())
    })?;
    Ok(metadata.last().copied().unwrap_or_default())
}

/// Changes the options of the attachment.
pub(crate) fn set_options(tid: Tid, options: i32) -> Result<()> {
    ptrace_word(libc::PTRACE_SETOPTIONS, tid, 0, u64::from(options.cast_unsigned()))
}
