//! System V message queues: messages are copied (MSG_COPY), and stay where they are.

use super::Collected;
use crate::ipc::Users;
use crate::sys;
use binfmt::ipc::{IpcKind, Listed};
use binfmt::note::msg::{SystemVMessage, SystemVQueue, Traffic};
use nix::errno::Errno;

/// Collects the queues that the tree uses.
pub fn collect(users: &Users, out: &mut Collected) {
    for line in IpcKind::Queue.list() {
        let traffic = Traffic::from(&line);
        if !users.have(IpcKind::Queue, line.object.id, &[traffic.last_sender, traffic.last_receiver]) {
            continue;
        }
        match note(&line, traffic) {
            Ok(note) => out.note(note),
            // It is gone meanwhile.
            Err(Errno::EINVAL | Errno::EIDRM) => {}
            Err(error) => out.unsupported(
                format!("{} {} cannot be read ({error})", IpcKind::Queue.noun(), line.object.id),
                "dump it as root, on a kernel with CONFIG_CHECKPOINT_RESTORE (MSG_COPY)",
            ),
        }
    }
}

fn note(line: &Listed, traffic: Traffic) -> Result<SystemVQueue, Errno> {
    let id = line.object.id;
    let capacity_bytes = sys::queue_capacity(id)?;
    let room_bytes = usize::try_from(capacity_bytes).map_err(|_| Errno::E2BIG)?;
    let mut messages = Vec::new();
    for index in 0.. {
        match sys::copy_of_message(id, index, room_bytes) {
            Ok((kind, text)) => messages.push(SystemVMessage { kind, text: text.into() }),
            Err(Errno::ENOMSG) => break,
            Err(error) => return Err(error),
        }
    }
    let Traffic { last_sender, last_receiver, send_time, receive_time, .. } = traffic;
    Ok(SystemVQueue {
        ipc: line.note(),
        capacity_bytes,
        messages,
        last_sender,
        last_receiver,
        send_time,
        receive_time,
    })
}
