//! What the loader relies on of System V objects.

use super::Checker;
use crate::image::Image;
use crate::ipc::{self, IpcKind};
use crate::note::mapping::{MappedObject, ObjectKind};
use crate::note::msg::SystemVQueue;
use crate::note::sem::{SemaphoreSet, SemaphoreUndo, VALUE_MAX};
use crate::note::shm::SharedSegment;
use std::collections::BTreeSet;

/// Ids stand once in each kind; every object of shared memory has one note of its segment, and no other object has one;
/// messages and semaphores are such as there can be.
pub(super) fn check(image: &Image, checker: &mut Checker) {
    for kind in IpcKind::ALL {
        let ids: Vec<u32> = ipc::objects(image).filter(|it| it.0 == kind).map(|(_, it)| it.id).collect();
        if let Some(id) = ids.iter().find(|id| **id > i32::MAX.unsigned_abs()) {
            checker.wrong.push(format!("no {} has the id {id}", kind.noun()));
        }
        checker.once(kind.noun(), ids.into_iter());
    }
    segments(image, checker);
    for queue in image.all::<SystemVQueue>() {
        if queue.messages.iter().any(|message| message.kind <= 0) {
            checker.wrong.push(format!(
                "{} {} holds a message without a type",
                IpcKind::Queue.noun(),
                queue.ipc.id
            ));
        }
    }
    for set in image.all::<SemaphoreSet>() {
        let too_high = |value: u32| value > VALUE_MAX.unsigned_abs();
        if set.semaphores.is_empty() || set.semaphores.iter().any(|semaphore| too_high(semaphore.value)) {
            checker.wrong.push(format!("no {} is like {}", IpcKind::Semaphores.noun(), set.ipc.id));
        }
    }
    for undo in image.all::<SemaphoreUndo>() {
        let set = image.all::<SemaphoreSet>().find(|set| set.ipc.id == undo.set);
        let count = set.map_or(0, |set| set.semaphores.len());
        let is_in = |number: u32| usize::try_from(number).is_ok_and(|number| number < count);
        let range = -VALUE_MAX - 1..=VALUE_MAX;
        if undo.adjustments.iter().any(|it| !is_in(it.number) || !range.contains(&it.by)) {
            let text = format!(
                "process {} undoes what {} {} has not",
                undo.pid,
                IpcKind::Semaphores.noun(),
                undo.set
            );
            checker.wrong.push(text);
        }
    }
}

fn segments(image: &Image, checker: &mut Checker) {
    let of_kind = image.all::<MappedObject>().filter(|object| object.kind == ObjectKind::SystemV);
    let mut objects: BTreeSet<u32> = of_kind.map(|object| object.id).collect();
    for segment in image.all::<SharedSegment>() {
        let (id, object) = (segment.ipc.id, segment.object);
        if !objects.remove(&object) {
            checker.wrong.push(format!("System V segment {id} is no object of its own but {object}"));
        }
        if segment.size_bytes == 0 {
            checker.wrong.push(format!("no System V segment is like {id}"));
        }
    }
    objects.iter().for_each(|id| checker.wrong.push(format!("nothing says which segment object {id} is")));
}
