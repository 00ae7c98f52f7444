//! Who is made into whose memory.
//!
//! Tasks that share an address space are made with CLONE_VM by one that has it: by their parent, or, where that has
//! another memory (because it exec'd), by a sibling. Other relations are refused: a task that shares memory with its
//! grandparent, say, whose parent has exec'd since.

use super::SIGCHLD;
use super::cast::Cast;
use super::census::{Census, Parent};
use super::lineage::Way;
use super::table::Id;
use std::collections::BTreeMap;

/// Lets everybody be made into the memory that is shared, or says whose can't be.
pub(super) fn share(census: &Census, cast: &mut Cast) -> Result<(), Vec<String>> {
    let mut holders: BTreeMap<u32, Vec<Id>> = BTreeMap::new();
    for (id, node) in census.nodes.iter() {
        if node.memory != 0 && !node.zombie {
            holders.entry(node.memory).or_default().push(id);
        }
    }
    let reasons: Vec<String> = holders
        .into_values()
        .filter(|holders| holders.len() > 1)
        .filter_map(|holders| share_one(census, cast, &holders).err())
        .collect();
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

fn share_one(census: &Census, cast: &mut Cast, holders: &[Id]) -> Result<(), String> {
    let pid = |id: Id| census.nodes[id].pid;
    let mut others: BTreeMap<Option<Id>, Vec<Id>> = BTreeMap::new();
    for id in holders {
        let origin = cast.players[*id].origin;
        match census.parent(*id).filter(|parent| holders.contains(parent)) {
            None => others.entry(census.parent(*id)).or_default().push(*id),
            Some(parent) if census.nodes[*id].has_execed => {
                return Err(format!(
                    "process {} has exec'd, and so cannot share the memory of its parent {}",
                    pid(*id),
                    pid(parent)
                ));
            }
            Some(parent) if origin.maker == parent && origin.way == Way::Child => {
                cast.players[*id].shares_memory = true;
            }
            Some(parent) => {
                return Err(format!(
                    "process {} shares the memory of its parent {}, but was not made in a session of that one",
                    pid(*id),
                    pid(parent)
                ));
            }
        }
    }
    let mut families = others.into_iter();
    match (families.next(), families.next()) {
        (Some((_, family)), None) => share_with_siblings(census, cast, &family),
        (Some((_, one)), Some((_, other))) => {
            let numbers: Vec<String> = one.iter().chain(&other).map(|id| pid(*id).to_string()).collect();
            Err(format!(
                "processes {} share memory, but are neither parents nor siblings of each other",
                numbers.join(", ")
            ))
        }
        (None, _) => Ok(()),
    }
}

/// Lets one of a family make the others, with CLONE_PARENT.
fn share_with_siblings(census: &Census, cast: &mut Cast, family: &[Id]) -> Result<(), String> {
    let Some(first) =
        family.iter().copied().max_by_key(|id| (census.nodes[*id].has_execed, std::cmp::Reverse(*id)))
    else {
        return Ok(());
    };
    let origin = cast.players[first].origin;
    let sessions = [origin.session, census.nodes[first].session];
    let signal = if census.nodes[first].has_execed { SIGCHLD } else { origin.signal };
    for id in family.iter().copied().filter(|id| *id != first) {
        let node = &census.nodes[id];
        let is_possible = !node.has_execed
            && matches!(node.parent, Parent::Known(parent) if cast.parent(first) == parent)
            && sessions.contains(&cast.players[id].origin.session)
            && cast.players[id].origin.signal == signal;
        if !is_possible {
            return Err(format!(
                "processes {} and {} share memory, but neither can make the other with this parent, session and exit signal",
                census.nodes[first].pid, node.pid
            ));
        }
        let player = &mut cast.players[id];
        player.origin.maker = first;
        player.origin.way = Way::Sibling;
        player.shares_memory = true;
    }
    Ok(())
}
