//! The host's facts that a plan rests on, looked up once.

use super::first_own_descriptor;
use crate::aside;
use crate::cli::{Allow, Options, PidChoice};
use crate::error::{Error, Refusal, Result};
use crate::frame;
use crate::ipc;
use crate::namespace;
use crate::rebuild::descriptor::RESERVE;
use crate::rebuild::file::{self, Found};
use crate::rebuild::inet::Holding;
use crate::rebuild::namespace::Namespaces;
use crate::rebuild::{cgroup, socket, terminal, timerfd, tun};
use crate::sys;
use binfmt::image::Image;
use binfmt::note::file::{FileIdentity, MountPoint};
use binfmt::note::namespace::NamespaceKind;
use binfmt::note::task::Task;
use binfmt::note::thread::Thread;
use nix::sys::resource::{Resource, getrlimit};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_SYS_RESOURCE: u32 = 24;
const CAP_WAKE_ALARM: u32 = 35;
const CAP_CHECKPOINT_RESTORE: u32 = 40;

/// The host's facts.
#[derive(Debug, Default)]
pub struct Host {
    /// Effective capabilities of this process.
    pub capabilities: u64,
    /// Which of the image's process and thread ids are taken, and by what.
    pub taken: BTreeMap<u32, String>,
    /// Why the tree cannot have namespaces of its own, as far as it was looked at.
    pub against_namespace: Option<String>,
    /// Whether we are in the foreground of our terminal.
    pub in_foreground: bool,
    /// Ranges that this process has mapped.
    pub own_ranges: Vec<(u64, u64)>,
    /// Extended processor states that are switched on (XCR0).
    pub extended_features: u64,
    /// The vdso of this kernel.
    pub vdso: Vec<u8>,
    /// System V objects, if the image has any.
    pub ipc: ipc::Host,
    /// A pseudo-terminal of the image whose number is taken.
    pub terminals: Option<String>,
    /// The hold on the peers of connections, from before the first socket of one is made.
    pub holding: Holding,
    /// The namespaces of the image; this process lives where its root did.
    pub namespaces: Namespaces,
    /// What was found at the path of every file that the image names.
    files: Vec<(FileIdentity, &'static str, Found)>,
    /// The hard limit of open descriptors.
    pub descriptors_max: u64,
    /// The mounts of the image that are not there.
    absent_mounts: BTreeMap<u32, MountPoint>,
}

impl Host {
    /// Looks everything up that `image` makes interesting.
    pub fn look(image: &Image, options: &Options) -> Result<Host> {
        // What is looked up depends on where.
        let namespaces = Namespaces::enter(image)?;
        let status = fs::read_to_string("/proc/self/status")
            .map_err(|error| Error::io("read /proc/self/status", &error))?;
        let own = aside::own_mappings()?;
        // Leaders of groups and sessions too: one that is dead may have to be made.
        let of_tasks = image.all::<Task>().flat_map(|task| [task.pid, task.process_group, task.session]);
        let ids: BTreeSet<u32> = image.all::<Thread>().map(|thread| thread.tid).chain(of_tasks).collect();
        let vdso = own.iter().find(|mapping| mapping.name == "[vdso]");
        let vdso =
            vdso.map(|vdso| sys::read_at(vdso.start, usize::try_from(vdso.end - vdso.start).unwrap_or(0)));
        let taken: BTreeMap<u32, String> = ids.into_iter().filter_map(|id| Some((id, who(id)?))).collect();
        let mut host = Host {
            capabilities: effective_capabilities(&status),
            taken,
            in_foreground: crate::supervisor::foreground_terminal().is_some(),
            own_ranges: own.iter().map(|mapping| (mapping.start, mapping.end)).collect(),
            extended_features: sys::extended_features().0,
            vdso: vdso.unwrap_or_default(),
            files: file::all_identities(image)
                .into_iter()
                .map(|(identity, purpose, access)| (identity.clone(), purpose, file::look(identity, access)))
                .collect(),
            descriptors_max: getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(_, hard)| hard),
            absent_mounts: file::absent_mounts(image),
            ipc: ipc::Host::look(image),
            terminals: terminal::pseudo::taken(image),
            against_namespace: None,
            holding: Holding::of(image),
            namespaces,
        };
        // It takes a fork to find out.
        let asked = options.pid == Some(PidChoice::Namespace);
        let unlike =
            !host.can_checkpoint_restore() || host.namespaces.has_entered_user || !host.taken.is_empty();
        let ipc = host.ipc.against().is_some() || host.ipc.in_use().is_some();
        if asked || options.pid.is_none() && (unlike || ipc || host.terminals.is_some()) {
            host.against_namespace = host.look_at_namespaces(image);
        }
        Ok(host)
    }

    /// Why the tree cannot have namespaces of its own, if it cannot.
    fn look_at_namespaces(&self, image: &Image) -> Option<String> {
        let root = image.all::<Task>().next();
        if root.is_some_and(|root| root.pid == 1) {
            return Some("it was the init of a pid namespace itself".to_owned());
        }
        if self.namespaces.has_several(image, NamespaceKind::Mount) {
            return Some("its processes live in several mount namespaces".to_owned());
        }
        if !self.is_admin() && namespace::only_ids(image).is_none() {
            return Some("its processes have more than one user or group".to_owned());
        }
        if let Some(taken) = self.terminals.as_ref().filter(|_| !self.is_admin()) {
            return Some(format!("{taken}, and this user cannot have a /dev/pts of its own"));
        }
        namespace::objection(!self.is_admin(), namespace::takes_ipc(image))
    }

    /// Whether this process has a capability.
    pub fn can(&self, capability: u32) -> bool {
        self.capabilities >> capability & 1 == 1
    }

    /// Whether seccomp filters of a traced task may be suspended.
    pub fn is_admin(&self) -> bool {
        self.can(CAP_SYS_ADMIN)
    }

    /// Whether pids may be chosen and the exe link set.
    pub fn can_checkpoint_restore(&self) -> bool {
        self.can(CAP_CHECKPOINT_RESTORE) || self.can(CAP_SYS_ADMIN)
    }

    /// Why the old ids cannot be kept, if they cannot.
    pub fn against_keep(&self, ids: &BTreeSet<u32>) -> Option<String> {
        if !self.can_checkpoint_restore() {
            return Some("that needs CAP_CHECKPOINT_RESTORE, which this user lacks".to_owned());
        }
        if self.namespaces.has_entered_user {
            return Some("it lives in a user namespace, out of which no ids can be chosen".to_owned());
        }
        let (tid, name) = ids.iter().find_map(|id| self.taken.get_key_value(id))?;
        Some(format!("id {tid} is taken by {name}"))
    }

    /// Everything on this host that stands against a resume, but for the identity.
    pub fn refusals(&self, image: &Image, options: &Options) -> Vec<Refusal> {
        let mut refusals = self.namespaces.refusals.clone();
        for (identity, purpose, found) in &self.files {
            if matches!(found, Found::Changed(_)) && options.allow.contains(&Allow::ChangedFile) {
                continue;
            }
            let lost = self.absent_mounts.get(&identity.mount);
            refusals.extend(file::refusal(identity, purpose, found, lost));
        }
        refusals.extend(file::process::refusals(image));
        refusals.extend(self.processor_refusal(image));
        refusals.extend(self.vdso_refusal(image));
        refusals.extend(cgroup::refusals(image, options.cgroup));
        refusals.extend(self.holding.refusals(image));
        refusals.extend(socket::refusals(image));
        refusals.extend(tun::refusals(image, self.can(CAP_NET_ADMIN)));
        refusals.extend(self.descriptor_refusal(image));
        refusals.extend(timerfd::refusal(image, self.can(CAP_WAKE_ALARM)));
        refusals
    }

    /// Descriptors so high that the loader's own have no room above them.
    fn descriptor_refusal(&self, image: &Image) -> Option<Refusal> {
        let first_own = u64::from(first_own_descriptor(image));
        let needed = first_own.saturating_add(RESERVE.unsigned_abs().into());
        let lacks = needed > self.descriptors_max && !self.can(CAP_SYS_RESOURCE);
        lacks.then(|| Refusal {
            reason: format!(
                "its highest descriptor is {}, and a resume needs {RESERVE} more under the hard limit, which is {}",
                first_own.saturating_sub(1),
                self.descriptors_max
            ),
            remedy: format!("raise the limit (ulimit -Hn {needed}), or resume as root"),
        })
    }

    /// A state in use that this processor or kernel lacks.
    fn processor_refusal(&self, image: &Image) -> Option<Refusal> {
        let in_use = image.extended_states().values().fold(0, |all, area| all | frame::features_in_use(area));
        let missing = in_use & !self.extended_features;
        let names = [
            "x87",
            "SSE",
            "AVX",
            "MPX bounds",
            "MPX control",
            "AVX-512 masks",
            "AVX-512 upper halves",
            "AVX-512 registers 16-31",
            "processor trace",
            "protection keys",
        ];
        let named: Vec<&str> = names
            .into_iter()
            .enumerate()
            .filter(|(bit, _)| missing >> bit & 1 == 1)
            .map(|(_, name)| name)
            .collect();
        (missing != 0).then(|| Refusal {
            reason: format!(
                "this processor lacks state that was in use: {} ({missing:#x})",
                named.join(", ")
            ),
            remedy: "resume it on a processor that has it".to_owned(),
        })
    }

    /// Another kernel's vdso has its functions elsewhere.
    fn vdso_refusal(&self, image: &Image) -> Option<Refusal> {
        let host = image.all::<binfmt::note::host::Host>().next()?;
        let same = host.vdso.0.is_empty() || same_code(&host.vdso.0, &self.vdso);
        (!same).then(|| Refusal {
            reason: format!("this kernel's vdso differs from that of {}", host.kernel_release),
            remedy: "resume it on the kernel it was dumped on".to_owned(),
        })
    }
}

/// Whether two vdso images are the same but for what a dumper may have left in the unused tail.
fn same_code(image: &[u8], own: &[u8]) -> bool {
    let used = |bytes: &[u8]| {
        goblin::elf::Elf::parse(bytes).map_or(0, |elf| {
            let sections =
                elf.header.e_shoff + u64::from(elf.header.e_shnum) * u64::from(elf.header.e_shentsize);
            usize::try_from(sections).unwrap_or(0)
        })
    };
    let len = used(own);
    len > 0 && image.len() == own.len() && image.get(..len) == own.get(..len)
}

fn effective_capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0)
}

/// The name of the process or thread with this id, if there is one.
fn who(tid: u32) -> Option<String> {
    let directory = format!("/proc/{tid}");
    if !Path::new(&directory).exists() {
        // The kernel gives no process the id of a group that still has members.
        let group = nix::unistd::Pid::from_raw(-tid.cast_signed());
        let is_free = nix::sys::signal::kill(group, None) == Err(nix::errno::Errno::ESRCH);
        return (!is_free).then(|| "a process group whose leader has ended".to_owned());
    }
    let name = fs::read_to_string(format!("{directory}/comm")).unwrap_or_default();
    let status = fs::read_to_string(format!("{directory}/status")).unwrap_or_default();
    let zombie = status.lines().any(|line| line.starts_with("State:\tZ"));
    let name = if name.trim().is_empty() { "another program" } else { name.trim() };
    Some(if zombie {
        format!("{name}, which has ended and was not waited for by its parent")
    } else {
        name.to_owned()
    })
}
