//! `ckpt info`: what a person wants to know of an image first.

use super::{Failure, open};
use binfmt::human::{bytes, counted, moment};
use binfmt::image::{Image, Owner};
use binfmt::note::descriptor::{Description, DescriptorTable};
use binfmt::note::host::Host;
use binfmt::note::mapping::{Backing, MappedObject, Mapping, Memory, ObjectKind};
use binfmt::note::task::{RunState, Task};
use binfmt::note::thread::Thread;
use binfmt::wire::Text;
use clap::Args;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::path::PathBuf;

/// As much of a command line as is worth reading.
const COMMAND_MAX_BYTES: u64 = 200;
/// How many descriptors are named.
const DESCRIPTORS_MAX: usize = 16;
/// How many processes beside the root.
const OTHERS_MAX: usize = 16;

/// Arguments of `ckpt info`.
#[derive(Debug, Args)]
pub(super) struct Info {
    /// The checkpoint
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
}

impl Info {
    pub(super) fn run(self, out: &mut impl Write) -> Result<(), Failure> {
        let image = open("read", &self.file)?;
        let mut tasks = image.all::<Task>();
        if let Some(root) = tasks.next() {
            put_task(out, &image, root)?;
        }
        put_others(out, &image, &tasks.collect::<Vec<_>>())?;
        put_stored(out, &image)?;
        for host in image.all::<Host>() {
            line(out, "made", format!("{} by ckpt-dump {}", moment(host.realtime_ns), host.dumper_version))?;
            let Host { kernel_release, machine, processor_name, .. } = host;
            line(out, "on", format!("Linux {kernel_release} {machine}, {processor_name}"))?;
        }
        let blocks = image.file.metadata().map(|found| std::os::unix::fs::MetadataExt::blocks(&found));
        let disk = blocks.map_err(|error| Failure::cannot(format!("cannot look at the file: {error}")))?;
        let (size, disk) = (bytes(image.total_bytes), bytes(disk.saturating_mul(512)));
        Ok(line(out, "file", format!("{size}, {disk} on disk; format version {}", binfmt::image::VERSION))?)
    }
}

fn line(out: &mut impl Write, what: &str, text: impl AsRef<str>) -> io::Result<()> {
    writeln!(out, "  {what:<12} {}", text.as_ref())
}

/// The other processes, a line each.
fn put_others(out: &mut impl Write, image: &Image, tasks: &[&Task]) -> io::Result<()> {
    if tasks.is_empty() {
        return Ok(());
    }
    line(
        out,
        "and",
        format!("{}; `ckpt tree` draws them", counted(tasks.len(), "other process", "other processes")),
    )?;
    let memories: BTreeMap<u32, &Memory> = image.all::<Memory>().map(|memory| (memory.id, memory)).collect();
    for task in tasks.iter().take(OTHERS_MAX) {
        let memory =
            memories.get(&task.memory).map_or_else(String::new, |memory| format!(", {}", extent(memory)));
        line(out, "", format!("{:>7} {}, {}{memory}", task.pid, task.name, state(task)))?;
    }
    match tasks.len().checked_sub(OTHERS_MAX) {
        Some(more) if more > 0 => line(out, "", format!("        and {more} more")),
        _ => Ok(()),
    }
}

fn state(task: &Task) -> &'static str {
    match task.state {
        RunState::Running => "running",
        RunState::Stopped => "stopped",
        RunState::Zombie => "ended, not yet waited for",
    }
}

fn extent(memory: &Memory) -> String {
    let sizes = memory.mappings.iter().map(|mapping| mapping.len_bytes);
    let total = bytes(sizes.fold(0, u64::saturating_add));
    format!("{total} in {}", counted(memory.mappings.len(), "mapping", "mappings"))
}

fn put_task(out: &mut impl Write, image: &Image, task: &Task) -> io::Result<()> {
    writeln!(out, "{} (pid {})", task.name, task.pid)?;
    let memory = image.all::<Memory>().find(|memory| memory.id == task.memory);
    if let Some(memory) = memory {
        line(out, "command", command(image, memory))?;
        line(out, "program", memory.executable.path.to_string())?;
    }
    let threads = image.all::<Thread>().filter(|thread| thread.pid == task.pid).count();
    line(out, "threads", format!("{threads}, {}", state(task)))?;
    if let Some(memory) = memory {
        line(out, "memory", extent(memory))?;
    }
    if let Some(table) = image.all::<DescriptorTable>().find(|table| table.id == task.descriptor_table) {
        put_descriptors(out, image, table)?;
    }
    Ok(())
}

/// The command line: argv as it stands in the memory, joined by spaces.
fn command(image: &Image, memory: &Memory) -> String {
    let len_bytes = memory.arg_end.saturating_sub(memory.arg_start).min(COMMAND_MAX_BYTES);
    let stored = image.stored(Owner::Memory(memory.id), memory.arg_start, len_bytes).unwrap_or_default();
    let arguments = stored.split(|byte| *byte == 0).filter(|argument| !argument.is_empty());
    let joined = arguments.collect::<Vec<_>>().join(&b' ');
    match joined.is_empty() {
        true => "not stored".to_owned(),
        false => Text(joined).to_string(),
    }
}

fn put_descriptors(out: &mut impl Write, image: &Image, table: &DescriptorTable) -> io::Result<()> {
    let descriptions: BTreeMap<u32, &Description> =
        image.all::<Description>().map(|description| (description.id, description)).collect();
    line(out, "descriptors", table.descriptors.len().to_string())?;
    for descriptor in table.descriptors.iter().take(DESCRIPTORS_MAX) {
        let Some(description) = descriptions.get(&descriptor.description) else { continue };
        let position = match description.position {
            0 => String::new(),
            position => format!(" at {position}"),
        };
        line(out, "", format!("{:>3} {}{position}", descriptor.number, description.label))?;
    }
    match table.descriptors.len().checked_sub(DESCRIPTORS_MAX) {
        Some(more) if more > 0 => line(out, "", format!("    and {more} more")),
        _ => Ok(()),
    }
}

/// How many bytes are stored, by what they are.
fn put_stored(out: &mut impl Write, image: &Image) -> io::Result<()> {
    let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
    let mut add = |kind, len_bytes: u64| {
        let sum = kinds.entry(kind).or_default();
        *sum = sum.saturating_add(len_bytes);
    };
    // Shared bytes count for the memory that comes first.
    let mut stored: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
    for ((index, (segment, _)), first) in image.segments.iter().enumerate().zip(image.stored_by()) {
        if let (Owner::Memory(id), true) = (segment.owner, index == first) {
            let range = (segment.start, segment.start.saturating_add(segment.len_bytes));
            stored.entry(id).or_default().push(range);
        }
    }
    for memory in image.all::<Memory>() {
        count_memory(memory, stored.remove(&memory.id).unwrap_or_default(), &mut add);
    }
    let memories: BTreeSet<u32> = image.all::<Memory>().map(|memory| memory.id).collect();
    let objects: BTreeMap<u32, ObjectKind> =
        image.all::<MappedObject>().map(|object| (object.id, object.kind)).collect();
    for (segment, _) in &image.segments {
        match segment.owner {
            Owner::Object(id) => add(object_word(objects.get(&id)), segment.len_bytes),
            Owner::Memory(id) if !memories.contains(&id) => add("nobody's", segment.len_bytes),
            Owner::Memory(_) => {}
        }
    }
    let total = kinds.values().copied().fold(0, u64::saturating_add);
    let mut sorted: Vec<(&str, u64)> = kinds.into_iter().collect();
    sorted.sort_by_key(|(_, sum)| std::cmp::Reverse(*sum));
    let parts: Vec<String> = sorted.iter().map(|(kind, sum)| format!("{kind} {}", bytes(*sum))).collect();
    let parts = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    line(out, "stored", format!("{}{parts}", bytes(total)))
}

/// Walks mappings and stored ranges of one memory side by side, both ascending.
fn count_memory(memory: &Memory, mut stored: Vec<(u64, u64)>, add: &mut impl FnMut(&'static str, u64)) {
    stored.sort_unstable();
    let mut mappings = memory.mappings.iter().peekable();
    for (mut from, to) in stored {
        while from < to {
            let end_of = |mapping: &Mapping| mapping.start.saturating_add(mapping.len_bytes);
            while mappings.next_if(|mapping| end_of(mapping) <= from).is_some() {}
            let (kind, until) = match mappings.peek() {
                Some(mapping) if mapping.start <= from => (mapping_word(memory, mapping), end_of(mapping)),
                Some(mapping) => ("nobody's", mapping.start),
                None => ("nobody's", to),
            };
            add(kind, until.min(to) - from);
            from = until.min(to);
        }
    }
}

fn mapping_word(memory: &Memory, mapping: &Mapping) -> &'static str {
    let end = mapping.start.saturating_add(mapping.len_bytes);
    let holds = |address: u64| mapping.start <= address && address < end;
    match mapping.backing {
        Backing::Anonymous if holds(memory.start_stack) => "stack",
        Backing::Anonymous if memory.start_brk < end && mapping.start < memory.brk => "heap",
        Backing::Anonymous => "anonymous",
        Backing::Object => "changed pages of files",
        Backing::Vvar
        | Backing::VvarClock
        | Backing::Vdso
        | Backing::Kernel
        | Backing::AioRing
        | Backing::IoUring => "of the kernel",
    }
}

fn object_word(kind: Option<&ObjectKind>) -> &'static str {
    match kind {
        Some(ObjectKind::File | ObjectKind::Device) => "content of mapped files",
        Some(ObjectKind::Memfd) => "memfds",
        Some(ObjectKind::SharedAnonymous) => "shared memory",
        Some(ObjectKind::SystemV) => "System V shared memory",
        Some(ObjectKind::HugePages) => "huge pages",
        None => "content of files and pipes",
    }
}
