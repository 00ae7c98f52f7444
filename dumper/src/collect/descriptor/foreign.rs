//! Descriptors of kinds that no image holds: what each is, and what to do about it.

use super::open::Open;
use crate::parse;
use std::os::unix::fs::MetadataExt;

/// What a descriptor is for a person, and what can be done about it.
pub(super) type Known = (&'static str, &'static str);

const CLOSE: &str = "have the program close it first";
const VIRTUAL_MACHINE: &str = "save a virtual machine by the means of its monitor (QEMU: savevm, migrate)";

/// What the label of an anonymous inode says, behind `anon_inode:` and without brackets, by its beginning.
const ANONYMOUS: &[(&str, Known)] = &[
    ("fanotify", ("a fanotify group", "have the program end it first")),
    ("perf_event", ("a performance counter (perf_event_open)", "end the measurement first")),
    ("bpf-map", ("a BPF map", "pin it, and have the program open it anew (bpftool map pin)")),
    ("bpf-prog", ("a BPF program", "pin it, and have the program open it anew (bpftool prog pin)")),
    ("bpf_link", ("a BPF link", "pin it, and have the program open it anew (bpftool link pin)")),
    ("bpf", ("a BPF object", CLOSE)),
    ("btf", ("types of BPF (BTF)", CLOSE)),
    ("kvm", ("a virtual machine of KVM or a part of it", VIRTUAL_MACHINE)),
    ("fscontext", ("a filesystem on its way to be mounted (fsopen, fspick)", "wait until it is mounted")),
    ("seccomp notify", ("the listener of a seccomp filter", "end the supervision by that filter first")),
    (
        "landlock-ruleset",
        ("a set of Landlock rules", "have it closed once they are in force (landlock_restrict_self)"),
    ),
    ("vfio", ("a device that is passed through (VFIO)", "have the program give the device back")),
    ("iommufd", ("an address space of devices (IOMMUFD)", "have the program give its devices back")),
    ("sync_file", ("a fence of a graphics device", "end the program's use of the device")),
    ("dma_fence", ("a fence of a graphics device", "end the program's use of the device")),
    ("guest_memfd", ("memory of a virtual machine of KVM", VIRTUAL_MACHINE)),
];

/// The same of devices, by the beginning of their names.
const DEVICES: &[(&str, Known)] = &[
    ("/dev/kvm", ("the device /dev/kvm", VIRTUAL_MACHINE)),
    ("/dev/fuse", ("the server's end of a FUSE filesystem (/dev/fuse)", "unmount that filesystem first")),
    ("/dev/cuse", ("the server's end of a device in user space (/dev/cuse)", "end that device first")),
    (
        "/dev/dri/",
        (
            "a graphics device (/dev/dri)",
            "run the program without it: LIBGL_ALWAYS_SOFTWARE=1, --disable-gpu",
        ),
    ),
    ("/dev/nvidia", ("a GPU of NVIDIA's", "have the program release it first (cuda-checkpoint)")),
    ("/dev/snd/", ("a sound device (/dev/snd)", "end the sound first")),
    ("/dev/vfio/", ("a device that is passed through (VFIO)", "have the program give the device back")),
    ("/dev/input/", ("an input device (/dev/input)", CLOSE)),
    ("/dev/loop", ("a loop device", CLOSE)),
];

/// What it is, if it is of a kind with a name.
pub(super) fn known(open: &Open<'_>) -> Option<Known> {
    let label = String::from_utf8_lossy(&open.place.label);
    let among = |table: &[(&str, Known)], word: &str| {
        table.iter().find(|(beginning, _)| word.starts_with(beginning)).map(|(_, known)| *known)
    };
    if let Some(kind) = label.strip_prefix("anon_inode:") {
        return among(ANONYMOUS, kind.trim_matches(['[', ']']));
    }
    if is_secret_memory(&open.place.label) {
        return Some((
            "memory that is hidden from the kernel (memfd_secret)",
            "nobody but the program can read it: have it keep its secrets elsewhere",
        ));
    }
    if is_namespace(&label) {
        return Some(("a namespace", "have the program close it: it is needed for setns only"));
    }
    if label.starts_with("/dmabuf:") {
        return Some(("a buffer of a device (dma-buf)", "end the program's use of the device"));
    }
    among(DEVICES, &label)
}

/// Whether a file is memory that is hidden from the kernel.
pub(super) fn is_secret_memory(label: &[u8]) -> bool {
    label.starts_with(b"/secretmem")
}

/// `net:[4026531840]`
fn is_namespace(label: &str) -> bool {
    const KINDS: [&str; 8] = ["mnt", "net", "uts", "ipc", "pid", "user", "cgroup", "time"];
    label.split_once(":[").is_some_and(|(kind, _)| KINDS.contains(&kind))
}

/// Whether a descriptor that only names a directory names one of a mount that is attached nowhere (open_tree, fsmount).
pub(super) fn is_detached_mount(open: &Open<'_>) -> bool {
    if !open.is_path_only() || !open.place.metadata.is_dir() || open.place.metadata.nlink() == 0 {
        return false;
    }
    let Some(mount) = parse::value(&open.info, "mnt_id") else { return false };
    let mounts = open.subject.proc.text("mountinfo").unwrap_or_default();
    !mounts.is_empty() && !mounts.lines().any(|line| line.split(' ').next() == Some(mount))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_are_known_by_their_label() {
        assert!(is_namespace("net:[4026531840]") && is_namespace("mnt:[1]"));
        assert!(!is_namespace("pipe:[77]") && !is_namespace("socket:[7]") && !is_namespace("/net"));
    }
}
