//! The one mechanism: system calls as data, run where none of our Rust can live.
//!
//! A [`Program`] is a list of system calls and a few control operations. The [`stub`] runs it: inside a frozen task for
//! the dumper, and for the loader after its own code has ended. A program can be printed (it reads like strace), and
//! when one of its calls fails, the failure names it.

pub mod stub;

use std::borrow::Cow;
use std::fmt;

/// A system call's number and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SystemCall {
    /// Its number on x86-64.
    pub number: libc::c_long,
    /// Its name.
    pub name: &'static str,
}

/// A [`SystemCall`] by its name: `system_call!(SYS_prctl)`.
#[macro_export]
macro_rules! system_call {
    ($name:ident) => {
        $crate::program::SystemCall { number: libc::$name, name: stringify!($name) }
    };
}

/// What an operation does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Makes a system call; an error is kept as its result and the program goes on.
    Ask(SystemCall, [u64; 6]),
    /// Makes a system call that must succeed; an error ends the program through its failure exit.
    Must(SystemCall, [u64; 6]),
    /// Stores a 32-bit word.
    Store {
        /// Where.
        address: u64,
        /// What.
        value: u32,
    },
    /// Sleeps until the 32-bit word at `address` is not zero (a futex, which another process may share).
    WaitNonZero {
        /// Where the word is.
        address: u64,
    },
    /// Leaves for ever: rt_sigreturn(2) from the signal frame at `frame`.
    Return {
        /// Address of the frame's first byte after the return address.
        frame: u64,
    },
}

/// What an operation is for, in messages.
pub type Purpose = Cow<'static, str>;

/// Operations in order, each with a few words on what and whom it is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Program {
    ops: Vec<(Op, Purpose)>,
}

/// A call that failed: which, and the error number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// The operation and what it was for, as [`Program`] prints it.
    pub operation: String,
    /// The error.
    pub error: nix::errno::Errno,
}

impl fmt::Display for Failed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} = {}", self.operation, self.error)
    }
}

/// How an operation stands in memory: ten words, see `stub`.
const OP_BYTES: usize = 80;
const RESULT_OFFSET: usize = 64;
const KIND_END: u64 = 0;
const KIND_CALL: u64 = 1;
const KIND_STORE: u64 = 2;
const KIND_WAIT: u64 = 3;
const KIND_RETURN: u64 = 4;
/// What stands in a result before the call was made: no system call returns it.
const NOT_RUN: u64 = 0x4e4f_545f_5255_4e21;

impl Program {
    /// A program that does nothing.
    pub fn new() -> Program {
        Program::default()
    }

    /// The same, with room for so many operations.
    pub fn with_capacity(count: usize) -> Program {
        Program { ops: Vec::with_capacity(count) }
    }

    /// Appends an operation, `purpose` saying what and whom it is for. Returns its index.
    pub fn push(&mut self, op: Op, purpose: impl Into<Purpose>) -> usize {
        self.ops.push((op, purpose.into()));
        self.ops.len() - 1
    }

    /// Appends a call whose error is an answer.
    pub fn ask(&mut self, call: SystemCall, args: &[u64], purpose: impl Into<Purpose>) -> usize {
        self.push(Op::Ask(call, padded(args)), purpose)
    }

    /// Appends a call that must succeed.
    pub fn must(&mut self, call: SystemCall, args: &[u64], purpose: impl Into<Purpose>) -> usize {
        self.push(Op::Must(call, padded(args)), purpose)
    }

    /// The operations with their purposes.
    pub fn ops(&self) -> &[(Op, Purpose)] {
        &self.ops
    }

    /// How long [`Program::encode`]'s bytes are.
    pub fn len_bytes(&self) -> usize {
        Program::bytes_of(self.ops.len())
    }

    /// The same for a program of so many operations.
    pub fn bytes_of(operations: usize) -> usize {
        (operations + 1) * OP_BYTES
    }

    /// The bytes that the stub runs, ended by an end mark. A call that must succeed and does not sends the stub on to
    /// the program at address `failure_exit`; with 0 there is none and the program simply goes on.
    pub fn encode(&self, failure_exit: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len_bytes());
        for (op, _) in &self.ops {
            let (kind, number, args, exit) = match op {
                Op::Ask(call, args) => (KIND_CALL, call.number, *args, 0),
                Op::Must(call, args) => (KIND_CALL, call.number, *args, failure_exit),
                Op::Store { address, value } => (KIND_STORE, 0, padded(&[*address, (*value).into()]), 0),
                Op::WaitNonZero { address } => (KIND_WAIT, 0, padded(&[*address]), 0),
                Op::Return { frame } => (KIND_RETURN, 0, padded(&[*frame]), 0),
            };
            let words = [kind, number.cast_unsigned()].into_iter().chain(args).chain([NOT_RUN, exit]);
            words.for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        }
        bytes.extend_from_slice(&KIND_END.to_le_bytes());
        bytes.resize(self.len_bytes(), 0);
        bytes
    }

    /// The result of operation `index` after a run, from the bytes of [`Program::encode`] as the stub left them; `None`
    /// if it did not run.
    pub fn result(&self, ran: &[u8], index: usize) -> Option<i64> {
        let at = index * OP_BYTES + RESULT_OFFSET;
        let word: [u8; 8] = ran.get(at..at + 8)?.try_into().ok()?;
        let word = u64::from_le_bytes(word);
        (word != NOT_RUN).then_some(word.cast_signed())
    }

    /// The first call that had to succeed and did not.
    pub fn failed(&self, ran: &[u8]) -> Option<Failed> {
        self.ops.iter().enumerate().find_map(|(index, (op, purpose))| {
            let result = self.result(ran, index)?;
            // The stub takes every value with a non-zero top byte for an error.
            let error = i32::try_from(result.checked_neg()?).ok().filter(|error| *error > 0)?;
            matches!(op, Op::Must(..)).then(|| Failed {
                operation: format!("{op} for {purpose}"),
                error: nix::errno::Errno::from_raw(error),
            })
        })
    }
}

/// The first call that had to succeed and did not, in a program of which only the bytes and the printed text are at
/// hand.
pub fn failed_line(ran: &[u8], text: &str) -> Option<Failed> {
    ran.chunks_exact(OP_BYTES).zip(text.lines()).find_map(|(op, line)| {
        let word = |at: usize| Some(u64::from_le_bytes(op.get(at..at + 8)?.try_into().ok()?));
        let (kind, result, exit) = (word(0)?, word(RESULT_OFFSET)?, word(RESULT_OFFSET + 8)?);
        let error = i32::try_from(result.cast_signed().checked_neg()?).ok().filter(|error| *error > 0)?;
        (kind == KIND_CALL && exit != 0).then(|| Failed {
            operation: line.replace("  # ", " for "),
            error: nix::errno::Errno::from_raw(error),
        })
    })
}

fn padded(args: &[u64]) -> [u64; 6] {
    let mut all = [0; 6];
    all.iter_mut().zip(args).for_each(|(place, arg)| *place = *arg);
    all
}

impl fmt::Display for Op {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Ask(call, args) | Op::Must(call, args) => {
                let used = args.iter().rposition(|arg| *arg != 0).map_or(0, |last| last + 1);
                let shown: Vec<String> = args.iter().take(used).map(|arg| format!("{arg:#x}")).collect();
                write!(out, "{}({})", call.name.trim_start_matches("SYS_"), shown.join(", "))
            }
            Op::Store { address, value } => write!(out, "[{address:#x}] = {value}"),
            Op::WaitNonZero { address } => write!(out, "wait for [{address:#x}]"),
            Op::Return { frame } => write!(out, "rt_sigreturn({frame:#x})"),
        }
    }
}

impl fmt::Display for Program {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ops.iter().try_for_each(|(op, purpose)| writeln!(out, "{op}  # {purpose}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_failures_are_read_back() {
        let mut program = Program::new();
        let asked = program.ask(system_call!(SYS_getpid), &[], "the pid");
        let must = program.must(system_call!(SYS_close), &[3], "descriptor 3 of pid 7");
        let mut ran = program.encode(0x1000);
        assert_eq!(program.result(&ran, asked), None, "not run yet");
        ran[RESULT_OFFSET..RESULT_OFFSET + 8].copy_from_slice(&(-9i64).to_le_bytes());
        ran[OP_BYTES + RESULT_OFFSET..OP_BYTES + RESULT_OFFSET + 8].copy_from_slice(&(-9i64).to_le_bytes());
        assert_eq!(program.result(&ran, asked), Some(-9));
        let failed = program.failed(&ran).expect("the second call failed");
        assert_eq!(failed.to_string(), "close(0x3) for descriptor 3 of pid 7 = EBADF: Bad file number");
        assert_eq!(program.result(&ran, must), Some(-9));
    }
}
