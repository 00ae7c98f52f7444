//! Who comes into which process group, and when.
//!
//! A group is inherited, and else joined while it has a member of the same session. Its number is that of the process
//! that made it, which can have left it or have died since. So: who must lead a group does so at its birth (and after
//! it has made those that shall stay in the group before); everybody is then in a group or joins one; when all have
//! joined, leaders that belong elsewhere go there; and when these are there, helpers end: the dead leaders, and those
//! that hold a group of which all members are leaders that have to come from elsewhere.

use super::Role;
use super::cast::Cast;
use super::census::{Census, Group};
use super::table::{Id, Table};
use std::collections::{BTreeMap, BTreeSet};

/// What a process does about groups.
#[derive(Clone, Debug, Default)]
pub(super) struct Conduct {
    /// Whether it makes a group, and what else.
    pub(super) leads: Option<Lead>,
    /// Whom it makes before that.
    pub(super) makes_before: BTreeSet<Id>,
    /// The group it joins.
    pub(super) joins: Option<Group>,
}

/// How a group is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lead {
    /// With a session.
    Session,
    /// By itself.
    Group,
}

/// Everybody's conduct and who waits for whom.
#[derive(Debug)]
pub(super) struct Groups {
    pub(super) conducts: Table<Conduct>,
    /// Who comes to be waited for until all groups exist.
    pub(super) made: BTreeSet<Id>,
    /// Until all but leaders have joined.
    pub(super) joined: BTreeSet<Id>,
    /// Until leaders have gone where they belong.
    pub(super) moved: BTreeSet<Id>,
}

/// One numbered group.
struct Party {
    leader: Id,
    /// Who joins it without leading another one.
    joiners: Vec<Id>,
    /// Who joins it and leads another one.
    movers: Vec<Id>,
    /// Its helper, that ends when all have joined: its dead leader, or one that holds it.
    holder: Option<Id>,
}

impl Groups {
    /// Adds helpers for dead leaders. To be called before all have been told whom they make.
    pub(super) fn hire(census: &Census, cast: &mut Cast) {
        let mut has_stayer: BTreeMap<u32, bool> = census.groups.keys().map(|group| (*group, false)).collect();
        for (id, node) in census.nodes.iter().skip(1) {
            if let Group::Numbered(group) = node.group
                && let Some(has_stayer) = has_stayer.get_mut(&group)
            {
                *has_stayer |= !is_mover(census, id);
            }
        }
        for (group, session) in &census.groups {
            let stays = has_stayer.get(group).is_some_and(|stays| *stays);
            match census.by_pid.get(group) {
                None => {
                    let helper = cast.helper(*group, *session, *session, Some(Group::Numbered(*group)));
                    cast.players[helper].namespace = census.inside.home(*group);
                }
                // It would leave the group empty before another can join.
                Some(leader) if is_mover(census, *leader) && !stays => {
                    cast.helper(0, *leader, census.nodes[*leader].session, Some(Group::Numbered(*group)));
                }
                Some(_) => {}
            }
        }
    }

    /// Decides what everybody does. To be called when all have been told whom they make.
    pub(super) fn decide(census: &Census, cast: &Cast) -> Groups {
        let mut groups = Groups {
            conducts: cast.players.map(|_| Conduct::default()),
            made: BTreeSet::new(),
            joined: BTreeSet::new(),
            moved: BTreeSet::new(),
        };
        let mut parties = groups.find_leaders(census, cast);
        let births = groups.births(cast);
        for (id, player) in cast.players.iter() {
            let has_own = groups.conducts[id].leads;
            let Some(group) = player.group.filter(|_| player.role == Role::Task) else { continue };
            let now = if has_own.is_some() { Group::Numbered(player.pid) } else { births[id] };
            if now == group {
                continue;
            }
            groups.conducts[id].joins = Some(group);
            if let Group::Numbered(group) = group
                && let Some(party) = parties.get_mut(&group)
            {
                if has_own.is_some() { party.movers.push(id) } else { party.joiners.push(id) }
            }
        }
        for party in parties.values() {
            groups.meet(census, party);
        }
        groups
    }

    /// Whether it leads a group that it leaves.
    pub(super) fn is_mover(&self, id: Id) -> bool {
        self.conducts[id].leads.is_some() && self.conducts[id].joins.is_some()
    }

    /// Who would have to join a group whose number it does not see.
    pub(super) fn forbidden(&self, census: &Census, cast: &Cast) -> Vec<String> {
        let joins = cast.players.iter().filter_map(|(id, player)| Some((player, self.conducts[id].joins?)));
        let forbidden = joins.filter(|(player, group)| match group {
            Group::Callers => player.namespace != 0,
            Group::Numbered(group) => !census.inside.sees(player.namespace, census.inside.home(*group)),
        });
        let told = forbidden.map(|(player, group)| {
            let group = match group {
                Group::Callers => "the caller's group".to_owned(),
                Group::Numbered(group) => format!("group {group}"),
            };
            format!("process {} would have to join {group}, which its pid namespace has not", player.pid)
        });
        told.collect()
    }

    fn find_leaders(&mut self, census: &Census, cast: &Cast) -> BTreeMap<u32, Party> {
        let mut parties = BTreeMap::new();
        for (id, player) in cast.players.iter().skip(1) {
            let is_of_census = id.place() < census.nodes.len();
            let leads_session = is_of_census && census.leads(id);
            let leads_group = player.pid != 0 && census.groups.contains_key(&player.pid);
            if leads_session || leads_group {
                self.conducts[id].leads = Some(if leads_session { Lead::Session } else { Lead::Group });
                let holder = (player.role == Role::Helper).then_some(id);
                parties.insert(player.pid, Party { leader: id, joiners: vec![], movers: vec![], holder });
            }
        }
        for (id, player) in cast.players.iter().skip(census.nodes.len()) {
            // A helper without a number that is not there to die as a parent holds a group.
            if let (0, None, Some(Group::Numbered(group))) = (player.pid, player.heir, player.group)
                && let Some(party) = parties.get_mut(&group)
            {
                party.holder = Some(id);
            }
        }
        parties
    }

    /// The groups in which all are born; decides who is made before its maker leads one.
    fn births(&mut self, cast: &Cast) -> Table<Group> {
        let mut births = cast.players.map(|_| Group::Callers);
        for maker in cast.makers_first() {
            let player = &cast.players[maker];
            for made in &player.makes {
                let child = &cast.players[*made];
                let is_before = match self.conducts[maker].leads {
                    Some(Lead::Session) => child.origin.session != maker,
                    Some(Lead::Group) if child.group == Some(births[maker]) => true,
                    // What is made before exec must not push all others there.
                    Some(Lead::Group) => cast.is_made_before_exec(*made, false),
                    None => true,
                };
                births[*made] = if is_before { births[maker] } else { Group::Numbered(player.pid) };
                if is_before {
                    self.conducts[maker].makes_before.insert(*made);
                }
            }
        }
        births
    }

    /// Lets those meet who must wait for each other because of one group.
    fn meet(&mut self, census: &Census, party: &Party) {
        let Party { leader, joiners, movers, holder } = party;
        if !joiners.is_empty() || !movers.is_empty() {
            self.made.insert(*leader);
            self.made.extend(joiners.iter().chain(movers));
        }
        let leader_goes = holder == &Some(*leader) || is_mover(census, *leader);
        if !joiners.is_empty() && leader_goes {
            self.joined.insert(*leader);
            self.joined.extend(joiners);
        }
        if let Some(holder) = holder
            && !movers.is_empty()
        {
            self.moved.insert(*holder);
            self.moved.extend(movers);
        }
    }
}

/// Whether it leads a group, but is in another one in the end.
fn is_mover(census: &Census, id: Id) -> bool {
    census.nodes.len() > id.place() && {
        let node = &census.nodes[id];
        census.groups.contains_key(&node.pid) && node.group != Group::Numbered(node.pid)
    }
}
