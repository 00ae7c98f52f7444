//! The address space: its layout, its mappings, and which of their pages the image carries.
//!
//! Carried are pages that are nobody's but those of processes: anonymous ones and copies of a file's pages, once for all
//! that share them since a fork ([`kin`]). Memory that can be shared
//! (memfd, shared anonymous, System V, deleted files) is carried once as an object, however often it is mapped.

pub mod kin;
mod object;
pub mod pages;
pub mod smaps;

use super::{Collected, Subject, aio, file, io_uring, userfaultfd};
use crate::error::Error;
use crate::hatch::{Answers, Arg, Question, Questions};
use crate::memory::Manner;
use crate::procdir::ProcDir;
use binfmt::note::mapping::{Backing, Extent, Mapping, Memory};
use binfmt::system_call;
use kin::{Carried, Piece};
pub use object::Objects;
use pages::{Kind, Run};
use smaps::Area;
use std::sync::Arc;

/// linux/prctl.h, 6.3 and 6.4.
const PR_GET_MDWE: i32 = 66;
const PR_GET_MEMORY_MERGE: i32 = 68;

/// What the process is asked.
#[derive(Debug)]
pub struct Asked {
    brk: Question,
    thp_disable: Question,
    deny_write_execute: Question,
    memory_merge: Question,
}

impl Asked {
    /// Puts the questions.
    pub fn put(questions: &mut Questions) -> Asked {
        questions.ask_about_locks();
        Asked {
            brk: questions.ask(system_call!(SYS_brk), &[Arg::Value(0)], 0, "the end of the heap"),
            thp_disable: questions.prctl(libc::PR_GET_THP_DISABLE, "whether huge pages are off"),
            deny_write_execute: questions.prctl(PR_GET_MDWE, "whether writable code is denied"),
            memory_merge: questions.prctl(PR_GET_MEMORY_MERGE, "whether equal pages are merged"),
        }
    }
}

/// What the kernel says of it beside its mappings.
#[derive(Debug)]
pub struct Seen {
    executable: file::Place,
    auxv: Vec<u8>,
}

/// Looks at it.
pub fn look(proc: ProcDir) -> Result<Seen, Error> {
    let executable = file::Place::magic_link(proc.path("exe"))
        .map_err(|error| Error::question(proc.pid(), "reading which program it runs", error))?;
    Ok(Seen { executable, auxv: proc.bytes("auxv")? })
}

/// Collects the address space.
pub fn collect(
    subject: &Subject<'_>,
    seen: &Seen,
    asked: &Asked,
    answers: &Answers,
    objects: &mut Objects,
    out: &mut Collected,
) -> Result<(), Error> {
    let (mut mappings, mut pieces) = (Vec::new(), Vec::new());
    for area in subject.areas.iter().filter(|area| area.end <= binfmt::address::TASK_END) {
        refuse(area, out);
        if is_kernel_object(area) {
            continue;
        }
        let backing = backing(area);
        let object = match backing {
            Backing::Object => objects.of(subject, area, out)?,
            Backing::IoUring => out.object(area.device, area.inode),
            _ => 0,
        };
        if matches!(backing, Backing::Anonymous | Backing::Object) {
            carry(area, subject.runs, &mut pieces);
        }
        mappings.push(mapping(area, backing, object, subject.runs));
    }
    if !subject.areas.iter().any(Area::is_vdso) {
        out.unsupported("it has unmapped its vdso, through which a resume leaves the loader", NO_VDSO_ADVICE);
    }
    let mut executable_file = objects.executable(&seen.executable, out);
    file::carry(subject, &seen.executable, &mut executable_file, out)?;
    out.pages.push(Carried {
        memory: subject.shares.memory.id,
        memory_index: subject.memory_index,
        layout: [subject.stat(26), subject.stat(28), subject.stat(47)],
        pagemap: Arc::clone(subject.pagemap),
        pieces,
    });
    out.note(Memory {
        id: subject.shares.memory.id,
        start_code: subject.stat(26),
        end_code: subject.stat(27),
        start_data: subject.stat(45),
        end_data: subject.stat(46),
        start_brk: subject.stat(47),
        brk: answers.result_or_zero(asked.brk),
        start_stack: subject.stat(28),
        arg_start: subject.stat(48),
        arg_end: subject.stat(49),
        env_start: subject.stat(50),
        env_end: subject.stat(51),
        auxv: seen.auxv.as_slice().into(),
        executable: executable_file,
        thp_disable: u32::try_from(answers.result_or_zero(asked.thp_disable)).unwrap_or_default(),
        deny_write_execute: u32::try_from(answers.result_or_zero(asked.deny_write_execute))
            .unwrap_or_default(),
        memory_merge: answers.result_or_zero(asked.memory_merge) == 1,
        lock_future: answers.future_locks(),
        mappings,
    });
    Ok(())
}

/// What the kernel gives to every program.
const NO_VDSO_ADVICE: &str = "start it with its vdso, and let it stay mapped";

fn backing(area: &Area) -> Backing {
    match area.path.as_slice() {
        b"[vvar]" => Backing::Vvar,
        b"[vvar_vclock]" => Backing::VvarClock,
        b"[vdso]" => Backing::Vdso,
        b"[uprobes]" => Backing::Kernel,
        _ if aio::is_ring(area) => Backing::AioRing,
        io_uring::LABEL => Backing::IoUring,
        _ if area.inode != 0 || area.path.starts_with(b"/") => Backing::Object,
        _ => Backing::Anonymous,
    }
}

/// Whether it shows something of the kernel's that has no place in a filesystem: a socket, a performance counter, ...
fn is_kernel_object(area: &Area) -> bool {
    let path = area.path.as_slice();
    path.starts_with(b"/secretmem")
        || !(path.is_empty() || io_uring::is_ring(area) || path.starts_with(b"/") || path.starts_with(b"["))
}

/// Names a mapping that an image cannot hold.
fn refuse(area: &Area, out: &mut Collected) {
    let mut name = |what: &str, advice: &str| {
        let place = format!("{:x}-{:x}", area.start, area.end);
        out.unsupported(format!("the mapping {place} {what}"), advice);
    };
    let ours = !matches!(backing(area), Backing::Anonymous | Backing::Object);
    if !ours && (area.has("io") || area.has("pf")) {
        name("shows the memory of a device", "close the device");
    }
    if is_kernel_object(area) {
        let path = binfmt::wire::Text::from(area.path.as_slice());
        name(
            &format!("shows {path}, which cannot be saved"),
            "have the program unmap it and close what it is of",
        );
        return;
    }
    if userfaultfd::serves(area) {
        name("is served by userfaultfd", "wait until the program has unregistered it");
    }
    if area.has("ss") {
        name("is a shadow stack", "start it with GLIBC_TUNABLES=glibc.cpu.x86_shstk=off");
    }
}

fn mapping(area: &Area, backing: Backing, object: u32, runs: &[Run]) -> Mapping {
    let guards = pages::within(runs, area.start, area.end).filter(|run| run.kind == Kind::Guard);
    let name = [&b"[anon:"[..], b"[anon_shmem:"].iter().find_map(|prefix| area.path.strip_prefix(*prefix));
    Mapping {
        start: area.start,
        len_bytes: area.len_bytes(),
        protection: area.protection,
        shared: area.shared,
        backing,
        object,
        offset: if matches!(backing, Backing::Object | Backing::IoUring) { area.offset } else { 0 },
        vm_flags: area.flags.as_str().into(),
        name: name.and_then(|name| name.strip_suffix(b"]")).unwrap_or_default().into(),
        protection_key: area.protection_key,
        page_bytes: area.page_bytes,
        guards: guards.map(|run| Extent { start: run.start, len_bytes: run.end - run.start }).collect(),
    }
}

/// Adds the pages that are not those of a file or of shared memory.
fn carry(area: &Area, runs: &[Run], pieces: &mut Vec<Piece>) {
    // PF_X, PF_W and PF_R are PROT_EXEC, PROT_WRITE and PROT_READ the other way round.
    let flags = area.protection >> 2 & 1 | area.protection & 2 | (area.protection & 1) << 2;
    let own = pages::within(runs, area.start, area.end).filter(|run| run.kind == Kind::Own);
    let manner = if area.has_shared_pages { Manner::Gentle } else { Manner::Fast };
    pieces.extend(own.map(|run| Piece { start: run.start, end: run.end, flags, manner }));
}
