//! Who has connected a socket (SO_PEERCRED), and who has sent what waits in it (SCM_CREDENTIALS).
//!
//! The kernel notes who makes the call. So such a call is made by an agent: a process with that id, user and group, which shares
//! the descriptors and the working directory, and is gone before the tree takes its ids. What the kernel has noted keeps the number.
//! Who sends credentials may name others, if there are such: for that an agent is enough that does nothing.
//!
//! An id that somebody has, or that takes a right that there is not, is nobody's here: then the call is the loader's own, but for
//! user and group.

use super::name;
use crate::error::{Error, Result};
use crate::rebuild::prctl;
use crate::stage::Identity;
use crate::sys;
use binfmt::image::Image;
use binfmt::note::credential::Credential;
use binfmt::note::descriptor::DescriptorTable;
use binfmt::note::task::Task;
use binfmt::note::unix::{UnixMessage, UnixSocket};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, Shutdown, SockFlag, SockType, connect, listen, recv, send, setsockopt,
    shutdown, socketpair, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Gid, Pid, Uid, getegid, geteuid, getpid, setresgid, setresuid};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

/// Who makes a call, as the kernel notes it. No process is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) pid: u32,
    pub(super) user: u32,
    pub(super) group: u32,
}

impl Who {
    fn own() -> Who {
        let pid = getpid().as_raw().unsigned_abs();
        Who { pid, user: geteuid().as_raw(), group: getegid().as_raw() }
    }

    /// Who has connected this socket to its peer, or has it listen.
    pub(super) fn behind(note: &UnixSocket) -> Who {
        Who { pid: note.peer_pid, user: note.peer_user, group: note.peer_group }
    }

    /// Who has sent a message, if that is told.
    pub(super) fn sender(message: &UnixMessage) -> Option<Who> {
        let UnixMessage { pid, user, group, .. } = *message;
        message.has_credentials.then_some(Who { pid, user, group })
    }

    /// The first task that has a description: whoever has made its connection, nothing tells before it is accepted.
    pub(super) fn holder(image: &Image, description: u32) -> Option<Who> {
        let has =
            |table: &DescriptorTable| table.descriptors.iter().any(|own| own.description == description);
        let task = image.all::<Task>().find(|task| image.about(task.descriptor_table).any(has))?;
        let credential = image.about::<Credential>(task.pid).next()?;
        Some(Who { pid: task.pid, user: credential.user.effective, group: credential.group.effective })
    }
}

/// A call for which the kernel notes who makes it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Call<'a> {
    /// listen(2) with this backlog.
    Listen(RawFd, i32),
    /// connect(2) to this name, which is not a path that leads elsewhere from another directory.
    Connect(RawFd, &'a [u8]),
    /// socketpair(2) of this type.
    Pair(SockType),
}

/// What a call has made: two descriptors or none.
type Made = std::result::Result<Option<(RawFd, RawFd)>, Errno>;

impl Call<'_> {
    fn make(self) -> Made {
        match self {
            Call::Listen(fd, backlog) => {
                // nix permits no more than SOMAXCONN, which is not the limit of this kernel.
                let backlog = Backlog::new(backlog).unwrap_or(Backlog::MAXALLOWABLE);
                listen(&sys::borrow(fd), backlog).map(|()| None)
            }
            Call::Connect(fd, name) => connect(fd, &name::address(name)?).map(|()| None),
            Call::Pair(kind) => {
                let (one, two) = socketpair(AddressFamily::Unix, kind, None, SockFlag::SOCK_CLOEXEC)?;
                Ok(Some((one.into_raw_fd(), two.into_raw_fd())))
            }
        }
    }

    /// As an agent reads it: who, which call, two numbers, and a name.
    fn encode(self, who: Who) -> Vec<u8> {
        let (call, numbers, name) = match self {
            Call::Listen(fd, backlog) => (0, [fd, backlog], &[][..]),
            Call::Connect(fd, name) => (1, [fd, 0], name),
            Call::Pair(kind) => (2, [kind as i32, 0], &[][..]),
        };
        let [one, two] = numbers.map(i32::cast_unsigned);
        let words = [who.user, who.group, call, one, two];
        [words.map(u32::to_ne_bytes).concat().as_slice(), name].concat()
    }

    fn decode(bytes: &[u8]) -> Option<(u32, u32, Call<'_>)> {
        let (words, name) = bytes.split_at_checked(20)?;
        let mut words =
            words.chunks_exact(4).filter_map(|word| word.first_chunk().copied()).map(u32::from_ne_bytes);
        let (user, group, call) = (words.next()?, words.next()?, words.next()?);
        let (one, two) = (words.next()?.cast_signed(), words.next()?.cast_signed());
        let call = match call {
            0 => Call::Listen(one, two),
            1 => Call::Connect(one, name),
            _ => Call::Pair(SockType::try_from(one).ok()?),
        };
        Some((user, group, call))
    }
}

/// Not more of them live at the same time.
const AGENTS_MAX: usize = 64;

/// All agents, by their ids; 0 for one with any. Those that could not be had are none.
pub(super) struct Agents {
    identity: Identity,
    living: RefCell<BTreeMap<u32, Option<Agent>>>,
}

impl Agents {
    pub(super) fn new(identity: Identity) -> Agents {
        Agents { identity, living: RefCell::default() }
    }

    /// Has `who` make a call, as far as that can be.
    pub(super) fn call(&self, who: Option<Who>, call: Call<'_>) -> Result<Made> {
        let own = Who::own();
        let Some(who) = who.filter(|who| *who != own && who.user != u32::MAX && who.group != u32::MAX) else {
            return Ok(call.make());
        };
        let is_same_user = (who.user, who.group) == (own.user, own.group);
        let mut living = self.living.borrow_mut();
        for pid in [who.pid, 0] {
            if pid == 0 && is_same_user {
                break;
            }
            if let Some(agent) = self.agent(&mut living, pid)? {
                match agent.ask(who, call)? {
                    // Nobody may be that user here.
                    Err(Errno::EUCLEAN) => break,
                    made => return Ok(made),
                }
            }
        }
        Ok(call.make())
    }

    /// Whom a message can name as its sender, the truest first.
    pub(super) fn names(&self, who: Who) -> Result<Vec<Who>> {
        let own = Who::own();
        let pid = match self.identity {
            Identity::Keep if self.is_there(who.pid)? => who.pid,
            _ => own.pid,
        };
        Ok(vec![Who { pid, ..who }, Who { pid, ..own }, Who { pid: own.pid, ..who }, own])
    }

    fn is_there(&self, pid: u32) -> Result<bool> {
        let is_agent = self.agent(&mut self.living.borrow_mut(), pid)?.is_some();
        Ok(is_agent || kill(Pid::from_raw(pid.cast_signed()), None) != Err(Errno::ESRCH))
    }

    fn agent<'a>(&self, living: &'a mut BTreeMap<u32, Option<Agent>>, pid: u32) -> Result<Option<&'a Agent>> {
        let may_be = match self.identity {
            Identity::Keep => pid != 0 || geteuid().is_root(),
            // The root has the id of the loader.
            Identity::Fresh => pid == 0 && geteuid().is_root(),
            // The first who is made is the init of the tree's own namespace, which no agent can be.
            Identity::Namespace => false,
        };
        if !may_be {
            return Ok(None);
        }
        if living.len() >= AGENTS_MAX && !living.contains_key(&pid) {
            living.clear();
        }
        let agent = match living.entry(pid) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(Agent::start(pid)?),
        };
        Ok(agent.as_ref())
    }
}

/// A process that makes calls. Dropped, it is gone.
struct Agent {
    pid: Pid,
    orders: OwnedFd,
    /// Its end. Descriptors are shared: here it is closed when the agent is gone.
    _its: OwnedFd,
}

impl Agent {
    /// Nobody if there can be none with that id.
    fn start(pid: u32) -> Result<Option<Agent>> {
        /// Longer than any call here takes.
        const PATIENCE_S: i64 = 10;
        let failed = |error| Error::step("make an agent for unix sockets", error);
        let (orders, its) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
                .map_err(failed)?;
        setsockopt(&orders, sockopt::ReceiveTimeout, &TimeVal::seconds(PATIENCE_S)).map_err(failed)?;
        let ids = if pid == 0 { Vec::new() } else { vec![pid.cast_signed()] };
        let (parent, shared) = (getpid(), (libc::CLONE_FILES | libc::CLONE_FS).unsigned_abs());
        match sys::fork(&ids, 0, shared.into()) {
            Ok(0) => serve(parent, its.as_raw_fd()),
            Ok(made) => Ok(Some(Agent { pid: Pid::from_raw(made), orders, _its: its })),
            Err(Errno::EPERM | Errno::EEXIST | Errno::EINVAL) => Ok(None),
            Err(error) => Err(failed(error)),
        }
    }

    /// EUCLEAN if it cannot be that user.
    fn ask(&self, who: Who, call: Call<'_>) -> Result<Made> {
        let failed = |error| Error::step("have an agent make a call for unix sockets", error);
        let number = self.orders.as_raw_fd();
        send(number, &call.encode(who), MsgFlags::MSG_NOSIGNAL).map_err(failed)?;
        let mut answer = [0; 12];
        recv(number, &mut answer, MsgFlags::empty()).map_err(failed)?;
        let [error, one, two] = answer.as_chunks().0 else { return Err(failed(Errno::EIO)) };
        Ok(match i32::from_ne_bytes(*error) {
            0 => Ok(match (i32::from_ne_bytes(*one), i32::from_ne_bytes(*two)) {
                (one, two) if one >= 0 && two >= 0 => Some((one, two)),
                _ => None,
            }),
            error => Err(Errno::from_raw(error)),
        })
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It ends by itself when nobody orders any more; that it has the socket, too, does not matter to shutdown(2).
        let _ = shutdown(self.orders.as_raw_fd(), Shutdown::Both);
        let _ = kill(self.pid, Signal::SIGKILL);
        while waitpid(self.pid, Some(WaitPidFlag::__WALL)) == Err(Errno::EINTR) {}
    }
}

/// All that an agent does.
fn serve(parent: Pid, orders: RawFd) -> ! {
    let mut order = [0; 256];
    // Capabilities stay when the user changes: a socket's file may be where that user may not look.
    const NO_SETUID_FIXUP: u64 = 1 << 2;
    let _ = prctl(libc::PR_SET_SECUREBITS, [NO_SETUID_FIXUP, 0, 0, 0]);
    while dies_with(parent)
        && let Ok(len) = recv(orders, &mut order, MsgFlags::empty())
        && let Some((user, group, call)) = Call::decode(order.get(..len).unwrap_or_default())
    {
        let made = match become_user(user, group) {
            Ok(()) => call.make(),
            Err(_) => Err(Errno::EUCLEAN),
        };
        let (one, two) = made.unwrap_or_default().unwrap_or((-1, -1));
        let answer = [made.err().map_or(0, |error| error as i32), one, two].map(i32::to_ne_bytes).concat();
        if !dies_with(parent) || send(orders, &answer, MsgFlags::MSG_NOSIGNAL).is_err() {
            break;
        }
    }
    sys::exit_now(0)
}

/// Whether it is so that it dies with its parent. A change of user forgets that.
fn dies_with(parent: Pid) -> bool {
    let set = prctl(libc::PR_SET_PDEATHSIG, [libc::SIGKILL.unsigned_abs().into(), 0, 0, 0]);
    set.is_ok() && nix::unistd::getppid() == parent
}

fn become_user(user: u32, group: u32) -> std::result::Result<(), Errno> {
    if (geteuid().as_raw(), getegid().as_raw()) == (user, group) {
        return Ok(());
    }
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(group));
    setresgid(group, group, group)?;
    setresuid(user, user, user)
}
