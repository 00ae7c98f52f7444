//! System V message queues: what waits in one. How queues are made: see `ipc`.
//!
//! That a queue is part of the tree is told by who used it last: so a task sends and takes a message that says nothing.

use crate::error::{Error, Result};
use crate::sys;
use crate::world::World;
use binfmt::ipc::IpcKind;
use binfmt::note::msg::SystemVQueue;
use binfmt::note::task::{RunState, Task};
use nix::errno::Errno;

/// Gives queue `id` its messages, and takes those away that it has.
pub fn fill(
    queue: &SystemVQueue,
    id: u32,
    reused: bool,
    failed: &dyn Fn(&str, Errno) -> Error,
) -> Result<()> {
    if reused {
        empty(id).map_err(|error| failed("empty", error))?;
    }
    let set = sys::set_queue_capacity(id, queue.capacity_bytes);
    set.map_err(|error| failed("set how much fits in", error))?;
    queue.messages.iter().try_for_each(|message| {
        let sent = sys::send_message(id, message.kind, &message.text.0);
        sent.map_err(|error| failed("send a message to", error))
    })
}

/// Has the kernel note that `task` used the queues last of which it is the first to have done so, or of which nobody was.
pub fn rebuild(world: &World<'_>, task: &Task) -> Result<()> {
    /// A type that no program chooses.
    const NOTHING: i64 = 0x7fff_636b_7074_6d73;
    let lives = |pid: &u32| world.image.about::<Task>(*pid).any(|task| task.state != RunState::Zombie);
    let root = world.image.all::<Task>().next().map_or(0, |root| root.pid);
    for queue in world.image.all::<SystemVQueue>() {
        let user = [queue.last_sender, queue.last_receiver].into_iter().find(lives).unwrap_or(root);
        if user != task.pid {
            continue;
        }
        let (id, is_joined) = world.ipc(IpcKind::Queue, queue.ipc.id)?;
        if is_joined {
            continue;
        }
        match sys::send_message(id, NOTHING, &[]).and_then(|()| sys::drop_message(id, NOTHING)) {
            // There is room for no message more.
            Ok(()) | Err(Errno::EAGAIN) => {}
            Err(error) => return Err(Error::step(format!("use System V message queue {id}"), error)),
        }
    }
    Ok(())
}

fn empty(id: u32) -> nix::Result<()> {
    loop {
        match sys::drop_message(id, 0) {
            Ok(()) => {}
            Err(Errno::ENOMSG) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
