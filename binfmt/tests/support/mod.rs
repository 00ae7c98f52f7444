//! Images made by hand, whole ones and forged ones.
#![allow(dead_code, reason = "every test file uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that panics has failed"
)]

use binfmt::digest::digest;
use binfmt::image::{Image, ImageError, Layout, Owner, ROOT_MEMORY, Segment, StandardNote};
use binfmt::note::descriptor::{Description, DescriptionKind, Descriptor, DescriptorTable};
use binfmt::note::file::{FileIdentity, OpenFile};
use binfmt::note::filesystem::Filesystem;
use binfmt::note::host::Host;
use binfmt::note::mapping::{Backing, Extent, MappedObject, Mapping, Memory, ObjectKind};
use binfmt::note::pipe::Pipe;
use binfmt::note::signal::{Action, SignalHandlers};
use binfmt::note::task::Task;
use binfmt::note::thread::{Registers, Thread};
use binfmt::note::{Note, kinds};
use binfmt::{core_note, wire::Bytes};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Where the sample's root memory begins, and its main thread stands.
pub(crate) const ADDRESS: u64 = 0x40_0000;
pub(crate) const ENTRY: u64 = ADDRESS + 0x123;
/// Length of the seal at the end of the metadata.
pub(crate) const SEAL_BYTES: usize = 28;

/// What an image is made of.
pub(crate) struct Parts {
    pub(crate) standard: Vec<StandardNote>,
    pub(crate) notes: Vec<Note>,
    pub(crate) segments: Vec<Segment>,
    /// The bytes of each segment.
    pub(crate) contents: Vec<Vec<u8>>,
    /// For a segment that is stored with an earlier one, the index of that.
    pub(crate) placed_as: Vec<Option<usize>>,
}

/// A small image of a task with two threads, a file, a pipe with something in it and shared memory; it fits together.
pub(crate) fn sample() -> Parts {
    let task = Task {
        pid: 100,
        process_group: 100,
        session: 90,
        name: "sample".into(),
        memory: ROOT_MEMORY,
        descriptor_table: 1,
        filesystem: 1,
        signal_handlers: 1,
        ..Task::default()
    };
    let threads = [(100, ENTRY), (101, ENTRY + 1)].map(|(tid, rip)| Thread {
        pid: 100,
        tid,
        registers: Registers {
            rip,
            rsp: ADDRESS + 0x2000,
            cs: 0x33,
            ss: 0x2b,
            eflags: 0x202,
            ..Registers::default()
        },
        name: "sample".into(),
        ..Thread::default()
    });
    let file = FileIdentity { path: "/tmp/a file".into(), size_bytes: 12, ..FileIdentity::default() };
    let mut standard = vec![core_note::process(&task, 0, 0, 0, b"./sample --of a program")];
    threads.iter().for_each(|thread| standard.extend(core_note::thread(&task, thread, &[0; 832])));
    standard.extend([core_note::signal(), core_note::auxv(&[0; 16]), core_note::files(&[])]);
    let descriptors = [(3, 1), (4, 2)];
    let descriptors = descriptors
        .map(|(number, description)| Descriptor { number, description, ..Descriptor::default() })
        .to_vec();
    let description =
        |id, kind| Description { id, kind, label: "/tmp/a file".into(), ..Description::default() };
    let mut notes: Vec<Note> = vec![
        Host { dumper_version: "0".into(), realtime_ns: 1_700_000_000_000_000_000, ..Host::default() }.into(),
        task.into(),
        memory().into(),
        shared_object(&file).into(),
        Filesystem { id: 1, umask: 0o22, ..Filesystem::default() }.into(),
        SignalHandlers { id: 1, actions: vec![Action { signal: 15, handler: ENTRY, ..Action::default() }] }
            .into(),
        DescriptorTable { id: 1, descriptors }.into(),
        description(1, DescriptionKind::File).into(),
        description(2, DescriptionKind::Pipe).into(),
        OpenFile { description: 1, file, process: 0 }.into(),
        Pipe { descriptions: vec![2], content: 6, content_bytes: 5, ..Pipe::default() }.into(),
    ];
    notes.extend(threads.map(Note::from));
    let contents = vec![page(1), page(2), b"piped".to_vec()];
    let owners = [(Owner::Memory(ROOT_MEMORY), ADDRESS), (Owner::Object(5), 0x1000), (Owner::Object(6), 0)];
    let segments = owners.iter().zip(&contents).map(|(&(owner, start), bytes)| Segment {
        owner,
        start,
        len_bytes: bytes.len() as u64,
        flags: 6,
    });
    Parts { standard, notes, segments: segments.collect(), contents, placed_as: Vec::new() }
}

fn memory() -> Memory {
    let mapping = |start, backing, object| Mapping {
        start,
        len_bytes: 0x3000,
        protection: 3,
        backing,
        object,
        vm_flags: "rd wr mr mw me ac".into(),
        page_bytes: 4096,
        ..Mapping::default()
    };
    let mut guarded = mapping(ADDRESS, Backing::Anonymous, 0);
    guarded.guards = vec![Extent { start: ADDRESS + 0x1000, len_bytes: 0x1000 }];
    let shared = mapping(0x7f00_0000_0000, Backing::Object, 5);
    let mappings = vec![guarded, Mapping { shared: true, ..shared }];
    Memory { id: ROOT_MEMORY, auxv: Bytes(vec![0; 16]), mappings, ..Memory::default() }
}

fn shared_object(file: &FileIdentity) -> MappedObject {
    MappedObject { id: 5, kind: ObjectKind::SharedAnonymous, file: file.clone(), ..MappedObject::default() }
}

/// A page that is not zero and not its neighbour.
pub(crate) fn page(seed: u8) -> Vec<u8> {
    (0..4096u32).map(|i| (i.wrapping_mul(31) >> 3).to_le_bytes()[0].wrapping_add(seed)).collect()
}

/// One note of every kind that there is, with every number 0 and every list empty.
pub(crate) fn every_kind() -> Vec<Note> {
    let smallest = |number| {
        let notes = (0..4096).map(|len| Note::decode(number, &vec![0; len]));
        notes.flatten().flatten().next().unwrap()
    };
    kinds().iter().map(|kind| smallest(kind.0)).collect()
}

impl Parts {
    pub(crate) fn layout(&self) -> Layout {
        Layout::sharing(&self.standard, &self.notes, &self.segments, &self.placed_as).unwrap()
    }

    /// The whole file, in the order in which a pipe gets it.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let layout = self.layout();
        let mut out = layout.head.clone();
        for (index, ((_, offset), bytes)) in layout.segments.iter().zip(&self.contents).enumerate() {
            if self.placed_as.get(index).copied().flatten().is_some() {
                continue;
            }
            let offset = usize::try_from(*offset).unwrap();
            assert!(offset >= out.len(), "a pipe cannot go back");
            out.resize(offset, 0);
            out.extend_from_slice(bytes);
        }
        out.resize(usize::try_from(layout.tail_offset).unwrap(), 0);
        let digests: Vec<u64> = self.contents.iter().map(|bytes| digest(bytes)).collect();
        out.extend(layout.tail(&digests));
        assert_eq!(out.len() as u64, layout.total_bytes);
        out
    }
}

/// A file with these bytes and no name.
pub(crate) fn file(bytes: &[u8]) -> File {
    let file = File::from(memfd_create(c"image", MFdFlags::MFD_CLOEXEC).unwrap());
    file.write_all_at(bytes, 0).unwrap();
    file
}

pub(crate) fn open(bytes: &[u8]) -> Result<Image, ImageError> {
    Image::open(file(bytes))
}

/// What is said of bytes that are no image.
pub(crate) fn refusal(bytes: &[u8]) -> String {
    match open(bytes) {
        Ok(_) => "it was accepted".to_owned(),
        Err(error) => error.to_string(),
    }
}

/// Bytes `at` a place, little-endian.
pub(crate) fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// Where the metadata end, according to the first program header, and so where the seal begins.
pub(crate) fn seal_offset(bytes: &[u8]) -> usize {
    usize::try_from(word(bytes, 64 + 8) + word(bytes, 64 + 32)).unwrap() - SEAL_BYTES
}

/// Puts `new` at `at` and the digest that belongs to it into the seal, as a forger would.
pub(crate) fn forge(bytes: &[u8], at: usize, new: &[u8]) -> Vec<u8> {
    let seal = seal_offset(bytes);
    let mut forged = bytes.to_vec();
    forged[at..at + new.len()].copy_from_slice(new);
    let found = digest(&forged[..seal]);
    forged[seal + 20..seal + 28].copy_from_slice(&found.to_le_bytes());
    forged
}
