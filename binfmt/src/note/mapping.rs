//! An address space: its layout, its mappings, and what they are mapped from.
//!
//! The contents of pages are not in notes: they are segments (see `image`), PT_LOAD for the root task, whose owner is
//! the `id` of the `Memory`. A page without a segment is as mmap makes it: zero, or what the file says.

use crate::note::file::FileIdentity;
use crate::wire::{Bytes, Text, enumeration, record};

enumeration! {
    /// What a mapping shows where it was never written.
    pub enum Backing: u8 {
        /// Zeros.
        Anonymous = 0,
        /// A `MappedObject`.
        Object = 1,
        /// Kernel data for the vdso (`[vvar]`).
        Vvar = 2,
        /// Paravirtual clocks for the vdso (`[vvar_vclock]`, 6.13).
        VvarClock = 3,
        /// The kernel's code for user space (`[vdso]`).
        Vdso = 4,
        /// The uprobes area or another mapping of the kernel's that comes back by itself.
        Kernel = 5,
        /// The ring of an `AioRing` that begins here; without one, zeros, where a child had inherited its parent's.
        AioRing = 6,
        /// The memory of the `IoUring` with this `object`, from `offset` on; without one, zeros.
        IoUring = 7,
    }

    /// What a mapped object is.
    pub enum ObjectKind: u8 {
        /// A file with a path, or one that has lost it.
        File = 0,
        /// A memfd, shown as `/memfd:NAME (deleted)`.
        Memfd = 1,
        /// MAP_SHARED|MAP_ANONYMOUS, shown as `/dev/zero (deleted)`.
        SharedAnonymous = 2,
        /// A System V shared memory segment, shown as `/SYSV...`.
        SystemV = 3,
        /// MAP_HUGETLB without a file, shown as `/anon_hugepage (deleted)`.
        HugePages = 4,
        /// A device whose mapping has no contents of its own (`/dev/zero` mapped privately).
        Device = 5,
    }
}

record! {
    /// An address space: its layout and its mappings.
    pub struct Memory {
        /// What `Task::memory` and segments refer to.
        id: u32,
        /// Start of the program text (prctl(2) PR_SET_MM).
        start_code: u64,
        /// End of the program text.
        end_code: u64,
        /// Start of initialized data.
        start_data: u64,
        /// End of initialized data.
        end_data: u64,
        /// Where the heap begins.
        start_brk: u64,
        /// Where the heap ends.
        brk: u64,
        /// Bottom of the stack at exec.
        start_stack: u64,
        /// Where argv's strings begin.
        arg_start: u64,
        /// Where they end.
        arg_end: u64,
        /// Where environ's strings begin.
        env_start: u64,
        /// Where they end.
        env_end: u64,
        /// The auxiliary vector, as `/proc/PID/auxv` gives it.
        auxv: Bytes,
        /// The executable (`/proc/PID/exe`).
        executable: FileIdentity,
        /// Flags of PR_SET_THP_DISABLE: 0 off, 1 on, more since 6.18.
        thp_disable: u32,
        /// Memory-deny-write-execute (PR_GET_MDWE).
        deny_write_execute: u32,
        /// KSM for all mappings (PR_GET_MEMORY_MERGE).
        memory_merge: bool,
        /// Future mappings are locked (MCL_FUTURE, MCL_ONFAULT), bits of mlockall(2).
        lock_future: u32,
        /// Mappings in ascending order.
        mappings: Vec<Mapping>,
    }

    /// One mapping: a line of `/proc/PID/maps`.
    pub struct Mapping {
        /// First address.
        start: u64,
        /// Length in bytes.
        len_bytes: u64,
        /// PROT_READ, PROT_WRITE, PROT_EXEC.
        protection: u32,
        /// MAP_SHARED rather than MAP_PRIVATE.
        shared: bool,
        /// What it shows where it was never written.
        backing: Backing,
        /// Which `MappedObject`, if `backing` says so, or which `IoUring`; 0 otherwise.
        object: u32,
        /// Offset in the object, in bytes.
        offset: u64,
        /// Two-letter flags of `VmFlags` in `/proc/PID/smaps`, separated by spaces.
        vm_flags: Text,
        /// Name given with PR_SET_VMA_ANON_NAME.
        name: Text,
        /// Protection key.
        protection_key: u32,
        /// Page size of the mapping in bytes (KernelPageSize): 4096, or that of its huge pages.
        page_bytes: u64,
        /// Guard regions (MADV_GUARD_INSTALL), ascending.
        guards: Vec<Extent>,
    }

    /// A range of addresses or of an object's bytes.
    pub struct Extent {
        /// First byte.
        start: u64,
        /// Length in bytes.
        len_bytes: u64,
    }

    /// A file, or memory without a name, that mappings refer to.
    pub struct MappedObject {
        /// What mappings and object segments refer to; 1 or more.
        id: u32,
        /// What it is.
        kind: ObjectKind,
        /// Which file; for memory without a name only its device, inode and size are set.
        file: FileIdentity,
        /// Whether it must be opened for writing (VM_MAYWRITE of a shared mapping).
        writable: bool,
        /// Size of the object's huge pages in bytes, 0 if it has none.
        huge_page_bytes: u64,
        /// Seals of a memfd (F_GET_SEALS).
        seals: u32,
        /// MFD_NOEXEC_SEAL and other creation flags that cannot be told from the seals: the mode of the inode.
        mode: u32,
    }
}
