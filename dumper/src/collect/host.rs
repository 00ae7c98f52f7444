//! The machine and the moment.

use super::mapping::smaps::Area;
use crate::error::Error;
use crate::memory::TaskMemory;
use crate::{parse, sys};
use binfmt::note::host::Host;
use binfmt::wire::Text;
use nix::time::ClockId;
use std::fs;

/// The vdso of the process, before the stub was written behind it.
pub fn vdso(areas: &[Area], memory: &TaskMemory) -> Result<Vec<u8>, Error> {
    let Some(area) = areas.iter().find(|area| area.is_vdso()) else { return Ok(Vec::new()) };
    let mut image = vec![0; usize::try_from(area.len_bytes()).unwrap_or(0)];
    memory
        .read(area.start, &mut image)
        .map_err(|error| Error::question(memory.pid(), "reading its vdso", error))?;
    let end = elf_len(&image);
    // What stands behind the image is not the kernel's: zeros, or a stub of ours that an earlier dumper left there.
    image.iter_mut().skip(end).for_each(|byte| *byte = 0);
    Ok(image)
}

/// Where an ELF image ends whose section headers stand last.
pub fn elf_len(header: &[u8]) -> usize {
    let word = |at| usize::try_from(parse::u32_at(header, at)).unwrap_or(usize::MAX);
    let table = usize::try_from(parse::u64_at(header, 40)).unwrap_or(usize::MAX);
    let (size, count) = (word(58) & 0xffff, word(60) & 0xffff);
    table.saturating_add(size * count)
}

/// What is to say of the machine and the moment.
pub fn note(vdso: Vec<u8>) -> Host {
    let uname = nix::sys::utsname::uname();
    let name = |part: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        Text::from(uname.as_ref().map_or("", |uname| part(uname).to_str().unwrap_or_default()))
    };
    let (features, state_bytes, enabled) = sys::processor_features();
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let boot_id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Host {
        dumper_version: env!("CARGO_PKG_VERSION").into(),
        kernel_release: name(nix::sys::utsname::UtsName::release),
        machine: name(nix::sys::utsname::UtsName::machine),
        boot_id: boot_id.trim_end().into(),
        realtime_ns: now_ns(ClockId::CLOCK_REALTIME),
        monotonic_ns: now_ns(ClockId::CLOCK_MONOTONIC),
        boottime_ns: now_ns(ClockId::CLOCK_BOOTTIME),
        extended_features: enabled,
        extended_state_bytes: state_bytes,
        processor_features: features.to_vec(),
        processor_name: model.map_or("", |(_, name)| name).into(),
        vdso: vdso.into(),
    }
}

/// CLOCK_MONOTONIC and CLOCK_BOOTTIME, in nanoseconds.
pub fn clocks() -> (i64, i64) {
    (now_ns(ClockId::CLOCK_MONOTONIC), now_ns(ClockId::CLOCK_BOOTTIME))
}

fn now_ns(clock: ClockId) -> i64 {
    clock.now().map_or(0, |time| time.tv_sec() * 1_000_000_000 + time.tv_nsec())
}
