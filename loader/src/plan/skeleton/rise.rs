//! In which order orphans come to their parents.
//!
//! An orphan goes to the nearest subreaper above. So in one *round* some tasks are subreapers, some helpers die, in
//! whatever order, and every child of theirs comes to its parent: which it does if no other subreaper of the round
//! lies between. The deepest helpers die first, so that all parents are still above their children-to-be.

use super::cast::Cast;
use super::table::{FOUNDER, Id, Table};
use std::collections::BTreeSet;

/// Helpers that die, and who takes their children.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Who is a subreaper meanwhile.
    pub(super) reapers: BTreeSet<Id>,
    /// Who dies.
    pub(super) dying: BTreeSet<Id>,
    /// The tasks that come to their parents.
    pub(super) rising: BTreeSet<Id>,
    /// Who lies between a dying helper and the heir of its children.
    pub(super) between: BTreeSet<Id>,
}

/// The rounds, and when each helper ends.
#[derive(Debug)]
pub(super) struct Rounds {
    pub(super) rounds: Vec<Round>,
    /// In which round a helper ends; None: as soon as it has done its steps.
    pub(super) end: Table<Option<usize>>,
}

impl Rounds {
    /// Finds them.
    pub(super) fn find(cast: &Cast) -> Rounds {
        let order = cast.makers_first();
        let mut tree = Tree::new(cast, &order);
        let mut rounds: Vec<Round> = Vec::new();
        let mut end = cast.players.map(|_| None);
        for helper in tree.deepest_first(cast) {
            let Some(heir) = cast.players[helper].heir else { continue };
            let between = tree.between(helper, heir);
            let fits = |round: &Round| {
                round.reapers.is_disjoint(&between) && heir.is_none_or(|heir| !round.between.contains(&heir))
            };
            if rounds.last().is_none_or(|round| !fits(round)) {
                if let Some(last) = rounds.last() {
                    tree.carry_out(cast, last);
                }
                rounds.push(Round::default());
            }
            let place = rounds.len() - 1;
            if let Some(round) = rounds.last_mut() {
                // With the round before carried out, the way can be shorter.
                round.between.extend(tree.between(helper, heir));
                round.reapers.extend(heir);
                round.rising.extend(tree.children(cast, helper));
            }
            end[helper] = Some(place);
        }
        // A helper waits for the end of helpers that it has made.
        for id in order.into_iter().rev() {
            let latest = cast.players[id].makes.iter().filter_map(|made| end[*made]).max();
            if cast.players[id].is_helper() {
                end[id] = end[id].max(latest);
            }
        }
        for id in cast.players.ids() {
            if let Some(round) = end[id].and_then(|place| rounds.get_mut(place)) {
                round.dying.insert(id);
            }
        }
        Rounds { rounds, end }
    }
}

/// Whose child everybody is at a time; None for init's.
struct Tree {
    parents: Table<Option<Id>>,
    depths: Table<usize>,
}

impl Tree {
    fn new(cast: &Cast, order: &[Id]) -> Tree {
        let mut tree = Tree { parents: cast.players.map(|_| None), depths: cast.players.map(|_| 0) };
        for id in order.iter().copied().filter(|id| *id != FOUNDER) {
            let parent = cast.parent(id);
            tree.parents[id] = Some(parent);
            tree.depths[id] = tree.depths[parent] + 1;
        }
        tree
    }

    fn deepest_first(&self, cast: &Cast) -> Vec<Id> {
        let mut helpers: Vec<Id> = cast.players.ids().filter(|id| cast.players[*id].heir.is_some()).collect();
        helpers.sort_by_key(|id| std::cmp::Reverse(self.depths[*id]));
        helpers
    }

    fn between(&self, helper: Id, heir: Option<Id>) -> BTreeSet<Id> {
        std::iter::successors(self.parents[helper], |id| self.parents[*id])
            .take_while(|id| heir != Some(*id))
            .collect()
    }

    fn children<'a>(&'a self, cast: &'a Cast, helper: Id) -> impl Iterator<Item = Id> + 'a {
        let made = cast.players[helper].makes.iter().copied();
        made.filter(move |id| self.parents[*id] == Some(helper) && !cast.players[*id].is_helper())
    }

    fn carry_out(&mut self, cast: &Cast, round: &Round) {
        for child in &round.rising {
            self.parents[*child] =
                self.parents[*child].and_then(|helper| cast.players[helper].heir).flatten();
        }
    }
}
