//! The seccomp state of a thread.

use super::{Collected, ThreadFacts};
use crate::parse;
use binfmt::note::seccomp::{Seccomp, SeccompMode as Mode};

/// Collects the seccomp state of one thread.
pub fn collect(facts: &ThreadFacts, out: &mut Collected) {
    let mode = match parse::decimal(&facts.status, "Seccomp") {
        Some(1) => Mode::Strict,
        Some(2) => Mode::Filter,
        _ => Mode::Disabled,
    };
    if mode != Mode::Disabled {
        out.unsupported(format!("thread {} is under seccomp ({mode:?})", facts.tid), "start it without");
    }
    out.note(Seccomp { tid: facts.tid.0.cast_unsigned(), mode, filters: Vec::new() });
}
