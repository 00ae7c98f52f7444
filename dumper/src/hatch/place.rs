//! Where the stub may stand: bytes that are mapped executable and hold nothing.
//!
//! The first choice is the end of the vdso's last page, behind its section headers: the kernel copies it for this one
//! process on the first write. Where a vdso leaves too little, the end of the last page of a private mapping of code
//! serves. Never below a stack pointer: a goroutine's stack is somebody else's heap.

use crate::collect::mapping::smaps::Area;
use crate::freeze::Stopped;
use crate::memory::TaskMemory;
use binfmt::note::thread::Registers;
use binfmt::program::stub::Stub;
use nix::errno::Errno;

/// An address at which the stub may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its first byte.
    pub address: u64,
}

impl Place {
    /// Takes the stub away again, when no thread is in it any more.
    pub fn clear(self, memory: &TaskMemory) -> Result<(), Errno> {
        memory.write(self.address, &vec![0; Stub::get().bytes.len()])
    }

    /// The mask and the registers of the thread, whose registers are `now` these, that the stub here is to send back.
    pub fn home(self, memory: &TaskMemory, now: &Registers) -> Result<(u64, Registers), Errno> {
        let mut filled = vec![0; Stub::get().bytes.len()];
        memory.read(self.address, &mut filled)?;
        Ok(Stub::get().home(&filled, now))
    }

    /// Whether an instruction of the stub here is at `address`.
    pub fn holds(self, address: u64) -> bool {
        address.wrapping_sub(self.address) < Stub::get().bytes.len() as u64
    }
}

/// What looking for a place found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A place.
    Free(Place),
    /// A thread is still on its way home from the stub of an earlier dumper, which stands here: wait for it.
    Busy(Place),
    /// None.
    Nowhere,
}

const ALIGN: u64 = 16;
const EXECUTE: u32 = 4;

/// Finds a place among the mappings `areas`: always the first, so that no thread is in the stub of a later one.
pub fn find(areas: &[Area], memory: &TaskMemory, threads: &[&Stopped]) -> Result<Found, Errno> {
    let stub = Stub::get();
    let len_bytes = (stub.bytes.len() as u64).next_multiple_of(ALIGN);
    let code = |area: &&Area| area.protection & EXECUTE != 0 && !area.shared && area.inode != 0;
    let vdso = areas.iter().filter(|area| area.is_vdso());
    let vdso = vdso.map(|area| Ok((elf_end(area.start, memory)?, area.end)));
    let code = areas.iter().filter(code).map(|area| Ok((area.end - len_bytes, area.end)));
    for range in vdso.chain(code) {
        let (from, end) = range?;
        match slot(from, end, len_bytes, &stub, memory, threads)? {
            Found::Nowhere => {}
            found => return Ok(found),
        }
    }
    Ok(Found::Nowhere)
}

/// The first address behind the ELF image at `start`: its section headers stand last.
fn elf_end(start: u64, memory: &TaskMemory) -> Result<u64, Errno> {
    let mut header = [0; 64];
    memory.read(start, &mut header)?;
    let headers_at = crate::parse::u64_at(&header, 40);
    let words = crate::parse::u64_at(&header, 56);
    // e_shentsize and e_shnum stand in the second and third quarter of that word.
    let (size, count) = ((words >> 16) & 0xffff, (words >> 32) & 0xffff);
    Ok(start.saturating_add(headers_at).saturating_add(size * count))
}

/// Looks for room between `from` and `end`: zeros, or a stub of ours that nobody will return to.
fn slot(
    from: u64,
    end: u64,
    len_bytes: u64,
    stub: &Stub,
    memory: &TaskMemory,
    threads: &[&Stopped],
) -> Result<Found, Errno> {
    let mut address = from.next_multiple_of(ALIGN);
    let mut bytes = vec![0; usize::try_from(len_bytes).unwrap_or(0)];
    while address.checked_add(len_bytes).is_some_and(|slot_end| slot_end <= end) {
        memory.read(address, &mut bytes)?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Ok(Found::Free(Place { address }));
        }
        if is_stub(&bytes, stub) {
            let place = Place { address };
            let is_deserted = is_deserted(place, memory, threads);
            return Ok(if is_deserted { Found::Free(place) } else { Found::Busy(place) });
        }
        address += len_bytes;
    }
    Ok(Found::Nowhere)
}

fn is_stub(bytes: &[u8], stub: &Stub) -> bool {
    let code = usize::try_from(stub.data_offset).ok().and_then(|len| stub.bytes.get(..len));
    code.is_some_and(|code| bytes.starts_with(code))
}

/// Whether no thread is in the stub that stands there, and none will return to it from the handler of a signal that came
/// before the mask did: such a frame (`struct sigcontext`) has the address two words before the code segment of user space.
fn is_deserted(place: Place, memory: &TaskMemory, threads: &[&Stopped]) -> bool {
    const STACK_SEARCHED_BYTES: usize = 256 << 10;
    const USER_CODE: u64 = 0x33;
    let mut stack = vec![0; STACK_SEARCHED_BYTES];
    threads.iter().all(|thread| {
        let registers = thread.registers();
        let read = memory.read_some(registers.rsp & !7, &mut stack);
        let words = stack.get(..read).unwrap_or_default().chunks_exact(8);
        let words: Vec<u64> = words.map(|word| crate::parse::u64_at(word, 0)).collect();
        let is_frame = |words: &[u64]| {
            matches!(words, [rip, _, segments] if place.holds(*rip) && segments & 0xffff == USER_CODE)
        };
        !place.holds(registers.rip) && !words.windows(3).any(is_frame)
    })
}
