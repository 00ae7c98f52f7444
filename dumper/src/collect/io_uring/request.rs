//! Which requests do not make one completion each, by what is left of them: where a ring was given such, a count of completions
//! does not tell whether something is under way. Those that were written over since, and messages of other rings, nobody tells of.

use super::State;
use crate::parse;
use binfmt::note::io_uring::{COMPLETION_BYTES, COMPLETIONS_AT, REQUEST_BYTES, array_at};

/// A request that was taken and makes several completions, none or one elsewhere; or one of those that wait for ever and stand
/// in no list, unless its completion is there.
pub(super) fn unclear(state: &State, (rings, requests): &(Vec<u8>, Vec<u8>)) -> Option<&'static str> {
    const MORE: u32 = 2;
    let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
    let (request_bytes, completion_bytes) = (number(REQUEST_BYTES), number(COMPLETION_BYTES));
    // In an array that leads elsewhere, what was not submitted cannot be told apart.
    let array = number(array_at(state.completions));
    let unsubmitted = parse::u32_at(rings, 4).wrapping_sub(state.taken).min(state.requests);
    let is_fresh = |slot: u32| {
        let ahead = slot.wrapping_sub(state.taken) & (state.requests - 1);
        ahead < unsubmitted && parse::u32_at(rings, array.saturating_add(slot as usize * 4)) == slot
    };
    let has_ended = |data: u64| {
        let there = state.completed.min(state.completions) as usize;
        let all = rings.get(number(COMPLETIONS_AT)..).unwrap_or_default();
        let mut all = all.chunks_exact(completion_bytes).take(there);
        all.any(|one| parse::u64_at(one, 0) == data && parse::u32_at(one, 12) & MORE == 0)
    };
    let taken = (0..state.requests).zip(requests.chunks_exact(request_bytes));
    let mut taken = taken.filter(|(slot, _)| state.taken != 0 && !is_fresh(*slot));
    taken.find_map(|(_, request)| match makes(request)? {
        Makes::Other(what) => Some(what),
        Makes::Late(what) => (!has_ended(parse::u64_at(request, 32))).then_some(what),
    })
}

/// What a request makes that is not one completion in the end.
enum Makes {
    /// Several, none, or one elsewhere.
    Other(&'static str),
    /// One, perhaps never.
    Late(&'static str),
}

/// By its operation and flags (struct io_uring_sqe).
fn makes(request: &[u8]) -> Option<Makes> {
    const SKIPS_SUCCESS: u32 = 1 << 6;
    let head = parse::u32_at(request, 0);
    let (operation, flags, priority) = (head & 0xff, head >> 8 & 0xff, head >> 16);
    let (len, special) = (parse::u32_at(request, 24), parse::u32_at(request, 28));
    if flags & SKIPS_SUCCESS != 0 {
        return Some(Makes::Other("a request without a completion (IOSQE_CQE_SKIP_SUCCESS)"));
    }
    Some(match operation {
        6 | 7 if len & 1 != 0 => Makes::Other("a poll that goes on (IORING_POLL_ADD_MULTI)"),
        9 | 10 | 26 | 27 if priority & 2 != 0 => {
            Makes::Other("a receive that goes on (IORING_RECV_MULTISHOT)")
        }
        11 if special & 1 << 6 != 0 => Makes::Other("a timeout that goes on (IORING_TIMEOUT_MULTISHOT)"),
        13 if priority & 1 != 0 => Makes::Other("an accept that goes on (IORING_ACCEPT_MULTISHOT)"),
        40 => Makes::Other("a message to a ring (IORING_OP_MSG_RING)"),
        46 if special & 2 != 0 => Makes::Other("a command that goes on (IORING_URING_CMD_MULTISHOT)"),
        47 | 48 => Makes::Other("a send without a copy (IORING_OP_SEND_ZC, IORING_OP_SENDMSG_ZC)"),
        49 => Makes::Other("a read that goes on (IORING_OP_READ_MULTISHOT)"),
        58 => Makes::Other("a receive without a copy (IORING_OP_RECV_ZC)"),
        11 => Makes::Late("a timeout (IORING_OP_TIMEOUT)"),
        15 => Makes::Late("a timeout of a request (IORING_OP_LINK_TIMEOUT)"),
        50 => Makes::Late("a wait for a process (IORING_OP_WAITID)"),
        51 | 53 => Makes::Late("a wait for a futex (IORING_OP_FUTEX_WAIT, IORING_OP_FUTEX_WAITV)"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_which_completions_say_nothing_are_found() {
        let ended = |operation: u32, len: u32, special: u32, completions: u32, tail: u32| {
            let state = State::parse(super::super::tests::INFO);
            let state = State { taken: 1, completed: completions, ..state.expect("as the kernel prints it") };
            let mut rings = vec![0; 4096];
            rings[4..8].copy_from_slice(&tail.to_le_bytes());
            rings[64..72].copy_from_slice(&7u64.to_le_bytes());
            let at = usize::try_from(array_at(state.completions)).expect("small");
            (0..4u8).for_each(|slot| rings[at + usize::from(slot) * 4] = slot);
            let mut requests = vec![0; 4096];
            // In the second slot.
            for (at, word) in [(0, operation), (24, len), (28, special), (32, 7)] {
                requests[64 + at..68 + at].copy_from_slice(&word.to_le_bytes());
            }
            unclear(&state, &(rings, requests)).is_none()
        };
        assert!(ended(0, 0, 0, 1, 1) && ended(6, 0, 0, 1, 1) && ended(13, 0, 0, 1, 1), "each makes one");
        assert!(
            !ended(6, 1, 0, 1, 1) && !ended(13 | 1 << 16, 0, 0, 1, 1) && !ended(27 | 2 << 16, 0, 0, 1, 1)
        );
        assert!(!ended(22 | 64 << 8, 0, 0, 1, 1) && !ended(40, 0, 0, 1, 1) && !ended(47, 0, 0, 1, 1));
        assert!(ended(11, 0, 0, 1, 1) && ended(50, 0, 0, 1, 1), "the completion is there");
        assert!(!ended(11, 0, 64, 1, 1) && !ended(11, 0, 0, 0, 1) && !ended(51, 0, 0, 0, 1));
        assert!(ended(47, 0, 0, 1, 2) && ended(11, 0, 0, 0, 2), "not submitted yet");
    }
}
