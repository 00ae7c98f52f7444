//! System V shared memory, message queues and semaphores.

use super::check;
use binfmt::ipc::IpcKind;
use nix::errno::Errno;

/// Owner, group and permissions.
pub type Permissions = (u32, u32, u32);

/// shmget(2), msgget(2) or semget(2) of a new object; `size` is in bytes, or how many semaphores.
pub fn create_ipc(kind: IpcKind, key: u32, size: u64, flags: i32) -> Result<u32, Errno> {
    let (key, flags) = (key.cast_signed(), flags | libc::IPC_CREAT | libc::IPC_EXCL);
    // SAFETY: the calls take numbers.
    let id = check(unsafe {
        match kind {
            IpcKind::Segment => libc::syscall(libc::SYS_shmget, key, size, flags),
            IpcKind::Queue => libc::syscall(libc::SYS_msgget, key, flags),
            IpcKind::Semaphores => libc::syscall(libc::SYS_semget, key, size, flags),
        }
    })?;
    u32::try_from(id).map_err(|_| Errno::EINVAL)
}

/// Removes an object (IPC_RMID); a segment goes when nobody has it attached any more.
pub fn remove_ipc(kind: IpcKind, id: u32) -> Result<(), Errno> {
    let call = control_call(kind);
    // SAFETY: this command takes no argument.
    let result = unsafe {
        match kind {
            IpcKind::Semaphores => libc::syscall(call, id, 0, libc::IPC_RMID, 0),
            _ => libc::syscall(call, id, libc::IPC_RMID, 0),
        }
    };
    check(result).map(drop)
}

fn control_call(kind: IpcKind) -> libc::c_long {
    match kind {
        IpcKind::Segment => libc::SYS_shmctl,
        IpcKind::Queue => libc::SYS_msgctl,
        IpcKind::Semaphores => libc::SYS_semctl,
    }
}

macro_rules! status {
    ($get:ident, $set:ident, $permissions:ident, $set_permissions:ident, $type:ident, $field:ident, $($call:tt)*) => {
        fn $get(id: u32) -> Result<libc::$type, Errno> {
            // SAFETY: the structure is plain data, for which zeros are valid.
            let mut status: libc::$type = unsafe { std::mem::zeroed() };
            // SAFETY: the kernel writes one such structure to `status`.
            check(unsafe { $($call)*(id, libc::IPC_STAT, &raw mut status) }.into())?;
            Ok(status)
        }

        fn $set(id: u32, mut status: libc::$type) -> Result<(), Errno> {
            // SAFETY: the kernel reads `status`.
            check(unsafe { $($call)*(id, libc::IPC_SET, &raw mut status) }.into()).map(drop)
        }

        fn $permissions(id: u32) -> Result<Permissions, Errno> {
            let of = $get(id)?.$field;
            Ok((of.uid, of.gid, u32::from(of.mode) & 0o777))
        }

        fn $set_permissions(id: u32, (owner, group, mode): Permissions) -> Result<(), Errno> {
            let mut status = $get(id)?;
            (status.$field.uid, status.$field.gid) = (owner, group);
            status.$field.mode = mode.try_into().map_err(|_| Errno::EINVAL)?;
            $set(id, status)
        }
    };
}

status!(segment, set_segment, of_segment, set_of_segment, shmid_ds, shm_perm, shm_control);
status!(queue, set_queue, of_queue, set_of_queue, msqid_ds, msg_perm, msg_control);
status!(semaphores, set_semaphores, of_semaphores, set_of_semaphores, semid_ds, sem_perm, sem_control);

/// # Safety
///
/// `status` is as large as the command wants.
unsafe fn shm_control(id: u32, command: i32, status: *mut libc::shmid_ds) -> i32 {
    // SAFETY: the caller's obligation.
    unsafe { libc::shmctl(id.cast_signed(), command, status) }
}

/// # Safety
///
/// `status` is as large as the command wants.
unsafe fn msg_control(id: u32, command: i32, status: *mut libc::msqid_ds) -> i32 {
    // SAFETY: the caller's obligation.
    unsafe { libc::msgctl(id.cast_signed(), command, status) }
}

/// # Safety
///
/// `status` is as large as the command wants.
unsafe fn sem_control(id: u32, command: i32, status: *mut libc::semid_ds) -> i32 {
    // SAFETY: the caller's obligation.
    unsafe { libc::semctl(id.cast_signed(), 0, command, status) }
}

/// Owner, group and permissions of an object (IPC_STAT).
pub fn ipc_permissions(kind: IpcKind, id: u32) -> Result<Permissions, Errno> {
    match kind {
        IpcKind::Segment => of_segment(id),
        IpcKind::Queue => of_queue(id),
        IpcKind::Semaphores => of_semaphores(id),
    }
}

/// Sets them (IPC_SET).
pub fn set_ipc_permissions(kind: IpcKind, id: u32, permissions: Permissions) -> Result<(), Errno> {
    match kind {
        IpcKind::Segment => set_of_segment(id, permissions),
        IpcKind::Queue => set_of_queue(id, permissions),
        IpcKind::Semaphores => set_of_semaphores(id, permissions),
    }
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

/// Locks a segment in memory (SHM_LOCK).
pub fn lock_shared(id: u32) -> Result<(), Errno> {
    // SAFETY: this command takes no argument.
    check(unsafe { libc::syscall(libc::SYS_shmctl, id, libc::SHM_LOCK, 0) }).map(drop)
}

/// How often a segment is attached.
pub fn shared_attached(id: u32) -> Result<u64, Errno> {
    segment(id).map(|status| status.shm_nattch)
}

/// Sets how many bytes a queue takes, if it is another number.
pub fn set_queue_capacity(id: u32, capacity_bytes: u64) -> Result<(), Errno> {
    let mut status = queue(id)?;
    if status.msg_qbytes == capacity_bytes {
        return Ok(());
    }
    status.msg_qbytes = capacity_bytes;
    set_queue(id, status)
}

/// Sends a message, if there is room (msgsnd(2)).
pub fn send_message(id: u32, kind: i64, text: &[u8]) -> Result<(), Errno> {
    let message = [&kind.to_ne_bytes(), text].concat();
    // SAFETY: the kernel reads a long and the text after it.
    let sent =
        unsafe { libc::msgsnd(id.cast_signed(), message.as_ptr().cast(), text.len(), libc::IPC_NOWAIT) };
    check(sent.into()).map(drop)
}

/// Takes the first message of a type (0: of any) and drops it, whatever its length; ENOMSG if there is none.
pub fn drop_message(id: u32, wanted: i64) -> Result<(), Errno> {
    let mut kind = 0_i64;
    let flags = libc::IPC_NOWAIT | libc::MSG_NOERROR;
    // SAFETY: the kernel writes a long, and no text.
    let taken = unsafe { libc::msgrcv(id.cast_signed(), (&raw mut kind).cast(), 0, wanted, flags) };
    Errno::result(taken).map(drop)
}

/// The values of all `count` semaphores of a set.
pub fn semaphore_values(id: u32, count: usize) -> Result<Vec<u16>, Errno> {
    let mut values = vec![0u16; count];
    // SAFETY: a set never changes its size, and the kernel writes one short for each of its semaphores.
    check(unsafe { libc::semctl(id.cast_signed(), 0, libc::GETALL, values.as_mut_ptr()) }.into())?;
    Ok(values)
}

/// Sets the values of all semaphores of a set, of which there are as many.
pub fn set_semaphore_values(id: u32, values: &[u16]) -> Result<(), Errno> {
    // SAFETY: a set never changes its size, and the kernel reads one short for each of its semaphores.
    check(unsafe { libc::semctl(id.cast_signed(), 0, libc::SETALL, values.as_ptr()) }.into()).map(drop)
}

/// Who changed a semaphore last; 0 for nobody.
pub fn semaphore_pid(id: u32, number: i32) -> Result<u32, Errno> {
    // SAFETY: this command takes no argument.
    let pid = check(unsafe { libc::semctl(id.cast_signed(), number, libc::GETPID) }.into())?;
    u32::try_from(pid).map_err(|_| Errno::EINVAL)
}

/// semop(2): all of these operations (by how much, and whether that is undone at the end), or none.
pub fn operate(id: u32, number: u16, operations: &[(i16, bool)]) -> Result<(), Errno> {
    // Flags are shorter in struct sembuf than as constants.
    let [wait, undo] = [libc::IPC_NOWAIT, libc::SEM_UNDO].map(|flag| i16::try_from(flag).unwrap_or(0));
    let all: Vec<libc::sembuf> = operations
        .iter()
        .map(|(by, undone)| libc::sembuf {
            sem_num: number,
            sem_op: *by,
            sem_flg: if *undone { wait | undo } else { wait },
        })
        .collect();
    // SAFETY: the kernel reads as many operations as there are.
    check(unsafe { libc::syscall(libc::SYS_semop, id, all.as_ptr(), all.len()) }).map(drop)
}
