//! What the loader relies on of IP sockets.

use super::Checker;
use crate::hold;
use crate::image::{Image, Owner};
use crate::note::inet::{InetAddress, InetConnection, InetSocket, InetState};
use crate::note::socket::Socket;

/// The addresses of IP sockets are of their domain, their states of their type, and what they have received is there.
pub(super) fn check(image: &Image, checker: &mut Checker) {
    for note in image.all::<InetSocket>() {
        let id = note.description;
        if !image.about::<Socket>(id).all(|socket| fits(note, socket)) {
            checker.wrong.push(format!("no IP socket is like that of description {id}"));
        }
        let received: u64 = note.received.iter().map(|piece| u64::from(piece.len_bytes)).sum();
        let connections: Vec<&InetConnection> = image.about(id).collect();
        if connections.len() != usize::from(note.state == InetState::Established) {
            checker.wrong.push(format!("not one note tells of the connection of description {id}"));
        }
        let to_send = connections.iter().map(|connection| connection.to_send_bytes());
        let len_bytes = to_send.fold(received, u64::saturating_add);
        let its = image.segments_of(Owner::Object(note.content)).filter(|_| note.content != 0);
        let stored = its.fold(0, |sum: u64, (segment, _)| sum.saturating_add(segment.len_bytes));
        if stored != len_bytes {
            let text = format!(
                "the IP socket of description {id} has {len_bytes} bytes in its queues, not {stored}"
            );
            checker.wrong.push(text);
        }
    }
    for connection in image.all::<InetConnection>() {
        let id = connection.description;
        let (agreed, window) = (&connection.agreed, &connection.window);
        const SHIFT_MAX: u8 = 14;
        let is_possible = agreed.send_shift <= SHIFT_MAX
            && agreed.receive_shift <= SHIFT_MAX
            && window.send_max_bytes >= window.send_bytes
            && (connection.hold.0.is_empty() || hold::is_ours(&connection.hold.to_string()));
        if !is_possible || image.about::<InetSocket>(id).next().is_none() {
            checker.wrong.push(format!("no TCP connection is like that of description {id}"));
        }
    }
}

fn fits(note: &InetSocket, socket: &Socket) -> bool {
    let is_stream = socket.kind.cast_signed() == libc::SOCK_STREAM;
    let address_len = if socket.domain.cast_signed() == libc::AF_INET { 4 } else { 16 };
    let is_of_domain = |address: &InetAddress| address.address.0.len() == address_len;
    let of_type = match note.state {
        InetState::Idle => true,
        InetState::Listening | InetState::Connecting | InetState::Reset | InetState::Established => is_stream,
        InetState::Connected => !is_stream,
    };
    let has_peer =
        matches!(note.state, InetState::Connected | InetState::Connecting | InetState::Established);
    let sources_fit = note.received.iter().all(|piece| is_stream || is_of_domain(&piece.source));
    let groups_fit = note.memberships.iter().all(|group| {
        let is_address = |bytes: &[u8]| bytes.len() == group.group.0.len();
        matches!(group.group.0.len(), 4 | 16) && group.sources.iter().all(|source| is_address(&source.0))
    });
    of_type
        && is_of_domain(&note.local)
        && (!has_peer || is_of_domain(&note.peer))
        && sources_fit
        && groups_fit
}
