//! Sets that are joined: which processes have to do with each other.

use super::super::table::{Id, Table};
use std::collections::BTreeMap;

/// For every process, another one of its set.
pub(super) struct Sets(Table<Id>);

impl Sets {
    /// Room for one row each.
    pub(super) fn new(rows: Table<Id>) -> Sets {
        Sets(rows)
    }

    /// Puts each of `members` into a set of its own.
    pub(super) fn separate(&mut self, members: &[Id]) {
        for id in members {
            self.0[*id] = *id;
        }
    }

    /// Makes one set of two.
    pub(super) fn join(&mut self, one: Id, other: Id) {
        let (one, other) = (self.find(one), self.find(other));
        self.0[one] = other;
    }

    /// The sets of `members`, in the order of their first ones.
    pub(super) fn collect(&mut self, members: &[Id]) -> Vec<Vec<Id>> {
        let mut places = BTreeMap::new();
        let mut sets: Vec<Vec<Id>> = Vec::new();
        for id in members {
            let place = *places.entry(self.find(*id)).or_insert(sets.len());
            match sets.get_mut(place) {
                Some(set) => set.push(*id),
                None => sets.push(vec![*id]),
            }
        }
        sets
    }

    fn find(&mut self, mut id: Id) -> Id {
        while self.0[id] != id {
            // Halve the way for who comes next.
            self.0[id] = self.0[self.0[id]];
            id = self.0[id];
        }
        id
    }
}
