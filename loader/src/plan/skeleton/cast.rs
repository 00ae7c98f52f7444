//! All processes that are made: the founder, the tasks, and the helpers that bring orphans to their parents.

use super::census::{Census, Group, Parent};
use super::lineage::{Origin, Way};
use super::table::{FOUNDER, Id, Table};
use super::{Role, SIGCHLD};
use std::collections::BTreeMap;

/// A process that is made.
#[derive(Clone, Debug)]
pub(super) struct Player {
    pub(super) pid: u32,
    pub(super) role: Role,
    /// The pid namespace inside of the tree in which it lives.
    pub(super) namespace: u32,
    pub(super) origin: Origin,
    /// Whether it is made with CLONE_VM.
    pub(super) shares_memory: bool,
    pub(super) has_execed: bool,
    pub(super) zombie: bool,
    /// The group in which it ends, if that matters.
    pub(super) group: Option<Group>,
    /// If it is a helper with children: to whom they go when it dies. None for init.
    pub(super) heir: Option<Option<Id>>,
    /// Whom it makes, children and siblings.
    pub(super) makes: Vec<Id>,
}

/// The processes of the census first, in their order, then helpers.
#[derive(Debug)]
pub(super) struct Cast {
    pub(super) players: Table<Player>,
}

impl Cast {
    /// Gathers everybody.
    pub(super) fn gather(census: &Census, origins: &Table<Origin>) -> Cast {
        let mut cast = Cast { players: Table::new() };
        for (id, node) in census.nodes.iter() {
            let role = match id {
                FOUNDER => Role::Founder,
                _ if census.is_dead(id) => Role::Helper,
                _ => Role::Task,
            };
            cast.players.push(Player {
                pid: node.pid,
                role,
                namespace: node.namespace,
                origin: origins[id],
                shares_memory: false,
                has_execed: node.has_execed,
                zombie: node.zombie,
                group: Some(node.group),
                heir: None,
                makes: Vec::new(),
            });
        }
        cast.bring_orphans(census);
        cast
    }

    /// Adds a helper, which lives where its maker does, and returns its name.
    pub(super) fn helper(&mut self, pid: u32, maker: Id, session: Id, group: Option<Group>) -> Id {
        self.players.push(Player {
            pid,
            role: Role::Helper,
            namespace: self.players[maker].namespace,
            origin: Origin { maker, session, way: Way::Child, signal: 0 },
            shares_memory: false,
            has_execed: false,
            zombie: false,
            group,
            heir: None,
            makes: Vec::new(),
        })
    }

    /// Gives every orphan a parent to die: a dead leader that makes it anyway, or a helper.
    fn bring_orphans(&mut self, census: &Census) {
        let mut helpers = BTreeMap::new();
        for id in census.nodes.ids() {
            let origin = self.players[id].origin;
            if origin.way != Way::Orphan {
                continue;
            }
            let heir = match census.nodes[id].parent {
                Parent::Known(parent) => Some(parent),
                Parent::Init | Parent::Nobody => None,
            };
            let maker = &mut self.players[origin.maker];
            let parent = if census.is_dead(origin.maker) && *maker.heir.get_or_insert(heir) == heir {
                origin.maker
            } else {
                let group = self.players[id].group;
                *helpers.entry((origin.maker, origin.session, heir)).or_insert_with(|| {
                    let helper = self.helper(0, origin.maker, origin.session, group);
                    self.players[helper].heir = Some(heir);
                    helper
                })
            };
            self.players[id].origin = Origin { maker: parent, way: Way::Child, ..origin };
        }
    }

    /// Tells every maker whom it makes, and helpers their exit signals: to be called when all have their makers.
    pub(super) fn settle(&mut self, census: &Census) {
        for id in self.players.ids().skip(1) {
            let origin = self.players[id].origin;
            self.players[origin.maker].makes.push(id);
        }
        for id in census.nodes.ids() {
            self.hurry(census, id);
        }
        for id in self.players.ids() {
            let player = &self.players[id];
            let makes_siblings =
                player.makes.iter().any(|made| self.players[*made].origin.way == Way::Sibling);
            if player.role == Role::Helper && !makes_siblings && player.origin.signal == SIGCHLD {
                self.players[id].origin.signal = 0;
            }
        }
        for id in census.nodes.ids() {
            let origin = self.players[id].origin;
            if origin.way == Way::Sibling {
                self.players[id].origin.signal = self.signal_of_siblings(origin.maker, id);
            }
        }
    }

    /// What the pid namespaces inside of the tree forbid of all this.
    pub(super) fn forbidden(&self, census: &Census) -> Vec<String> {
        let mut reasons = Vec::new();
        for (_, player) in self.players.iter().skip(1) {
            let maker = &self.players[player.origin.maker];
            let pid = player.pid;
            let is_siblings = player.origin.way == Way::Sibling && census.inside.is_init(maker.pid);
            if is_siblings || !census.inside.can_make(maker.namespace, pid, player.namespace) {
                reasons.push(format!(
                    "nobody in a pid namespace from which process {pid} can be made can make it with its parent, session \
                     and exit signal"
                ));
            }
            let reaches =
                |heir: Option<Id>| heir.map_or(0, |heir| self.players[heir].namespace) == player.namespace;
            if player.heir.is_some_and(|heir| !reaches(heir)) {
                let orphans = player.makes.iter().map(|made| self.players[*made].pid.to_string());
                reasons.push(format!(
                    "no orphan of its pid namespace comes to the parent of {}",
                    orphans.collect::<Vec<_>>().join(", ")
                ));
            }
        }
        reasons
    }

    /// Lets one that is made before its maker execs, and that leads its session wherever it is born, be made before
    /// its maker leads its own: so that this can be after the exec.
    fn hurry(&mut self, census: &Census, id: Id) {
        let Origin { maker, session, way, .. } = self.players[id].origin;
        let makes_early = self.players[id].makes.iter().any(|made| self.players[*made].origin.session != id);
        let is_late = session == maker && way == Way::Child && maker != FOUNDER;
        if census.leads(id) && is_late && !makes_early && self.is_made_before_exec(id, false) {
            self.players[id].origin.session = self.players[maker].origin.session;
        }
    }

    /// The exit signal of a sibling that `maker` makes.
    fn signal_of_siblings(&self, maker: Id, sibling: Id) -> u32 {
        let origin = self.players[maker].origin;
        let sibling = &self.players[sibling];
        if self.players[maker].has_execed && sibling.origin.signal == SIGCHLD {
            SIGCHLD
        } else {
            origin.signal
        }
    }

    /// Whose child it is when all are made.
    pub(super) fn parent(&self, mut id: Id) -> Id {
        while self.players[id].origin.way == Way::Sibling {
            id = self.players[id].origin.maker;
        }
        self.players[id].origin.maker
    }

    /// Whether its maker has exec'd, but must make it before: because exec changes the exit signal of siblings, and the
    /// effect of that of children; or because it `inherits` memory and the maker is a zombie, which makes none of its
    /// own.
    pub(super) fn is_made_before_exec(&self, made: Id, inherits: bool) -> bool {
        let origin = self.players[made].origin;
        let maker = &self.players[origin.maker];
        let inherits = inherits && maker.zombie;
        maker.has_execed
            && match origin.way {
                Way::Sibling if origin.signal != maker.origin.signal => false,
                Way::Sibling => inherits || origin.signal != SIGCHLD,
                Way::Child | Way::Orphan => inherits || self.is_deadly(made),
            }
    }

    /// Whether its end, or that of a sibling it makes, would kill its parent, had that not exec'd in between.
    fn is_deadly(&self, id: Id) -> bool {
        let mut waiting = vec![id];
        while let Some(id) = waiting.pop() {
            let player = &self.players[id];
            if player.zombie && is_deadly(player.origin.signal) {
                return true;
            }
            waiting
                .extend(player.makes.iter().filter(|made| self.players[**made].origin.way == Way::Sibling));
        }
        false
    }

    /// Everybody but the founder after their makers, the founder first.
    pub(super) fn makers_first(&self) -> Vec<Id> {
        let mut order = vec![FOUNDER];
        let mut next = 0;
        while let Some(id) = order.get(next).copied() {
            order.extend(&self.players[id].makes);
            next += 1;
        }
        order
    }
}

/// Whether no parent can block that exit signal.
pub(super) fn is_deadly(signal: u32) -> bool {
    [libc::SIGKILL, libc::SIGSTOP].map(libc::c_int::cast_unsigned).contains(&signal)
}

impl Player {
    /// Whether it ends when all is done.
    pub(super) fn is_helper(&self) -> bool {
        self.role == Role::Helper
    }
}
