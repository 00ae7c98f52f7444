//! Stepping aside: a second start of the loader in a hole of the address space, so that everything else can be built
//! at its final place by ordinary Rust.
//!
//! The executable's segments are mapped in the hole, once more: what a start does not change of them stands in memory once,
//! and costs neither a fork nor its end anything. (While they are mapped, the kernel refuses another executable: a task's
//! program unmaps them before PR_SET_MM_MAP names its own.) A stack is laid out as the kernel does at exec, `PR_SET_MM_MAP`
//! makes the C library take its heap in the hole, and a jump to the entry point starts it. AT_SYSINFO_EHDR is left out, so
//! that the C library keeps no pointer into the vdso, which is going to move; `GLIBC_TUNABLES` keeps malloc inside the heap.

use crate::arena::{Hole, STACK_BYTES};
use crate::error::{Error, Result};
use crate::stage::Stage;
use crate::sys::{self, MmMap};
use binfmt::address::PAGE_BYTES;
use goblin::container::{Container, Ctx, Endian};
use goblin::elf::program_header::{PF_R, PF_W, PF_X, PT_LOAD, ProgramHeader};
use goblin::elf::{Elf, Header};
use std::convert::Infallible;
use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

const AT_NULL: u64 = 0;
const AT_PHDR: u64 = 3;
const AT_BASE: u64 = 7;
const AT_ENTRY: u64 = 9;
const AT_PLATFORM: u64 = 15;
const AT_RANDOM: u64 = 25;
const AT_EXECFN: u64 = 31;
const AT_SYSINFO_EHDR: u64 = 33;

const TUNABLES: &str = "GLIBC_TUNABLES=glibc.malloc.mmap_max=0:glibc.malloc.arena_max=1:glibc.pthread.rseq=0";
const TUNABLE_HUGE_PAGES: &str = ":glibc.malloc.hugetlb=1";

/// Starts the loader again in the stage's hole. What this start holds is gone then, but for descriptors.
pub fn start(stage: &Stage) -> Result<Infallible> {
    let (hole, arguments) = (stage.hole, &stage.to_arguments());
    let executable = Executable::open()?;
    let heap = map_segments(hole, &executable)?;
    let stack_start = hole.end() - STACK_BYTES;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    sys::map_fixed(stack_start, STACK_BYTES, read_write(), flags, None)
        .map_err(|error| Error::step("map the loader's second stack", error))?;
    let stack = initial_stack(stage, &executable.header, arguments)?;
    sys::write_at(stack.pointer, &stack.bytes);
    let map = MmMap {
        layout: [
            hole.start,
            heap,
            hole.start,
            heap,
            heap,
            heap,
            stack.pointer,
            stack.arguments,
            stack.arguments_end,
            stack.arguments_end,
            stack.environment_end,
        ],
        auxv: stack.auxv,
        auxv_bytes: stack.auxv_bytes,
        executable_fd: u32::MAX,
    };
    let entry = hole.start + executable.header.e_entry;
    // Nobody would close it in a table that others share.
    drop(executable);
    sys::forget_runtime()
        .map_err(|error| Error::step("take the C library's areas back from the kernel", error))?;
    sys::start_again(&map, stack.pointer, entry)
        .map_err(|error| Error::step("move the loader's heap (PR_SET_MM_MAP)", error))
}

fn read_write() -> u32 {
    (libc::PROT_READ | libc::PROT_WRITE).unsigned_abs()
}

/// The loader's own executable.
struct Executable {
    file: File,
    header: Header,
    program_headers: Vec<ProgramHeader>,
}

impl Executable {
    /// Reads the headers, and nothing else: the symbols are most of the file.
    fn open() -> Result<Executable> {
        const NO_ELF: Error = Error::Internal("the loader's own executable is no ELF file");
        let failed = |error: std::io::Error| Error::io("read the loader's own executable", &error);
        let file = File::open("/proc/self/exe").map_err(failed)?;
        let mut head = vec![0; 4096];
        file.read_exact_at(&mut head, 0).map_err(failed)?;
        let header = Elf::parse_header(&head).map_err(|_| NO_ELF)?;
        let at = usize::try_from(header.e_phoff).map_err(|_| NO_ELF)?;
        let shape = Ctx::new(Container::Big, Endian::Little);
        let program_headers =
            ProgramHeader::parse(&head, at, header.e_phnum.into(), shape).map_err(|_| NO_ELF)?;
        Ok(Executable { file, header, program_headers })
    }
}

/// Maps the segments to the start of the hole. Returns where the heap may begin.
fn map_segments(hole: Hole, executable: &Executable) -> Result<u64> {
    let failed = |error| Error::step("map the loader's second image", error);
    let mut end = hole.start;
    for header in executable.program_headers.iter().filter(|header| header.p_type == PT_LOAD) {
        let start = hole.start + header.p_vaddr / PAGE_BYTES * PAGE_BYTES;
        let stored_end = hole.start + header.p_vaddr + header.p_filesz;
        end = hole.start + (header.p_vaddr + header.p_memsz).next_multiple_of(PAGE_BYTES);
        let file_end = stored_end.next_multiple_of(PAGE_BYTES);
        let from = Some((executable.file.as_fd(), header.p_offset / PAGE_BYTES * PAGE_BYTES));
        sys::map_fixed(start, file_end - start, protection(header), libc::MAP_PRIVATE, from)
            .map_err(failed)?;
        if header.p_memsz > header.p_filesz {
            // The rest of the last page is what follows in the file.
            let rest = usize::try_from(file_end - stored_end).unwrap_or(0);
            sys::write_at(stored_end, &vec![0; rest]);
        }
        if end > file_end {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            sys::map_fixed(file_end, end - file_end, protection(header), flags, None).map_err(failed)?;
        }
    }
    Ok(end)
}

fn protection(header: &ProgramHeader) -> u32 {
    [(PF_R, libc::PROT_READ), (PF_W, libc::PROT_WRITE), (PF_X, libc::PROT_EXEC)]
        .into_iter()
        .filter(|(flag, _)| header.p_flags & flag != 0)
        .fold(0, |all, (_, protection)| all | protection.unsigned_abs())
}

struct Stack {
    pointer: u64,
    bytes: Vec<u8>,
    arguments: u64,
    arguments_end: u64,
    environment_end: u64,
    auxv: u64,
    auxv_bytes: u32,
}

/// The stack as the kernel lays it out at exec (System V ABI, x86-64, 3.4.1): argc, argv, envp, auxv, then strings.
fn initial_stack(stage: &Stage, header: &Header, arguments: &[String]) -> Result<Stack> {
    let hole = stage.hole;
    let random = fs::read("/proc/sys/kernel/random/uuid").unwrap_or_default();
    let strings: Vec<u8> = arguments.iter().flat_map(|argument| argument.bytes().chain([0])).collect();
    let arguments_len = strings.len() as u64;
    let huge_pages = if stage.forks_many && hole.has_large_heap() { TUNABLE_HUGE_PAGES } else { "" };
    let environment: Vec<u8> = TUNABLES.bytes().chain(huge_pages.bytes()).chain([0]).collect();
    let platform = b"x86_64\0";
    let random: Vec<u8> = random.into_iter().chain([0; 16]).take(16).collect();

    let text: Vec<u8> = [&strings, &environment, platform.as_slice(), &random].concat();
    let text_at = (hole.end() - text.len() as u64 - 16) / 16 * 16;
    let environment_at = text_at + arguments_len;
    let platform_at = environment_at + environment.len() as u64;
    let random_at = platform_at + platform.len() as u64;

    let vector = fs::read("/proc/self/auxv").map_err(|error| Error::io("read /proc/self/auxv", &error))?;
    let words: Vec<u64> =
        vector.chunks_exact(8).filter_map(|chunk| Some(u64::from_le_bytes(chunk.try_into().ok()?))).collect();
    let auxv: Vec<u64> = words
        .chunks_exact(2)
        .filter_map(|pair| Some((*pair.first()?, *pair.last()?)))
        .filter(|(kind, _)| *kind != AT_SYSINFO_EHDR && *kind != AT_NULL)
        .map(|(kind, value)| match kind {
            AT_PHDR => (kind, hole.start + header.e_phoff),
            AT_BASE => (kind, 0),
            AT_ENTRY => (kind, hole.start + header.e_entry),
            AT_RANDOM => (kind, random_at),
            AT_PLATFORM => (kind, platform_at),
            AT_EXECFN => (kind, text_at),
            _ => (kind, value),
        })
        .chain([(AT_NULL, 0)])
        .flat_map(|(kind, value)| [kind, value])
        .collect();

    let mut table = vec![arguments.len() as u64];
    let mut at = text_at;
    for argument in arguments {
        table.push(at);
        at += argument.len() as u64 + 1;
    }
    table.extend([0, environment_at, 0]);
    let auxv_index = table.len() as u64;
    table.extend(&auxv);
    let pointer = (text_at - table.len() as u64 * 8) / 16 * 16;
    let mut bytes: Vec<u8> = table.iter().flat_map(|word| word.to_le_bytes()).collect();
    bytes.resize(
        usize::try_from(text_at - pointer).map_err(|_| Error::Internal("its stack is too large"))?,
        0,
    );
    bytes.extend_from_slice(&text);
    Ok(Stack {
        pointer,
        bytes,
        arguments: text_at,
        arguments_end: environment_at,
        environment_end: platform_at,
        auxv: pointer + auxv_index * 8,
        auxv_bytes: u32::try_from(auxv.len() * 8).unwrap_or(0),
    })
}

/// In the second start: drops everything outside of the hole. The vdso and its data are first moved into the hole,
/// where [`Parked`] remembers them until their final place is known.
pub fn clear_outside(hole: Hole) -> Result<Parked> {
    sys::forget_runtime()
        .map_err(|error| Error::step("take the C library's areas back from the kernel", error))?;
    let mut parked = Parked { areas: Vec::new() };
    let mut at = hole.parking();
    for line in own_mappings()? {
        if line.start >= hole.start && line.end <= hole.end()
            || !line.name.starts_with("[v")
            || line.name == "[vsyscall]"
        {
            continue;
        }
        let len_bytes = line.end - line.start;
        sys::remap(line.start, len_bytes, len_bytes, at)
            .map_err(|error| Error::step(format!("move {}", line.name), error))?;
        parked.areas.push(Area { name: line.name, at, len_bytes });
        at += len_bytes;
    }
    let clear = |start: u64, end: u64| {
        sys::unmap(start, end - start).map_err(|error| Error::step("clear the address space", error))
    };
    clear(0, hole.start)?;
    clear(hole.end(), binfmt::address::TASK_END)?;
    Ok(parked)
}

/// The vdso and its data, out of the way.
#[derive(Debug)]
pub struct Parked {
    /// In the order of their addresses: the kernel demands that they keep it.
    pub areas: Vec<Area>,
}

/// One mapping of the kernel's.
#[derive(Debug)]
pub struct Area {
    /// Its name in `/proc/PID/maps`.
    pub name: String,
    /// Where it is.
    pub at: u64,
    /// Its length in bytes.
    pub len_bytes: u64,
}

/// A line of our own `/proc/self/maps`.
#[derive(Debug)]
pub struct OwnMapping {
    /// First address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// Path or name, empty if there is none.
    pub name: String,
}

/// Our own mappings.
pub fn own_mappings() -> Result<Vec<OwnMapping>> {
    let text =
        fs::read_to_string("/proc/self/maps").map_err(|error| Error::io("read /proc/self/maps", &error))?;
    Ok(text.lines().filter_map(parse_mapping).collect())
}

fn parse_mapping(line: &str) -> Option<OwnMapping> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let name = rest.splitn(5, ' ').nth(4).unwrap_or_default().trim_start();
    Some(OwnMapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        name: name.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_maps() {
        let line = parse_mapping("7ffd1000-7ffd3000 r-xp 00000000 00:00 0                          [vdso]");
        let line = line.expect("parses");
        assert_eq!((line.start, line.end, line.name.as_str()), (0x7ffd_1000, 0x7ffd_3000, "[vdso]"));
        let anonymous = parse_mapping("1000-2000 rw-p 00000000 00:00 0 ").expect("parses");
        assert_eq!(anonymous.name, "");
        assert!(parse_mapping("nonsense").is_none());
    }
}
