//! What tasks have in common that only a fork can give: descriptor tables (CLONE_FILES), working directories (CLONE_FS).

use super::skeleton::{Role, Skeleton};
use crate::error::Refusal;
use crate::world::{makers_of, tasks_of};
use binfmt::image::Image;
use binfmt::note::task::{RunState, Task};
use std::collections::BTreeMap;

type Kind = (&'static str, fn(&Task) -> u32);

/// Everybody who has something in common with others and is made by none of them. One may be, who makes the others.
pub(super) fn refusals(image: &Image, skeleton: &Skeleton) -> Vec<Refusal> {
    let tasks = tasks_of(image, skeleton);
    let makers = makers_of(skeleton);
    let kinds: [Kind; 2] = [
        ("descriptor table", |task| task.descriptor_table),
        ("working directory and umask", |task| task.filesystem),
    ];
    let mut refusals = Vec::new();
    for (what, id) in kinds {
        // The first of each that none of the others makes.
        let mut firsts: BTreeMap<u32, &Task> = BTreeMap::new();
        for (place, task) in tasks.iter().enumerate() {
            let Some(task) = task.filter(|task| task.state != RunState::Zombie) else { continue };
            let maker =
                makers.get(place).copied().flatten().filter(|maker| {
                    skeleton.processes.get(*maker).is_some_and(|maker| maker.role == Role::Task)
                });
            let makers_task = maker.and_then(|maker| tasks.get(maker).copied().flatten());
            if makers_task.is_some_and(|maker| id(maker) == id(task)) {
                continue;
            }
            let first = *firsts.entry(id(task)).or_insert(task);
            if first.pid != task.pid {
                refusals.push(Refusal {
                    reason: format!(
                        "processes {} and {} have one {what} in common, and neither comes from the other",
                        first.pid, task.pid
                    ),
                    remedy: "resume it without one of them".to_owned(),
                });
            }
        }
    }
    refusals
}
