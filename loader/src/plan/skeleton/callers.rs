//! Which session becomes the caller's.
//!
//! A session whose leader lives, but not in the image, is as a rule one that the root came out of, that of a shell: then
//! the tree comes into the caller's, as a job of another shell. But such a leader can also have come out of the tree
//! itself. When all above it have died, init has it, while those of its session whose parents died earlier are children
//! of who was a subreaper then, down in the tree. No founder makes these in its own session: that is above all tasks,
//! and between are some that are in other ones. So a helper makes that session, as if its leader were dead, which to
//! the tree is the same.
//!
//! Nothing in the image tells these two apart, but whether there is a way to the tree does.

use super::{CALLERS, Inside, Member, Skeleton, plan_inside};
use std::collections::BTreeSet;

/// How many sessions are tried as the caller's: each takes a search, and one meets hardly more than one.
const MAX_TRIED: usize = 3;

/// Finds a way to the tree, with the first session as the caller's with which there is one, or else with none, or
/// every reason why the kernel allows none. Returns where the tasks stand then, too.
///
/// `elsewhere` are the numbers of sessions and groups whose leaders live, but are not among the tasks. 0 stands for
/// all in pid namespaces above.
pub fn find(
    tasks: &[Member],
    elsewhere: &BTreeSet<u32>,
    inside: &Inside,
) -> Result<(Skeleton, Vec<Member>), Vec<String>> {
    let mut refused = Vec::new();
    for session in candidates(tasks, elsewhere) {
        let members = with_callers(tasks, session, elsewhere);
        match plan_inside(&members, inside) {
            Ok(skeleton) => return Ok((skeleton, members)),
            Err(reasons) => refused = reasons,
        }
    }
    Err(refused)
}

/// What is tried as the caller's session, one after the other.
fn candidates(tasks: &[Member], elsewhere: &BTreeSet<u32>) -> Vec<Option<u32>> {
    let mut sessions = Vec::new();
    for session in tasks.iter().map(|task| task.session) {
        if elsewhere.contains(&session) && !sessions.contains(&session) && sessions.len() < MAX_TRIED {
            sessions.push(session);
        }
    }
    // What has no number here can't be made here.
    if elsewhere.contains(&0) && tasks.iter().any(|task| task.session == 0) {
        return vec![Some(0)];
    }
    sessions.into_iter().map(Some).chain([None]).collect()
}

/// The tasks where that session is the caller's, and with it the first group of it whose leader lives elsewhere.
fn with_callers(tasks: &[Member], session: Option<u32>, elsewhere: &BTreeSet<u32>) -> Vec<Member> {
    let is_callers = |task: &Member| Some(task.session) == session;
    let mut groups = tasks.iter().filter(|task| is_callers(task)).map(|task| task.group);
    let group = groups.find(|group| elsewhere.contains(group));
    let mut members = tasks.to_vec();
    for member in members.iter_mut().filter(|member| is_callers(member)) {
        member.session = CALLERS;
        if Some(member.group) == group {
            member.group = CALLERS;
        }
    }
    members
}
