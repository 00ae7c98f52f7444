//! Asking System V shared memory, message queues and semaphores.

use super::Result;
use nix::errno::Errno;

/// Attaches a System V segment for reading, wherever there is room.
pub(crate) fn attach_shared(id: u32) -> Result<u64> {
    // SAFETY: without SHM_REMAP nothing that is mapped changes.
    let at = unsafe { libc::shmat(id.cast_signed(), std::ptr::null(), libc::SHM_RDONLY) };
    Errno::result(at.addr().cast_signed())?;
    Ok(at.expose_provenance() as u64)
}

/// Detaches what was attached at `at`.
pub(crate) fn detach_shared(at: u64) -> Result<()> {
    let at: *const libc::c_void = std::ptr::with_exposed_provenance(usize::try_from(at).unwrap_or(0));
    // SAFETY: nobody has a reference to what is there: it is read by system calls alone.
    Errno::result(unsafe { libc::shmdt(at) }).map(drop)
}

/// The longest message that a queue can hold, in bytes: as much as the whole queue (msg_qbytes).
pub(crate) fn queue_capacity(id: u32) -> Result<u64> {
    // SAFETY: the structure is plain data, for which zeros are valid.
    let mut status: libc::msqid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one msqid_ds to `status`.
    Errno::result(unsafe { libc::msgctl(id.cast_signed(), libc::IPC_STAT, &raw mut status) })?;
    Ok(status.msg_qbytes)
}

/// A copy of message `index` of a queue: its type and its text; ENOMSG if there is no such one. It stays in the queue.
pub(crate) fn copy_of_message(id: u32, index: i64, room_bytes: usize) -> Result<(i64, Vec<u8>)> {
    const KIND_BYTES: usize = 8;
    /// linux/msg.h
    const MSG_COPY: i32 = 0o40000;
    let mut buffer = vec![0u8; KIND_BYTES + room_bytes];
    let flags = MSG_COPY | libc::IPC_NOWAIT;
    let into = buffer.as_mut_ptr().cast();
    // SAFETY: the kernel writes a long and at most `room_bytes` bytes of text to `buffer`.
    let len = Errno::result(unsafe { libc::msgrcv(id.cast_signed(), into, room_bytes, index, flags) })?;
    let text = buffer.split_off(KIND_BYTES);
    let kind = <[u8; KIND_BYTES]>::try_from(buffer.as_slice()).map_err(|_| Errno::EINVAL)?;
    let text = text.get(..len.cast_unsigned()).ok_or(Errno::EINVAL)?;
    Ok((i64::from_ne_bytes(kind), text.to_vec()))
}

/// The values of all `count` semaphores of a set.
pub(crate) fn semaphore_values(id: u32, count: usize) -> Result<Vec<u16>> {
    let mut values = vec![0u16; count];
    // SAFETY: a set never changes its size, and the kernel writes one short for each of its semaphores.
    let answer = unsafe { libc::semctl(id.cast_signed(), 0, libc::GETALL, values.as_mut_ptr()) };
    Errno::result(answer)?;
    Ok(values)
}

/// Who changed a semaphore last; 0 for nobody.
pub(crate) fn semaphore_pid(id: u32, number: usize) -> Result<u32> {
    let number = i32::try_from(number).map_err(|_| Errno::EINVAL)?;
    // SAFETY: GETPID takes no argument.
    let pid = Errno::result(unsafe { libc::semctl(id.cast_signed(), number, libc::GETPID) })?;
    Ok(pid.unsigned_abs())
}
