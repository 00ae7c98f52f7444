//! Questions to a frozen thread, and its answers.
//!
//! A question is a system call; where the kernel writes the answer to memory, its argument is a place among the
//! answers, which follow the program in the scratch memory.

use crate::parse;
use binfmt::program::{Program, SystemCall};
use binfmt::system_call;
use nix::errno::Errno;

/// An argument of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    /// A number.
    Value(u64),
    /// The address of the question's place for answers, where also stands what it gives the kernel to read.
    Answer,
}

/// Which question, to find its answer by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question(usize);

#[derive(Clone, Debug)]
struct Asked {
    call: SystemCall,
    args: Vec<Arg>,
    purpose: &'static str,
    answer_offset: u64,
    answer_bytes: u64,
    given: Vec<u8>,
}

/// A signal that a thread sends itself when it has answered, so that it need not be stopped at every call: two stops for
/// each are most of what asking costs.
///
/// The signal is one that the process ignores and the thread neither blocks nor has pending. To a thread without a
/// tracer nothing happens at all; one that is traced stops before it is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Knock {
    /// Its process id, as the process itself sees it.
    process: u32,
    /// Its thread id, likewise.
    thread: u32,
    /// The signal.
    pub signal: u32,
}

impl Knock {
    /// The knock of the thread with this `/proc/PID/task/TID/status`, if there is one. A thread with a seccomp filter has
    /// none: its filter need not allow more calls than it must.
    pub fn from_status(status: &str) -> Option<Knock> {
        let in_own_namespace = |key| parse::value(status, key)?.split_whitespace().last()?.parse().ok();
        let mut taken = 0;
        for key in ["SigCgt", "SigBlk", "SigPnd", "ShdPnd"] {
            taken |= parse::hex(status, key)?;
        }
        // By default these are ignored, and nothing else happens.
        let ignored = [libc::SIGURG, libc::SIGWINCH, libc::SIGCHLD].map(i32::cast_unsigned);
        let signal = ignored.into_iter().find(|signal| taken >> (signal - 1) & 1 == 0)?;
        let filtered = parse::decimal(status, "Seccomp") != Some(0);
        let knock =
            Knock { process: in_own_namespace("NStgid")?, thread: in_own_namespace("NSpid")?, signal };
        (!filtered).then_some(knock)
    }

    /// The signals to block meanwhile: all others.
    pub fn mask(self) -> u64 {
        !(1 << (self.signal - 1))
    }
}

/// A list of questions, put in one go.
#[derive(Clone, Debug, Default)]
pub struct Questions {
    asked: Vec<Asked>,
    answers_bytes: u64,
    about_locks: bool,
    knock: Option<Knock>,
}

impl Questions {
    /// No questions.
    pub fn new() -> Questions {
        /// About as many as a leader is asked.
        const MANY: usize = 96;
        Questions { asked: Vec::with_capacity(MANY), ..Questions::default() }
    }

    /// Adds a question with `answer_bytes` of room for what the kernel writes. `purpose` is what it asks for.
    pub fn ask(
        &mut self,
        call: SystemCall,
        args: &[Arg],
        answer_bytes: u64,
        purpose: &'static str,
    ) -> Question {
        let answer_offset = self.answers_bytes;
        self.answers_bytes += answer_bytes.next_multiple_of(8);
        let given = Vec::new();
        self.asked.push(Asked { call, args: args.to_vec(), purpose, answer_offset, answer_bytes, given });
        Question(self.asked.len() - 1)
    }

    /// The same with something that the kernel reads.
    pub fn give(
        &mut self,
        call: SystemCall,
        args: &[Arg],
        given: Vec<u8>,
        purpose: &'static str,
    ) -> Question {
        let question = self.ask(call, args, given.len() as u64, purpose);
        if let Some(asked) = self.asked.last_mut() {
            asked.given = given;
        }
        question
    }

    /// What the kernel is given to read, each with its address, for scratch memory at `scratch`.
    pub fn given(&self, scratch: u64) -> impl Iterator<Item = (u64, &[u8])> {
        let answers = scratch + self.answers_at();
        let given = self.asked.iter().filter(|asked| !asked.given.is_empty());
        given.map(move |asked| (answers + asked.answer_offset, asked.given.as_slice()))
    }

    /// Also finds out whether memory mapped from now on is locked, which no call tells: it is seen on the scratch memory,
    /// where msync(2) refuses MS_INVALIDATE then.
    pub fn ask_about_locks(&mut self) {
        self.about_locks = true;
    }

    /// Lets the thread knock when it has answered.
    pub fn end_by(&mut self, knock: Option<Knock>) {
        self.knock = knock;
    }

    /// How it knocks.
    pub fn knock(&self) -> Option<Knock> {
        self.knock
    }

    /// Whether the scratch memory was locked, in the program as the stub left it.
    pub fn found_locks(&self, program: &Program, ran: &[u8]) -> bool {
        const BUSY: i64 = -(libc::EBUSY as i64);
        self.about_locks && program.result(ran, 1 + self.asked.len()) == Some(BUSY)
    }

    /// How many operations are our own: the first, and those after the questions.
    fn own(&self) -> usize {
        1 + usize::from(self.about_locks) + usize::from(self.knock.is_some())
    }

    /// A question of prctl(2) whose answer is the result.
    pub fn prctl(&mut self, option: i32, purpose: &'static str) -> Question {
        self.ask(system_call!(SYS_prctl), &[Arg::Value(u64::from(option.cast_unsigned()))], 0, purpose)
    }

    /// A question of prctl(2) whose answer is written to memory.
    pub fn prctl_into(&mut self, option: i32, answer_bytes: u64, purpose: &'static str) -> Question {
        let args = [Arg::Value(u64::from(option.cast_unsigned())), Arg::Answer];
        self.ask(system_call!(SYS_prctl), &args, answer_bytes, purpose)
    }

    /// The length of program and answers in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.answers_at() + self.answers_bytes
    }

    /// The answers follow the program.
    fn answers_at(&self) -> u64 {
        Program::bytes_of(self.asked.len() + self.own()) as u64
    }

    /// The program that asks them, with its scratch memory at `scratch`. A child forked meanwhile by another thread must
    /// not inherit that: it is the first thing it sees to.
    pub fn program(&self, scratch: u64) -> Program {
        let mut program = Program::with_capacity(self.asked.len() + self.own());
        let dont_fork = u64::from(libc::MADV_DONTFORK.cast_unsigned());
        program.ask(system_call!(SYS_madvise), &[scratch, 4096, dont_fork], "the scratch memory");
        let answers = scratch + self.answers_at();
        for asked in &self.asked {
            let args: Vec<u64> = asked
                .args
                .iter()
                .map(|arg| match arg {
                    Arg::Value(value) => *value,
                    Arg::Answer => answers + asked.answer_offset,
                })
                .collect();
            program.ask(asked.call, &args, asked.purpose);
        }
        if self.about_locks {
            let args = [scratch, 4096, u64::from(libc::MS_INVALIDATE.cast_unsigned())];
            program.ask(system_call!(SYS_msync), &args, "whether it is locked");
        }
        if let Some(knock) = self.knock {
            let args = [knock.process.into(), knock.thread.into(), knock.signal.into()];
            program.ask(system_call!(SYS_tgkill), &args, "us, who wait for it");
        }
        program
    }

    /// The answers, from the scratch memory as the stub left it.
    pub fn answers(self, program: &Program, ran: Vec<u8>, future_locks: u32) -> Answers {
        let results = (0..self.asked.len()).map(|index| program.result(&ran, index + 1)).collect();
        Answers { questions: self, results, ran, future_locks }
    }
}

/// What came out.
#[derive(Debug)]
pub struct Answers {
    questions: Questions,
    results: Vec<Option<i64>>,
    ran: Vec<u8>,
    future_locks: u32,
}

impl Answers {
    /// The result of a question's call.
    pub fn result(&self, question: Question) -> Result<u64, Errno> {
        let result = self.results.get(question.0).copied().flatten().ok_or(Errno::EINTR)?;
        match i32::try_from(result) {
            Ok(error @ -4095..=-1) => Err(Errno::from_raw(-error)),
            _ => Ok(result.cast_unsigned()),
        }
    }

    /// The result, or 0 where the kernel does not know the question.
    pub fn result_or_zero(&self, question: Question) -> u64 {
        self.result(question).unwrap_or_default()
    }

    /// Whether memory mapped from now on is locked: the bits of mlockall(2), told from what became of the scratch memory.
    pub fn future_locks(&self) -> u32 {
        self.future_locks
    }

    /// What the kernel wrote; nothing if the call failed.
    pub fn bytes(&self, question: Question) -> &[u8] {
        let Some(asked) = self.questions.asked.get(question.0) else { return &[] };
        if self.result(question).is_err() {
            return &[];
        }
        let start = usize::try_from(self.questions.answers_at() + asked.answer_offset).unwrap_or(usize::MAX);
        let len = usize::try_from(asked.answer_bytes).unwrap_or(0);
        start.checked_add(len).and_then(|end| self.ran.get(start..end)).unwrap_or_default()
    }

    /// The word at `at` of what the kernel wrote, 0 if the call failed.
    pub fn u64(&self, question: Question, at: usize) -> u64 {
        crate::parse::u64_at(self.bytes(question), at)
    }

    /// The half word at `at` of what the kernel wrote, 0 if the call failed.
    pub fn u32(&self, question: Question, at: usize) -> u32 {
        crate::parse::u32_at(self.bytes(question), at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_knock_takes_nothing_from_the_thread() {
        let status = |caught: &str, blocked: &str, seccomp: u32| {
            format!(
                "NStgid:\t900\t7\nNSpid:\t905\t9\nSigPnd:\t0\nShdPnd:\t0\nSigBlk:\t{blocked}\nSigCgt:\t{caught}\nSeccomp:\t{seccomp}\n"
            )
        };
        let urgent = Knock { process: 7, thread: 9, signal: 23 };
        assert_eq!(Knock::from_status(&status("0", "0", 0)), Some(urgent));
        assert_eq!(urgent.mask(), !(1 << 22));
        let window = Knock { signal: 28, ..urgent };
        assert_eq!(Knock::from_status(&status("400000", "0", 0)), Some(window), "SIGURG has a handler");
        assert_eq!(Knock::from_status(&status("400000", "8010000", 0)), None, "the others are blocked");
        assert_eq!(Knock::from_status(&status("0", "0", 2)), None, "a filter");
        assert_eq!(Knock::from_status(""), None);
    }

    #[test]
    fn answers_follow_the_program() {
        let mut questions = Questions::new();
        questions.prctl(libc::PR_GET_DUMPABLE, "dumpable");
        questions.prctl_into(libc::PR_GET_PDEATHSIG, 4, "the parent-death signal");
        let program = questions.program(0x10000);
        assert_eq!(program.ops().len(), 3);
        let answers = 0x10000 + program.len_bytes() as u64;
        let shown = program.to_string();
        assert!(shown.contains(&format!("prctl(0x2, {answers:#x})")), "{shown}");
        assert_eq!(questions.len_bytes(), program.len_bytes() as u64 + 8);
        questions.end_by(Some(Knock { process: 1, thread: 2, signal: 23 }));
        let program = questions.program(0x10000);
        let answers = 0x10000 + program.len_bytes() as u64;
        let shown = program.to_string();
        assert!(shown.contains(&format!("prctl(0x2, {answers:#x})")), "{shown}");
        assert!(shown.contains("tgkill(0x1, 0x2, 0x17)"), "{shown}");
    }
}
