//! The standard notes of a core file, as the kernel writes them (fs/binfmt_elf.c), so that debuggers open an image.
//!
//! Debuggers read notes in order: NT_PRPSINFO, then for every thread NT_PRSTATUS and what belongs to it, then
//! NT_SIGINFO, NT_AUXV and NT_FILE for the process.

use crate::image::StandardNote;
use crate::note::task::Task;
use crate::note::thread::{Registers, Thread};
use crate::wire::{Reader, Wire};
use std::collections::BTreeMap;

const NT_PRSTATUS: u32 = 1;
const NT_FPREGSET: u32 = 2;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_X86_XSTATE: u32 = 0x202;
const NT_SIGINFO: u32 = 0x5349_4749;
const NT_FILE: u32 = 0x4649_4c45;
const CORE: &str = "CORE";
const LINUX: &str = "LINUX";
/// Where `pr_pid` stands in `elf_prstatus`, and where `pr_reg` does.
const PRSTATUS_TID_OFFSET: usize = 32;
const PRSTATUS_REGISTERS_OFFSET: usize = 112;
/// Length of the FXSAVE area at the head of an XSAVE area: what NT_FPREGSET holds.
const FXSAVE_BYTES: usize = 512;

/// The name of a standard note's type, as core(5) and readelf know it.
pub fn name(number: u32) -> &'static str {
    match number {
        NT_PRSTATUS => "NT_PRSTATUS",
        NT_FPREGSET => "NT_FPREGSET",
        NT_PRPSINFO => "NT_PRPSINFO",
        NT_AUXV => "NT_AUXV",
        NT_X86_XSTATE => "NT_X86_XSTATE",
        NT_SIGINFO => "NT_SIGINFO",
        NT_FILE => "NT_FILE",
        _ => "of another type",
    }
}

fn note(owner: &str, number: u32, bytes: Vec<u8>) -> StandardNote {
    StandardNote { owner: owner.to_owned(), number, bytes }
}

/// At most `len` bytes of `text`, padded with zeros to exactly that.
fn fixed(text: &[u8], len: usize) -> Vec<u8> {
    let mut field: Vec<u8> = text.iter().take(len.saturating_sub(1)).copied().collect();
    field.resize(len, 0);
    field
}

/// NT_PRPSINFO: what `ps` would say. `arguments` are argv joined by spaces.
pub fn process(task: &Task, user: u32, group: u32, nice: i32, arguments: &[u8]) -> StandardNote {
    let mut out = vec![0, b'R', 0, nice.to_le_bytes()[0], 0, 0, 0, 0];
    0u64.put(&mut out);
    user.put(&mut out);
    group.put(&mut out);
    [task.pid, task.parent, task.process_group, task.session].iter().for_each(|id| id.put(&mut out));
    out.extend(fixed(&task.name.0, 16));
    out.extend(fixed(arguments, 80));
    note(CORE, NT_PRPSINFO, out)
}

/// NT_PRSTATUS, NT_FPREGSET and NT_X86_XSTATE of one thread. `area` is its XSAVE area.
pub fn thread(task: &Task, thread: &Thread, area: &[u8]) -> Vec<StandardNote> {
    let mut status = vec![0; 24];
    thread.signal_mask.put(&mut status);
    [thread.tid, task.parent, task.process_group, task.session].iter().for_each(|id| id.put(&mut status));
    status.resize(PRSTATUS_REGISTERS_OFFSET, 0);
    thread.registers.put(&mut status);
    1u32.put(&mut status);
    0u32.put(&mut status);
    let mut notes = vec![note(CORE, NT_PRSTATUS, status)];
    if let Some(legacy) = area.get(..FXSAVE_BYTES) {
        notes.push(note(CORE, NT_FPREGSET, legacy.to_vec()));
        notes.push(note(LINUX, NT_X86_XSTATE, area.to_vec()));
    }
    notes
}

/// NT_SIGINFO: no signal killed the process; debuggers want the note all the same.
pub fn signal() -> StandardNote {
    note(CORE, NT_SIGINFO, vec![0; 128])
}

/// NT_AUXV.
pub fn auxv(vector: &[u8]) -> StandardNote {
    note(CORE, NT_AUXV, vector.to_vec())
}

/// NT_FILE: which file is mapped where: (start, end, offset in bytes, path).
pub fn files(mapped: &[(u64, u64, u64, &[u8])]) -> StandardNote {
    let page = crate::address::PAGE_BYTES;
    let mut out = Vec::new();
    (mapped.len() as u64).put(&mut out);
    page.put(&mut out);
    for (start, end, offset, _) in mapped {
        [*start, *end, *offset / page].iter().for_each(|word| word.put(&mut out));
    }
    for (.., path) in mapped {
        out.extend_from_slice(path);
        out.push(0);
    }
    note(CORE, NT_FILE, out)
}

/// The XSAVE areas among standard notes, by thread id.
pub fn extended_states(notes: &[StandardNote]) -> BTreeMap<u32, &[u8]> {
    let mut current = None;
    let mut areas = BTreeMap::new();
    for note in notes {
        if note.owner == CORE && note.number == NT_PRSTATUS {
            current = prstatus_tid(&note.bytes);
        }
        if let Some(tid) = current.filter(|_| note.owner == LINUX && note.number == NT_X86_XSTATE) {
            areas.insert(tid, note.bytes.as_slice());
        }
    }
    areas
}

fn prstatus_tid(bytes: &[u8]) -> Option<u32> {
    u32::get("pr_pid", &mut Reader::new(bytes.get(PRSTATUS_TID_OFFSET..)?)).ok()
}

impl Registers {
    /// The registers as the 27 words of `user_regs_struct`, the order of their declaration.
    pub fn to_words(&self) -> [u64; 27] {
        let mut bytes = Vec::new();
        self.put(&mut bytes);
        let mut words = [0; 27];
        for (word, chunk) in words.iter_mut().zip(bytes.chunks_exact(8)) {
            *word = <byteorder::LittleEndian as byteorder::ByteOrder>::read_u64(chunk);
        }
        words
    }

    /// The registers from the words of `user_regs_struct`.
    pub fn from_words(words: &[u64; 27]) -> Registers {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        Registers::get("registers", &mut Reader::new(&bytes)).unwrap_or_default()
    }

    /// The number of the system call the thread stands in.
    pub fn system_call(&self) -> Option<u64> {
        i64::try_from(self.orig_rax).is_ok().then_some(self.orig_rax)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_have_the_sizes_of_the_kernel_structs() {
        let (task, one) = (Task::default(), Thread { tid: 77, ..Thread::default() });
        let notes = thread(&task, &one, &[7; 2696]);
        let sizes: Vec<usize> = notes.iter().map(|note| note.bytes.len()).collect();
        assert_eq!(sizes, [336, 512, 2696], "elf_prstatus, user_fpregs_struct, the area");
        assert_eq!(process(&task, 0, 0, 0, b"sh").bytes.len(), 136, "elf_prpsinfo");
        assert_eq!(extended_states(&notes), BTreeMap::from([(77, [7; 2696].as_slice())]));
    }

    #[test]
    fn registers_keep_the_order_of_user_regs_struct() {
        let words: [u64; 27] = std::array::from_fn(|i| i as u64 + 1);
        let registers = Registers::from_words(&words);
        assert_eq!((registers.r15, registers.rax, registers.orig_rax, registers.rip), (1, 11, 16, 17));
        assert_eq!((registers.rsp, registers.fs_base, registers.gs), (20, 22, 27));
        assert_eq!(registers.to_words(), words);
    }
}
