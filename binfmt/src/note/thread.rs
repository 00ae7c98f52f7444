//! A thread: registers and everything the kernel keeps for it alone.

use crate::wire::{Bytes, Text, record};

record! {
    /// A thread: registers and everything the kernel keeps for it alone.
    pub struct Thread {
        /// Process id of its thread group.
        pid: u32,
        /// Thread id.
        tid: u32,
        /// General registers as they were at the stop, before any restart of an interrupted system call.
        registers: Registers,
        /// Whether the thread stood in a system call (`orig_rax` is its number).
        in_system_call: bool,
        /// Blocked signals, bit N-1 for signal N; inside sigsuspend and its kin, the mask they will put back.
        signal_mask: u64,
        /// Alternate signal stack.
        alternate_stack: AlternateStack,
        /// Address that is cleared and woken when the thread ends (set_tid_address(2)); 0 for none.
        clear_tid_address: u64,
        /// Head of the robust futex list (get_robust_list(2)); 0 for none.
        robust_list: u64,
        /// Length of that head in bytes, as registered.
        robust_list_bytes: u64,
        /// Restartable sequences (rseq(2)).
        rseq: Rseq,
        /// Name, at most 15 bytes (PR_SET_NAME).
        name: Text,
        /// Signal it gets when its parent ends (PR_SET_PDEATHSIG); 0 for none.
        parent_death_signal: u32,
        /// I/O flusher, keep-capabilities and other per-thread modes.
        modes: Vec<crate::note::task::Mode>,
    }

    /// General registers of x86-64, in the order of `user_regs_struct`.
    pub struct Registers {
        /// r15
        r15: u64,
        /// r14
        r14: u64,
        /// r13
        r13: u64,
        /// r12
        r12: u64,
        /// rbp
        rbp: u64,
        /// rbx
        rbx: u64,
        /// r11
        r11: u64,
        /// r10
        r10: u64,
        /// r9
        r9: u64,
        /// r8
        r8: u64,
        /// rax; in a system call its result, or the kernel's code for how to restart it
        rax: u64,
        /// rcx
        rcx: u64,
        /// rdx
        rdx: u64,
        /// rsi
        rsi: u64,
        /// rdi
        rdi: u64,
        /// Number of the system call the thread stands in; negative outside of one.
        orig_rax: u64,
        /// rip
        rip: u64,
        /// Code segment selector.
        cs: u64,
        /// eflags
        eflags: u64,
        /// rsp
        rsp: u64,
        /// Stack segment selector.
        ss: u64,
        /// fs base: the thread pointer.
        fs_base: u64,
        /// gs base
        gs_base: u64,
        /// ds selector
        ds: u64,
        /// es selector
        es: u64,
        /// fs selector
        fs: u64,
        /// gs selector
        gs: u64,
    }

    /// Alternate signal stack (sigaltstack(2)).
    pub struct AlternateStack {
        /// Lowest address.
        address: u64,
        /// Length in bytes.
        len_bytes: u64,
        /// SS_DISABLE, SS_AUTODISARM.
        flags: u32,
    }

    /// Registration of restartable sequences (rseq(2)).
    pub struct Rseq {
        /// Address of the area; 0 for none.
        address: u64,
        /// Length of the area in bytes, as registered.
        len_bytes: u32,
        /// The four bytes that stand before every abort handler.
        signature: u32,
        /// Flags of the registration.
        flags: u32,
    }

    /// Floating-point and vector registers of a thread, where no standard note carries them.
    pub struct ExtendedState {
        /// Thread id.
        tid: u32,
        /// The XSAVE area in standard format, as PTRACE_GETREGSET gives it for NT_X86_XSTATE.
        area: Bytes,
    }
}
