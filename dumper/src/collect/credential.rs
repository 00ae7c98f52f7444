//! Who a thread is for the kernel's permission checks: `/proc/PID/task/TID/status`, and the secure bits from itself.

use super::{Collected, ThreadFacts};
use crate::hatch::{Answers, Question, Questions};
use crate::parse;
use binfmt::note::credential::{Credential, Identity};

/// What a thread is asked.
#[derive(Debug)]
pub struct Asked {
    secure_bits: Question,
}

impl Asked {
    /// Puts the questions.
    pub fn put(questions: &mut Questions) -> Asked {
        Asked { secure_bits: questions.prctl(libc::PR_GET_SECUREBITS, "the secure bits") }
    }
}

/// Collects the credentials of one thread.
pub fn collect(facts: &ThreadFacts, asked: &Asked, answers: &Answers, out: &mut Collected) {
    let secure_bits = u32::try_from(answers.result_or_zero(asked.secure_bits)).unwrap_or_default();
    out.note(from_status(facts.tid.0.cast_unsigned(), &facts.status, secure_bits));
}

fn from_status(tid: u32, status: &str, secure_bits: u32) -> Credential {
    let numbers = |key| -> Vec<u32> {
        let text = parse::value(status, key).unwrap_or_default();
        text.split_whitespace().filter_map(|number| number.parse().ok()).collect()
    };
    let identity = |key| match numbers(key).as_slice() {
        [real, effective, saved, filesystem] => {
            Identity { real: *real, effective: *effective, saved: *saved, filesystem: *filesystem }
        }
        _ => Identity::default(),
    };
    let set = |key| parse::hex(status, key).unwrap_or_default();
    Credential {
        tid,
        user: identity("Uid"),
        group: identity("Gid"),
        groups: numbers("Groups"),
        inheritable: set("CapInh"),
        permitted: set("CapPrm"),
        effective: set("CapEff"),
        bounding: set("CapBnd"),
        ambient: set("CapAmb"),
        secure_bits,
        no_new_privileges: parse::decimal(status, "NoNewPrivs") == Some(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_taken_apart() {
        let status = "Name:\tUid:\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \nCapInh:\t0\nCapPrm:\tff\n\
                      CapEff:\t1\nCapBnd:\t1ffffffffff\nCapAmb:\t0\nNoNewPrivs:\t1\n";
        let credential = from_status(12, status, 47);
        assert_eq!((credential.user.filesystem, credential.group.real), (4, 5));
        assert_eq!(credential.groups, [9, 10]);
        assert_eq!((credential.permitted, credential.bounding), (0xff, 0x1ff_ffff_ffff));
        assert!(credential.no_new_privileges);
        assert_eq!(from_status(1, "Uid:\t1\t2\n", 0).user, Identity::default());
    }
}
