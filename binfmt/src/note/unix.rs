//! Sockets of the domain AF_UNIX: names, who is connected to whom, and what waits to be read.

use crate::note::file::FileIdentity;
use crate::wire::{Text, enumeration, record};

enumeration! {
    /// Whom a socket of the domain AF_UNIX is connected to.
    pub enum UnixState: u16 {
        /// To nobody.
        Alone = 0,
        /// To another socket of the tree.
        Connected = 1,
        /// To one that is gone.
        PeerGone = 2,
        /// It waits for connections.
        Listening = 3,
        /// To a listening one, which has not accepted it yet.
        Pending = 4,
    }
}

record! {
    /// A socket of the domain AF_UNIX.
    pub struct UnixSocket {
        /// The `Description` that this note completes, with its `Socket`.
        description: u32,
        /// Whom it is connected to.
        state: UnixState,
        /// The description of that one; 0 for none.
        peer: u32,
        /// Its own name as getsockname(2) says it, a path or one that begins with a zero byte; empty for none.
        name: Text,
        /// That of its peer (getpeername(2)).
        peer_name: Text,
        /// Which file has the name; its path is empty for none.
        file: FileIdentity,
        /// How many connections may wait for a listening one (listen(2)).
        backlog: u32,
        /// The descriptions of sockets that wait to be accepted, in their order; of a listening one.
        pending: Vec<u32>,
        /// Whether nothing more comes in.
        shut_read: bool,
        /// Whether nothing more can be sent.
        shut_write: bool,
        /// Whether ECONNRESET waits to be told.
        reset: bool,
        /// Process id of its peer when they were connected (SO_PEERCRED), or its own when it began to listen; 0 for none.
        peer_pid: u32,
        /// The user id.
        peer_user: u32,
        /// The group id.
        peer_group: u32,
        /// Which object segments carry what waits to be read, all messages in a row; 0 if nothing.
        content: u32,
        /// What waits to be read, in order. A stream has one for all bytes that can be read at once.
        messages: Vec<UnixMessage>,
    }

    /// What waits to be read.
    pub struct UnixMessage {
        /// Its length in bytes.
        len_bytes: u64,
        /// The name of who has sent it; empty for none.
        sender: Text,
        /// The descriptions on their way with its first byte (SCM_RIGHTS).
        rights: Vec<u32>,
        /// Whether it is said who has sent it (SCM_CREDENTIALS).
        has_credentials: bool,
        /// That process's id.
        pid: u32,
        /// Its user id.
        user: u32,
        /// Its group id.
        group: u32,
    }
}
