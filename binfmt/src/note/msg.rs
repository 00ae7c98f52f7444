//! System V message queues (msgget(2)).

use crate::ipc::{self, IpcObject};
use crate::wire::{Bytes, record};

record! {
    /// A System V message queue that the tree uses.
    pub struct SystemVQueue {
        /// Its id, key, owner and permissions.
        ipc: IpcObject,
        /// How many bytes it takes (msg_qbytes).
        capacity_bytes: u64,
        /// The messages that wait, in their order.
        messages: Vec<SystemVMessage>,
        /// Process id of who has sent last; 0 for nobody. After a resume it is this one, or another one of the tree.
        last_sender: u32,
        /// Process id of who has received last; 0 for nobody. After a resume it is the same as who has sent.
        last_receiver: u32,
        /// When was last sent, in seconds since 1970. Linux lets nobody set this time, nor the one below.
        send_time: u64,
        /// When was last received.
        receive_time: u64,
    }

    /// A message that waits.
    pub struct SystemVMessage {
        /// Its type (mtype), more than 0.
        kind: i64,
        /// What it says.
        text: Bytes,
    }
}

/// What a line of `/proc/sysvipc/msg` says besides: how many messages there are, who has sent and who has received last,
/// and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// How many messages wait.
    pub messages: u64,
    /// Who has sent last.
    pub last_sender: u32,
    /// Who has received last.
    pub last_receiver: u32,
    /// When was last sent.
    pub send_time: u64,
    /// When was last received.
    pub receive_time: u64,
}

impl From<&ipc::Listed> for Traffic {
    fn from(line: &ipc::Listed) -> Traffic {
        Traffic {
            messages: line.column(1),
            last_sender: line.pid(2),
            last_receiver: line.pid(3),
            send_time: line.column(4),
            receive_time: line.column(5),
        }
    }
}
