//! Who a thread is for the kernel's permission checks.

use crate::wire::record;

record! {
    /// Who a thread is for the kernel's permission checks (credentials(7), capabilities(7)).
    pub struct Credential {
        /// Thread id.
        tid: u32,
        /// User ids: real, effective, saved, filesystem.
        user: Identity,
        /// Group ids: real, effective, saved, filesystem.
        group: Identity,
        /// Supplementary groups.
        groups: Vec<u32>,
        /// Inheritable capabilities, bit N for capability N.
        inheritable: u64,
        /// Permitted capabilities.
        permitted: u64,
        /// Effective capabilities.
        effective: u64,
        /// Capability bounding set.
        bounding: u64,
        /// Ambient capabilities.
        ambient: u64,
        /// Secure bits (PR_GET_SECUREBITS).
        secure_bits: u32,
        /// Whether execve can no longer gain privileges (PR_GET_NO_NEW_PRIVS).
        no_new_privileges: bool,
    }

    /// The four ids of one kind.
    pub struct Identity {
        /// Real.
        real: u32,
        /// Effective.
        effective: u32,
        /// Saved.
        saved: u32,
        /// For filesystem checks.
        filesystem: u32,
    }
}
