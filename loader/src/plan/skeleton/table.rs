//! Tables whose rows are named by [`Id`]: all processes of one skeleton have their rows in the same order everywhere.

use std::ops::{Index, IndexMut};

/// The row of a process. Only tables make ids, all tables of one skeleton are as long as the one that made it, and no
/// row is ever taken away: an id always has its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(usize);

/// The founder has the first row.
pub(super) const FOUNDER: Id = Id(0);

impl Id {
    /// The place in [`super::Skeleton::processes`].
    pub(super) fn place(self) -> usize {
        self.0
    }
}

/// Something about every process.
#[derive(Clone, Debug)]
pub(super) struct Table<T>(Vec<T>);

impl<T> Table<T> {
    /// A table without rows.
    pub(super) fn new() -> Table<T> {
        Table(Vec::new())
    }

    /// Adds a row.
    pub(super) fn push(&mut self, row: T) -> Id {
        self.0.push(row);
        Id(self.0.len() - 1)
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// All rows' names. They do not borrow the table.
    pub(super) fn ids(&self) -> impl DoubleEndedIterator<Item = Id> + use<T> {
        (0..self.0.len()).map(Id)
    }

    /// All rows with their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        self.0.iter().enumerate().map(|(row, value)| (Id(row), value))
    }

    /// A table of the same rows.
    pub(super) fn map<U>(&self, of: impl FnMut(&T) -> U) -> Table<U> {
        Table(self.0.iter().map(of).collect())
    }

    /// All rows in their order.
    pub(super) fn into_rows(self) -> Vec<T> {
        self.0
    }
}

#[allow(clippy::indexing_slicing, reason = "an id always has its row")]
impl<T> Index<Id> for Table<T> {
    type Output = T;

    fn index(&self, id: Id) -> &T {
        &self.0[id.0]
    }
}

#[allow(clippy::indexing_slicing, reason = "an id always has its row")]
impl<T> IndexMut<Id> for Table<T> {
    fn index_mut(&mut self, id: Id) -> &mut T {
        &mut self.0[id.0]
    }
}
