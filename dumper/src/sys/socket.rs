//! Asking sockets.

use super::{Result, owned};
use nix::errno::Errno;
use nix::unistd::Pid;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A new socket of ours, of any domain.
pub(crate) fn make_socket(domain: i32, kind: i32, protocol: i32) -> Result<OwnedFd> {
    // SAFETY: the call takes three numbers.
    owned(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) }.into())
}

/// What getsockopt(2) says of an option, in at most `room` bytes.
pub(crate) fn socket_option(fd: BorrowedFd<'_>, level: i32, name: i32, room: usize) -> Result<Vec<u8>> {
    answer(fd, level, name, vec![0; room])
}

/// The same of an option whose value is also a question.
pub(super) fn answer(fd: BorrowedFd<'_>, level: i32, name: i32, mut value: Vec<u8>) -> Result<Vec<u8>> {
    let len = socket_option_into(fd, level, name, &mut value)?;
    value.truncate(len);
    Ok(value)
}

/// Puts what getsockopt(2) says of an option at the start of `value`, and says how long it is, which may be more than has room.
pub(crate) fn socket_option_into(
    fd: BorrowedFd<'_>,
    level: i32,
    name: i32,
    value: &mut [u8],
) -> Result<usize> {
    let mut len = libc::socklen_t::try_from(value.len()).map_err(|_| Errno::EINVAL)?;
    let (at, len_at) = (value.as_mut_ptr().cast(), &raw mut len);
    // SAFETY: the kernel reads and writes at most `len` bytes at `value`, which has so many, and writes the length at `len`.
    Errno::result(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, at, len_at) })?;
    Ok(usize::try_from(len).unwrap_or(usize::MAX))
}

/// The classic BPF program that is attached to a socket, 8 bytes an instruction; empty for none. EACCES if it is another kind
/// of program.
pub(crate) fn socket_filter(fd: BorrowedFd<'_>) -> Result<Vec<u8>> {
    const INSTRUCTION_BYTES: usize = 8;
    let ask = |at: *mut libc::c_void, mut count: libc::socklen_t| {
        let (level, name) = (libc::SOL_SOCKET, libc::SO_GET_FILTER);
        // SAFETY: the length counts instructions, not bytes. The kernel writes none if there is room for 0, and at most `count`
        // at `at`, for which the caller has room.
        Errno::result(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, at, &raw mut count) })?;
        usize::try_from(count).map_err(|_| Errno::EINVAL)
    };
    let count = ask(std::ptr::null_mut(), 0)?;
    let mut program = vec![0u8; count * INSTRUCTION_BYTES];
    if count != 0 && ask(program.as_mut_ptr().cast(), libc::socklen_t::try_from(count).unwrap_or(0))? != count
    {
        return Err(Errno::EAGAIN);
    }
    Ok(program)
}

nix::ioctl_read_bad!(outq, libc::TIOCOUTQ, libc::c_int);

/// How much of what was sent through a socket has not left, or within the host not been read, in bytes with what the kernel
/// needs for it; 0 if all has.
pub(crate) fn bytes_unsent(fd: BorrowedFd<'_>) -> Result<usize> {
    let mut count = 0;
    // SAFETY: the kernel writes one int.
    unsafe { outq(fd.as_raw_fd(), &raw mut count) }?;
    Ok(usize::try_from(count).unwrap_or(0))
}

const SIOCOUTQNSD: i32 = 0x894b;
nix::ioctl_read_bad!(outqnsd, SIOCOUTQNSD, libc::c_int);

/// How many bytes that were written to a TCP connection were never sent, its end included.
pub(crate) fn bytes_never_sent(fd: BorrowedFd<'_>) -> Result<usize> {
    let mut count = 0;
    // SAFETY: the kernel writes one int.
    unsafe { outqnsd(fd.as_raw_fd(), &raw mut count) }?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// The file that has the name of a unix socket, opened with O_PATH (SIOCUNIXFILE); EPERM without CAP_NET_ADMIN.
pub(crate) fn socket_file(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    const SIOCUNIXFILE: libc::c_ulong = 0x89e0;
    // SAFETY: this request takes no argument and answers with a new descriptor.
    owned(unsafe { libc::ioctl(fd.as_raw_fd(), SIOCUNIXFILE) }.into())
}

/// Which frames a packet socket hears (ETH_P_*, as people write it), and on which interface; 0 for none and for all.
pub(crate) fn packet_name(fd: BorrowedFd<'_>) -> Result<(u16, u32)> {
    // SAFETY: sockaddr_ll is plain data for which all zeros is a value.
    let mut name: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut len = libc::socklen_t::try_from(size_of_val(&name)).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel writes at most `len` bytes at `name`, which has so many, and the length at `len`.
    Errno::result(unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut name).cast(), &raw mut len) })?;
    Ok((u16::from_be(name.sll_protocol), name.sll_ifindex.cast_unsigned()))
}

/// Takes over a descriptor that the kernel has just made for us.
pub(crate) fn adopt(number: RawFd) -> OwnedFd {
    // SAFETY: recvmsg(2) has made it, and nobody else knows of it.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// How long those pieces of a stream are that fit, each as it was sent, in so many bytes of which there are more. EFAULT if not
/// even the first does.
pub(crate) fn peek_pieces(fd: BorrowedFd<'_>, len: usize) -> Result<usize> {
    let mut room = vec![0u8; len];
    let nowhere: *mut libc::c_void = std::ptr::without_provenance_mut(1);
    let mut windows = [
        libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: len },
        libc::iovec { iov_base: nowhere, iov_len: 1 },
    ];
    // SAFETY: msghdr is plain data for which all zeros is a value: no name, no control messages.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    (message.msg_iov, message.msg_iovlen) = (windows.as_mut_ptr(), windows.len());
    let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
    // SAFETY: the kernel writes at most `len` bytes at `room`, and nothing at the first page, which nobody has: it fails there,
    // as is meant, and says what it has written whole.
    let found = Errno::result(unsafe { libc::recvmsg(fd.as_raw_fd(), &raw mut message, flags) })?;
    usize::try_from(found).map_err(|_| Errno::EIO)
}

/// Whether nothing more can come (POLLRDHUP, which nix does not know).
pub(crate) fn has_read_end(fd: BorrowedFd<'_>) -> Result<bool> {
    let mut one = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLRDHUP, revents: 0 };
    // SAFETY: the kernel reads and writes one structure.
    Errno::result(unsafe { libc::poll(&raw mut one, 1, 0) })?;
    Ok(one.revents & libc::POLLRDHUP != 0)
}

/// Sets from where MSG_PEEK looks; -1 for the first byte, always.
pub(crate) fn set_peek_offset(fd: BorrowedFd<'_>, offset: i32) -> Result<()> {
    set_number(fd.as_raw_fd(), libc::SO_PEEK_OFF, offset)
}

/// Has messages tell who has sent them.
pub(crate) fn pass_credentials(fd: BorrowedFd<'_>) -> Result<()> {
    set_number(fd.as_raw_fd(), libc::SO_PASSCRED, 1)
}

fn set_number(fd: RawFd, name: i32, number: i32) -> Result<()> {
    let (value, len) = ((&raw const number).cast(), 4);
    // SAFETY: the kernel reads four bytes at `number`.
    Errno::result(unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, name, value, len) }).map(drop)
}

/// An option of a socket as it is to be: which socket, which option of SOL_SOCKET, which value.
pub(crate) type Wanted = (RawFd, i32, i32);

/// Gives sockets back options that a look changes (SO_PEEK_OFF, SO_PASSCRED) when it is dropped. If this process is killed
/// before, another one does it.
#[derive(Debug)]
pub(crate) struct LookGuard {
    process: Pid,
    options: Vec<Wanted>,
    /// Its end is what the other one waits for.
    alive: Option<OwnedFd>,
}

impl LookGuard {
    /// Guards options, if there are any.
    pub(crate) fn new(options: &[Wanted]) -> Result<Option<LookGuard>> {
        if options.is_empty() {
            return Ok(None);
        }
        let (ended, alive) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
        let mut kept: Vec<RawFd> = options.iter().map(|(fd, ..)| *fd).chain([ended.as_raw_fd()]).collect();
        kept.sort_unstable();
        // SAFETY: the child only makes system calls (`put_back`) and never returns, so it does not matter what other threads
        // were doing.
        let process = unsafe { libc::fork() };
        if process == 0 {
            close_others(&kept);
            put_back(ended.as_raw_fd(), options);
        }
        Errno::result(process)?;
        let (process, options) = (Pid::from_raw(process), options.to_vec());
        Ok(Some(LookGuard { process, options, alive: Some(alive) }))
    }
}

impl Drop for LookGuard {
    fn drop(&mut self) {
        // The other one may have been killed.
        set_all(&self.options);
        if let Some(alive) = self.alive.take() {
            // It has nothing more to do.
            let _ = nix::unistd::write(&alive, &[0]);
        }
        while nix::sys::wait::waitpid(self.process, None) == Err(Errno::EINTR) {}
    }
}

/// Closes all descriptors but these, which are in order: two of these processes must not hold each other's pipes.
fn close_others(kept: &[RawFd]) {
    let mut first = 0u32;
    for fd in kept.iter().map(|fd| fd.cast_unsigned()) {
        if first < fd {
            // SAFETY: nobody in this process uses the descriptors again.
            unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0) };
        }
        first = fd + 1;
    }
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}

/// Waits until the other end of a pipe is closed, sets the options, and ends; a byte says that they are set.
fn put_back(ended: RawFd, options: &[Wanted]) -> ! {
    let mut byte = 0u8;
    // SAFETY: the calls take numbers, sets that live through them, and one byte to write to.
    unsafe {
        // What ends the other one by its group or its terminal must not end this one.
        libc::setsid();
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
        loop {
            match libc::read(ended, (&raw mut byte).cast(), 1) {
                0 => break,
                1 => libc::_exit(0),
                _ => {}
            }
        }
    }
    set_all(options);
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(0) }
}

fn set_all(options: &[Wanted]) {
    for (fd, name, value) in options {
        let _ = set_number(*fd, *name, *value);
    }
}
