//! The machine and the moment: what a resume must compare itself with.

use crate::wire::{Bytes, Text, record};

record! {
    /// The machine and the moment of the checkpoint.
    pub struct Host {
        /// Version of the dumper that wrote the image.
        dumper_version: Text,
        /// `uname -r`.
        kernel_release: Text,
        /// `uname -m`.
        machine: Text,
        /// `/proc/sys/kernel/random/boot_id`: clocks and inode numbers of pseudo-filesystems hold within one boot.
        boot_id: Text,
        /// CLOCK_REALTIME when the tasks stood still, in nanoseconds.
        realtime_ns: i64,
        /// CLOCK_MONOTONIC at the same moment, in nanoseconds.
        monotonic_ns: i64,
        /// CLOCK_BOOTTIME at the same moment, in nanoseconds.
        boottime_ns: i64,
        /// XCR0: the extended states that the processor and the kernel had switched on (Intel SDM 13.3).
        extended_features: u64,
        /// Size in bytes of the XSAVE area with all of them (CPUID leaf 0xD, subleaf 0, EBX).
        extended_state_bytes: u32,
        /// CPUID leaf 7 subleaf 0 (EBX, ECX, EDX), leaf 1 (ECX, EDX), leaf 7 subleaf 1 (EAX): the instruction sets.
        processor_features: Vec<u32>,
        /// Processor name as `/proc/cpuinfo` gives it, for messages.
        processor_name: Text,
        /// The whole vdso image, so that another kernel's can be told from this one and calls be led to it.
        vdso: Bytes,
    }
}
