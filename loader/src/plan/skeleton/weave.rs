//! The steps of everybody, in their order.
//!
//! In the life of every process: it execs; makes others, memory and session or group in between; joins a group; helps
//! orphans to their parents, round by round; sees its zombies die; and goes on, or ends. Everybody comes to barriers in
//! this one order, so nobody waits for one that waits for him.

use super::cast::{Cast, is_deadly};
use super::census::{Census, Group};
use super::group::{Groups, Lead};
use super::lineage::Way;
use super::rise::Rounds;
use super::table::{FOUNDER, Id, Table};
use super::{Process, Role, Skeleton, Step};
use std::collections::BTreeSet;

/// Writes down all steps.
pub(super) fn weave(census: &Census, cast: &Cast, groups: &Groups, rounds: &Rounds) -> Skeleton {
    let mut weaver = Weaver {
        census,
        cast,
        groups,
        rounds,
        inherits: inheritors(cast),
        zombies: cast.players.map(|_| Vec::new()),
        steps: cast.players.map(|_| Vec::new()),
        barriers: 0,
    };
    for (id, node) in census.nodes.iter() {
        if let Some(parent) = census.parent(id).filter(|_| node.zombie) {
            weaver.zombies[parent].push(id);
        }
    }
    weaver.make();
    weaver.join_groups();
    weaver.end_helpers(None);
    weaver.bring_orphans();
    weaver.finish();
    let barriers = weaver.barriers;
    let processes = cast.players.iter().zip(weaver.steps.into_rows()).map(|((_, player), steps)| Process {
        pid: player.pid,
        role: player.role,
        namespace: player.namespace,
        exit_signal: player.origin.signal,
        shares_memory: player.shares_memory,
        steps,
    });
    Skeleton { processes: processes.collect(), barriers }
}

struct Weaver<'a> {
    census: &'a Census,
    cast: &'a Cast,
    groups: &'a Groups,
    rounds: &'a Rounds,
    /// Who inherits memory that matters.
    inherits: Table<bool>,
    /// The zombies among everybody's children.
    zombies: Table<Vec<Id>>,
    steps: Table<Vec<Step>>,
    barriers: u32,
}

impl Weaver<'_> {
    /// Exec, memory, forks, and the own session or group.
    fn make(&mut self) {
        for id in self.cast.players.ids() {
            let player = &self.cast.players[id];
            let conduct = &self.groups.conducts[id];
            let (mut before, mut after): (Vec<Id>, Vec<Id>) =
                player.makes.iter().partition(|made| conduct.makes_before.contains(made));
            // The founder has no memory that anybody inherits, and makes the root first.
            if id != FOUNDER {
                // Who enters a pid namespace comes after its init.
                let enters = |made: Id| {
                    let made = &self.cast.players[made];
                    made.namespace != player.namespace && !self.census.inside.is_init(made.pid)
                };
                let order =
                    |made: &Id| (!self.is_made_before_exec(*made), enters(*made), self.inherits[*made]);
                before.sort_by_key(order);
                after.sort_by_key(order);
            }
            let fork = |made: &Id| (self.fork(*made), Some(*made));
            let lead = conduct.leads.map(|lead| match lead {
                Lead::Session => Step::Setsid,
                Lead::Group => Step::LeadGroup,
            });
            let mut steps: Vec<(Step, Option<Id>)> = before.iter().map(fork).collect();
            steps.extend(lead.map(|step| (step, None)));
            steps.extend(after.iter().map(fork));

            let is_before_exec = |made: Option<Id>| made.is_some_and(|made| self.is_made_before_exec(made));
            let exec = steps.iter().rposition(|(_, made)| is_before_exec(*made)).map_or(0, |last| last + 1);
            if player.has_execed {
                steps.insert(exec, (Step::Exec, None));
            }
            let inherits = |made: Option<Id>| made.is_some_and(|made| self.inherits[made]);
            let memory = steps.iter().skip(exec).position(|(_, made)| inherits(*made));
            if let Some(memory) = memory.filter(|_| player.role == Role::Task && !player.zombie) {
                steps.insert(exec + memory, (Step::Memory, None));
            }
            self.steps[id] = steps.into_iter().map(|(step, _)| step).collect();
        }
    }

    fn is_made_before_exec(&self, made: Id) -> bool {
        self.cast.is_made_before_exec(made, self.inherits[made])
    }

    fn fork(&self, made: Id) -> Step {
        match self.cast.players[made].origin.way {
            Way::Sibling => Step::ForkSibling(made.place()),
            Way::Child | Way::Orphan => Step::Fork(made.place()),
        }
    }

    fn join_groups(&mut self) {
        let Groups { made, joined, moved, conducts } = self.groups;
        self.barrier(made);
        for mover in [false, true] {
            for id in self.cast.players.ids().filter(|id| self.groups.is_mover(*id) == mover) {
                self.steps[id].extend(conducts[id].joins.map(|group| match group {
                    Group::Callers => Step::JoinCallersGroup,
                    Group::Numbered(group) => Step::JoinGroup(group),
                }));
            }
            self.barrier(if mover { moved } else { joined });
        }
    }

    /// Lets helpers end that end in this round, and their makers wait for it.
    fn end_helpers(&mut self, round: Option<usize>) {
        // Who was made later ends earlier.
        for id in self.cast.makers_first().into_iter().rev() {
            let player = &self.cast.players[id];
            if player.is_helper() && self.rounds.end[id] == round {
                // Exec makes it SIGCHLD.
                self.steps[id].extend(is_deadly(player.origin.signal).then_some(Step::Exec));
                self.steps[id].push(Step::Exit);
                self.steps[player.origin.maker].push(Step::Reap(id.place()));
            }
        }
    }

    fn bring_orphans(&mut self) {
        let mut former = &BTreeSet::new();
        for (place, round) in self.rounds.rounds.iter().enumerate() {
            for id in &round.reapers {
                self.steps[*id].push(Step::BecomeSubreaper);
            }
            let reapers: BTreeSet<Id> = former.union(&round.reapers).copied().collect();
            if !reapers.is_empty() {
                self.barrier(&reapers.union(&round.dying).copied().collect());
            }
            self.end_helpers(Some(place));
            let mut waiting: BTreeSet<Id> = round.reapers.union(&round.rising).copied().collect();
            let makers = round.dying.iter().map(|id| self.cast.players[*id].origin.maker);
            waiting.extend(makers.filter(|maker| !round.dying.contains(maker)));
            waiting.extend(self.rounds.rounds.get(place + 1).iter().flat_map(|next| &next.reapers));
            // Who is a subreaper in the end must not be one too early.
            waiting.extend(round.between.iter().filter(|id| self.is_subreaper(**id)));
            self.barrier(&waiting);
            for id in &round.reapers {
                self.steps[*id].push(Step::EndSubreaper);
            }
            former = &round.reapers;
        }
    }

    fn is_subreaper(&self, id: Id) -> bool {
        !self.cast.players[id].is_helper() && self.census.nodes[id].child_subreaper
    }

    fn finish(&mut self) {
        // A parent must have exec'd before it gets a deadly signal, and see that a sibling has made its child.
        let waits = |id: &Id| {
            let origin = self.cast.players[*id].origin;
            origin.way == Way::Sibling || is_deadly(origin.signal)
        };
        let mut waiting = BTreeSet::new();
        for (parent, zombies) in self.zombies.iter().filter(|(_, zombies)| zombies.iter().any(waits)) {
            waiting.insert(parent);
            waiting.extend(zombies.iter().copied().filter(waits));
        }
        self.barrier(&waiting);
        for (id, node) in self.census.nodes.iter() {
            if self.cast.players[id].is_helper() {
                continue;
            }
            let steps = &mut self.steps[id];
            if id != FOUNDER && !node.zombie && !steps.contains(&Step::Memory) {
                steps.push(Step::Memory);
            }
            steps.extend(self.zombies[id].iter().map(|zombie| Step::Await(zombie.place())));
            steps.push(if node.zombie { Step::Die } else { Step::Finish });
        }
    }

    /// Lets these wait for each other.
    fn barrier(&mut self, who: &BTreeSet<Id>) {
        if who.len() < 2 {
            return;
        }
        for id in who {
            self.steps[*id].push(Step::Barrier(self.barriers));
        }
        self.barriers += 1;
    }
}

/// Who inherits memory that matters: a task that has not exec'd, and whoever makes one before its own exec.
fn inheritors(cast: &Cast) -> Table<bool> {
    let mut inherits = cast.players.map(|_| false);
    for id in cast.makers_first().into_iter().rev() {
        let player = &cast.players[id];
        let makes_inheritors = player.makes.iter().any(|made| inherits[*made]);
        inherits[id] = match player.role {
            Role::Founder => false,
            Role::Helper => makes_inheritors,
            Role::Task if player.has_execed => {
                player.makes.iter().any(|made| inherits[*made] && cast.is_made_before_exec(*made, true))
            }
            Role::Task => !player.zombie || makes_inheritors,
        };
    }
    inherits
}
