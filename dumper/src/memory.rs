//! Reading and writing the memory of the frozen process.

use binfmt::address::Pid;
use nix::errno::Errno;
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;

/// The memory of a frozen process, through `/proc/PID/mem`, which reads what the process itself may not (PROT_NONE) and
/// writes code.
#[derive(Debug)]
pub struct TaskMemory {
    pid: Pid,
    file: File,
}

fn errno(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

impl TaskMemory {
    /// The memory of `pid`, which we trace.
    pub fn open(pid: Pid) -> io::Result<TaskMemory> {
        let file = File::options().read(true).write(true).open(format!("/proc/{pid}/mem"))?;
        Ok(TaskMemory { pid, file })
    }

    /// Whose it is.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Fills `buf` from `address`.
    pub fn read(&self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
        self.file.read_exact_at(buf, address).map_err(|error| errno(&error))
    }

    /// Fills as much of `buf` from `address` as is mapped, and says how much that was.
    pub fn read_some(&self, address: u64, buf: &mut [u8]) -> usize {
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match self.file.read_at(rest, address + done as u64) {
                Ok(len) if len > 0 => done += len,
                _ => break,
            }
        }
        done
    }

    /// Writes `bytes` at `address`, the last byte last.
    pub fn write(&self, address: u64, bytes: &[u8]) -> Result<(), Errno> {
        self.file.write_all_at(bytes, address).map_err(|error| errno(&error))
    }
}

/// How memory is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Manner {
    /// By `process_vm_readv`, which is fast. It pins pages, and the kernel gives the process its own copy of a page that it
    /// shares since a fork before it pins it: for pages that are nobody else's.
    Fast,
    /// Through the file, page by page, which leaves pages shared.
    Gentle,
}

impl TaskMemory {
    /// Fills `buf` from `ranges` (address and length), which together are as long. What `process_vm_readv` cannot read
    /// (PROT_NONE) is read through the file.
    pub fn read_ranges(&self, ranges: &[(u64, u64)], buf: &mut [u8], manner: Manner) -> Result<(), Errno> {
        match manner {
            Manner::Fast => self.read_fast(ranges, buf),
            Manner::Gentle => self.read_gently(ranges, buf),
        }
    }

    fn read_gently(&self, ranges: &[(u64, u64)], buf: &mut [u8]) -> Result<(), Errno> {
        let mut rest = buf;
        // Those that follow one another are read at once.
        for together in ranges.chunk_by(|(first, len), (next, _)| first + len == *next) {
            let Some((address, _)) = together.first() else { continue };
            let len: u64 = together.iter().map(|(_, len)| len).sum();
            let (mine, after) = rest.split_at_mut(usize::try_from(len).map_err(|_| Errno::EFAULT)?);
            self.read(*address, mine)?;
            rest = after;
        }
        Ok(())
    }

    fn read_fast(&self, ranges: &[(u64, u64)], buf: &mut [u8]) -> Result<(), Errno> {
        let number = |value: u64| usize::try_from(value).map_err(|_| Errno::EFAULT);
        let remote = ranges
            .iter()
            .map(|(address, len)| Ok(RemoteIoVec { base: number(*address)?, len: number(*len)? }))
            .collect::<Result<Vec<_>, Errno>>()?;
        let pid = nix::unistd::Pid::from_raw(self.pid.0);
        let whole = buf.len();
        let read = process_vm_readv(pid, &mut [IoSliceMut::new(buf)], &remote);
        if read == Ok(whole) {
            return Ok(());
        }
        if read == Err(Errno::ESRCH) {
            return Err(Errno::ESRCH);
        }
        self.read_gently(ranges, buf)
    }
}
