//! The signal frame that rt_sigreturn(2) turns into a running thread (arch/x86/kernel/signal_64.c).
//!
//! `struct rt_sigframe` on x86-64 is a return address (which nothing reads), `struct ucontext` and a siginfo; the
//! floating-point state stands apart, aligned to 64 bytes. ptrace's XSAVE area lacks what the kernel wants in a frame:
//! two magic numbers and the sizes in the software-reserved bytes.

use binfmt::note::thread::{AlternateStack, Registers};

/// Flags of `uc_flags`: extended state present, ss is saved and restored strictly.
const UC_FP_XSTATE: u64 = 1;
const UC_SIGCONTEXT_SS: u64 = 2;
const UC_STRICT_RESTORE_SS: u64 = 4;
/// Where the software-reserved bytes stand in an FXSAVE area.
const SOFTWARE_OFFSET: usize = 464;
const FP_XSTATE_MAGIC1: u32 = 0x4650_5853;
const FP_XSTATE_MAGIC2: u32 = 0x4650_5845;
/// Where XSTATE_BV stands in an XSAVE area.
const FEATURES_OFFSET: usize = 512;
/// Bytes of `struct ucontext` on x86-64.
const UCONTEXT_BYTES: usize = 304;
/// Where `uc_sigmask` stands in it.
const MASK_OFFSET: usize = 296;

/// The XSAVE area for a frame, from that of ptrace. Aligned to 64 where it is put.
pub fn extended_state(area: &[u8]) -> Vec<u8> {
    let mut bytes = area.to_vec();
    let size = u32::try_from(area.len()).unwrap_or(0);
    // ptrace puts XCR0 into the software bytes; the frame wants the features that it holds.
    let features: Vec<u8> = area.get(SOFTWARE_OFFSET..SOFTWARE_OFFSET + 8).unwrap_or_default().to_vec();
    let software = [
        FP_XSTATE_MAGIC1.to_le_bytes().as_slice(),
        &(size + 4).to_le_bytes(),
        &features,
        &size.to_le_bytes(),
        &[0; 28],
    ]
    .concat();
    if let Some(place) = bytes.get_mut(SOFTWARE_OFFSET..SOFTWARE_OFFSET + software.len()) {
        place.copy_from_slice(&software);
    }
    bytes.extend_from_slice(&FP_XSTATE_MAGIC2.to_le_bytes());
    bytes
}

/// The frame from `struct ucontext` on, whose first byte rsp points to when rt_sigreturn is called. `state` is the
/// address of the bytes of [`extended_state`].
pub fn ucontext(registers: &Registers, mask: u64, stack: &AlternateStack, state: u64) -> Vec<u8> {
    let r = registers;
    let flags = UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS;
    let segments = (r.cs & 0xffff) | (r.gs & 0xffff) << 16 | (r.fs & 0xffff) << 32 | (r.ss & 0xffff) << 48;
    let context = [
        r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rdi, r.rsi, r.rbp, r.rbx, r.rdx, r.rax,
        r.rcx, r.rsp, r.rip, r.eflags, segments,
    ];
    let words = [flags, 0, stack.address, u64::from(stack.flags), stack.len_bytes]
        .into_iter()
        .chain(context)
        .chain([0, 0, 0, 0, state]);
    let mut bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
    bytes.resize(MASK_OFFSET, 0);
    bytes.extend_from_slice(&mask.to_le_bytes());
    bytes.resize(UCONTEXT_BYTES, 0);
    bytes
}

/// Features in use in an XSAVE area (XSTATE_BV).
pub fn features_in_use(area: &[u8]) -> u64 {
    let word = area.get(FEATURES_OFFSET..FEATURES_OFFSET + 8).and_then(|bytes| bytes.try_into().ok());
    word.map_or(3, u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_stand_where_the_kernel_reads_them() {
        let registers = Registers {
            r8: 8,
            rip: 0x1234,
            rsp: 0x99,
            eflags: 0x246,
            cs: 0x33,
            ss: 0x2b,
            ..Registers::default()
        };
        let stack = AlternateStack { address: 0x7000, len_bytes: 0x2000, flags: 0 };
        let frame = ucontext(&registers, 0xabcd, &stack, 0x5000);
        let word =
            |offset: usize| u64::from_le_bytes(frame[offset..offset + 8].try_into().expect("eight bytes"));
        assert_eq!((word(0), word(16), word(32)), (7, 0x7000, 0x2000), "uc_flags, ss_sp, ss_size");
        assert_eq!((word(40), word(40 + 8 * 15), word(40 + 8 * 16)), (8, 0x99, 0x1234), "r8, rsp, rip");
        assert_eq!(word(40 + 8 * 18), 0x33 | 0x2b << 48, "cs and ss");
        assert_eq!(word(40 + 8 * 23), 0x5000, "fpstate");
        assert_eq!(word(MASK_OFFSET), 0xabcd);
    }

    #[test]
    fn the_extended_state_is_framed_by_its_magic_numbers() {
        let state = extended_state(&[0; 2696]);
        assert_eq!(state.len(), 2700);
        assert_eq!(&state[464..468], b"SXPF");
        assert_eq!(&state[2696..], b"EXPF");
    }
}
