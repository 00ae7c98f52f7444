//! Contexts of asynchronous I/O: the ring of events that each has mapped tells what has ended and was not taken.
//!
//! What is still under way the kernel tells nobody. The requests to files and disks end by themselves, also while the process
//! stands still: they are waited for, until the disks of its files are idle, or nothing has ended for a while. If one ends
//! even later, before the image is whole, there is no image. A request that waits for a descriptor to become ready
//! (IOCB_CMD_POLL) may wait for ever, and is lost.

use super::mapping::smaps::Area;
use super::{Collected, Subject};
use crate::error::Error;
use crate::hatch::{Answers, Arg, Question, Questions};
use crate::parse;
use binfmt::note::aio::{AioEvent, AioRing, EVENT_BYTES, HEADER_BYTES, count, slot_at, slots};
use binfmt::system_call;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::time::{Duration, Instant};

/// AIO_RING_MAGIC (fs/aio.c)
const MAGIC: u32 = 0xa10a_10a1;

/// What the process is asked: whether each ring is its own.
#[derive(Debug)]
pub struct Asked(Vec<(u64, Question)>);

impl Asked {
    /// Puts the questions: to take no event from any.
    pub fn put(questions: &mut Questions, areas: &[Area]) -> Asked {
        let mut put = |area: &Area| {
            let (none, at_once) = (Arg::Value(0), vec![0; size_of::<libc::timespec>()]);
            let args = [Arg::Value(area.start), none, none, none, Arg::Answer];
            (area.start, questions.give(system_call!(SYS_io_getevents), &args, at_once, "an AIO context"))
        };
        Asked(areas.iter().filter(|area| is_ring(area)).map(&mut put).collect())
    }

    fn is_own(&self, start: u64, answers: &Answers) -> bool {
        self.0.iter().any(|(at, question)| *at == start && answers.result(*question).is_ok())
    }
}

/// Whether a mapping is a ring.
pub fn is_ring(area: &Area) -> bool {
    area.path.starts_with(b"/[aio]") && area.inode != 0
}

/// A ring in which nothing more may appear.
#[derive(Debug)]
pub struct Quiet {
    memory_index: usize,
    start: u64,
    tail: u32,
}

/// The head of a ring (struct aio_ring).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    number: u32,
    slots: u32,
    head: u32,
    tail: u32,
}

impl Head {
    /// Nothing if it is none, or not as long as its mapping.
    fn parse(bytes: &[u8], len_bytes: u64) -> Option<Head> {
        let word = |index: usize| parse::u32_at(bytes, index * 4);
        let (slots_there, compatible, incompatible) = (slots(len_bytes), word(5), word(6));
        let is_ring = word(4) == MAGIC && compatible == 1 && incompatible == 0;
        let is_ring =
            is_ring && u64::from(word(7)) == HEADER_BYTES && word(1) == slots_there && slots_there > 0;
        // The program may have written anything there; so the kernel takes them.
        let place = |index| word(index).checked_rem(slots_there);
        is_ring
            .then(|| Some(Head { number: word(0), slots: slots_there, head: place(2)?, tail: place(3)? }))
            .flatten()
    }
}

fn head(subject: &Subject<'_>, area: &Area) -> Result<Option<Head>, Error> {
    let mut bytes = [0; 32];
    subject.memory.read(area.start, &mut bytes).map_err(|error| failed(subject, error))?;
    Ok(Head::parse(&bytes, area.len_bytes()))
}

fn failed(subject: &Subject<'_>, error: nix::errno::Errno) -> Error {
    Error::question(subject.pid(), "reading its ring of AIO events", error)
}

/// Collects the contexts of an address space.
pub fn collect(
    subject: &Subject<'_>,
    asked: &Asked,
    answers: &Answers,
    out: &mut Collected,
) -> Result<(), Error> {
    let (mut own, mut foreign) = (Vec::new(), 0);
    for area in subject.areas.iter().filter(|area| is_ring(area)) {
        let whole = area.offset == 0 && area.shared;
        match (asked.is_own(area.start, answers), head(subject, area)?.filter(|_| whole)) {
            (true, Some(_)) => own.push(area),
            (true, None) => out.unsupported(
                format!("the ring of the AIO context {:x} is not mapped as a whole", area.start),
                "end it with io_destroy",
            ),
            (false, _) => foreign += 1,
        }
    }
    if foreign > 0 {
        out.remark(format!(
            "of {foreign} AIO rings that it inherited and cannot use, the image has no content"
        ));
    }
    if own.is_empty() {
        return Ok(());
    }
    if !settle(subject, &own)? {
        out.passing("asynchronous I/O of its is under way (io_submit)", "wait until it has ended");
        return Ok(());
    }
    for area in own {
        let Some(head) = head(subject, area)? else { continue };
        let events = events(subject, area, head)?;
        out.rings.push(Quiet { memory_index: subject.memory_index, start: area.start, tail: head.tail });
        out.note(AioRing {
            memory: subject.shares.memory.id,
            start: area.start,
            len_bytes: area.len_bytes(),
            number: head.number,
            head: head.head,
            tail: head.tail,
            events,
        });
    }
    Ok(())
}

fn events(subject: &Subject<'_>, area: &Area, head: Head) -> Result<Vec<AioEvent>, Error> {
    let read = |index: u32| {
        let mut bytes = [0; 32];
        let at = area.start + slot_at((head.head + index) % head.slots);
        debug_assert_eq!(bytes.len() as u64, EVENT_BYTES);
        subject.memory.read(at, &mut bytes).map_err(|error| failed(subject, error))?;
        let word = |index: usize| parse::u64_at(&bytes, index * 8);
        Ok(AioEvent {
            data: word(0),
            request: word(1),
            result: word(2).cast_signed(),
            second_result: word(3).cast_signed(),
        })
    };
    (0..count(head.head, head.tail, head.slots)).map(read).collect()
}

/// Waits until nothing seems to be under way; whether that came to pass.
fn settle(subject: &Subject<'_>, rings: &[&Area]) -> Result<bool, Error> {
    const LOOK: Duration = Duration::from_millis(1);
    const AT_LEAST: Duration = Duration::from_millis(4);
    const ENOUGH: Duration = Duration::from_millis(100);
    const AT_MOST: Duration = Duration::from_millis(500);
    let disks = disks(subject);
    let tails = || rings.iter().map(|area| head(subject, area)).collect::<Result<Vec<_>, Error>>();
    let (begin, mut before) = (Instant::now(), tails()?);
    let mut quiet_since = begin;
    loop {
        std::thread::sleep(LOOK);
        let now = tails()?;
        if now != before {
            (before, quiet_since) = (now, Instant::now());
        }
        let quiet = quiet_since.elapsed();
        if quiet >= ENOUGH || quiet >= AT_LEAST && disks.iter().all(|disk| is_idle(*disk)) {
            return Ok(true);
        }
        if begin.elapsed() > AT_MOST {
            return Ok(false);
        }
    }
}

/// The devices of the files that the process has open.
fn disks(subject: &Subject<'_>) -> BTreeSet<u64> {
    let disk = |metadata: &fs::Metadata| match metadata.file_type() {
        kind if kind.is_file() => Some(metadata.dev()),
        kind if kind.is_block_device() => Some(metadata.rdev()),
        _ => None,
    };
    subject.seen.descriptors.iter().filter_map(|seen| disk(&seen.place.metadata)).collect()
}

/// Whether a device has nothing to do. What does not tell is not known to: the devices of btrfs, overlay, NFS and FUSE have a
/// number without a disk.
fn is_idle(device: u64) -> bool {
    let path = format!("/sys/dev/block/{}:{}/inflight", libc::major(device), libc::minor(device));
    fs::read_to_string(path).is_ok_and(|text| text.split_whitespace().all(|count| count == "0"))
}

/// Whether, now that the image is written, everything is as it says.
pub fn check(collected: &Collected) -> Result<(), Error> {
    for ring in &collected.rings {
        let Some(memory) = collected.memories.get(ring.memory_index) else { continue };
        let mut tail = [0; 4];
        let failed = |error| Error::question(memory.pid(), "reading its ring of AIO events", error);
        memory.read(ring.start + 12, &mut tail).map_err(failed)?;
        if u32::from_le_bytes(tail) != ring.tail {
            return Err(Error::target(
                memory.pid(),
                "asynchronous I/O of its has ended while the image was written",
                "try again",
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_does_not_tell_is_not_idle() {
        assert!(!is_idle(libc::makedev(0, 12_345)));
    }

    #[test]
    fn the_head_of_a_ring_is_taken_apart() {
        let ring = |words: [u32; 8]| words.into_iter().flat_map(u32::to_le_bytes).collect::<Vec<u8>>();
        let right = [2, 127, 130, 5, MAGIC, 1, 0, 32];
        let head = Head { number: 2, slots: 127, head: 3, tail: 5 };
        assert_eq!(Head::parse(&ring(right), 4096), Some(head));
        assert_eq!(Head::parse(&ring(right), 8192), None, "another length");
        for (index, value) in [(1, 126), (4, 0), (5, 2), (6, 1), (7, 64)] {
            let mut wrong = right;
            wrong[index] = value;
            assert_eq!(Head::parse(&ring(wrong), 4096), None, "word {index}");
        }
        assert_eq!(Head::parse(&[], 4096), None);
        assert_eq!(Head::parse(&ring(right), 0), None);
    }
}
