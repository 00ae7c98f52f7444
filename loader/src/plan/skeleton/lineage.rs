//! Who makes whom: the decision that sessions and orphans make hard.
//!
//! A process is born in the session of its maker and changes it once at most, to lead one of its own. Its parent is
//! at first its maker (or its maker's parent, with CLONE_PARENT), and later, whenever that one dies, the nearest
//! subreaper *above*. So in whatever way a tree came about:
//!
//! * every task is below its parent in the tree of makers;
//! * the processes born in a session form one piece of that tree, with the session's leader on top.
//!
//! And these suffice: a process that has a place below its parent, but another maker, is made by a helper that dies
//! when all is made. The deepest rise first, each to its parent, which is a subreaper for that time: everybody above
//! is still in place then. What remains is to find a tree of makers with both properties. It is built from the
//! founder down: a *spot* is a process, in one of the one or two sessions of its life, below which a set of processes
//! must find their places. One that can be next (its parent is above, and it was born in the session of the spot or
//! leads one) is put there; the others fall apart into sets that have nothing to do with each other, and each has to
//! be below one process, in one session. Where several can be next, the one is tried first that leaves the smallest
//! sets; in trees that have nothing strange there is never a choice, and every task is made by its parent.
//!
//! Children with another exit signal than SIGCHLD can't rise. They are put in place with their parent: see [`cluster`].

mod cluster;
mod sets;

use super::SIGCHLD;
use super::census::{Census, Parent};
use super::table::{FOUNDER, Id, Table};
use cluster::{Bond, Cluster};
use sets::Sets;

/// How a process becomes its maker's relative.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// Its child for good.
    Child,
    /// Another child of its maker's parent, by CLONE_PARENT.
    Sibling,
    /// The child of a helper of its maker; it comes to its parent when that helper dies.
    Orphan,
}

/// How a process comes to life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    /// Who makes it.
    pub(super) maker: Id,
    /// The session in which the maker is then, and in which the process is born.
    pub(super) session: Id,
    pub(super) way: Way,
    /// The exit signal it is made with.
    pub(super) signal: u32,
}

/// A process below which others must find their places.
#[derive(Clone, Copy, Debug)]
struct Spot {
    at: Id,
    /// In which session it makes them.
    session: Id,
    /// Whether they are there for that session alone: none of them is a child of that process.
    for_session: bool,
}

/// A set of processes that must find their places below a spot.
type Task = (Spot, Vec<Id>);

/// Finds an origin for every process but the founder, whose is its own.
pub(super) fn find(census: &Census) -> Result<Table<Origin>, String> {
    let mut origins =
        census.nodes.map(|_| Origin { maker: FOUNDER, session: FOUNDER, way: Way::Child, signal: SIGCHLD });
    let mut bound = census.nodes.map(|_| Vec::new());
    let mut tangled = Vec::new();
    let is_tangled = find_tangled(census);
    for (id, node) in census.nodes.iter() {
        let parent = census.parent(id).unwrap_or(FOUNDER);
        if !is_tangled[id] {
            let way = if node.parent == Parent::Init { Way::Orphan } else { Way::Child };
            let session = census.nodes[parent].session;
            origins[id] = Origin { maker: parent, session, way, signal: node.signal };
            continue;
        }
        tangled.push(id);
        if census.is_bound(id) {
            bound[parent].push(id);
        }
    }
    let mut search = Search {
        census,
        bound,
        origins,
        placed: census.nodes.map(|_| false),
        sets: Sets::new(census.nodes.map(|_| FOUNDER)),
        work_left: MAX_WORK,
        stuck: Vec::new(),
    };
    let spot = Spot { at: FOUNDER, session: FOUNDER, for_session: false };
    if search.solve(vec![(spot, tangled)], MAX_DEPTH) { Ok(search.origins) } else { Err(search.reason()) }
}

/// Who is in a session that neither its parent is in nor itself leads, with the leader of that session, and all above
/// them. All others can be made by their parents whatever happens to these.
fn find_tangled(census: &Census) -> Table<bool> {
    let mut is_tangled = census.nodes.map(|_| false);
    is_tangled[FOUNDER] = true;
    for (id, node) in census.nodes.iter() {
        let is_plain = match node.parent {
            Parent::Known(parent) => census.leads(id) || node.session == census.nodes[parent].session,
            Parent::Init => census.leads(id) || node.session == FOUNDER,
            Parent::Nobody => true,
        };
        for who in [id, node.session].into_iter().filter(|_| !is_plain) {
            let mut at = Some(who);
            while let Some(id) = at.filter(|id| !is_tangled[*id]) {
                is_tangled[id] = true;
                at = census.parent(id);
            }
        }
    }
    is_tangled
}

/// How many rows may be looked at in all: enough for every tree that is not made to be hard.
const MAX_WORK: usize = 4_000_000;
/// How many choices may hang on each other.
const MAX_DEPTH: u32 = 500;
/// How many of those that can be next are compared; the others are tried last.
const MAX_COMPARED: usize = 50;

struct Search<'a> {
    census: &'a Census,
    /// The bound children of everybody.
    bound: Table<Vec<Id>>,
    origins: Table<Origin>,
    placed: Table<bool>,
    sets: Sets,
    work_left: usize,
    /// The smallest set for which no place was found.
    stuck: Vec<Id>,
}

impl Search<'_> {
    /// Places all; if that can't be, some are left placed.
    fn solve(&mut self, mut tasks: Vec<Task>, depth_left: u32) -> bool {
        while let Some((spot, set)) = tasks.pop() {
            let nexts = self.nexts(spot, &set);
            let is_solved = match nexts.as_slice() {
                // Nothing else could be done than what is done now.
                [next] if self.bound[*next].is_empty() => match self.place(*next, spot, &set, &[]) {
                    Ok(more) => {
                        tasks.extend(more);
                        true
                    }
                    Err(_) => false,
                },
                _ => depth_left > 0 && self.choose(nexts, spot, &set, depth_left - 1),
            };
            if !is_solved {
                if self.stuck.is_empty() || set.len() < self.stuck.len() {
                    self.stuck = set;
                }
                return false;
            }
        }
        true
    }

    /// Tries one after the other as the next.
    fn choose(&mut self, nexts: Vec<Id>, spot: Spot, set: &[Id], depth_left: u32) -> bool {
        let mut ranked: Vec<_> = nexts.into_iter().map(|next| (false, None, false, next)).collect();
        if ranked.len() > 1 {
            for (leads, largest, is_dead, next) in ranked.iter_mut().take(MAX_COMPARED) {
                *leads = self.census.leads(*next);
                *largest = Some(self.largest_left(*next, spot, set));
                *is_dead = self.census.is_dead(*next);
            }
            ranked.sort_by_key(|(leads, largest, is_dead, next)| {
                (largest.is_none(), *leads, *largest, *is_dead, *next)
            });
        }
        ranked.into_iter().any(|(.., next)| self.attempt(next, spot, set, &mut Vec::new(), depth_left))
    }

    /// Tries `next` with these bonds, and with more where they are the remedy.
    fn attempt(&mut self, next: Id, spot: Spot, set: &[Id], bonds: &mut Vec<Bond>, depth_left: u32) -> bool {
        let mut remedies = match self.place(next, spot, set, bonds) {
            Ok(tasks) => {
                if self.solve(tasks, depth_left) {
                    return true;
                }
                Vec::new()
            }
            Err(remedies) => remedies,
        };
        // Those that are known to be missing first.
        remedies.extend(Cluster::gather(next, self.census, &self.bound, bonds).all_bonds(set, self.census));
        self.take_back(set);
        let Some(depth_left) = depth_left.checked_sub(1) else { return false };
        for remedy in remedies {
            if self.work_left == 0 {
                break;
            }
            if !bonds.iter().any(|bond| bond.leader == remedy.leader) {
                bonds.push(remedy);
                if self.attempt(next, spot, set, bonds, depth_left) {
                    return true;
                }
                bonds.pop();
            }
        }
        false
    }

    /// How large the largest set is that `next` would leave.
    fn largest_left(&mut self, next: Id, spot: Spot, set: &[Id]) -> usize {
        let left = self.place(next, spot, set, &[]);
        self.take_back(set);
        left.map_or(usize::MAX, |tasks| tasks.iter().map(|(_, set)| set.len()).max().unwrap_or(0))
    }

    fn take_back(&mut self, set: &[Id]) {
        for id in set {
            self.placed[*id] = false;
        }
    }

    /// Who of `set` can be placed at the spot itself.
    fn nexts(&self, spot: Spot, set: &[Id]) -> Vec<Id> {
        if !self.placed[FOUNDER] {
            return vec![FOUNDER];
        }
        let can_be_next = |id: &Id| {
            !self.census.is_bound(*id)
                && self.census.can_make(spot.at, *id)
                && self.census.parent(*id).is_none_or(|parent| self.placed[parent])
                && (self.census.leads(*id) || self.census.nodes[*id].session == spot.session)
        };
        set.iter().copied().filter(can_be_next).collect()
    }

    /// Places `next` and all that are bound to it. Then the rest of `set` falls apart into what is returned. Where one
    /// of these could not be placed at all: the bonds of which one may help.
    fn place(&mut self, next: Id, spot: Spot, set: &[Id], bonds: &[Bond]) -> Result<Vec<Task>, Vec<Bond>> {
        self.work_left = self.work_left.saturating_sub(set.len());
        if self.work_left == 0 {
            return Err(Vec::new());
        }
        let mut cluster = Cluster::gather(next, self.census, &self.bound, bonds);
        for id in cluster.members() {
            self.placed[id] = true;
        }
        let mut tasks = Vec::new();
        for part in self.parts(set) {
            match cluster.spot_of(&part, self.census, &self.placed) {
                Some(spot) => tasks.push((spot, part)),
                None => return Err(cluster.all_bonds(&part, self.census)),
            }
        }
        for (id, origin) in cluster.bound_origins(self.census, &self.placed)? {
            self.origins[id] = origin;
        }
        if !cluster.top_may_be_born_in(spot.session, self.census) {
            return Err(Vec::new());
        }
        self.origins[next] = self.free_origin(next, spot);
        Ok(tasks)
    }

    /// The parts of `set`, without the placed ones, that have nothing to do with each other.
    fn parts(&mut self, set: &[Id]) -> Vec<Vec<Id>> {
        let left: Vec<Id> = set.iter().copied().filter(|id| !self.placed[*id]).collect();
        self.sets.separate(&left);
        for id in &left {
            let relatives = [self.census.parent(*id), Some(self.census.nodes[*id].session)];
            for relative in relatives.into_iter().flatten().filter(|relative| !self.placed[*relative]) {
                self.sets.join(*id, relative);
            }
        }
        self.sets.collect(&left)
    }

    /// The origin of one that is not bound.
    fn free_origin(&self, id: Id, spot: Spot) -> Origin {
        let maker = spot.at;
        // A zombie that has exec'd makes all before, so that they inherit what it has inherited.
        let execs_before = self.census.nodes[maker].has_execed && !self.census.nodes[maker].zombie;
        let way = match self.census.nodes[id].parent {
            Parent::Nobody => Way::Child,
            Parent::Known(parent) if parent == maker => Way::Child,
            Parent::Known(parent)
                if spot.for_session
                    && self.lasting_parent(maker) == Some(parent)
                    && (self.origins[maker].signal == SIGCHLD || execs_before) =>
            {
                Way::Sibling
            }
            Parent::Known(_) | Parent::Init => Way::Orphan,
        };
        Origin { maker, session: spot.session, way, signal: SIGCHLD }
    }

    /// Whose child it is from its birth to its end.
    fn lasting_parent(&self, mut id: Id) -> Option<Id> {
        while id != FOUNDER {
            let origin = self.origins[id];
            match origin.way {
                Way::Child => return Some(origin.maker),
                Way::Orphan => return None,
                Way::Sibling => id = origin.maker,
            }
        }
        None
    }

    fn reason(&self) -> String {
        let numbers: Vec<String> =
            self.stuck.iter().take(20).map(|id| self.census.nodes[*id].pid.to_string()).collect();
        let more = if self.stuck.len() > numbers.len() { ", ..." } else { "" };
        let cause = if self.work_left == 0 { "was found among too many" } else { "leads" };
        format!(
            "no order of forks {cause} to the parents, sessions and exit signals of processes {}{more}",
            numbers.join(", ")
        )
    }
}
