//! Wishes: what the user wants to be otherwise than it was. They change the image in memory, and as every start of the
//! loader reads it anew, they are handed from start to start.

use crate::cli::{CgroupChoice, NamespaceChoice, Options};
use crate::error::{Error, Refusal, Result};
use crate::rebuild::credential;
use binfmt::image::Image;
use binfmt::note::Note;
use binfmt::note::credential::Credential;
use binfmt::note::descriptor::{Description, DescriptionKind, DescriptorTable};
use binfmt::note::file::{FileIdentity, FileType, OpenFile, Presence};
use binfmt::note::filesystem::Filesystem;
use binfmt::note::inet::InetState;
use binfmt::note::mapping::Memory;
use binfmt::note::task::Task;
use clap::ValueEnum;
use nix::errno::Errno;
use std::fs;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

/// Flags of a description that say whether it writes, and where.
const KEPT_FLAGS: u32 = (libc::O_ACCMODE | libc::O_APPEND | libc::O_NONBLOCK).unsigned_abs();

/// What shall be otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Descriptors of the root that shall lead to these files: `N=PATH`.
    pub descriptors: Vec<String>,
    /// Files that have moved: `OLD=NEW`, each also the beginning of a path.
    pub paths: Vec<String>,
    /// The working directory of the root, and of all that had the same.
    pub directory: Option<String>,
    /// Environment variables to change: `K=V`.
    pub environment: Vec<String>,
    /// Whether the tasks get the caller's ids.
    pub as_me: bool,
    /// Whether TCP connections are given up.
    pub resets_connections: bool,
    /// In which control groups the tasks come back.
    pub cgroup: Option<CgroupChoice>,
    /// In which namespaces the tasks come back.
    pub namespaces: Option<NamespaceChoice>,
}

impl Wishes {
    /// Those of the command line.
    pub fn of(options: &Options) -> Wishes {
        Wishes {
            descriptors: options.descriptors.clone(),
            paths: options.paths.clone(),
            directory: options.directory.clone(),
            environment: options.environment.clone(),
            as_me: options.as_me,
            resets_connections: options.tcp.is_some(),
            cgroup: options.cgroup,
            namespaces: options.namespaces,
        }
    }

    /// As arguments of the next start.
    pub fn to_arguments(&self) -> Vec<String> {
        let named = |name: &'static str, values: &[String]| {
            values.iter().map(|value| format!("{name}:{value}")).collect::<Vec<_>>()
        };
        let directory: Vec<String> = self.directory.iter().cloned().collect();
        let cgroup = self.cgroup.and_then(|choice| choice.to_possible_value());
        let cgroup: Vec<String> = cgroup.iter().map(|choice| choice.get_name().to_owned()).collect();
        let namespaces = self.namespaces.and_then(|choice| choice.to_possible_value());
        let namespaces: Vec<String> = namespaces.iter().map(|choice| choice.get_name().to_owned()).collect();
        let me = if self.as_me { vec!["me:".to_owned()] } else { Vec::new() };
        let reset = if self.resets_connections { vec!["reset:".to_owned()] } else { Vec::new() };
        [named("fd", &self.descriptors), named("path", &self.paths), named("cwd", &directory)]
            .into_iter()
            .chain([
                named("env", &self.environment),
                me,
                reset,
                named("cgroup", &cgroup),
                named("namespaces", &namespaces),
            ])
            .flatten()
            .collect()
    }

    /// What an earlier start made of them.
    pub fn from_arguments(arguments: &[String]) -> Wishes {
        let named = |name: &str| {
            let values = arguments.iter().filter_map(|argument| argument.split_once(':'));
            values.filter(|(of, _)| *of == name).map(|(_, value)| value.to_owned()).collect::<Vec<_>>()
        };
        Wishes {
            descriptors: named("fd"),
            paths: named("path"),
            directory: named("cwd").pop(),
            environment: named("env"),
            as_me: !named("me").is_empty(),
            resets_connections: !named("reset").is_empty(),
            cgroup: named("cgroup").pop().and_then(|choice| CgroupChoice::from_str(&choice, false).ok()),
            namespaces: named("namespaces")
                .pop()
                .and_then(|choice| NamespaceChoice::from_str(&choice, false).ok()),
        }
    }

    /// Changes the image accordingly. All that cannot be is told at once.
    pub fn apply(&self, image: &mut Image, in_user_namespace: bool) -> Result<()> {
        let mut refusals = Vec::new();
        for wish in &self.paths {
            match wish.split_once('=') {
                Some((old, new)) if old.starts_with('/') && new.starts_with('/') => relocate(image, old, new),
                _ => refusals.push(refusal("--path", wish, "give two absolute paths: --path /old=/new")),
            }
        }
        if let Some(directory) = &self.directory
            && let Err(error) = go_to(image, directory)
        {
            refusals.push(refusal(
                "--cwd",
                directory,
                &format!("{error}: give an absolute path of a directory"),
            ));
        }
        for wish in &self.descriptors {
            if let Err(cause) = lead(image, wish) {
                refusals.push(refusal("--fd", wish, &cause));
            }
        }
        for wish in &self.environment {
            if wish.split_once('=').is_none_or(|(name, _)| name.is_empty()) {
                refusals.push(refusal("--env", wish, "give a name and a value: --env NAME=VALUE"));
            }
        }
        if self.resets_connections {
            reset_connections(image);
        }
        if let Some(choice) = self.namespaces {
            change_namespaces(image, choice);
        }
        if self.as_me {
            be_me(image, in_user_namespace)?;
        }
        if refusals.is_empty() { Ok(()) } else { Err(Error::Refused(refusals)) }
    }

    /// Changes the environment in the memory of a task, which stands: each variable where it is, if there is room for its
    /// value. That is seen by what reads its environment later.
    pub fn change_environment(&self, memory: &Memory, is_root: bool) -> Result<()> {
        if self.environment.is_empty() {
            return Ok(());
        }
        let failed = |error: std::io::Error| Error::io("change the environment", &error);
        let own = fs::File::options().read(true).write(true).open("/proc/self/mem").map_err(failed)?;
        let len = usize::try_from(memory.env_end.saturating_sub(memory.env_start)).unwrap_or(0);
        let mut block = vec![0; len];
        own.read_exact_at(&mut block, memory.env_start).map_err(failed)?;
        for wish in &self.environment {
            let Some((name, _)) = wish.split_once('=') else { continue };
            match place_of(&block, name).filter(|(_, room)| wish.len() <= *room) {
                Some((at, room)) => {
                    let mut bytes = wish.as_bytes().to_vec();
                    bytes.resize(room, 0);
                    own.write_all_at(&bytes, memory.env_start + at as u64).map_err(failed)?;
                }
                None if is_root => {
                    return Err(Error::step(
                        format!("set {name} in the environment, which has no such variable with room for it"),
                        Errno::ENOSPC,
                    ));
                }
                None => {}
            }
        }
        Ok(())
    }
}

/// Has namespaces not be those that may still exist.
fn change_namespaces(image: &mut Image, choice: NamespaceChoice) {
    let root = image.all::<Task>().next().map_or(0, |task| task.pid);
    let change = |note: &mut Note| {
        let Note::Namespace(namespace) = note else { return };
        match choice {
            NamespaceChoice::Make => (namespace.unique, namespace.path) = (0, Default::default()),
            NamespaceChoice::Here => namespace.dumpers |= namespace.members.contains(&root),
        }
    };
    image.notes.change(|notes| notes.iter_mut().for_each(change));
}

/// Gives up all TCP connections. What is said of them stays: whoever is held back need not be any more.
fn reset_connections(image: &mut Image) {
    let give_up = |note: &mut Note| {
        if let Note::InetSocket(socket) = note
            && socket.state == InetState::Established
        {
            socket.state = InetState::Reset;
        }
    };
    image.notes.change(|notes| notes.iter_mut().for_each(give_up));
}

fn refusal(option: &str, wish: &str, remedy: &str) -> Refusal {
    Refusal { reason: format!("{option} {wish} cannot be done"), remedy: remedy.to_owned() }
}

/// Where `NAME=...` stands in an environment block, and how many bytes it has.
fn place_of(block: &[u8], name: &str) -> Option<(usize, usize)> {
    let mut at = 0;
    for text in block.split(|byte| *byte == 0) {
        if text.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&b'=')) {
            return Some((at, text.len()));
        }
        at += text.len() + 1;
    }
    None
}

/// Every file that the image names, but for those that have no name.
fn identities(notes: &mut [Note]) -> impl Iterator<Item = &mut FileIdentity> {
    notes.iter_mut().flat_map(|note| match note {
        Note::Memory(memory) => vec![&mut memory.executable],
        Note::MappedObject(object) => vec![&mut object.file],
        Note::OpenFile(open) => vec![&mut open.file],
        Note::Pipe(pipe) => vec![&mut pipe.fifo],
        Note::Inotify(inotify) => inotify.watches.iter_mut().map(|watch| &mut watch.file).collect(),
        Note::Filesystem(filesystem) => vec![&mut filesystem.root, &mut filesystem.working_directory],
        _ => Vec::new(),
    })
}

fn relocate(image: &mut Image, old: &str, new: &str) {
    let old = old.trim_end_matches('/').as_bytes();
    let new = new.trim_end_matches('/').as_bytes();
    let relocate = |identity: &mut FileIdentity| {
        let path = &identity.path.0;
        let rest = path.strip_prefix(old).filter(|rest| rest.is_empty() || rest.starts_with(b"/"));
        if let Some(rest) = rest {
            identity.path = [new, rest].concat().as_slice().into();
            identity.mount = 0;
        }
    };
    image.notes.change(|notes| identities(notes).for_each(relocate));
}

fn go_to(image: &mut Image, directory: &str) -> std::io::Result<()> {
    let metadata = fs::metadata(directory)?;
    if !directory.starts_with('/') || !metadata.is_dir() {
        return Err(std::io::Error::from_raw_os_error(libc::ENOTDIR));
    }
    let root = image.all::<Task>().next().map(|root| root.filesystem);
    let was = image
        .all::<Filesystem>()
        .find(|note| Some(note.id) == root)
        .map(|note| note.working_directory.path.clone());
    let go = |note: &mut Note| {
        if let Note::Filesystem(filesystem) = note
            && Some(&filesystem.working_directory.path) == was.as_ref()
        {
            filesystem.working_directory =
                FileIdentity { path: directory.into(), ..FileIdentity::of(&metadata) };
        }
    };
    image.notes.change(|notes| notes.iter_mut().for_each(go));
    Ok(())
}

/// Makes a descriptor of the root lead to a file, which is made if the program writes to it.
fn lead(image: &mut Image, wish: &str) -> std::result::Result<(), String> {
    let parsed = wish.split_once('=').and_then(|(number, path)| Some((number.parse::<u32>().ok()?, path)));
    let (number, path) = parsed.ok_or("give a number and a path: --fd 1=/tmp/log")?;
    let table = image.all::<Task>().next().map(|root| root.descriptor_table);
    let tables = image.all::<DescriptorTable>().filter(|note| Some(note.id) == table);
    let entry = tables.flat_map(|table| &table.descriptors).find(|entry| entry.number == number).cloned();
    let id = entry.ok_or("the program has no such descriptor: see `ckpt show FILE descriptor`")?.description;
    let description = image.about::<Description>(id).next().ok_or("its description is missing")?;
    let writes = description.flags.cast_signed() & libc::O_ACCMODE != libc::O_RDONLY;
    let told = |error: std::io::Error| format!("{path}: {error}");
    if writes && !Path::new(path).exists() {
        fs::File::options().create(true).append(true).mode(0o666).open(path).map_err(told)?;
    }
    let absolute = fs::canonicalize(path).map_err(told)?;
    let metadata = fs::metadata(&absolute).map_err(told)?;
    let identity = FileIdentity {
        path: absolute.to_string_lossy().as_ref().into(),
        presence: Presence::Linked,
        ..FileIdentity::of(&metadata)
    };
    let grows = writes && identity.file_type == FileType::Regular;
    let description = Description {
        kind: DescriptionKind::File,
        flags: description.flags & KEPT_FLAGS,
        position: if grows { metadata.len() } else { 0 },
        ..description.clone()
    };
    image.notes.change(|notes| {
        notes.retain(|note| !matches!(note, Note::OpenFile(open) if open.description == id));
        for note in notes.iter_mut() {
            if matches!(note, Note::Description(other) if other.id == id) {
                *note = description.clone().into();
            }
        }
        notes.push(Note::from(OpenFile { description: id, file: identity, process: 0 }));
    });
    Ok(())
}

/// Gives all tasks the ids and capabilities of the caller.
fn be_me(image: &mut Image, in_user_namespace: bool) -> Result<()> {
    let own = credential::own()?;
    let rights = own.user.effective == 0 && !in_user_namespace;
    let be_me = |note: &mut Note| {
        if let Note::Credential(credential) = note {
            let (tid, no_new_privileges) = (credential.tid, credential.no_new_privileges);
            let set = |set: u64| if rights { set } else { 0 };
            *credential = Credential {
                tid,
                no_new_privileges,
                permitted: set(own.permitted),
                effective: set(own.effective),
                inheritable: set(own.inheritable),
                ambient: 0,
                ..own.clone()
            };
        }
        let ipc = match note {
            Note::SharedSegment(segment) => &mut segment.ipc,
            Note::SystemVQueue(queue) => &mut queue.ipc,
            Note::SemaphoreSet(set) => &mut set.ipc,
            _ => return,
        };
        (ipc.owner, ipc.owner_group) = (own.user.effective, own.group.effective);
    };
    image.notes.change(|notes| notes.iter_mut().for_each(be_me));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_survive_the_way_to_the_next_start() {
        let wishes = Wishes {
            descriptors: vec!["1=/tmp/a:b".to_owned()],
            paths: vec!["/a=/b".to_owned(), "/c=/d".to_owned()],
            directory: Some("/tmp".to_owned()),
            environment: vec!["A=x=y".to_owned()],
            as_me: true,
            resets_connections: true,
            cgroup: Some(CgroupChoice::Make),
            namespaces: Some(NamespaceChoice::Here),
        };
        assert_eq!(Wishes::from_arguments(&wishes.to_arguments()), wishes);
        assert_eq!(Wishes::from_arguments(&[]), Wishes::default());
    }

    #[test]
    fn a_variable_is_found_by_its_whole_name() {
        let block = b"PATHS=1\0PATH=/bin\0HOME=/\0";
        assert_eq!(place_of(block, "PATH"), Some((8, 9)));
        assert_eq!(place_of(block, "OME"), None);
    }
}
