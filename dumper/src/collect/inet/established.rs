//! TCP connections that go on after the resume.
//!
//! All send queues are read first ([`sys::ask_in_repair`]), then what was received. Between two sockets of the tree bytes may
//! come over meanwhile, since the kernel does not stand still: the receiver knows which, and what it has is taken off the sender's
//! queue. So every byte is there once, and nothing is on the way. A peer outside of the tree is held back by a packet filter from
//! before the first question ([`binfmt::hold`]), and answers the rest by the rules of TCP.

use super::super::socket::Held;
use super::tcp::{Info, Tcp, received, state};
use super::{local, peer};
use crate::Afterwards;
use crate::collect::Collected;
use crate::error::Error;
use crate::sys::{self, Asked, Told};
use binfmt::hold::{Flow, Link, Until};
use binfmt::note::FromNote;
use binfmt::note::inet::{InetAddress, InetAgreement, InetConnection, InetWindow};
use binfmt::note::task::Task;
use binfmt::wire::Text;
use nix::errno::Errno;
use nix::poll::PollFlags;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

/// A connection with its queues.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) note: InetConnection,
    pub(super) received: Vec<u8>,
    pub(super) to_send: Vec<u8>,
}

/// What becomes of a connection.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It goes on.
    GoesOn(Box<Connection>),
    /// It is over.
    Over,
    /// What it is, and what to do about it.
    NotSaved(String, String),
}

/// Holds peers back while their connections are read, and afterwards until the resume.
#[derive(Debug)]
pub struct Hold {
    link: Link,
    name: String,
    flows: Vec<Flow>,
}

/// One that is looked at.
struct Candidate<'a> {
    socket: &'a Held<'a>,
    local: InetAddress,
    peer: InetAddress,
    flow: Flow,
    /// The description of its other end, if that is in the tree.
    other: Option<u32>,
}

/// What was found out about one.
struct Known<'a> {
    candidate: Candidate<'a>,
    info: Info,
    told: Told,
    /// The first byte that is not acknowledged, and how many were never sent.
    acknowledged_to: u32,
    unsent: u32,
    received: Vec<u8>,
    /// The sequence number of the next byte from the peer.
    receive_sequence: u32,
}

/// All connections, by their descriptions.
pub(super) fn collect(sockets: &[&Held<'_>], out: &mut Collected) -> Result<BTreeMap<u32, Verdict>, Error> {
    let mut verdicts = BTreeMap::new();
    let mut candidates = Vec::new();
    for socket in sockets {
        if let Some(candidate) = Candidate::of(socket).map_err(|error| socket.failed(ASKING, error))? {
            candidates.push(candidate);
        }
    }
    if candidates.is_empty() {
        return Ok(verdicts);
    }
    pair(&mut candidates);
    let may_repair = sys::may_repair();
    let others = holders_outside(&candidates, out);
    let mut kept = Vec::new();
    for candidate in candidates {
        let id = candidate.socket.description;
        if let Some(pid) = others.get(&candidate.socket.inode()) {
            let what =
                format!("{}, which process {pid} has open, too, who is not of the tree", candidate.name());
            verdicts
                .insert(id, Verdict::NotSaved(what, "end that process, or let this one run on".to_owned()));
            continue;
        }
        match candidate.verdict(may_repair).map_err(|error| candidate.socket.failed(ASKING, error))? {
            None => kept.push(candidate),
            Some(verdict) => drop(verdicts.insert(id, verdict)),
        }
    }
    let (kept, hold) = hold_back(kept, &mut verdicts);
    let name = hold.as_ref().map(|hold| hold.name.clone()).unwrap_or_default();
    out.hold = hold;
    let known = ask(kept, &mut verdicts)?;
    let from: BTreeMap<u32, u32> =
        known.iter().map(|one| (one.candidate.socket.description, one.receive_sequence)).collect();
    for one in known {
        let id = one.candidate.socket.description;
        let socket = one.candidate.socket;
        // The other end may have turned out to be none that can be kept.
        let other = one.candidate.other.and_then(|other| from.get(&other)).copied();
        if one.candidate.other.is_some() && other.is_none() {
            verdicts.insert(id, Verdict::Over);
            continue;
        }
        let connection = one.connection(other, &name).map_err(|error| socket.failed(ASKING, error))?;
        let duplicate = socket.duplicate.try_clone();
        out.connections
            .push(duplicate.map_err(|error| socket.failed("keeping a duplicate", to_errno(&error)))?);
        verdicts.insert(id, Verdict::GoesOn(Box::new(connection)));
    }
    Ok(verdicts)
}

const ASKING: &str = "asking for the connection";

fn to_errno(error: &std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

impl<'a> Candidate<'a> {
    /// If it is a connection.
    fn of(socket: &'a Held<'a>) -> Result<Option<Candidate<'a>>, Errno> {
        if (socket.family.kind, socket.family.protocol) != (libc::SOCK_STREAM, libc::IPPROTO_TCP)
            || !state::is_connected(Info::of(socket)?.state)
        {
            return Ok(None);
        }
        let Some(peer) = peer(socket)? else { return Ok(None) };
        let local = local(socket)?;
        let address =
            |address: &InetAddress| Some(SocketAddr::new(address.ip()?.to_canonical(), address.port));
        let Some((own, other)) = address(&local).zip(address(&peer)) else { return Ok(None) };
        Ok(Some(Candidate { socket, local, peer, flow: Flow { own, peer: other }, other: None }))
    }

    fn name(&self) -> String {
        format!("a TCP connection of {} with {}", self.local, self.peer)
    }

    /// What becomes of it, unless it may go on.
    fn verdict(&self, may_repair: bool) -> Result<Option<Verdict>, Errno> {
        let options = self.socket.open.subject.options;
        let not_saved = |what: &str, advice: &str| {
            Some(Verdict::NotSaved(format!("{}{what}", self.name()), advice.to_owned()))
        };
        const OR_RESET: &str = "`--tcp=reset` gives it up: after a resume the program is told of a reset";
        Ok(match options.tcp {
            // A look would move it (since Linux 6.9).
            _ if self.socket.number(libc::SO_PEEK_OFF).is_ok_and(|offset| offset >= 0) => {
                not_saved(" with SO_PEEK_OFF", "such a socket cannot be looked into")
            }
            Some(Tcp::Reset) => Some(Verdict::Over),
            _ if !may_repair => not_saved(
                "",
                "with CAP_NET_ADMIN it goes on after a resume; `--tcp=reset` gives it up: the program is told of a reset",
            ),
            None if self.stays_with_original() => Some(Verdict::Over),
            Some(Tcp::Keep) if self.stays_with_original() => not_saved(
                ", who is not of the tree and goes on with the original",
                "with --kill or --stop the connection goes on after a resume; without --tcp=keep it is saved as lost",
            ),
            _ if has_layer(self.socket)? => {
                not_saved(" with a layer of its own (TCP_ULP: kernel TLS, ...)", OR_RESET)
            }
            _ => None,
        })
    }

    /// Whether the peer has nobody but the original to go on with.
    fn stays_with_original(&self) -> bool {
        self.other.is_none() && self.socket.open.subject.options.afterwards == Afterwards::RunOn
    }
}

/// What is said of a connection that an image of a program that runs on has as lost.
pub(super) fn remark(socket: &Held<'_>) -> Result<Option<String>, Errno> {
    let Some(candidate) = Candidate::of(socket)? else { return Ok(None) };
    Ok(Some(format!("{}, who goes on with the original", candidate.name())))
}

/// Whether something stands between TCP and the program.
fn has_layer(socket: &Held<'_>) -> Result<bool, Errno> {
    const TCP_ULP: i32 = 31;
    match sys::socket_option(socket.duplicate.as_fd(), libc::IPPROTO_TCP, TCP_ULP, 16) {
        Ok(name) => Ok(name.first().is_some_and(|byte| *byte != 0)),
        Err(Errno::ENOPROTOOPT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Which of them somebody outside of the tree has open, by their inodes: what ends without a word for a program that is killed
/// would for that one, too.
fn holders_outside(candidates: &[Candidate<'_>], out: &Collected) -> BTreeMap<u64, u32> {
    let stays = |one: &Candidate<'_>| one.socket.open.subject.options.afterwards == Afterwards::RunOn;
    let inodes: BTreeSet<u64> = candidates.iter().map(|one| one.socket.inode()).collect();
    if candidates.iter().all(stays) {
        return BTreeMap::new();
    }
    let own: BTreeSet<u32> =
        out.notes.iter().filter_map(|note| Task::from_note(note).map(|task| task.pid)).collect();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut found = BTreeMap::new();
    for pid in pids.filter(|pid| !own.contains(pid) && *pid != std::process::id()) {
        // Into whom one may not look has nothing of this user's, or everything.
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let link = fs::read_link(entry.path()).unwrap_or_default();
            let inode =
                link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode.filter(|inode| inodes.contains(inode)) {
                found.insert(inode, pid);
            }
        }
    }
    found
}

/// Finds the two ends of connections within the tree.
fn pair(candidates: &mut [Candidate<'_>]) {
    let key = |flow: &Flow| (flow.own, flow.peer);
    let by_flow: BTreeMap<_, u32> =
        candidates.iter().map(|one| (key(&one.flow), one.socket.description)).collect();
    for one in candidates {
        one.other = by_flow.get(&(one.flow.peer, one.flow.own)).copied();
    }
}

/// Holds back the peers outside of the tree. Without a packet filter their connections cannot be kept.
fn hold_back<'a>(
    candidates: Vec<Candidate<'a>>,
    verdicts: &mut BTreeMap<u32, Verdict>,
) -> (Vec<Candidate<'a>>, Option<Hold>) {
    let flows: Vec<Flow> = candidates.iter().filter(|one| one.other.is_none()).map(|one| one.flow).collect();
    if flows.is_empty() {
        return (candidates, None);
    }
    let held = Link::open().and_then(|link| {
        // Of programs that nobody has resumed.
        let _ = link.tidy();
        let name = Link::new_name();
        link.hold(&working(&name), &flows, Until::Closed)?;
        Ok(Hold { link, name, flows })
    });
    match held {
        Ok(hold) => (candidates, Some(hold)),
        Err(error) => {
            let (within, outside): (Vec<_>, Vec<_>) =
                candidates.into_iter().partition(|one| one.other.is_some());
            for one in outside {
                let what = format!(
                    "{}, who cannot be held back while the program is not there: {error}",
                    one.name()
                );
                let advice = "the kernel must have the packet filter nf_tables; `--tcp=reset` gives it up";
                verdicts.insert(one.socket.description, Verdict::NotSaved(what, advice.to_owned()));
            }
            (within, None)
        }
    }
}

/// The name of the table that ends with this program.
fn working(name: &str) -> String {
    format!("{name}-dump")
}

impl Hold {
    /// Has what is held stay so for a while when this program has ended.
    pub fn outlive(&self, time: Duration) -> Result<(), Errno> {
        self.link.hold(&self.name, &self.flows, Until::Elapsed(time))
    }

    /// What who lets the program run on without a resume must do.
    pub fn remark(&self) -> String {
        format!(
            "the peers of its TCP connections are held back: before it runs on, `nft delete table inet {}`",
            self.name
        )
    }

    /// Ends that.
    pub fn release(&self) -> Result<(), Errno> {
        self.link.release(&self.name)
    }
}

/// Asks all of them.
fn ask<'a>(
    candidates: Vec<Candidate<'a>>,
    verdicts: &mut BTreeMap<u32, Verdict>,
) -> Result<Vec<Known<'a>>, Error> {
    /// More than the longest segment, of which a part may be acknowledged.
    const SEGMENT_BYTES: usize = 1 << 17;
    let mut asked = Vec::with_capacity(candidates.len());
    for one in &candidates {
        let failed = |error| one.socket.failed(ASKING, error);
        let unread = sys::bytes_unsent(one.socket.duplicate.as_fd()).map_err(failed)?;
        let reuse = one.socket.number(libc::SO_REUSEADDR).map_err(failed)?;
        let room = if unread == 0 { 0 } else { unread + SEGMENT_BYTES };
        let inline = one.socket.number(libc::SO_OOBINLINE).map_err(failed)?;
        asked.push(Asked { fd: one.socket.duplicate.as_raw_fd(), reuse, inline, room });
    }
    let Some(first) = candidates.first() else { return Ok(Vec::new()) };
    let told = sys::ask_in_repair(&asked).map_err(|error| first.socket.failed(ASKING, error))?;
    let mut all = Vec::new();
    for (one, told) in candidates.into_iter().zip(told) {
        let (socket, name) = (one.socket, one.name());
        let failed = |error| socket.failed(ASKING, error);
        let looked = Known::look(one, told.map_err(failed)?).map_err(failed)?;
        match looked {
            Look::Known(known) => all.push(*known),
            Look::Over => drop(verdicts.insert(socket.description, Verdict::Over)),
            Look::Beyond => {
                let what = format!("{name} with bytes behind urgent data that was read");
                let advice = "they can be looked at since Linux 6.9; `--tcp=reset` gives the connection up";
                verdicts.insert(socket.description, Verdict::NotSaved(what, advice.to_owned()));
            }
            Look::Urgent => {
                let advice = "try again when it was read; `--tcp=reset` gives the connection up";
                let verdict = Verdict::NotSaved(format!("{name} with urgent data"), advice.to_owned());
                verdicts.insert(socket.description, verdict);
            }
        }
    }
    Ok(all)
}

/// What a look at a connection has come to.
enum Look<'a> {
    Known(Box<Known<'a>>),
    /// It has come to its end meanwhile.
    Over,
    /// There is urgent data.
    Urgent,
    /// There are bytes that cannot be looked at.
    Beyond,
}

impl<'a> Known<'a> {
    fn look(candidate: Candidate<'a>, told: Told) -> Result<Look<'a>, Errno> {
        const TRIES: usize = 100;
        let fd = candidate.socket.duplicate.as_fd();
        let acknowledged_to = told.written_to.wrapping_sub(told.unacknowledged);
        let unsent = u32::try_from(sys::bytes_never_sent(fd)?).unwrap_or(u32::MAX);
        for _ in 0..TRIES {
            let start = sys::received_to(fd.as_raw_fd())?;
            let info = Info::of(candidate.socket)?;
            if !state::is_connected(info.state) {
                return Ok(Look::Over);
            }
            let waiting = sys::bytes_waiting(fd)?;
            let mut received = received(candidate.socket)?;
            let is_same = sys::received_to(fd.as_raw_fd())? == start
                && Info::of(candidate.socket)?.state == info.state
                && sys::bytes_waiting(fd)? == waiting;
            if sys::events(fd, PollFlags::POLLPRI)?.contains(PollFlags::POLLPRI) {
                return Ok(Look::Urgent);
            }
            if is_same && received.len() == waiting && told.behind > 0 {
                match sys::look_behind(fd.as_raw_fd(), candidate.socket.number(libc::SO_OOBINLINE)?) {
                    Ok(behind) if behind.before == waiting => received.extend(behind.bytes),
                    Ok(_) | Err(Errno::EAGAIN) => continue,
                    Err(Errno::EOPNOTSUPP) => return Ok(Look::Beyond),
                    Err(error) => return Err(error),
                }
                if sys::received_to(fd.as_raw_fd())? != start {
                    continue;
                }
            } else if received.len() != waiting {
                continue;
            }
            if is_same {
                let end = u32::from(state::peer_has_ended(info.state));
                let receive_sequence = start.wrapping_sub(end);
                return Ok(Look::Known(Box::new(Known {
                    candidate,
                    info,
                    told,
                    acknowledged_to,
                    unsent,
                    received,
                    receive_sequence,
                })));
            }
        }
        Err(Errno::EAGAIN)
    }

    /// What the image says of it; `other_has`: the next byte that the other end in the tree waits for.
    fn connection(self, other_has: Option<u32>, hold: &str) -> Result<Connection, Errno> {
        let Known { candidate, info, told, acknowledged_to, unsent, received, receive_sequence } = self;
        let own_end = u32::from(state::has_ended(info.state));
        let data_end = told.written_to.wrapping_sub(own_end);
        let queue_len = u32::try_from(told.queue.len()).map_err(|_| Errno::EMSGSIZE)?;
        let queue_start = data_end.wrapping_sub(queue_len);
        // An acknowledged end is no byte.
        let acknowledged_to = earlier(acknowledged_to, data_end);
        let send_sequence = other_has.unwrap_or(acknowledged_to);
        let gone = usize::try_from(send_sequence.wrapping_sub(queue_start)).map_err(|_| Errno::EMSGSIZE)?;
        let to_send = told.queue.get(gone..).ok_or(Errno::EBADMSG)?.to_vec();
        let to_send_len = queue_len - u32::try_from(gone).map_err(|_| Errno::EMSGSIZE)?;
        let unsent = match other_has {
            Some(_) => to_send_len,
            None => unsent.saturating_sub(own_end).min(to_send_len),
        };
        let [told_by, send_bytes, send_max_bytes, receive_bytes, receive_from] = told.window;
        let moved = send_sequence.wrapping_sub(acknowledged_to);
        let behind = receive_from.wrapping_sub(earlier(receive_from, receive_sequence));
        let duplicate = candidate.socket.duplicate.as_fd();
        let word = |name| {
            let value = sys::socket_option(duplicate, libc::IPPROTO_TCP, name, 4)?;
            value.first_chunk().map(|word| u32::from_ne_bytes(*word)).ok_or(Errno::EBADMSG)
        };
        let buffer = |name| candidate.socket.number(name).map(i32::cast_unsigned);
        let note = InetConnection {
            description: candidate.socket.description,
            ends: state::ends(info.state),
            within: other_has.is_some(),
            send_sequence,
            unacknowledged_bytes: to_send_len - unsent,
            unsent_bytes: unsent,
            receive_sequence,
            agreed: InetAgreement { segment_bytes: told.segment_bytes, ..info.agreed },
            timestamp: word(libc::TCP_TIMESTAMP)?,
            window: InetWindow {
                told_by,
                send_bytes: send_bytes.saturating_sub(moved),
                send_max_bytes,
                receive_bytes: receive_bytes.saturating_add(behind),
                receive_from: receive_from.wrapping_sub(behind),
            },
            window_clamp: word(libc::TCP_WINDOW_CLAMP)?,
            send_buffer_bytes: buffer(libc::SO_SNDBUF)?,
            receive_buffer_bytes: buffer(libc::SO_RCVBUF)?,
            hold: if other_has.is_some() { Text::default() } else { Text::from(hold) },
        };
        Ok(Connection { note, received, to_send })
    }
}

/// The one of two sequence numbers that comes first.
fn earlier(one: u32, other: u32) -> u32 {
    if one.wrapping_sub(other).cast_signed() < 0 { one } else { other }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_are_compared_around_zero() {
        assert_eq!((earlier(1, 2), earlier(2, 1), earlier(5, 5)), (1, 1, 5));
        assert_eq!((earlier(u32::MAX, 3), earlier(3, u32::MAX)), (u32::MAX, u32::MAX));
    }
}
