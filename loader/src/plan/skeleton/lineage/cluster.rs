//! A process and all that are bound to it, which find their places at once.
//!
//! An exit signal other than SIGCHLD proves that a task was never an orphan (that makes it SIGCHLD): it is *bound* to
//! its parent, which made it, or of which another child with the same signal made it with CLONE_PARENT. In the second
//! way it came into a session that the parent never was in. Who led that session was then bound to the same parent by
//! the same signal: even if it exec'd later, even if it is dead. Such a [`Bond`] cannot be read off the image; it is
//! tried where without it something finds no place.

use super::super::SIGCHLD;
use super::super::census::Census;
use super::super::table::{Id, Table};
use super::{Origin, Spot, Way};
use std::collections::BTreeMap;

/// That the leader of a session is made by this parent with this exit signal, whatever becomes of it later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bond {
    pub(super) leader: Id,
    pub(super) parent: Id,
    pub(super) signal: u32,
}

/// A member's place in its cluster.
#[derive(Clone, Copy)]
struct Rank {
    /// Its parent; none for the top.
    above: Option<Id>,
    depth: u32,
    /// The exit signal it is made with.
    signal: u32,
    /// In which session it must be born, if that is already clear.
    birth: Option<Id>,
}

/// A process and all that are bound to it, directly or through each other.
pub(super) struct Cluster {
    top: Id,
    /// Every parent before its children.
    order: Vec<Id>,
    ranks: BTreeMap<Id, Rank>,
}

impl Cluster {
    /// Gathers the cluster of `top`.
    pub(super) fn gather(top: Id, census: &Census, bound: &Table<Vec<Id>>, bonds: &[Bond]) -> Cluster {
        let mut cluster = Cluster { top, order: Vec::new(), ranks: BTreeMap::new() };
        let mut waiting = vec![(top, Rank { above: None, depth: 0, signal: SIGCHLD, birth: None })];
        while let Some((id, rank)) = waiting.pop() {
            cluster.order.push(id);
            cluster.ranks.insert(id, rank);
            let bonds = bonds.iter().filter(|bond| bond.parent == id).map(|bond| (bond.leader, bond.signal));
            for (child, signal) in bound[id].iter().map(|id| (*id, census.nodes[*id].signal)).chain(bonds) {
                waiting.push((child, Rank { above: Some(id), depth: rank.depth + 1, signal, birth: None }));
            }
        }
        cluster
    }

    /// All of it.
    pub(super) fn members(&self) -> impl Iterator<Item = Id> {
        self.order.iter().copied()
    }

    /// Below which member, and in which of its sessions, all of `part` can be: below the parents and in the session
    /// that any of it needs. Notes in which session that member must be born for it.
    pub(super) fn spot_of(&mut self, part: &[Id], census: &Census, placed: &Table<bool>) -> Option<Spot> {
        let mut session = None;
        let mut parents = Vec::new();
        for id in part {
            let needed = census.nodes[*id].session;
            if placed[needed] && *session.get_or_insert(needed) != needed {
                return None;
            }
            parents
                .extend(census.parent(*id).and_then(|parent| Some((self.ranks.get(&parent)?.depth, parent))));
        }
        let deepest = parents.iter().max().map(|(_, parent)| *parent);
        if let Some(deepest) = deepest
            && !parents.iter().all(|(_, parent)| self.is_above(*parent, deepest))
        {
            return None;
        }
        let spot = |at, session, for_session| Some(Spot { at, session, for_session });
        match (deepest, session) {
            (None, None) => spot(self.top, census.nodes[self.top].session, true),
            (None, Some(session)) if self.ranks.contains_key(&session) => spot(session, session, true),
            (None, Some(session)) => spot(self.top, session, true),
            (Some(parent), None) => spot(parent, census.nodes[parent].session, false),
            (Some(parent), Some(session)) if census.nodes[parent].session == session => {
                spot(parent, session, false)
            }
            (Some(parent), Some(session)) if self.is_above(parent, session) => spot(session, session, true),
            (Some(parent), Some(session)) => {
                self.bear(parent, session, census)?;
                spot(parent, session, false)
            }
        }
    }

    /// The origins of all but the top; if one of them can't be made, the bonds of which one may help.
    pub(super) fn bound_origins(
        &mut self,
        census: &Census,
        placed: &Table<bool>,
    ) -> Result<Vec<(Id, Origin)>, Vec<Bond>> {
        let mut origins = Vec::new();
        // Children first: they can determine where their parent must be born.
        for id in self.order.clone().into_iter().rev() {
            let Some(rank) = self.ranks.get(&id).copied() else { continue };
            let Some(parent) = rank.above else { continue };
            let parents = census.nodes[parent].session;
            let session = match census.leads(id) {
                true => rank.birth.unwrap_or(parents),
                false => census.nodes[id].session,
            };
            let leader = self.ranks.get(&session);
            let has_sibling =
                leader.is_some_and(|leader| (leader.above, leader.signal) == (rank.above, rank.signal));
            let (maker, way) = if session == parents {
                (parent, Way::Child)
            } else if has_sibling {
                (session, Way::Sibling)
            } else if placed[session] && self.bear(parent, session, census).is_some() {
                (parent, Way::Child)
            } else {
                return Err(self.bonds_for(id, session, census, placed));
            };
            origins.push((id, Origin { maker, session, way, signal: rank.signal }));
        }
        Ok(origins)
    }

    /// Whether the top may be born in `session`: after the origins of the others are known.
    pub(super) fn top_may_be_born_in(&self, session: Id, census: &Census) -> bool {
        let needed = self.ranks.get(&self.top).and_then(|rank| rank.birth);
        match census.leads(self.top) {
            true => needed.is_none_or(|needed| needed == session),
            false => census.nodes[self.top].session == session,
        }
    }

    /// Every bond by which the leader of a session among `set` could be a sibling of someone here.
    pub(super) fn all_bonds(&self, set: &[Id], census: &Census) -> Vec<Bond> {
        let mut bonds = Vec::new();
        let leaders: Vec<Id> = set.iter().copied().filter(|id| census.leads(*id)).collect();
        for rank in self.ranks.values() {
            let Some(parent) = rank.above else { continue };
            for leader in &leaders {
                let bond = Bond { leader: *leader, parent, signal: rank.signal };
                if self.is_possible(bond, census) && !bonds.contains(&bond) {
                    bonds.push(bond);
                }
            }
        }
        bonds
    }

    /// The bonds with which `id` could be born in a session: its leader is a sibling, or one of its parent, ...
    fn bonds_for(&self, mut id: Id, session: Id, census: &Census, placed: &Table<bool>) -> Vec<Bond> {
        let mut bonds = Vec::new();
        while let Some(Rank { above: Some(parent), signal, .. }) = self.ranks.get(&id).copied() {
            let bond = Bond { leader: session, parent, signal };
            if !placed[session] && self.is_possible(bond, census) {
                bonds.push(bond);
            }
            id = parent;
        }
        bonds
    }

    /// Whether the leader could have had another exit signal and still be what it is.
    fn is_possible(&self, bond: Bond, census: &Census) -> bool {
        let is_free = !self.ranks.contains_key(&bond.leader) && !census.is_bound(bond.leader);
        let parent_fits =
            census.nodes[bond.leader].has_execed && census.parent(bond.leader) == Some(bond.parent);
        is_free && (census.is_dead(bond.leader) || parent_fits)
    }

    /// Notes that `id` must be born in a session that is not its own in the end.
    fn bear(&mut self, id: Id, session: Id, census: &Census) -> Option<()> {
        let rank = self.ranks.get_mut(&id)?;
        let is_possible = census.leads(id) && *rank.birth.get_or_insert(session) == session;
        is_possible.then_some(())
    }

    /// Whether `upper` is `lower` or above it.
    fn is_above(&self, upper: Id, lower: Id) -> bool {
        let mut at = Some(lower);
        while let Some(id) = at {
            if id == upper {
                return true;
            }
            at = self.ranks.get(&id).and_then(|rank| rank.above);
        }
        false
    }
}
