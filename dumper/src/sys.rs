//! The only unsafe code of this crate: one system call per function, no policy.
#![allow(unsafe_code)]

mod epoll;
mod file;
mod hand;
mod handle;
mod inet;
mod io_uring;
mod ipc;
mod memory;
mod mqueue;
mod namespace;
mod ptrace;
mod repair;
mod socket;
mod terminal;
mod tun;
mod urgent;

pub(crate) use epoll::*;
pub(crate) use file::*;
pub(crate) use hand::by_another_hand;
pub(crate) use handle::*;
pub(crate) use inet::*;
pub(crate) use io_uring::*;
pub(crate) use ipc::*;
pub(crate) use memory::*;
pub(crate) use mqueue::*;
pub(crate) use namespace::*;
pub(crate) use ptrace::*;
pub(crate) use repair::*;
pub(crate) use socket::*;
pub(crate) use terminal::*;
pub(crate) use tun::*;
pub(crate) use urgent::look_behind;

use binfmt::address::Tid;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

type Result<T> = std::result::Result<T, Errno>;

/// What `waitid` says of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitEvent {
    /// Nothing yet.
    None,
    /// It stopped: signal in the low byte, PTRACE_EVENT_* above.
    Stopped(i32),
    /// It has ended.
    Ended,
}

/// Whether an event is taken or only looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    /// Looked at: a consumed signal-delivery stop loses its signal when the tracer dies.
    Peek,
    /// An end is taken, so that it is told to the parent; a stop never is.
    End,
}

/// Whether to wait for an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Block {
    /// Wait until there is one.
    Yes,
    /// Return at once.
    No,
}

/// What has become of `tid`.
pub(crate) fn wait(tid: Tid, take: Take, block: Block) -> Result<WaitEvent> {
    let mut flags = libc::WEXITED | libc::__WALL;
    if block == Block::No {
        flags |= libc::WNOHANG;
    }
    if take == Take::Peek {
        flags |= libc::WSTOPPED | libc::WNOWAIT;
    }
    // SAFETY: siginfo_t is plain data for which all zeros is a value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one siginfo_t at `info`.
    Errno::result(unsafe { libc::waitid(libc::P_PID, tid.0.cast_unsigned(), &raw mut info, flags) })?;
    // SAFETY: waitid filled the fields of SIGCHLD, or left the zeros, which these accessors read as zero.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    Ok(match info.si_code {
        _ if pid == 0 => WaitEvent::None,
        libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED => WaitEvent::Ended,
        _ => WaitEvent::Stopped(status),
    })
}

/// Blocks SIGCHLD, which the kernel sends us for every stop and end of a thread that we trace, so that it can be waited
/// for. An ignored one would not be sent.
pub(crate) fn hold_child_signal() -> Result<()> {
    // SAFETY: no handler is installed: the disposition becomes the default one.
    unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
    nix::sys::signal::SigSet::from(nix::sys::signal::Signal::SIGCHLD).thread_block()
}

/// Waits until SIGCHLD comes, and takes it, for at most so long.
pub(crate) fn wait_for_child_signal(longest: std::time::Duration) {
    let set = nix::sys::signal::SigSet::from(nix::sys::signal::Signal::SIGCHLD);
    let limit = nix::sys::time::TimeSpec::from_duration(longest);
    // SAFETY: the kernel reads one signal set and one timespec, and may leave out the siginfo.
    unsafe { libc::sigtimedwait(set.as_ref(), std::ptr::null_mut(), limit.as_ref()) };
}

/// Head and length of the robust futex list of `tid`.
pub(crate) fn robust_list(tid: Tid) -> Result<(u64, u64)> {
    let (mut head, mut len) = (0u64, 0u64);
    // SAFETY: the kernel writes one word at each of the two places, and both are ours.
    Errno::result(unsafe { libc::syscall(libc::SYS_get_robust_list, tid.0, &raw mut head, &raw mut len) })?;
    Ok((head, len))
}

/// Replaces a resource limit (soft, hard) of a process, or only reads it, and returns the old one.
pub(crate) fn limit(pid: i32, resource: u32, new: Option<(u64, u64)>) -> Result<(u64, u64)> {
    let new = new.map(|(soft, hard)| [soft, hard]);
    let mut old = [0u64; 2];
    let new_at = new.as_ref().map_or(std::ptr::null(), |new| new.as_ptr());
    // SAFETY: the kernel reads two words at `new_at` unless it is null, and writes two words at `old`.
    Errno::result(unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, new_at, old.as_mut_ptr()) })?;
    let [soft, hard] = old;
    Ok((soft, hard))
}

/// struct sched_attr of `tid`, as far as the kernel fills it.
pub(crate) fn sched_attributes(tid: Tid) -> Result<[u8; 56]> {
    let mut buf = [0u8; 56];
    // SAFETY: the kernel writes at most the given length, which is that of `buf`.
    Errno::result(unsafe { libc::syscall(libc::SYS_sched_getattr, tid.0, buf.as_mut_ptr(), buf.len(), 0) })?;
    Ok(buf)
}

/// The processors on which `tid` may run, one bit each.
pub(crate) fn affinity(tid: Tid) -> Result<Vec<u8>> {
    let mut buf = vec![0u8; 8192 / 8];
    // SAFETY: the kernel writes at most the given length, which is that of `buf`.
    let len = Errno::result(unsafe {
        libc::syscall(libc::SYS_sched_getaffinity, tid.0, buf.len(), buf.as_mut_ptr())
    })?;
    buf.truncate(usize::try_from(len).unwrap_or(0));
    Ok(buf)
}

const IOPRIO_WHO_PROCESS: i32 = 1;

/// I/O priority of `tid`.
pub(crate) fn io_priority(tid: Tid) -> Result<i64> {
    // SAFETY: the call takes two numbers and touches no memory of ours.
    Errno::result(unsafe { libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, tid.0) })
}

fn owned(fd: libc::c_long) -> Result<OwnedFd> {
    let fd = i32::try_from(Errno::result(fd)?).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made this descriptor for us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A descriptor of the process `pid`.
pub(crate) fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: the call takes two numbers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// A duplicate of descriptor `number` of another process: the same open file description.
pub(crate) fn pidfd_getfd(pidfd: BorrowedFd<'_>, number: u32) -> Result<OwnedFd> {
    // SAFETY: the call takes three numbers, the first a descriptor that is open while it is borrowed.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) })
}

/// A duplicate of a descriptor of ours.
pub(crate) fn duplicate_own(number: u32) -> Result<OwnedFd> {
    let number = i32::try_from(number).map_err(|_| Errno::EBADF)?;
    // SAFETY: the call takes three numbers.
    owned(unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 0) }.into())
}

/// Has this process open as many descriptors as it may: those of the tree come on top of its own.
pub(crate) fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource::RLIMIT_NOFILE, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(RLIMIT_NOFILE) {
        // The kernel's own limit takes a privilege; what is not enough is told where it lacks.
        let most = std::fs::read_to_string("/proc/sys/fs/nr_open").ok();
        let most = most.and_then(|text| text.trim().parse().ok()).unwrap_or(hard);
        if setrlimit(RLIMIT_NOFILE, most, most.max(hard)).is_err() && soft < hard {
            let _ = setrlimit(RLIMIT_NOFILE, hard, hard);
        }
    }
}

/// What of two tasks is compared (linux/kcmp.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The open file descriptions behind two descriptors.
    Description = 0,
    /// The address spaces.
    Memory = 1,
    /// The tables of descriptors.
    Descriptors = 2,
    /// Root, working directory and umask.
    Filesystem = 3,
    /// The dispositions of signals.
    Handlers = 4,
    /// The I/O contexts.
    IoContext = 5,
    /// What is undone to semaphores at the end (SEM_UNDO).
    SemaphoreUndo = 6,
}

/// How the kernel orders two things of two tasks, each given by its process id and, where it matters, a descriptor; equal
/// if they are the same one.
pub(crate) fn compare(kind: Kind, first: (i32, u32), second: (i32, u32)) -> Result<std::cmp::Ordering> {
    // SAFETY: the call takes five numbers.
    let answer = unsafe { libc::syscall(libc::SYS_kcmp, first.0, second.0, kind as i32, first.1, second.1) };
    ordered(answer)
}

/// What kcmp(2) has answered.
fn ordered(answer: libc::c_long) -> Result<std::cmp::Ordering> {
    Ok(match Errno::result(answer)? {
        0 => std::cmp::Ordering::Equal,
        1 => std::cmp::Ordering::Less,
        _ => std::cmp::Ordering::Greater,
    })
}

/// A range that PAGEMAP_SCAN found (struct page_region).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PageRegion {
    /// First address.
    pub(crate) start: u64,
    /// One past the last address.
    pub(crate) end: u64,
    /// PAGE_IS_* bits.
    pub(crate) categories: u64,
}

/// struct pm_scan_arg.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct PageScan {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}

nix::ioctl_readwrite!(pagemap_scan_ioctl, b'f', 16, PageScan);

/// The ranges of `start..end` with a page of any of the categories, at most as many as fit in `found`: how many there
/// are, and where the walk ended.
pub(crate) fn pagemap_scan(
    pagemap: BorrowedFd<'_>,
    start: u64,
    end: u64,
    any_of: u64,
    report: u64,
    found: &mut [PageRegion],
) -> Result<(usize, u64)> {
    let mut scan = PageScan {
        size: size_of::<PageScan>() as u64,
        start,
        end,
        vec: found.as_mut_ptr().addr() as u64,
        vec_len: found.len() as u64,
        category_anyof_mask: any_of,
        return_mask: report,
        ..PageScan::default()
    };
    // SAFETY: the kernel reads and writes `scan`, and writes at most `vec_len` regions at `vec`, which is `found`,
    // borrowed mutably for the whole call.
    let count = unsafe { pagemap_scan_ioctl(pagemap.as_raw_fd(), &raw mut scan) }?;
    Ok((usize::try_from(count).unwrap_or(0), scan.walk_end))
}

nix::ioctl_read_bad!(tcgets2, libc::TCGETS2, libc::termios2);
nix::ioctl_read_bad!(fionread, libc::FIONREAD, libc::c_int);
nix::ioctl_read_bad!(tiocgwinsz, libc::TIOCGWINSZ, libc::winsize);

/// The settings of a terminal; ENOTTY for anything else.
pub(crate) fn terminal_settings(fd: BorrowedFd<'_>) -> Result<libc::termios2> {
    // SAFETY: termios2 is plain data for which all zeros is a value.
    let mut settings: libc::termios2 = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one termios2.
    unsafe { tcgets2(fd.as_raw_fd(), &raw mut settings) }?;
    Ok(settings)
}

/// The window size of a terminal.
pub(crate) fn window_size(fd: BorrowedFd<'_>) -> Result<libc::winsize> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the kernel writes one winsize.
    unsafe { tiocgwinsz(fd.as_raw_fd(), &raw mut size) }?;
    Ok(size)
}

/// What poll(2) says of a descriptor now.
pub(crate) fn events(fd: BorrowedFd<'_>, asked: PollFlags) -> Result<PollFlags> {
    let mut fds = [PollFd::new(fd, asked)];
    poll(&mut fds, PollTimeout::ZERO)?;
    let [fd] = fds;
    Ok(fd.revents().unwrap_or(PollFlags::empty()))
}

/// How many bytes can be read without waiting.
pub(crate) fn bytes_waiting(fd: BorrowedFd<'_>) -> Result<usize> {
    let mut count = 0;
    // SAFETY: the kernel writes one int.
    unsafe { fionread(fd.as_raw_fd(), &raw mut count) }?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// How long until a timerfd expires, in nanoseconds; 0 if it is not armed. A periodic one that has expired counts what it
/// has missed and starts its next period (timerfd_gettime(2)).
pub(crate) fn timerfd_remaining(fd: BorrowedFd<'_>) -> Result<u64> {
    let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut setting = libc::itimerspec { it_interval: zero, it_value: zero };
    // SAFETY: the kernel writes one itimerspec.
    Errno::result(unsafe { libc::timerfd_gettime(fd.as_raw_fd(), &raw mut setting) })?;
    let libc::timespec { tv_sec, tv_nsec } = setting.it_value;
    Ok(tv_sec.cast_unsigned().saturating_mul(1_000_000_000).saturating_add(tv_nsec.cast_unsigned()))
}

const F_GETOWN_EX: i32 = 16;
const F_GETSIG: i32 = 11;

/// Who gets SIGIO of a description: F_OWNER_* and the id.
pub(crate) fn file_owner(fd: BorrowedFd<'_>) -> Result<(i32, i32)> {
    let mut owner = [0i32; 2];
    // SAFETY: the kernel writes one struct f_owner_ex, two ints.
    Errno::result(unsafe { libc::fcntl(fd.as_raw_fd(), F_GETOWN_EX, owner.as_mut_ptr()) })?;
    let [kind, id] = owner;
    Ok((kind, id))
}

/// The signal that a description sends instead of SIGIO.
pub(crate) fn file_owner_signal(fd: BorrowedFd<'_>) -> Result<i32> {
    // SAFETY: the request takes no argument.
    Errno::result(unsafe { libc::fcntl(fd.as_raw_fd(), F_GETSIG) })
}

/// Makes a write beyond RLIMIT_FSIZE an error (EFBIG) instead of our death by SIGXFSZ.
pub(crate) fn ignore_file_size_signal() {
    // SAFETY: no handler is installed: the signal is ignored.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

/// The processor's feature words: CPUID leaf 7 subleaf 0 (EBX, ECX, EDX), leaf 1 (ECX, EDX), leaf 7 subleaf 1 (EAX);
/// then the length of its XSAVE area with all that is switched on, and XCR0.
pub(crate) fn processor_features() -> ([u32; 6], u32, u64) {
    use std::arch::x86_64::{__cpuid_count, _xgetbv};
    #[allow(unused_unsafe, reason = "safe from Rust 1.94 on")]
    // SAFETY: CPUID exists on every x86-64 processor.
    let [one, seven, seven_one, state] =
        unsafe { [__cpuid_count(1, 0), __cpuid_count(7, 0), __cpuid_count(7, 1), __cpuid_count(0xd, 0)] };
    const OSXSAVE: u32 = 1 << 27;
    #[target_feature(enable = "xsave")]
    fn xcr0() -> u64 {
        // SAFETY: the feature is enabled for this function, and register 0 exists with it.
        unsafe { _xgetbv(0) }
    }
    // SAFETY: OSXSAVE says that the processor has XSAVE and the kernel has switched it on.
    let enabled = if one.ecx & OSXSAVE != 0 { unsafe { xcr0() } } else { 3 };
    ([seven.ebx, seven.ecx, seven.edx, one.ecx, one.edx, seven_one.eax], state.ebx, enabled)
}

/// Which pages of a mapped range of shared memory are there (mincore(2)), as far as they are not swapped out.
pub(crate) fn present_pages(at: u64, len_bytes: u64) -> Result<Vec<bool>> {
    let length = usize::try_from(len_bytes).map_err(|_| Errno::EFBIG)?;
    let mut pages = vec![0u8; length / 4096];
    let at: *mut libc::c_void = std::ptr::with_exposed_provenance_mut(usize::try_from(at).unwrap_or(0));
    // SAFETY: the kernel writes one byte for each page to `pages`, and only looks at what is mapped.
    Errno::result(unsafe { libc::mincore(at, length, pages.as_mut_ptr()) })?;
    Ok(pages.into_iter().map(|page| page & 1 == 1).collect())
}

/// The thread that calls.
pub(crate) fn own_tid() -> Tid {
    Tid(nix::unistd::gettid().as_raw())
}

/// Takes the I/O priority from the thread that calls (ioprio_set(2)). If it has none, or that fails, nothing changes.
pub(crate) fn forget_io_priority() {
    const IOPRIO_WHO_PROCESS: i32 = 1;
    // SAFETY: both calls take numbers.
    unsafe {
        if libc::syscall(libc::SYS_ioprio_get, IOPRIO_WHO_PROCESS, 0) > 0 {
            libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0);
        }
    }
}
