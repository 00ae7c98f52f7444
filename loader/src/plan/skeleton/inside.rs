//! Pid namespaces inside of the tree, as far as the skeleton goes.
//!
//! The kernel's rules: a process is made in the namespace of its maker, in one that is made with it (it is the init there
//! then), or in one below to which its maker turned with setns(2). An orphan goes to a subreaper only within the
//! namespace of who died, and else to the init of that. A group can be joined only by who sees its number.

use std::collections::BTreeMap;

/// The namespaces inside of the tree, by numbers from 1; 0 is that of the tree's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inside {
    /// In which each was made, and the process id of its init.
    pub namespaces: BTreeMap<u32, (u32, u32)>,
    /// In which of them a process lives, or did, if in any.
    pub homes: BTreeMap<u32, u32>,
}

impl Inside {
    /// In which namespace a process lives.
    pub fn home(&self, pid: u32) -> u32 {
        self.homes.get(&pid).copied().unwrap_or(0)
    }

    /// Whether who lives in `outer` sees who lives in `inner`.
    pub fn sees(&self, outer: u32, mut inner: u32) -> bool {
        // What contradicts itself leads nowhere, but not for ever.
        for _ in 0..=self.namespaces.len() {
            if inner == outer {
                return true;
            }
            match self.namespaces.get(&inner) {
                Some((parent, _)) => inner = *parent,
                None => return false,
            }
        }
        false
    }

    /// Whether that is the init of its namespace.
    pub fn is_init(&self, pid: u32) -> bool {
        pid != 0 && self.namespaces.get(&self.home(pid)).is_some_and(|(_, init)| *init == pid)
    }

    /// Whether who lives in `maker` can make the process `pid`, which lives in `namespace`.
    pub fn can_make(&self, maker: u32, pid: u32, namespace: u32) -> bool {
        match self.namespaces.get(&namespace) {
            Some((parent, init)) if *init == pid => *parent == maker,
            _ => self.sees(maker, namespace),
        }
    }
}
