//! What the loader relies on of namespaces.

use super::Checker;
use crate::image::Image;
use crate::note::namespace::{IPC_SETTINGS, NET_SETTINGS, Namespace, NamespaceKind};
use std::collections::BTreeSet;

/// Each is there once, after the one of users that owns it; a task lives in one of each kind; and nothing is set but what is
/// a namespace's own.
pub(super) fn check(image: &Image, tasks: &BTreeSet<u32>, checker: &mut Checker) {
    let (mut ids, mut users, mut homes) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for Namespace { id, kind, owner, members, settings, path, .. } in image.all::<Namespace>() {
        let who = format!("{} namespace {id}", kind.noun());
        if *id == 0 || !ids.insert(*id) {
            checker.wrong.push(format!("{who} is there twice, or has no number"));
        }
        if *owner != 0 {
            checker.refers(&who, "user namespace", *owner, &users);
        }
        if *kind == NamespaceKind::User {
            users.insert(*id);
        }
        for pid in members {
            checker.refers(&who, "task", *pid, tasks);
            if !homes.insert((*kind, *pid)) {
                checker.wrong.push(format!("process {pid} lives in two {} namespaces", kind.noun()));
            }
        }
        if members.is_empty() {
            checker.wrong.push(format!("nobody lives in {who}"));
        }
        let known: &[&str] = match kind {
            NamespaceKind::Ipc => &IPC_SETTINGS,
            NamespaceKind::Net => &NET_SETTINGS,
            _ => &[],
        };
        for setting in settings.iter().filter(|it| !known.iter().any(|name| name.as_bytes() == it.name.0)) {
            checker.wrong.push(format!("{who} has no setting {}", setting.name));
        }
        if !path.0.is_empty() && !path.0.starts_with(b"/") {
            checker.wrong.push(format!("{who} has the path {path}, which is not absolute"));
        }
    }
}
