//! What a seccomp filter answers to a call: classic BPF over struct seccomp_data (seccomp(2), linux/filter.h).

const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const RET_ALLOW: u32 = 0x7fff_0000;
const RET_LOG: u32 = 0x7ffc_0000;
const ACTION_MASK: u32 = 0xffff_0000;
/// Length of struct seccomp_data.
const DATA_BYTES: u32 = 64;

/// A system call as a filter sees it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    data: Vec<u8>,
}

impl Call {
    pub(super) fn new(number: libc::c_long, args: &[u64], address: u64) -> Call {
        let mut data = Vec::new();
        data.extend_from_slice(&i32::try_from(number).unwrap_or(-1).to_le_bytes());
        data.extend_from_slice(&AUDIT_ARCH_X86_64.to_le_bytes());
        data.extend_from_slice(&address.to_le_bytes());
        args.iter().take(6).for_each(|arg| data.extend_from_slice(&arg.to_le_bytes()));
        data.resize(64, 0);
        Call { data }
    }
}

/// Whether the filter lets the call through. A filter that makes no sense does not.
pub(super) fn allows(code: &[u8], call: &Call) -> bool {
    run(code, call).is_some_and(|answer| matches!(answer & ACTION_MASK, RET_ALLOW | RET_LOG))
}

/// Runs a filter to its answer. Jumps lead forward only, so it ends.
fn run(code: &[u8], call: &Call) -> Option<u32> {
    let (mut a, mut x) = (0u32, 0u32);
    let mut memory = [0u32; 16];
    let mut rest = code;
    loop {
        let instruction = rest.get(..8)?;
        rest = rest.get(8..)?;
        let head = crate::parse::u32_at(instruction, 0);
        let (op, jump_true, jump_false) = (head & 0xffff, (head >> 16) & 0xff, head >> 24);
        let k = crate::parse::u32_at(instruction, 4);
        let slot = usize::try_from(k).ok()?;
        // The class is in the low three bits; bit 3 takes the operand from X instead of K.
        match op & 7 {
            0 => a = load(op, k, call, &memory)?,
            1 => x = load(op, k, call, &memory)?,
            2 => *memory.get_mut(slot)? = a,
            3 => *memory.get_mut(slot)? = x,
            4 => a = arithmetic(op, a, if op & 8 == 0 { k } else { x })?,
            5 => {
                let by = match op & 0xf0 {
                    0 => k,
                    test if holds(test, a, if op & 8 == 0 { k } else { x })? => jump_true,
                    _ => jump_false,
                };
                rest = rest.get(usize::try_from(by).ok()?.checked_mul(8)?..)?;
            }
            6 => return Some(if op & 0x10 == 0 { k } else { a }),
            _ => match op & 0xf8 {
                0 => x = a,
                _ => a = x,
            },
        }
    }
}

fn load(op: u32, k: u32, call: &Call, memory: &[u32; 16]) -> Option<u32> {
    match op & 0xe0 {
        0x00 => Some(k),
        0x20 => (k.checked_add(4)? <= DATA_BYTES && k.is_multiple_of(4))
            .then(|| crate::parse::u32_at(&call.data, usize::try_from(k).unwrap_or(usize::MAX - 4))),
        0x60 => memory.get(usize::try_from(k).ok()?).copied(),
        0x80 => Some(DATA_BYTES),
        _ => None,
    }
}

fn arithmetic(op: u32, a: u32, operand: u32) -> Option<u32> {
    match op & 0xf0 {
        0x00 => Some(a.wrapping_add(operand)),
        0x10 => Some(a.wrapping_sub(operand)),
        0x20 => Some(a.wrapping_mul(operand)),
        // The kernel answers a division by zero with 0, for the whole filter.
        0x30 => a.checked_div(operand),
        0x40 => Some(a | operand),
        0x50 => Some(a & operand),
        0x60 => Some(a.wrapping_shl(operand)),
        0x70 => Some(a.wrapping_shr(operand)),
        0x80 => Some(a.wrapping_neg()),
        0xa0 => Some(a ^ operand),
        _ => None,
    }
}

fn holds(test: u32, a: u32, operand: u32) -> Option<bool> {
    match test {
        0x10 => Some(a == operand),
        0x20 => Some(a > operand),
        0x30 => Some(a >= operand),
        0x40 => Some(a & operand != 0),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(instructions: &[(u16, u8, u8, u32)]) -> Vec<u8> {
        let one = |(op, jt, jf, k): &(u16, u8, u8, u32)| {
            [&op.to_le_bytes()[..], &[*jt, *jf], &k.to_le_bytes()].concat()
        };
        instructions.iter().flat_map(one).collect()
    }

    #[test]
    fn an_ordinary_filter_is_understood() {
        // Kill other architectures; getpid and prctl(PR_GET_DUMPABLE) pass, the rest gets EPERM.
        let filter = code(&[
            (0x20, 0, 0, 4),
            (0x15, 1, 0, AUDIT_ARCH_X86_64),
            (0x06, 0, 0, 0),
            (0x20, 0, 0, 0),
            (0x15, 3, 0, 39),
            (0x15, 0, 3, 157),
            (0x20, 0, 0, 16),
            (0x15, 0, 1, 3),
            (0x06, 0, 0, RET_ALLOW),
            (0x06, 0, 0, 0x0005_0001),
        ]);
        assert!(allows(&filter, &Call::new(39, &[], 0)));
        assert!(allows(&filter, &Call::new(157, &[3], 0)));
        assert!(!allows(&filter, &Call::new(157, &[4], 0)));
        assert!(!allows(&filter, &Call::new(9, &[], 0)));
    }

    #[test]
    fn arithmetic_memory_and_registers() {
        // X = nr; M[3] = X; A = M[3] * 2 - X; return ALLOW if A == nr
        let filter = code(&[
            (0x20, 0, 0, 0),
            (0x07, 0, 0, 0),
            (0x03, 0, 0, 3),
            (0x60, 0, 0, 3),
            (0x24, 0, 0, 2),
            (0x1c, 0, 0, 0),
            (0x1d, 0, 1, 0),
            (0x06, 0, 0, RET_ALLOW),
            (0x06, 0, 0, 0),
        ]);
        assert!(allows(&filter, &Call::new(231, &[], 0)));
    }

    #[test]
    fn nonsense_allows_nothing() {
        assert!(!allows(&[], &Call::new(39, &[], 0)));
        assert!(!allows(&code(&[(0x05, 0, 0, u32::MAX)]), &Call::new(39, &[], 0)));
        assert!(!allows(&code(&[(0x20, 0, 0, 63), (0x06, 0, 0, RET_ALLOW)]), &Call::new(39, &[], 0)));
        assert!(!allows(&code(&[(0x34, 0, 0, 0), (0x06, 0, 0, RET_ALLOW)]), &Call::new(39, &[], 0)));
    }
}
