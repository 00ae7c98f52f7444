//! System V shared memory.

use super::check;
use nix::errno::Errno;

/// shmget(2) of a new segment.
pub fn create_shared(key: u32, size_bytes: u64, flags: i32) -> Result<u32, Errno> {
    let flags = flags | libc::IPC_CREAT | libc::IPC_EXCL;
    // SAFETY: shmget takes numbers.
    let id = check(unsafe { libc::syscall(libc::SYS_shmget, key.cast_signed(), size_bytes, flags) })?;
    u32::try_from(id).map_err(|_| Errno::EINVAL)
}

/// shmat(2), to exactly `at`, where nothing may be; 0 for wherever there is room. Returns where.
pub fn attach_shared(id: u32, at: u64, flags: i32) -> Result<u64, Errno> {
    // SAFETY: without SHM_REMAP no mapping is replaced, so no object of ours changes.
    check(unsafe { libc::syscall(libc::SYS_shmat, id, at, flags) })
}

/// shmdt(2).
pub fn detach_shared(at: u64) -> Result<(), Errno> {
    // SAFETY: the callers have attached it themselves, and keep no reference to what is there.
    check(unsafe { libc::syscall(libc::SYS_shmdt, at) }).map(drop)
}

/// Marks a segment for removal (IPC_RMID), or locks it in memory (SHM_LOCK).
pub fn control_shared(id: u32, command: i32) -> Result<(), Errno> {
    // SAFETY: these commands take no argument.
    check(unsafe { libc::syscall(libc::SYS_shmctl, id, command, 0) }).map(drop)
}

/// Owner, group and permissions of a segment (IPC_STAT).
pub fn shared_owner(id: u32) -> Result<(u32, u32, u32), Errno> {
    let status = shared_status(id)?;
    Ok((status.shm_perm.uid, status.shm_perm.gid, status.shm_perm.mode.into()))
}

/// How often a segment is attached.
pub fn shared_attached(id: u32) -> Result<u64, Errno> {
    shared_status(id).map(|status| status.shm_nattch)
}

fn shared_status(id: u32) -> Result<libc::shmid_ds, Errno> {
    // SAFETY: the structure is plain data, for which zeros are valid.
    let mut status: libc::shmid_ds = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one shmid_ds to `status`.
    check(unsafe { libc::shmctl(id.cast_signed(), libc::IPC_STAT, &raw mut status) }.into())?;
    Ok(status)
}

/// Sets owner, group and permissions of a segment (IPC_SET).
pub fn set_shared_owner(id: u32, owner: u32, group: u32, mode: u32) -> Result<(), Errno> {
    let mut status = shared_status(id)?;
    status.shm_perm.uid = owner;
    status.shm_perm.gid = group;
    status.shm_perm.mode = u16::try_from(mode).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel reads `status`.
    check(unsafe { libc::shmctl(id.cast_signed(), libc::IPC_SET, &raw mut status) }.into()).map(drop)
}
