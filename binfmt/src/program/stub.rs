//! The stub (`stub.s`): the interpreter of programs, position-independent, without stack and without flags.
//!
//! It uses only instructions that leave rflags alone (mov, lea, bswap, movzx, jrcxz, jmp, nop, syscall), because in a
//! frozen task there is nothing to restore them from, and never moves rsp, so that a signal handler may come at any
//! instruction. It writes to the program it runs and nowhere else.
//!
//! Two ways in:
//!
//! * [`ENTRY`], in a frozen task. It maps `scratch_len` bytes of zeros (an empty program) at a place the kernel chooses,
//!   runs the program that the tracer writes there (back to front, the first operation's kind last), unmaps it, puts
//!   the signal mask and the registers back from the data behind the code, and jumps to where the task was. So a stub
//!   whose tracer has died finds an empty program and goes home.
//! * [`Stub::run_offset`], for the loader: r12 is the address of a program that ends with a `Return` or never.

use crate::note::thread::Registers;

/// Offset at which a tracer lets a frozen task enter. Two NOPs stand before it, so that the kernel's own restart of an
/// interrupted call (rip -= 2) lands on them and harmlessly falls into the entry.
pub const ENTRY: u64 = 2;

/// How many registers the data holds, in the order of `user_regs_struct`.
const REGISTERS: usize = 17;

/// The stub's bytes and the places in it that others must know. Offsets count from its first byte.
#[derive(Clone, Copy, Debug)]
pub struct Stub {
    /// Code and, at its end, the data.
    pub bytes: &'static [u8],
    /// Where a loader's thread enters with its program in r12.
    pub run_offset: u64,
    /// The instruction after the call that maps the scratch memory.
    pub mapped_offset: u64,
    /// The instruction after the call that unmaps it.
    pub unmapped_offset: u64,
    /// The data: length of the scratch memory, signal mask, then 17 registers in the order of `user_regs_struct`.
    pub data_offset: u64,
}

impl Stub {
    /// The stub.
    pub fn get() -> Stub {
        crate::sys::stub()
    }

    /// The bytes to write into a frozen task: the stub with `data` filled in. `registers` are those with which the task
    /// goes on by itself (see `restart::in_place`).
    pub fn filled(&self, scratch_len_bytes: u64, signal_mask: u64, registers: &Registers) -> Vec<u8> {
        let words = registers.to_words();
        let data = [scratch_len_bytes, signal_mask].into_iter().chain(words.into_iter().take(REGISTERS));
        let mut bytes = self.bytes.to_vec();
        bytes.truncate(usize::try_from(self.data_offset).unwrap_or(usize::MAX));
        data.for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        bytes
    }

    /// The reverse: signal mask and registers from the data of a stub that was filled, for a thread whose registers, of which
    /// the stub leaves some alone, are `now` these.
    pub fn home(&self, filled: &[u8], now: &Registers) -> (u64, Registers) {
        let data = usize::try_from(self.data_offset).ok().and_then(|at| filled.get(at..)).unwrap_or_default();
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        let mut data = data.chunks_exact(8).skip(1).map(word);
        let mask = data.next().unwrap_or_default();
        let mut words = now.to_words();
        words.iter_mut().zip(data.take(REGISTERS)).for_each(|(now, home)| *now = home);
        (mask, Registers { orig_rax: u64::MAX, ..Registers::from_words(&words) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_fits_in_the_smallest_vdso_tail_that_was_seen() {
        let stub = Stub::get();
        assert!(stub.bytes.len() <= 1008, "Linux 6.12 leaves 1,008 bytes; the stub has {}", stub.bytes.len());
        assert_eq!(stub.data_offset % 8, 0, "the task may have alignment checks on (AC)");
        assert_eq!(stub.bytes.len() as u64 - stub.data_offset, 19 * 8);
        assert_eq!(&stub.bytes[..2], &[0x90, 0x90], "two NOPs before the entry");
    }

    #[test]
    fn what_was_filled_in_is_found_again() {
        let words: [u64; 27] = std::array::from_fn(|index| index as u64 + 1);
        let filled = Stub::get().filled(1 << 12, 7, &Registers::from_words(&words));
        let (mask, home) = Stub::get().home(&filled, &Registers::default());
        let mut expected = words[..REGISTERS].to_vec();
        expected.resize(27, 0);
        expected[15] = u64::MAX;
        assert_eq!((mask, home.to_words().to_vec()), (7, expected));
    }

    #[test]
    fn the_offsets_follow_a_syscall_instruction() {
        let stub = Stub::get();
        for offset in [stub.mapped_offset, stub.unmapped_offset] {
            let at = usize::try_from(offset).expect("small");
            assert_eq!(&stub.bytes[at - 2..at], &[0x0f, 0x05]);
        }
    }
}
