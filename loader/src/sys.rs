//! The only unsafe code of the loader: one system call per function, no policy.
//!
//! The loader works on addresses as numbers: most of its life it stands in a hole of an address space whose rest it
//! builds for somebody else. The obligation that all functions on addresses share is named once: **nothing of the
//! loader's own lies in the range**. The plan chooses the hole outside of all mappings of the image, and `aside` has
//! moved everything of the loader's into it, so a range outside of the hole holds no Rust object.
#![allow(unsafe_code)]

mod file;
mod inet;
mod ipc;
mod process;
mod socket;
mod tun;

pub use file::*;
pub use inet::{Queue, bytes_waiting, namespace_kind, raise_loopback, socket_queue, tcp_state};
pub use ipc::*;
pub use process::{
    await_end, become_program, fork, fork_sharing, fork_sibling, start_thread, thread_flags, wait_status,
    while_waiting,
};
pub use socket::{attach_filter, bind_packet, disconnect, make_socket, set_socket_option, socket_number};
pub use tun::*;

use nix::errno::Errno;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The result of a raw system call.
fn check(result: libc::c_long) -> Result<u64, Errno> {
    if result == -1 { Err(Errno::last()) } else { Ok(result.cast_unsigned()) }
}

/// mmap(2) of `len_bytes` at exactly `at`. Without a descriptor the mapping is anonymous.
pub fn map_fixed(
    at: u64,
    len_bytes: u64,
    protection: u32,
    flags: i32,
    from: Option<(BorrowedFd<'_>, u64)>,
) -> Result<(), Errno> {
    let (fd, offset) = from.map_or((-1, 0), |(fd, offset)| (fd.as_raw_fd(), offset));
    let flags = flags | libc::MAP_FIXED_NOREPLACE;
    // SAFETY: MAP_FIXED_NOREPLACE never replaces a mapping, so no object of ours changes.
    let got = check(unsafe { libc::syscall(libc::SYS_mmap, at, len_bytes, protection, flags, fd, offset) })?;
    if got == at { Ok(()) } else { Err(Errno::EEXIST) }
}

/// A shared mapping of the first `len_bytes` of a file, wherever there is room.
pub fn map_somewhere(len_bytes: u64, file: BorrowedFd<'_>) -> Result<u64, Errno> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_NORESERVE);
    // SAFETY: the kernel chooses a place where nothing is.
    check(unsafe {
        libc::syscall(libc::SYS_mmap, 0u64, len_bytes, protection, flags, file.as_raw_fd(), 0u64)
    })
}

/// A shared mapping of `len_bytes` of a file from `offset` on, wherever there is room.
pub fn map_from(len_bytes: u64, file: BorrowedFd<'_>, offset: u64) -> Result<u64, Errno> {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
    // SAFETY: the kernel chooses a place where nothing is.
    check(unsafe {
        libc::syscall(libc::SYS_mmap, 0u64, len_bytes, protection, flags, file.as_raw_fd(), offset)
    })
}

/// munmap(2).
pub fn unmap(at: u64, len_bytes: u64) -> Result<(), Errno> {
    // SAFETY: nothing of the loader's own lies in the range (module documentation).
    check(unsafe { libc::syscall(libc::SYS_munmap, at, len_bytes) }).map(drop)
}

/// mremap(2) to exactly `to`, which must be free.
pub fn remap(at: u64, old_bytes: u64, new_bytes: u64, to: u64) -> Result<(), Errno> {
    let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
    // SAFETY: nothing of the loader's own lies in either range (module documentation).
    check(unsafe { libc::syscall(libc::SYS_mremap, at, old_bytes, new_bytes, flags, to) }).map(drop)
}

/// mremap(2) to more bytes at the same place.
pub fn grow(at: u64, old_bytes: u64, new_bytes: u64) -> Result<(), Errno> {
    // SAFETY: without MREMAP_MAYMOVE the mapping only grows, into what is free.
    check(unsafe { libc::syscall(libc::SYS_mremap, at, old_bytes, new_bytes, 0) }).map(drop)
}

/// mprotect(2), or pkey_mprotect(2) for a key other than 0.
pub fn protect(at: u64, len_bytes: u64, protection: u32, key: u32) -> Result<(), Errno> {
    // SAFETY: nothing of the loader's own lies in the range (module documentation).
    let result = unsafe {
        match key {
            0 => libc::syscall(libc::SYS_mprotect, at, len_bytes, protection),
            key => libc::syscall(libc::SYS_pkey_mprotect, at, len_bytes, protection, key),
        }
    };
    check(result).map(drop)
}

/// madvise(2).
pub fn advise(at: u64, len_bytes: u64, advice: i32) -> Result<(), Errno> {
    // SAFETY: nothing of the loader's own lies in the range (module documentation).
    check(unsafe { libc::syscall(libc::SYS_madvise, at, len_bytes, advice) }).map(drop)
}

/// mlock2(2).
pub fn lock(at: u64, len_bytes: u64, flags: u32) -> Result<(), Errno> {
    // SAFETY: locking changes no contents.
    check(unsafe { libc::syscall(libc::SYS_mlock2, at, len_bytes, flags) }).map(drop)
}

/// Names an anonymous range (PR_SET_VMA_ANON_NAME).
pub fn name_range(at: u64, len_bytes: u64, name: &CStr) -> Result<(), Errno> {
    const PR_SET_VMA: i32 = 0x5356_4d41;
    // SAFETY: the kernel reads `name`, which lives through the call, and changes no contents.
    check(unsafe { libc::syscall(libc::SYS_prctl, PR_SET_VMA, 0, at, len_bytes, name.as_ptr()) }).map(drop)
}

/// Writes `bytes` at `at`, which must be mapped and writable.
pub fn write_at(at: u64, bytes: &[u8]) {
    // SAFETY: nothing of the loader's own lies there (module documentation); the callers have mapped the range
    // writable, and `bytes`, an object of ours, cannot overlap it.
    unsafe {
        std::ptr::copy_nonoverlapping(
            bytes.as_ptr(),
            std::ptr::with_exposed_provenance_mut(addr(at)),
            bytes.len(),
        )
    }
}

/// The `len_bytes` at `at`, copied.
pub fn read_at(at: u64, len_bytes: usize) -> Vec<u8> {
    let mut bytes = vec![0; len_bytes];
    // SAFETY: the callers have mapped the range readable; `bytes` is ours and cannot overlap it.
    unsafe {
        std::ptr::copy_nonoverlapping(
            std::ptr::with_exposed_provenance(addr(at)),
            bytes.as_mut_ptr(),
            len_bytes,
        )
    }
    bytes
}

/// The digest of the `len_bytes` at `at`, which must be mapped and readable and which nobody writes meanwhile.
pub fn digest_at(at: u64, len_bytes: usize) -> u64 {
    // SAFETY: the callers have mapped and filled the range; no other thread of ours writes it, and no task runs yet.
    let bytes = unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(addr(at)), len_bytes) };
    binfmt::digest::digest(bytes)
}

/// pread64(2) to `at`, which must be mapped and writable. Returns how many bytes came.
pub fn read_into(file: BorrowedFd<'_>, at: u64, len_bytes: u64, offset: u64) -> Result<u64, Errno> {
    // SAFETY: nothing of the loader's own lies there (module documentation).
    check(unsafe { libc::syscall(libc::SYS_pread64, file.as_raw_fd(), at, len_bytes, offset) })
}

/// Any system call whose arguments are numbers, or addresses in an [`crate::arena::Arena`].
///
/// For the few calls that have no wrapper in nix and change nothing in memory; the caller says so.
pub fn call(number: libc::c_long, args: [u64; 6]) -> Result<u64, Errno> {
    let [a, b, c, d, e, f] = args;
    // SAFETY: the callers pass calls that touch no memory of ours beyond what the arguments point to, which is the
    // arena's.
    check(unsafe { libc::syscall(number, a, b, c, d, e, f) })
}

fn addr(at: u64) -> usize {
    // usize has 64 bits on the only architecture there is.
    usize::try_from(at).unwrap_or(usize::MAX)
}

/// `struct prctl_mm_map` (include/uapi/linux/prctl.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct MmMap {
    /// start_code, end_code, start_data, end_data, start_brk, brk, start_stack, arg_start, arg_end, env_start, env_end
    pub layout: [u64; 11],
    /// Address of the auxiliary vector.
    pub auxv: u64,
    /// Its length in bytes.
    pub auxv_bytes: u32,
    /// Descriptor of the new executable, or all ones.
    pub executable_fd: u32,
}

impl MmMap {
    /// Its bytes, for a program.
    pub fn to_bytes(self) -> Vec<u8> {
        let words = self.layout.into_iter().chain([self.auxv]).flat_map(u64::to_le_bytes);
        words.chain(self.auxv_bytes.to_le_bytes()).chain(self.executable_fd.to_le_bytes()).collect()
    }
}

/// A call that must precede `set_memory_layout`: forgets rseq, alternate stack and fault handlers, which point into
/// what is about to go away.
pub fn forget_runtime() -> Result<(), Errno> {
    unsafe extern "C" {
        static __rseq_offset: isize;
        static __rseq_size: u32;
    }
    const RSEQ_SIGNATURE: u32 = 0x5305_3053;
    // SAFETY: the C library defines both; fs:0 holds the thread pointer (x86-64 psABI); unregistering the area it
    // registered itself, and removing handlers, leaves no pointer behind in the kernel.
    unsafe {
        if __rseq_size != 0 {
            let thread_pointer: isize;
            std::arch::asm!("mov {}, fs:0", out(reg) thread_pointer, options(nostack, readonly));
            let area = thread_pointer + __rseq_offset;
            check(libc::syscall(libc::SYS_rseq, area, 32, 1, RSEQ_SIGNATURE))?;
        }
        let off = libc::stack_t { ss_sp: std::ptr::null_mut(), ss_flags: libc::SS_DISABLE, ss_size: 0 };
        check(libc::sigaltstack(&raw const off, std::ptr::null_mut()).into())?;
        libc::signal(libc::SIGSEGV, libc::SIG_DFL);
        libc::signal(libc::SIGBUS, libc::SIG_DFL);
    }
    Ok(())
}

/// The second start: makes `map` the process's layout and jumps to `entry` on the stack at `stack`.
pub fn start_again(map: &MmMap, stack: u64, entry: u64) -> Result<std::convert::Infallible, Errno> {
    const PR_SET_MM_MAP: i32 = 14;
    // SAFETY: the kernel reads `map` and the vector it points to; nothing allocates from here on.
    check(unsafe {
        libc::syscall(
            libc::SYS_prctl,
            libc::PR_SET_MM,
            PR_SET_MM_MAP,
            std::ptr::from_ref(map),
            size_of::<MmMap>(),
            0,
        )
    })?;
    // SAFETY: `entry` is the entry point of a fresh copy of this static executable, and `stack` holds what the kernel
    // would have put there (aside::initial_stack). Nothing of this start is used again.
    unsafe {
        std::arch::asm!("mov rsp, {stack}", "xor edx, edx", "xor ebp, ebp", "jmp {entry}",
            stack = in(reg) stack, entry = in(reg) entry, options(noreturn));
    }
}

/// Sleeps until the word at `at` is no longer `value`, or something else wakes it, or `timeout_ms` has passed.
pub fn futex_wait(at: u64, value: u32, timeout_ms: u64) {
    let seconds = i64::try_from(timeout_ms / 1000).unwrap_or(i64::MAX);
    let rest = i64::try_from(timeout_ms % 1000 * 1_000_000).unwrap_or(0);
    let timeout = libc::timespec { tv_sec: seconds, tv_nsec: rest };
    while_waiting(|| {
        // SAFETY: the kernel reads the word and the timeout and writes nothing. Whatever it returns, the caller looks again.
        unsafe { libc::syscall(libc::SYS_futex, at, libc::FUTEX_WAIT, value, &raw const timeout, 0, 0) };
    });
}

/// Wakes everybody who sleeps on the word at `at`.
pub fn futex_wake(at: u64) {
    // SAFETY: waking reads and writes nothing.
    unsafe { libc::syscall(libc::SYS_futex, at, libc::FUTEX_WAKE, i32::MAX, 0, 0, 0) };
}

/// Reads the 32-bit word at `at`, which others write.
pub fn load(at: u64) -> u32 {
    let word: *const std::sync::atomic::AtomicU32 = std::ptr::with_exposed_provenance(addr(at));
    // SAFETY: the callers pass an aligned word in the control page or the arena, mapped as long as they live.
    unsafe { (*word).load(std::sync::atomic::Ordering::SeqCst) }
}

/// Writes the 32-bit word at `at`, which others read.
pub fn store(at: u64, value: u32) {
    let word: *const std::sync::atomic::AtomicU32 = std::ptr::with_exposed_provenance(addr(at));
    // SAFETY: the callers pass an aligned word in the control page or the arena, mapped as long as they live.
    unsafe { (*word).store(value, std::sync::atomic::Ordering::SeqCst) }
}

/// Adds to the 32-bit word at `at`, and returns what it is then.
pub fn add(at: u64, value: u32) -> u32 {
    let word: *const std::sync::atomic::AtomicU32 = std::ptr::with_exposed_provenance(addr(at));
    // SAFETY: the callers pass an aligned word in the control pages, mapped as long as they live.
    let before = unsafe { (*word).fetch_add(value, std::sync::atomic::Ordering::SeqCst) };
    before.wrapping_add(value)
}

/// A value of this process's auxiliary vector (getauxval(3)); 0 if it is not there.
pub fn auxiliary_value(kind: u64) -> u64 {
    // SAFETY: getauxval has no preconditions.
    unsafe { libc::getauxval(kind) }
}

/// Takes over a descriptor that another start of the loader, or the kernel, handed over by its number.
pub fn adopt(fd: RawFd) -> OwnedFd {
    // SAFETY: the number was received from the kernel (AT_EXECFD) or from the previous stage, which gave it up.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// A descriptor by its number, not closed with the value.
pub fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: the number comes from the shelf, whose descriptors stay open until the process closes all of them and runs
    // nothing more that looks at the shelf.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// The number of a descriptor, which nobody closes from here on but by its number.
pub fn give_up(fd: OwnedFd) -> RawFd {
    std::os::fd::IntoRawFd::into_raw_fd(fd)
}

/// The extended features that the kernel has switched on (XCR0), and the size of the XSAVE area in bytes with them.
pub fn extended_features() -> (u64, u32) {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const OSXSAVE: u32 = 1 << 27;
    if __cpuid(1).ecx & OSXSAVE == 0 {
        return (3, 576);
    }
    let (low, high): (u32, u32);
    // SAFETY: OSXSAVE says that xgetbv may be executed; it reads a register.
    unsafe {
        std::arch::asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nomem, nostack, preserves_flags));
    }
    (u64::from(high) << 32 | u64::from(low), __cpuid_count(0xd, 0).ebx)
}

/// CPUID: leaf 7 subleaf 0 (EBX, ECX, EDX), leaf 1 (ECX, EDX), leaf 7 subleaf 1 (EAX).
pub fn processor_features() -> Vec<u32> {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    let (seven, one, more) = (__cpuid_count(7, 0), __cpuid(1), __cpuid_count(7, 1));
    vec![seven.ebx, seven.ecx, seven.edx, one.ecx, one.edx, more.eax]
}

/// struct epoll_params.
#[repr(C)]
struct BusyPoll {
    time_us: u32,
    budget: u16,
    prefer: u8,
    padding: u8,
}

/// Sets how an epoll set polls network devices (EPIOCSPARAMS): for how long in microseconds, for how many packets at most, and
/// whether that is preferred to interrupts.
pub fn set_busy_poll(set: BorrowedFd<'_>, time_us: u32, budget: u16, prefer: bool) -> Result<(), Errno> {
    let params = BusyPoll { time_us, budget, prefer: prefer.into(), padding: 0 };
    let request = nix::request_code_write!(0x8A, 1, size_of::<BusyPoll>());
    // SAFETY: the kernel reads one struct epoll_params, which is what `BusyPoll` is.
    Errno::result(unsafe { libc::ioctl(set.as_raw_fd(), request, &raw const params) }).map(drop)
}

/// Gives free memory of the heap back to the kernel.
pub fn trim_heap() {
    // SAFETY: malloc_trim has no preconditions.
    unsafe { libc::malloc_trim(0) };
}

/// _exit(2): no destructor and no handler of the C library's runs.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(status) }
}

/// Whether a process that may be nobody's child of ours has ended.
pub fn has_ended(pid: i32) -> bool {
    match open_process(pid) {
        Ok(process) => has_ended_fd(std::os::fd::AsFd::as_fd(&process)),
        Err(error) => error == Errno::ESRCH,
    }
}

/// A descriptor of a process (pidfd_open(2)).
pub fn open_process(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: pidfd_open takes numbers.
    let fd = check(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    Ok(adopt(RawFd::try_from(fd).unwrap_or(-1)))
}

/// Whether the process of a descriptor has ended.
pub fn has_ended_fd(process: BorrowedFd<'_>) -> bool {
    let mut ready = [nix::poll::PollFd::new(process, nix::poll::PollFlags::POLLIN)];
    nix::poll::poll(&mut ready, nix::poll::PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

/// The signal mask of a traced thread in a stop (PTRACE_GETSIGMASK).
pub fn traced_mask(tid: i32) -> Result<u64, Errno> {
    let mut mask = 0u64;
    // SAFETY: the kernel writes eight bytes to `mask`.
    check(unsafe { libc::ptrace(libc::PTRACE_GETSIGMASK, tid, size_of::<u64>(), &raw mut mask) })?;
    Ok(mask)
}

/// Sets the signal mask of a traced thread in a stop (PTRACE_SETSIGMASK).
pub fn set_traced_mask(tid: i32, mask: u64) -> Result<(), Errno> {
    // SAFETY: the kernel reads eight bytes from `mask`.
    check(unsafe { libc::ptrace(libc::PTRACE_SETSIGMASK, tid, size_of::<u64>(), &raw const mask) }).map(drop)
}

/// Waits for a signal of `set`, all of which are blocked. Returns it, and whether the kernel sent it.
pub fn wait_signal(set: &nix::sys::signal::SigSet) -> Result<(i32, bool), Errno> {
    // SAFETY: siginfo_t is plain data, for which zeros are valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `set` and `info` live through the call.
    let signal = check(unsafe { libc::sigwaitinfo(set.as_ref(), &raw mut info) }.into())?;
    Ok((i32::try_from(signal).unwrap_or(0), info.si_code == libc::SI_KERNEL))
}

/// Takes a pending signal of `set`, all of which are blocked, if there is one.
pub fn forget_signal(set: &nix::sys::signal::SigSet) {
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `set` and `now` live through the call, and no information is asked for.
    unsafe { libc::sigtimedwait(set.as_ref(), std::ptr::null_mut(), &raw const now) };
}

/// kill(2) with any signal number, real-time ones too. A process that has ended does not matter.
pub fn send(pid: i32, signal: i32) {
    // SAFETY: kill takes numbers.
    unsafe { libc::kill(pid, signal) };
}

/// Ends this process by a signal, without a core. It may be a real-time signal, which nix does not know.
pub fn end_by(signal: i32) {
    let _ = nix::sys::resource::setrlimit(nix::sys::resource::Resource::RLIMIT_CORE, 0, 0);
    // SAFETY: the set is initialized by sigemptyset; no handler is installed.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::signal(signal, libc::SIG_DFL);
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, signal);
        libc::kill(libc::getpid(), signal);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, std::ptr::null_mut());
    }
}

/// Takes every signal that waits.
pub fn drop_waiting_signals() {
    let set = nix::sys::signal::SigSet::all();
    let no_time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the set and the time live through the call; no information is asked for.
    while unsafe { libc::sigtimedwait(set.as_ref(), std::ptr::null_mut(), &raw const no_time) } > 0 {}
}

/// Numbers of userfaultfd(2)'s ioctls (include/uapi/linux/userfaultfd.h).
const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_UNREGISTER: u64 = 0x8010_aa01;
const UFFDIO_MOVE: u64 = 0xc028_aa05;
const UFFD_API: u64 = 0xaa;
const UFFD_FEATURE_MOVE: u64 = 1 << 16;
const UFFD_USER_MODE_ONLY: i32 = 1;
const UFFDIO_REGISTER_MODE_MISSING: u64 = 1;

fn ioctl(fd: BorrowedFd<'_>, request: u64, argument: &mut [u64]) -> Result<(), Errno> {
    // SAFETY: the kernel reads and writes `argument`, which is as long as the request's size field says.
    check(unsafe { libc::syscall(libc::SYS_ioctl, fd.as_raw_fd(), request, argument.as_mut_ptr()) }).map(drop)
}

/// A userfaultfd that can move pages (6.8) and serves no fault.
pub fn userfault_mover() -> Result<OwnedFd, Errno> {
    // SAFETY: userfaultfd takes flags.
    let fd = check(unsafe { libc::syscall(libc::SYS_userfaultfd, libc::O_CLOEXEC | UFFD_USER_MODE_ONLY) })?;
    let fd = adopt(RawFd::try_from(fd).unwrap_or(-1));
    ioctl(std::os::fd::AsFd::as_fd(&fd), UFFDIO_API, &mut [UFFD_API, UFFD_FEATURE_MOVE, 0])?;
    Ok(fd)
}

/// Makes a range one that pages can be moved to. Until the descriptor is closed, touching a missing page in it is
/// SIGBUS.
pub fn userfault_register(fd: BorrowedFd<'_>, start: u64, len_bytes: u64) -> Result<(), Errno> {
    ioctl(fd, UFFDIO_REGISTER, &mut [start, len_bytes, UFFDIO_REGISTER_MODE_MISSING, 0])
}

/// Makes a registered range an ordinary one again.
pub fn userfault_unregister(fd: BorrowedFd<'_>, start: u64, len_bytes: u64) -> Result<(), Errno> {
    ioctl(fd, UFFDIO_UNREGISTER, &mut [start, len_bytes])
}

/// Moves the pages at `from` to `to`, where there must be none.
pub fn userfault_move(fd: BorrowedFd<'_>, to: u64, from: u64, len_bytes: u64) -> Result<(), Errno> {
    let mut argument = [to, from, len_bytes, 0, 0];
    ioctl(fd, UFFDIO_MOVE, &mut argument)
}
