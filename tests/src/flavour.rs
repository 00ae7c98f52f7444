//! The ways in which a case is checkpointed and goes on.

use crate::difference::Between;
use crate::guest::Guest;
use crate::handler::Handler;
use crate::machine;
use crate::spec::{Expect, Spec, State};
use crate::stage::Stage;
use crate::tools::{self, Tools, User};
use crate::tree::{self, Tree};
use crate::{Outcome, Stopped, image};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// The name of the image in the folder of a test.
const IMAGE: &str = "guest.ckpt";
/// How long process ids may be taken by somebody else.
const IDS_COME_FREE: Duration = Duration::from_secs(20);
/// How long what the loader does after the first instruction of the guest may take (its last pages, its pager).
const SETTLING: Duration = Duration::from_secs(3);

/// A way in which a case is checkpointed and goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// No checkpoint is made: what fails here is the case itself.
    Alone,
    /// The original is left running.
    Running,
    /// The original is killed; a copy with its pid goes on.
    Killed,
    /// The copy is checkpointed and killed too; a copy of the copy goes on.
    Again,
    /// The same as `Killed`, and the image is executed.
    Exec,
    /// The same as `Killed`, and the copy has its pid in namespaces of its own.
    Namespace,
    /// The original and two copies go on at the same time, with new pids or in namespaces.
    Twice,
    /// Nobody in particular makes the checkpoint and resumes it, with a new pid or in namespaces.
    User,
}

impl Flavour {
    /// All of them.
    pub const ALL: [Flavour; 8] = [
        Flavour::Alone,
        Flavour::Running,
        Flavour::Killed,
        Flavour::Again,
        Flavour::Exec,
        Flavour::Namespace,
        Flavour::Twice,
        Flavour::User,
    ];

    /// Its name in specs and in the names of tests.
    pub fn name(self) -> &'static str {
        match self {
            Flavour::Alone => "alone",
            Flavour::Running => "running",
            Flavour::Killed => "killed",
            Flavour::Again => "again",
            Flavour::Exec => "exec",
            Flavour::Namespace => "namespace",
            Flavour::Twice => "twice",
            Flavour::User => "user",
        }
    }

    /// The flavour of this name.
    pub fn named(name: &str) -> Option<Flavour> {
        Flavour::ALL.into_iter().find(|flavour| flavour.name() == name)
    }

    /// Who runs guest, dumper and loader.
    pub fn user(self) -> User {
        if self == Flavour::User { User::Nobody } else { User::Own }
    }

    /// Whether a copy gets the pid of the original.
    fn keeps_pid(self) -> bool {
        matches!(self, Flavour::Killed | Flavour::Again | Flavour::Exec)
    }
}

/// Which process ids a copy gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ids {
    /// Those of the original, of which this is the first.
    Keep(u32),
    /// A new one.
    Fresh,
    /// Those of the original in a namespace; this is the first.
    Namespace(u32),
}

impl Ids {
    fn option(self) -> &'static str {
        match self {
            Ids::Keep(_) => "keep",
            Ids::Fresh => "fresh",
            Ids::Namespace(_) => "namespace",
        }
    }

    fn between(self, user: User) -> Between {
        match (self, user) {
            (Ids::Keep(_), _) => Between::Resume,
            (Ids::Fresh, User::Own) => Between::Fresh,
            (Ids::Fresh, User::Nobody) => Between::Unprivileged,
            (Ids::Namespace(_), User::Own) => Between::Namespace,
            (Ids::Namespace(_), User::Nobody) => Between::UserNamespace,
        }
    }
}

/// One case in one flavour.
pub struct Trial<'a> {
    /// What the case says of itself.
    pub spec: &'a Spec,
    /// How it goes on.
    pub flavour: Flavour,
    /// Its compiled program.
    pub program: &'a Path,
    /// The programs under test.
    pub tools: &'a Tools,
    /// Where the guest runs.
    pub stage: Stage,
}

impl Trial<'_> {
    /// Runs it to its end.
    pub fn run(&self) -> Outcome<()> {
        if self.flavour.keeps_pid() && !machine::has_capability(machine::CHECKPOINT_RESTORE) {
            return Err(Stopped::Skipped("keeping a pid needs CAP_CHECKPOINT_RESTORE".to_owned()));
        }
        let mut guest = Guest::start(self.program, &self.spec.args, &self.stage)?;
        if self.spec.state == State::Stopped {
            guest.stop()?;
        }
        let before = tree::take(guest.pid)?;
        guest.has_members(before.members.keys().copied());
        if before.members.len() != self.spec.tasks {
            let ids: Vec<_> = before.members.keys().collect();
            let text = format!("it has {} processes, not {}: {ids:?}", ids.len(), self.spec.tasks);
            return Err(Stopped::Failed(text));
        }
        match self.flavour {
            Flavour::Alone => {
                self.compare(&before, &guest, Between::Dump)?;
                self.go(guest, "original")
            }
            _ if let Expect::Refused(text) = &self.spec.expect => self.refused(guest, &before, text),
            Flavour::Running => self.left_running(guest, &before),
            Flavour::Killed | Flavour::Exec => {
                let copy = self.killed_and_resumed(guest, &before)?;
                self.go(copy, "resumed")
            }
            Flavour::Again => {
                let copy = self.killed_and_resumed(guest, &before)?;
                let copy = self.killed_and_resumed(copy, &before)?;
                self.go(copy, "resumed")
            }
            Flavour::Twice => self.resumed_beside_the_original(guest, &before),
            Flavour::Namespace | Flavour::User => {
                let ids = self.other_ids(guest.pid);
                self.dump(&guest, &["--kill"])?;
                guest.was_killed()?;
                self.go(self.resume(ids, &before)?, "resumed")
            }
        }
    }

    fn go(&self, guest: Guest, who: &str) -> Outcome<()> {
        if self.spec.state == State::Stopped {
            guest.cont()?;
        }
        if let Some(terminal) = &self.stage.terminal {
            terminal.type_in("typed by a person\n")?;
        }
        guest.go(who)
    }

    fn left_running(&self, guest: Guest, before: &Tree) -> Outcome<()> {
        let checked = self.dumper(&guest, &["--check"])?;
        if !checked.status.success() {
            return Err(Stopped::Failed(format!("ckpt-dump --check: {} {}", checked.status, checked.error)));
        }
        if self.image().exists() {
            return Err(Stopped::Failed("--check wrote an image".to_owned()));
        }
        self.dump(&guest, &[])?;
        self.compare(before, &guest, Between::Dump)?;
        self.check_image()?;
        image::check(&self.image(), &self.spec.show_first, &self.stage.folder, self.tools)?;
        self.go(guest, "original")
    }

    fn check_image(&self) -> Outcome<()> {
        use std::os::unix::fs::MetadataExt;
        let size_bytes = fs::metadata(self.image())?.blocks() * 512;
        if let Some(limit_bytes) = self.spec.image_below_bytes.filter(|limit| size_bytes > *limit) {
            let text = format!("the image takes {size_bytes} bytes, more than {limit_bytes}");
            return Err(Stopped::Failed(text));
        }
        image::check(&self.image(), &self.spec.show, &self.stage.folder, self.tools)
    }

    fn killed_and_resumed(&self, guest: Guest, before: &Tree) -> Outcome<Guest> {
        let pid = guest.pid;
        // A resumed guest is dumped over the image that it came from.
        self.dump(&guest, &["--kill"])?;
        if self.flavour == Flavour::Again {
            self.check_image()?;
        }
        guest.was_killed()?;
        self.resume(Ids::Keep(pid), before)
    }

    fn resumed_beside_the_original(&self, guest: Guest, before: &Tree) -> Outcome<()> {
        self.dump(&guest, &[])?;
        let ids = self.other_ids(guest.pid);
        let first = self.resume(ids, before)?;
        let second = self.resume(ids, before)?;
        self.go(second, "second")?;
        self.go(guest, "original")?;
        self.go(first, "first")
    }

    /// Which ids copies get that run beside others, or have no right to the original ones.
    fn other_ids(&self, pid: u32) -> Ids {
        match self.spec.tasks > 1 || self.flavour == Flavour::Namespace {
            true => Ids::Namespace(pid),
            false => Ids::Fresh,
        }
    }

    fn refused(&self, guest: Guest, before: &Tree, text: &str) -> Outcome<()> {
        for options in [&["--check"][..], &["-o", IMAGE][..]] {
            let finished = self.dumper(&guest, options)?;
            if finished.status.success() || finished.status.code().is_none() {
                let status = finished.status;
                return Err(Stopped::Failed(format!("ckpt-dump {options:?} should have refused: {status}")));
            }
            // `--check` reports what it finds as its output.
            let said =
                format!("{}{}", finished.error, if options == ["--check"] { &finished.output } else { "" });
            if !said.contains(text) {
                return Err(Stopped::Failed(format!("ckpt-dump {options:?} does not say `{text}`:\n{said}")));
            }
        }
        let left: Vec<_> =
            fs::read_dir(&self.stage.folder)?.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        if let Some(name) = left.iter().find(|name| name.to_string_lossy().contains(".ckpt")) {
            return Err(Stopped::Failed(format!("{} was left behind", name.display())));
        }
        self.compare(before, &guest, Between::Dump)?;
        self.go(guest, "original")
    }

    fn image(&self) -> PathBuf {
        self.stage.folder.join(IMAGE)
    }

    fn dumper(&self, guest: &Guest, options: &[&str]) -> Outcome<tools::Finished> {
        let mut command = Command::new(self.tools.program("ckpt-dump"));
        command.arg(guest.pid.to_string()).args(options).args(&self.spec.dump);
        tools::run(&mut command, &self.stage.folder, "dump", self.stage.user)
    }

    fn dump(&self, guest: &Guest, options: &[&str]) -> Outcome<()> {
        let finished = self.dumper(guest, &[&["-o", IMAGE], options].concat())?;
        if finished.status.success() {
            return Ok(());
        }
        Err(Stopped::Failed(format!("ckpt-dump {}: {}", finished.status, finished.error.trim())))
    }

    /// A copy that goes on as far as to where it waits, compared with the original.
    fn resume(&self, ids: Ids, before: &Tree) -> Outcome<Guest> {
        let start = Instant::now();
        loop {
            match self.try_resume(ids, before) {
                // Nobody else should have taken one of its ids, but everybody may.
                Err(Stopped::Failed(text)) if is_taken(&text) && start.elapsed() < IDS_COME_FREE => {
                    std::thread::sleep(Duration::from_millis(200));
                }
                outcome => return outcome,
            }
        }
    }

    fn try_resume(&self, ids: Ids, before: &Tree) -> Outcome<Guest> {
        // What an earlier copy made the loader say.
        let _ = fs::remove_file(self.stage.folder.join("restore"));
        let (child, _handler) = self.loader(ids)?;
        let (folder, state) = (&self.stage.folder, self.spec.state);
        let guest = match ids {
            Ids::Keep(pid) => {
                let mut guest = Guest::adopt(child, pid, folder, state)?;
                guest.has_members(before.members.keys().copied());
                guest
            }
            Ids::Fresh => {
                let pid = child.id();
                Guest::adopt(child, pid, folder, state)?
            }
            Ids::Namespace(pid) => Guest::adopt_inside(child, pid, folder, state)?,
        };
        self.compare(before, &guest, ids.between(self.stage.user))?;
        if let Ids::Keep(pid) = ids {
            supervises_nothing_else(pid)?;
        }
        Ok(guest)
    }

    fn loader(&self, ids: Ids) -> Outcome<(Child, Option<Handler>)> {
        let mut args = vec!["--pid".to_owned(), ids.option().to_owned()];
        args.extend(self.spec.resume.iter().cloned());
        let (mut program, handler) = if self.flavour == Flavour::Exec {
            (self.image(), Some(Handler::register(&self.tools.program("ckpt-loader"))?))
        } else {
            args.splice(0..0, ["restore".to_owned(), IMAGE.to_owned()]);
            (self.tools.program("ckpt"), None)
        };
        if let Some(limit) = self.spec.resume_descriptors {
            let before = [format!("--nofile={limit}:{limit}"), program.to_string_lossy().into_owned()];
            args.splice(0..0, before);
            program = "prlimit".into();
        }
        let child = self.stage.command(&program, &args, "restore")?.spawn()?;
        Ok((child, handler))
    }

    /// Fails if `/proc` says something else of a guest and its descendants than before that nothing explains.
    fn compare(&self, before: &Tree, guest: &Guest, between: Between) -> Outcome<()> {
        let start = Instant::now();
        loop {
            let lines = match tree::take_all(&guest.view()?, &[guest.own_id]) {
                Ok(after) => after.unexplained(before, between, &self.spec.may_differ),
                // A thread or a descriptor that went while we looked.
                Err(error) => vec![format!("{}: {error}", guest.pid)],
            };
            if lines.is_empty() {
                return Ok(());
            }
            if start.elapsed() > SETTLING {
                let shown: Vec<&str> = lines.iter().take(40).map(String::as_str).collect();
                return Err(Stopped::Failed(format!(
                    "/proc differs in {} places:\n    {}",
                    lines.len(),
                    shown.join("\n    ")
                )));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Whether a resume says that one of the ids, or of the numbers of terminals, is somebody else's.
pub fn is_taken(text: &str) -> bool {
    text.contains("cannot keep its process id")
        || text.contains("EEXIST")
        || text.contains("the pseudo-terminal /dev/pts/")
}

/// Fails if the parent of `pid` keeps other children; the midwife ends when all run.
fn supervises_nothing_else(pid: u32) -> Outcome<()> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap_or_default().trim();
    let path = format!("/proc/{parent}/task/{parent}/children");
    let mut children = fs::read_to_string(&path)?;
    for _ in 0..5_000 {
        if children.trim() == pid.to_string() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
        children = fs::read_to_string(&path)?;
    }
    Err(Stopped::Failed(format!("the supervisor {parent} has the children `{}`, not {pid}", children.trim())))
}
