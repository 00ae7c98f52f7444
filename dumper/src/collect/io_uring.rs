//! io_uring instances in which nothing is under way. What fdinfo does not tell, the instance is asked (io_uring_register(2) with
//! an argument that cannot be read), and what nobody tells is refused where it matters.
//!
//! Requests that are under way are not counted anywhere, but each makes one completion: if as many have been made as
//! requests were taken, none is. That is so only where each makes one: the requests that can still be read tell ([`unclear`]).
//! Some flags cannot be learnt, and need not be: see `loader/src/rebuild/io_uring.rs`.

mod request;

use super::descriptor::{Group, Open};
use super::file::Place;
use super::mapping::smaps::Area;
use super::{Collected, Source, Subject};
use crate::allow::Allow;
use crate::hatch::{Answers, Arg, Question, Questions};
use crate::{parse, sys};
use binfmt::image::Owner;
use binfmt::note::descriptor::DescriptionKind;
use binfmt::note::io_uring::{
    COMPLETION_BYTES, COMPLETIONS_AT, COMPLETIONS_MAX, IoUring, REQUEST_BYTES, REQUESTS_AT, REQUESTS_MAX,
    RegisteredBuffer, RegisteredFile, TAKEN_MAX, array_at,
};
use binfmt::system_call;
use nix::errno::Errno;
use request::unclear;
use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// What a mapping of one, and its descriptor, are called.
pub const LABEL: &[u8] = b"anon_inode:[io_uring]";
const PAGE_BYTES: u64 = binfmt::address::PAGE_BYTES;

/// What a thread is asked: whether it knows instances by numbers of its own (IORING_REGISTER_RING_FDS).
#[derive(Debug)]
pub struct Asked(Vec<Question>);

impl Asked {
    /// Puts the questions, if there is an instance in its memory.
    pub fn put(questions: &mut Questions, areas: &[Area]) -> Asked {
        const NUMBERS: u64 = 16;
        const REGISTERED_RING: u64 = 16;
        let numbers = if areas.iter().any(is_ring) { 0..NUMBERS } else { 0..0 };
        let mut put = |number| {
            let none = Arg::Value(0);
            let args = [Arg::Value(number), none, none, Arg::Value(REGISTERED_RING), none, none];
            questions.ask(system_call!(SYS_io_uring_enter), &args, 0, "a registered io_uring")
        };
        Asked(numbers.map(&mut put).collect())
    }

    /// Names those that a thread has.
    pub fn refuse(&self, subject: &Subject<'_>, answers: &Answers, out: &mut Collected) {
        let is_one = |question: &Question| {
            !matches!(answers.result(*question), Err(Errno::EINVAL | Errno::EBADF | Errno::ENOSYS))
        };
        if self.0.iter().any(is_one) && !subject.options.allow.contains(&Allow::IoUring) {
            out.unsupported(
                "a thread has registered its io_uring instance (IORING_REGISTER_RING_FDS)",
                "have the program leave that out (io_uring_register_ring_fd)",
            );
        }
    }
}

/// Whether a mapping is of an instance.
pub fn is_ring(area: &Area) -> bool {
    area.path == LABEL
}

/// Names mappings of instances that cannot come back: other memory than the rings, and what nobody has open any more.
pub fn refuse_mappings(subjects: &[Subject<'_>], groups: &[Group<'_>], out: &mut Collected) {
    const COMPLETIONS_TOO: u64 = 0x800_0000;
    let open: BTreeSet<u64> = groups
        .iter()
        .filter(|group| group.first.place.label == LABEL)
        .map(|group| group.first.place.metadata.ino())
        .collect();
    for subject in subjects.iter().filter(|subject| subject.shares.memory.is_first) {
        out.look_at(subject.pid());
        let allowed = subject.options.allow.contains(&Allow::IoUring);
        for area in subject.areas.iter().filter(|area| is_ring(area) && !allowed) {
            let place = format!("the mapping {:x}-{:x} is of an io_uring instance", area.start, area.end);
            if ![0, COMPLETIONS_TOO, REQUESTS_AT].contains(&area.offset) {
                out.unsupported(format!("{place}, for buffers"), "have the program provide its own memory");
            } else if !open.contains(&area.inode) {
                out.unsupported(format!("{place} that it has closed"), "have the program leave it open");
            }
        }
    }
}

/// Completes `description`, or says what stands against it; `all` are the descriptions of the tree.
pub fn collect(
    description: u32,
    open: &Open<'_>,
    duplicate: BorrowedFd<'_>,
    all: &[Group<'_>],
    out: &mut Collected,
) -> DescriptionKind {
    let found = match State::parse(&open.info) {
        Some(state) => read(&state, duplicate).and_then(|memory| Ok((note(&state, open, all)?, memory))),
        None => Err(Against::Lasting("of which this kernel does not tell enough".to_owned())),
    };
    match found {
        Ok((note, (rings, requests))) => {
            let object = out.object(open.place.metadata.dev(), open.place.metadata.ino());
            for (start, bytes) in [(0, rings), (REQUESTS_AT, requests)] {
                let len_bytes = bytes.len() as u64;
                out.content(Owner::Object(object), start, len_bytes, 0, Source::Bytes(Arc::new(bytes)));
            }
            out.note(IoUring { description, object, ..note });
            DescriptionKind::IoUring
        }
        Err(Against::Lasting(why)) => {
            open.not_saved(Allow::IoUring, &format!("an io_uring instance {why}"), out)
        }
        Err(Against::Passing(why)) if !open.subject.options.allow.contains(&Allow::IoUring) => {
            let advice =
                format!("wait until they have ended; `--allow {}` restores it closed", Allow::IoUring.word());
            out.passing(format!("{} is an io_uring instance {why}", open.name()), advice);
            DescriptionKind::Closed
        }
        Err(Against::Passing(_)) => DescriptionKind::Closed,
    }
}

/// What stands against it.
enum Against {
    /// It will still be so in a moment.
    Lasting(String),
    /// It may be otherwise then.
    Passing(String),
}

fn lasting<T>(why: impl Into<String>) -> Result<T, Against> {
    Err(Against::Lasting(why.into()))
}

/// What fdinfo tells.
#[derive(Debug, PartialEq, Eq)]
struct State {
    requests: u32,
    completions: u32,
    taken: u32,
    completed: u32,
    has_thread: bool,
    is_waiting: bool,
    others: Option<&'static str>,
    file_slots: u32,
    files: Vec<(u32, String)>,
    buffer_slots: u32,
    buffers: Vec<RegisteredBuffer>,
}

impl State {
    fn parse(info: &str) -> Option<State> {
        let number = |key| parse::decimal(info, key).and_then(|value| u32::try_from(value).ok());
        let mask = |key| {
            let text = parse::value(info, key)?;
            let mask = u32::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()?;
            mask.checked_add(1).filter(|entries| entries.is_power_of_two())
        };
        let below = |key| below(info, key);
        let has_below = |key| below(key).next().is_some();
        let napi = parse::value(info, "NAPI").is_some_and(|word| word != "disabled");
        let others = [
            (has_below("Personalities"), "with registered credentials (IORING_REGISTER_PERSONALITY)"),
            (napi, "that polls network devices (IORING_REGISTER_NAPI)"),
        ];
        let files = below("UserFiles").map(slot).filter(|slot| !matches!(slot, Some((_, "<none>"))));
        let files = files.map(|slot| slot.map(|(slot, name)| (slot, name.to_owned())));
        let buffers = below("UserBufs").map(slot).filter(|slot| !matches!(slot, Some((_, "<none>"))));
        Some(State {
            requests: mask("SqMask").filter(|entries| *entries <= REQUESTS_MAX)?,
            completions: mask("CqMask").filter(|entries| *entries <= COMPLETIONS_MAX)?,
            taken: number("CachedSqHead")?,
            completed: number("CachedCqTail")?,
            has_thread: parse::value(info, "SqThread")? != "-1",
            is_waiting: has_below("PollList") || has_below("CqOverflowList"),
            others: others.iter().find(|(is_so, _)| *is_so).map(|(_, what)| *what),
            file_slots: number("UserFiles")?,
            files: files.collect::<Option<_>>()?,
            buffer_slots: number("UserBufs")?,
            buffers: buffers.map(|slot| buffer(slot?)).collect::<Option<_>>()?,
        })
    }
}

/// The lines that belong to `key`: they begin with a space.
fn below<'a>(info: &'a str, key: &str) -> impl Iterator<Item = &'a str> {
    let lines = info
        .lines()
        .skip_while(move |line| !line.strip_prefix(key).is_some_and(|rest| rest.starts_with(':')));
    lines.skip(1).take_while(|line| line.starts_with(' '))
}

/// `SLOT: REST`
fn slot(line: &str) -> Option<(u32, &str)> {
    let (slot, rest) = line.split_once(':')?;
    Some((slot.trim().parse().ok()?, rest.strip_prefix(' ').unwrap_or(rest)))
}

/// `0xADDRESS/LENGTH`
fn buffer((slot, text): (u32, &str)) -> Option<RegisteredBuffer> {
    let (start, len) = text.split_once('/')?;
    let start = u64::from_str_radix(start.strip_prefix("0x")?, 16).ok()?;
    Some(RegisteredBuffer { slot, start, len_bytes: len.trim().parse().ok()? })
}

/// The memory of an instance that can come back: rings and requests.
fn read(state: &State, ring: BorrowedFd<'_>) -> Result<(Vec<u8>, Vec<u8>), Against> {
    const EVENTFD: u32 = 4;
    const MEMORY: u32 = 34;
    const GROUPS: u32 = 1 << 16;
    if state.has_thread {
        return lasting("with a thread of the kernel's (IORING_SETUP_SQPOLL)");
    }
    match sys::ring_would_register(ring, EVENTFD) {
        Errno::EEXIST => return lasting("for one thread alone (IORING_SETUP_SINGLE_ISSUER)"),
        Errno::EACCES => return lasting("with restrictions"),
        Errno::EBUSY => return lasting("that tells an eventfd of completions (IORING_REGISTER_EVENTFD)"),
        _ => {}
    }
    match sys::ring_enter(ring) {
        Err(Errno::EBADFD) => return lasting("that was not enabled yet (IORING_SETUP_R_DISABLED)"),
        Err(error) => return lasting(format!("that cannot be asked ({error})")),
        Ok(()) => {}
    }
    if sys::ring_would_register(ring, MEMORY) == Errno::EBUSY {
        return lasting("with memory for arguments (IORING_REGISTER_MEM_REGION)");
    }
    if let Some(what) = state.others {
        return lasting(what);
    }
    // A kernel that cannot be asked says so of the first, which it does not say of each.
    let known = !sys::ring_has_buffers(ring, 0) || !sys::ring_has_buffers(ring, GROUPS - 1);
    if known && (0..GROUPS).any(|group| sys::ring_has_buffers(ring, group)) {
        return lasting("to which buffers were provided (IORING_REGISTER_PBUF_RING)");
    }
    if state.taken > TAKEN_MAX {
        return lasting(format!("that has had {} requests, more than are counted again", state.taken));
    }
    let memory = memory(state, ring)?;
    let dropped = parse::u32_at(&memory.0, 32);
    let under_way = state.taken.wrapping_sub(dropped).wrapping_sub(state.completed).cast_signed();
    match under_way {
        _ if state.is_waiting => Err(Against::Passing("with requests under way".to_owned())),
        0 => match unclear(state, &memory) {
            None => Ok(memory),
            Some(request) => lasting(format!(
                "that was given {request}, so that requests under way cannot be told from its completions"
            )),
        },
        1.. => Err(Against::Passing(format!("with requests under way ({under_way} have no completion)"))),
        _ => lasting("whose requests make several completions each, so that those under way cannot be told"),
    }
}

fn memory(state: &State, ring: BorrowedFd<'_>) -> Result<(Vec<u8>, Vec<u8>), Against> {
    let pages = |bytes: u64| usize::try_from(bytes.div_ceil(PAGE_BYTES)).unwrap_or(0);
    let end_of_completions = COMPLETIONS_AT + u64::from(state.completions) * COMPLETION_BYTES;
    let end = array_at(state.completions) + u64::from(state.requests) * 4;
    let requests_end = u64::from(state.requests) * REQUEST_BYTES;
    let read = |offset, most| {
        sys::ring_memory(ring, offset, most).map_err(|error| match error {
            Errno::EINVAL => Against::Lasting("in memory of the program's (IORING_SETUP_NO_MMAP)".to_owned()),
            error => Against::Lasting(format!("whose memory cannot be read ({error})")),
        })
    };
    let (rings, requests) = (read(0, pages(end) + 1)?, read(REQUESTS_AT, pages(requests_end) + 1)?);
    let is_zero_from = |bytes: &[u8], from: u64| {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        bytes.get(from..).is_none_or(|rest| rest.iter().all(|byte| *byte == 0))
    };
    // A layout of another kernel, too.
    if rings.len() < pages(end_of_completions) * 4096
        || rings.len() > pages(end) * 4096
        || !is_zero_from(&rings, end)
        || (parse::u32_at(&rings, 24), parse::u32_at(&rings, 28)) != (state.requests, state.completions)
    {
        return lasting("with completions of 32 bytes (IORING_SETUP_CQE32)");
    }
    if requests.len() != pages(requests_end) * 4096 || !is_zero_from(&requests, requests_end) {
        return lasting("with requests of 128 bytes (IORING_SETUP_SQE128)");
    }
    Ok((rings, requests))
}

/// Whether the label of a description is no other one's: not that of both ends of a pipe, of memory that chose its name, or of
/// what has lost its name to another file.
fn tells_apart(place: &Place) -> bool {
    let has_name = place.metadata.nlink() > 0 && !place.label.ends_with(b" (deleted)");
    place.label.starts_with(b"socket:[") || place.metadata.is_file() && has_name
}

fn note(state: &State, open: &Open<'_>, all: &[Group<'_>]) -> Result<IoUring, Against> {
    let file = |(slot, name): &(u32, String)| {
        let mut found = all.iter().filter(|group| group.first.place.label == name.as_bytes());
        match (found.next(), found.next()) {
            (Some(group), None) if tells_apart(&group.first.place) => {
                Ok(RegisteredFile { slot: *slot, description: group.id })
            }
            (None, _) => {
                lasting(format!("with the registered file {name}, which no process of the tree has open"))
            }
            (Some(_), None) => {
                lasting(format!("with the registered file {name}, whose name says too little"))
            }
            _ => lasting(format!("with the registered file {name}, which is open more than once")),
        }
    };
    Ok(IoUring {
        description: 0,
        object: 0,
        requests: state.requests,
        completions: state.completions,
        taken: state.taken,
        completed: state.completed,
        file_slots: state.file_slots,
        files: state.files.iter().map(file).collect::<Result<_, Against>>()?,
        memory: open.subject.shares.memory.id,
        buffer_slots: state.buffer_slots,
        buffers: state.buffers.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const INFO: &str = "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t36365735\nSqMask:\t0x3\nSqHead:\t9\nSqTail:\t9\n\
        CachedSqHead:\t9\nCqMask:\t0x7\nCqHead:\t8\nCqTail:\t9\nCachedCqTail:\t9\nSQEs:\t0\nCQEs:\t1\n    8: user_data:7, res:0, flags:0\n\
        SqThread:\t-1\nSqThreadCpu:\t-1\nSqTotalTime:\t0\nSqWorkTime:\t0\nUserFiles:\t3\n    0: /tmp/a b\n    2: pipe:[77]\n\
        UserBufs:\t2\n    0: 0x7f25f0735000/8192\n    1: <none>\nPollList:\nCqOverflowList:\nNAPI:\tdisabled\n";

    #[test]
    fn what_fdinfo_says_is_taken_apart() {
        let state = State::parse(INFO).expect("as the kernel prints it");
        assert_eq!((state.requests, state.completions, state.taken, state.completed), (4, 8, 9, 9));
        assert_eq!((state.file_slots, state.buffer_slots), (3, 2));
        assert_eq!(state.files, [(0, "/tmp/a b".to_owned()), (2, "pipe:[77]".to_owned())]);
        assert_eq!(state.buffers, [RegisteredBuffer { slot: 0, start: 0x7f25_f073_5000, len_bytes: 8192 }]);
        assert!(!state.has_thread && !state.is_waiting && state.others.is_none());
    }

    #[test]
    fn what_stands_against_it_is_seen() {
        let with = |from: &str, to: &str| State::parse(&INFO.replace(from, to));
        assert!(
            with("PollList:\n", "PollList:\n  op=6, task_works=0\n").is_some_and(|state| state.is_waiting)
        );
        let overflow = "CqOverflowList:\n  user_data=1, res=0, flags=0\n";
        assert!(with("CqOverflowList:\n", overflow).is_some_and(|state| state.is_waiting));
        assert!(with("SqThread:\t-1", "SqThread:\t77").is_some_and(|state| state.has_thread));
        assert!(with("NAPI:\tdisabled", "NAPI:\tenabled").is_some_and(|state| state.others.is_some()));
        assert!(with("NAPI:", "Personalities:\n    1: \n").is_some_and(|state| state.others.is_some()));
        for (from, to) in [
            ("0x3", "0x4"),
            ("UserBufs", "Bufs"),
            ("0: 0x7f", "0: 7f"),
            ("SqMask:\t0x3", "SqMask:\t0xffffffff"),
        ] {
            assert_eq!(with(from, to), None, "{from}");
        }
        assert_eq!(State::parse(""), None);
    }
}
