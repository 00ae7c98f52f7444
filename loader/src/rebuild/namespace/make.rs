//! Namespaces made anew: each by a child that is in it, as long as it takes to open it here.

use super::{flag, list};
use crate::error::Refusal;
use crate::rebuild::cgroup;
use crate::sys;
use binfmt::note::namespace::{IdRange, Namespace, NamespaceKind, Propagation};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::time::ClockId;
use nix::unistd::{Pid, getegid, geteuid, pipe2, read, write};
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// What went wrong, and with what.
type Failure = (String, Errno);

fn at(what: impl Into<String>) -> impl FnOnce(Errno) -> Failure {
    let what = what.into();
    move |error| (what, error)
}

fn io(what: String) -> impl FnOnce(std::io::Error) -> Failure {
    move |error| (what, Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
}

/// Makes the namespace, in the user namespace `owner`; who is in it lives in the network namespace `net`.
pub(super) fn make(
    note: &Namespace,
    owner: Option<BorrowedFd<'_>>,
    net: Option<BorrowedFd<'_>>,
) -> Result<OwnedFd, Refusal> {
    let noun = note.kind.noun();
    if let Some(interface) = note.interfaces.first() {
        return Err(Refusal {
            reason: format!(
                "the network namespace of {} is gone, and had the interface {interface}, which cannot be made again",
                list(&note.members)
            ),
            remedy: "make such a namespace (ip netns), and resume inside with --namespaces=here".to_owned(),
        });
    }
    let refusal = |(what, error): Failure| Refusal {
        reason: format!(
            "the {noun} namespace of {} is gone, and cannot be made anew: cannot {what}: {error}",
            list(&note.members)
        ),
        remedy: match error {
            Errno::EPERM | Errno::EACCES => {
                "resume it as root, or with --namespaces=here in those of the caller"
            }
            _ => "--namespaces=here does without: it comes back in those of the caller",
        }
        .to_owned(),
    };
    Child::start(note, owner, net).and_then(|child| child.namespace(note)).map_err(refusal)
}

/// Who lives in the new namespace until it was opened.
struct Child {
    pid: Pid,
    /// When this is closed it ends.
    _stay: OwnedFd,
}

impl Child {
    fn start(
        note: &Namespace,
        owner: Option<BorrowedFd<'_>>,
        net: Option<BorrowedFd<'_>>,
    ) -> Result<Child, Failure> {
        let pipe = || pipe2(nix::fcntl::OFlag::O_CLOEXEC).map_err(at("make a pipe"));
        let ((told, tell), (stays, stay)) = (pipe()?, pipe()?);
        let pid = sys::fork(&[], 0, 0).map_err(at("fork who makes it"))?;
        if pid == 0 {
            drop((told, stay));
            let text = match make_inside(note, owner, net) {
                Ok(()) => String::new(),
                Err((what, error)) => format!("{} {what}", error as i32),
            };
            // A byte more says that it came to its end.
            let _ = write(tell.as_fd(), format!("{text}\n").as_bytes());
            drop(tell);
            let _ = read(stays.as_fd(), &mut [0]);
            sys::exit_now(0);
        }
        drop((tell, stays));
        let child = Child { pid: Pid::from_raw(pid), _stay: stay };
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut File::from(told), &mut answer)
            .map_err(io("hear of it".to_owned()))?;
        let answer = answer.strip_suffix('\n').ok_or_else(|| at("hear of it")(Errno::ECHILD))?;
        match answer.split_once(' ') {
            None => Ok(child),
            Some((error, what)) => {
                Err((what.to_owned(), Errno::from_raw(error.parse().unwrap_or(libc::EIO))))
            }
        }
    }

    /// The namespace in which it lives.
    fn namespace(&self, note: &Namespace) -> Result<OwnedFd, Failure> {
        if note.kind == NamespaceKind::User {
            map_ids(note, self.pid)?;
        }
        let file = match note.kind {
            NamespaceKind::Time => "time_for_children",
            kind => kind.file(),
        };
        let path = format!("/proc/{}/ns/{file}", self.pid);
        File::open(&path).map(OwnedFd::from).map_err(io(format!("open {path}")))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = kill(self.pid, Signal::SIGKILL);
        let _ = waitpid(self.pid, Some(WaitPidFlag::__WALL));
    }
}

/// In the child: makes the namespace, and gives it what it had.
fn make_inside(
    note: &Namespace,
    owner: Option<BorrowedFd<'_>>,
    net: Option<BorrowedFd<'_>>,
) -> Result<(), Failure> {
    // Where it has no right to that, the root is that of the resume.
    note.roots.iter().for_each(|root| drop(cgroup::join_root(root)));
    if let Some(owner) = owner {
        setns(owner, CloneFlags::CLONE_NEWUSER).map_err(at("enter the user namespace that owns it"))?;
    }
    unshare(flag(note.kind)).map_err(at("unshare"))?;
    match note.kind {
        NamespaceKind::Uts => {
            let names = [
                (libc::SYS_sethostname, &note.host_name, "set the host name"),
                (libc::SYS_setdomainname, &note.domain_name, "set the domain name"),
            ];
            for (call, name, what) in names {
                let args = [name.0.as_ptr().addr() as u64, name.0.len() as u64, 0, 0, 0, 0];
                sys::call(call, args).map_err(at(what))?;
            }
        }
        NamespaceKind::Net if note.loopback_is_up => {
            sys::raise_loopback().map_err(at("bring up its loopback"))?;
        }
        NamespaceKind::Time => set_clocks(note)?,
        NamespaceKind::Mount => set_mounts(note, net)?,
        _ => {}
    }
    set(note)
}

/// Has the copies of this program's mounts be like those that it had.
fn set_mounts(note: &Namespace, net: Option<BorrowedFd<'_>>) -> Result<(), Failure> {
    let nothing: Option<&str> = None;
    // The copies are peers of the host's: what is mounted here must never come there.
    let own = match note.propagation {
        Propagation::Private => Some(MsFlags::MS_PRIVATE),
        Propagation::Slave => None,
        Propagation::Shared => Some(MsFlags::MS_SHARED),
    };
    for flags in [Some(MsFlags::MS_SLAVE), own].into_iter().flatten() {
        mount(nothing, "/", nothing, flags | MsFlags::MS_REC, nothing)
            .map_err(at("keep its mounts to itself"))?;
    }
    if note.own_sysfs {
        if let Some(net) = net {
            setns(net, CloneFlags::CLONE_NEWNET).map_err(at("enter its network namespace"))?;
        }
        umount2("/sys", MntFlags::MNT_DETACH).map_err(at("unmount /sys"))?;
        mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), nothing)
            .map_err(at("mount its /sys"))?;
    }
    Ok(())
}

/// Writes the settings that are otherwise in a new namespace.
pub(super) fn set(note: &Namespace) -> Result<(), Failure> {
    for setting in &note.settings {
        let path = format!("/proc/sys/{}", setting.name);
        let is_so = fs::read_to_string(&path).is_ok_and(|now| now.trim_end().as_bytes() == setting.value.0);
        if !is_so {
            fs::write(&path, &setting.value.0).map_err(io(format!("write {path}")))?;
        }
    }
    Ok(())
}

/// Has the clocks of a new time namespace go on from where they were.
fn set_clocks(note: &Namespace) -> Result<(), Failure> {
    const PATH: &str = "/proc/self/timens_offsets";
    const SECOND_NS: i64 = 1_000_000_000;
    let own = fs::read_to_string(PATH).map_err(io(format!("read {PATH}")))?;
    let mut text = String::new();
    for (name, clock, then) in [
        ("monotonic", ClockId::CLOCK_MONOTONIC, note.monotonic_ns),
        ("boottime", ClockId::CLOCK_BOOTTIME, note.boottime_ns),
    ] {
        let now = clock.now().map_err(at("read the clock"))?.num_nanoseconds();
        // Until somebody enters, the offsets are those of who has made it.
        let line = own.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        let mut numbers = line.split_whitespace().filter_map(|word| word.parse::<i64>().ok());
        let before =
            numbers.next().unwrap_or(0).saturating_mul(SECOND_NS).saturating_add(numbers.next().unwrap_or(0));
        let offset = then.saturating_sub(now).saturating_add(before);
        text += &format!("{name} {} {}\n", offset.div_euclid(SECOND_NS), offset.rem_euclid(SECOND_NS));
    }
    fs::write(PATH, text).map_err(io(format!("write {PATH}")))
}

/// Writes which ids a new user namespace has. Who may not choose is the only one in it.
fn map_ids(note: &Namespace, pid: Pid) -> Result<(), Failure> {
    let write = |file: &str, text: String| {
        let path = format!("/proc/{pid}/{file}");
        fs::write(&path, text).map_err(io(format!("write {path}")))
    };
    if note.denies_groups {
        write("setgroups", "deny".to_owned())?;
    }
    let own = crate::rebuild::credential::own().map_err(|_| at("ask for its own rights")(Errno::EIO))?;
    let ids = [
        ("uid_map", &note.user_ids, geteuid().as_raw(), 7),
        ("gid_map", &note.group_ids, getegid().as_raw(), 6),
    ];
    for (file, ranges, mine, capability) in ids {
        let may_choose = own.effective >> capability & 1 == 1;
        let line = |range: &IdRange| {
            let outside = if range.count == 1 && !may_choose { mine } else { range.outside };
            format!("{} {outside} {}\n", range.inside, range.count)
        };
        if !ranges.is_empty() {
            write(file, ranges.iter().map(line).collect())?;
        }
    }
    Ok(())
}

/// What is done to a new one, for `--plan`.
pub(super) fn deeds(note: &Namespace) -> String {
    match note.kind {
        NamespaceKind::Uts => format!(", sethostname({})", note.host_name),
        NamespaceKind::Net if note.loopback_is_up => ", ioctl(SIOCSIFFLAGS, lo, IFF_UP)".to_owned(),
        NamespaceKind::Time => ", write(/proc/self/timens_offsets)".to_owned(),
        NamespaceKind::Mount if note.own_sysfs => ", mount(/sys)".to_owned(),
        NamespaceKind::User => ", write(uid_map), write(gid_map)".to_owned(),
        _ => String::new(),
    }
}
