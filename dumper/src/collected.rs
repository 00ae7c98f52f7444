//! What was collected: everything that goes into the image, and everything that should and cannot.

use crate::collect::aio;
use crate::collect::inet::Hold;
use crate::collect::mapping::kin::Carried;
use crate::collect::shm::Attached;
use crate::error::{Findings, Remark, Unsupported};
use crate::memory::{Manner, TaskMemory};
use crate::mounts::Mounts;
use crate::procdir::ProcDir;
use binfmt::address::Pid;
use binfmt::image::{Owner, Segment, StandardNote};
use binfmt::note::Note;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

/// Where the bytes of a segment come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// This address in the memory with this index, read in this manner.
    Memory(usize, u64, Manner),
    /// A file, from this offset.
    File(Arc<File>, u64),
    /// System V shared memory, from this offset.
    Attached(Arc<Attached>, u64),
    /// The segment with this index, which comes before.
    Same(usize),
    /// They are here.
    Bytes(Arc<Vec<u8>>),
}

impl Source {
    /// The index of the segment that has the same bytes.
    pub fn same(&self) -> Option<usize> {
        match self {
            Source::Same(index) => Some(*index),
            _ => None,
        }
    }
}

/// Everything that goes into the image, and everything that should and cannot.
#[derive(Debug, Default)]
pub struct Collected {
    /// The notes that debuggers read.
    pub standard: Vec<StandardNote>,
    /// Our notes.
    pub notes: Vec<Note>,
    /// The segments, each with where its bytes come from.
    pub contents: Vec<(Segment, Source)>,
    /// The pages of all memories, until they become segments.
    pub pages: Vec<Carried>,
    /// The memories that are read.
    pub memories: Vec<TaskMemory>,
    /// What an image cannot hold.
    pub findings: Findings,
    /// Rings in which nothing may appear while the image is written.
    pub rings: Vec<aio::Quiet>,
    /// TCP connections that go on after the resume.
    pub connections: Vec<OwnedFd>,
    /// What holds back those of their peers that are not of the tree.
    pub hold: Option<Hold>,
    /// How many of these may be otherwise in a moment.
    passing: usize,
    /// Whose things are being looked at, for what is found.
    whose: Option<ProcDir>,
    /// Where filesystems are mounted.
    pub mounts: Mounts,
    /// Files whose other attributes have their note, by device and inode.
    pub nameless: BTreeSet<(u64, u64)>,
    /// Ids of objects by device and inode.
    objects: BTreeMap<(u64, u64), u32>,
    /// Objects of which there are bytes.
    carried: BTreeSet<u32>,
}

impl Collected {
    /// What is found from now on is of this process.
    pub fn look_at(&mut self, pid: Pid) {
        self.whose = Some(ProcDir::new(pid));
    }

    /// Which process that is.
    pub fn pid(&self) -> Pid {
        self.whose.map_or(Pid(0), ProcDir::pid)
    }

    /// Adds a note.
    pub fn note(&mut self, note: impl Into<Note>) {
        self.notes.push(note.into());
    }

    /// Adds something that an image cannot hold, and what to do about it.
    pub fn unsupported(&mut self, what: impl Into<String>, advice: impl Into<String>) {
        let (what, advice) = (what.into(), advice.into());
        let pid = self.pid().0;
        let name = self.whose.map_or_else(String::new, ProcDir::name);
        self.findings.items.push(Unsupported { pid, name, what, advice });
    }

    /// Adds something that the image has otherwise than the original.
    pub fn remark(&mut self, what: String) {
        let pid = self.pid().0;
        let name = self.whose.map_or_else(String::new, ProcDir::name);
        self.findings.remarks.push(Remark { pid, name, what });
    }

    /// The same of something that may be otherwise in a moment.
    pub fn passing(&mut self, what: impl Into<String>, advice: impl Into<String>) {
        self.passing += 1;
        self.unsupported(what, advice);
    }

    /// Whether all that stands in the way may be otherwise in a moment.
    pub fn is_passing(&self) -> bool {
        self.passing > 0 && self.passing == self.findings.items.len()
    }

    /// Whether nothing stands in the way so far.
    pub fn can_be_saved(&self) -> bool {
        self.findings.items.is_empty()
    }

    /// Adds bytes.
    pub fn content(&mut self, owner: Owner, start: u64, len_bytes: u64, flags: u32, source: Source) {
        if let Owner::Object(id) = owner {
            self.carried.insert(id);
        }
        self.contents.push((Segment { owner, start, len_bytes, flags }, source));
    }

    /// The id of the object with this device and inode.
    pub fn object(&mut self, device: u64, inode: u64) -> u32 {
        let next = u32::try_from(self.objects.len() + 1).unwrap_or(u32::MAX);
        *self.objects.entry((device, inode)).or_insert(next)
    }

    /// Adds the bytes that wait in the pipe or socket with this inode, and says under which id; 0 for none.
    pub fn waiting(&mut self, inode: &Metadata, bytes: Vec<u8>) -> u32 {
        if bytes.is_empty() {
            return 0;
        }
        let id = self.object(inode.dev(), inode.ino());
        self.content(Owner::Object(id), 0, bytes.len() as u64, 0, Source::Bytes(Arc::new(bytes)));
        id
    }

    /// Whether bytes of object `id` are here already.
    pub fn carries(&self, id: u32) -> bool {
        self.carried.contains(&id)
    }
}
