//! System V message queues: what waits in one. How queues are made: see `ipc`.

use crate::error::{Error, Result};
use crate::sys;
use binfmt::note::msg::SystemVQueue;
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

fn empty(id: u32) -> nix::Result<()> {
    loop {
        match sys::drop_message(id) {
            Ok(()) => {}
            Err(Errno::ENOMSG) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
