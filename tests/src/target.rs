//! The target of the safety tests, as seen from outside: `targets/target.c` checks itself from inside.

use crate::guest::{self, Guest};
use crate::stage::Stage;
use crate::tools::{Tools, User};
use crate::{Outcome, Stopped};
use nix::sys::uio::{RemoteIoVec, process_vm_readv};
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::io::IoSliceMut;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a target may need to go on after whatever was done: the machine may be busy, but it does not hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running target.
#[derive(Debug)]
pub struct Target {
    /// The process.
    pub pid: Pid,
    /// Where its counters are, and how many.
    beats: Beats,
    guest: Guest,
    folder: PathBuf,
    before: Outside,
}

/// The counters of a target, one for each thread.
#[derive(Clone, Copy, Debug)]
pub struct Beats {
    address: usize,
    count: usize,
}

/// What must be as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Outside {
    mappings: String,
    /// Blocked signals of each thread.
    masks: BTreeMap<i32, String>,
    descriptors: Vec<String>,
}

impl Target {
    /// Starts a target of this kind in `folder`.
    pub fn start(tools: &Tools, folder: &Path, args: &[&str], user: User) -> Outcome<Target> {
        Target::start_program(&Target::program(tools)?, folder, args, user)
    }

    /// The compiled target.
    pub fn program(tools: &Tools) -> Outcome<PathBuf> {
        Target::compiled(tools, "target.c")
    }

    /// Another program of `targets/`, compiled.
    pub fn compiled(tools: &Tools, name: &str) -> Outcome<PathBuf> {
        compiled(&Path::new(env!("CARGO_MANIFEST_DIR")).join("targets").join(name), tools)
    }

    /// The same with a program that is a copy of the compiled target.
    pub fn start_program(program: &Path, folder: &Path, args: &[&str], user: User) -> Outcome<Target> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        for name in ["ready", "beats"] {
            // Of one before, in the same folder.
            let _ = fs::remove_file(folder.join(name));
        }
        let stage = Stage { folder: folder.to_owned(), user, terminal: None };
        let guest = Guest::start(program, &args, &stage)?;
        let pid = Pid::from_raw(i32::try_from(guest.pid)?);
        let mut beats = Beats::read(folder)?;
        if args.first().is_some_and(|kind| kind == "still") {
            beats.count = 0;
        }
        beats.all_go_on(pid)?;
        let before = outside(pid)?;
        Ok(Target { pid, beats, guest, folder: folder.to_owned(), before })
    }

    /// Where its counters are.
    pub fn beats(&self) -> Beats {
        self.beats
    }

    /// Every thread goes on, nobody traces it, and everything is as it was.
    pub fn is_unharmed(&self) -> Outcome<()> {
        let start = Instant::now();
        loop {
            match self.differs() {
                Ok(None) => break,
                Ok(Some(what)) if start.elapsed() > PATIENCE => return Err(self.failed(&what)),
                Err(error) => return Err(self.failed(&format!("{error:?}"))),
                Ok(Some(_)) => std::thread::sleep(Duration::from_millis(1)),
            }
        }
        self.beats.all_go_on(self.pid).map_err(|error| self.failed(&format!("{error:?}")))
    }

    /// It also ends well: what it checks to the last.
    pub fn ends_well(self) -> Outcome<()> {
        self.is_unharmed()?;
        self.guest.go("original")
    }

    /// The same for one whose threads and mappings are others all the time.
    pub fn ends_well_as_it_is(self) -> Outcome<()> {
        self.goes_on()?;
        self.guest.go("original")
    }

    /// Every thread of one whose threads and mappings are others all the time goes on.
    pub fn goes_on(&self) -> Outcome<()> {
        let start = Instant::now();
        while threads(self.pid)?.iter().any(|(_, status)| {
            field(status, "TracerPid") != "0" || field(status, "State").starts_with(['t', 'T'])
        }) {
            if start.elapsed() > PATIENCE {
                return Err(self.failed("a thread stays stopped or traced"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        self.beats.all_go_on(self.pid).map_err(|error| self.failed(&format!("{error:?}")))
    }

    /// It was killed on purpose.
    pub fn was_killed(self) -> Outcome<()> {
        self.guest.was_killed()
    }

    fn failed(&self, what: &str) -> Stopped {
        let result = ["setup", "original"]
            .iter()
            .find_map(|who| fs::read_to_string(self.folder.join(format!("result.{who}"))).ok());
        Stopped::Failed(format!("the target: {what}; it says: {}", result.unwrap_or_default()))
    }

    /// What is not as it was, or not yet.
    fn differs(&self) -> Outcome<Option<String>> {
        let threads = threads(self.pid)?;
        for (tid, status) in &threads {
            let field = |name: &str| field(status, name);
            if field("TracerPid") != "0" || field("State").starts_with(['t', 'T']) {
                let (state, tracer) = (field("State"), field("TracerPid"));
                return Ok(Some(format!("thread {tid} is {state}, traced by {tracer}")));
            }
        }
        let now = outside(self.pid)?;
        if now.mappings != self.before.mappings {
            return Ok(Some(format!("mappings differ:\n{}", changed(&self.before.mappings, &now.mappings))));
        }
        if now.masks != self.before.masks {
            return Ok(Some(format!("masks are {:?} and were {:?}", now.masks, self.before.masks)));
        }
        if now.descriptors != self.before.descriptors {
            return Ok(Some(format!("descriptors are {:?}", now.descriptors)));
        }
        Ok(None)
    }
}

impl Beats {
    /// Where the target in `folder` says its counters are.
    pub fn read(folder: &Path) -> Outcome<Beats> {
        let text = fs::read_to_string(folder.join("beats"))?;
        let (address, count) = text.split_once(' ').ok_or("a broken file `beats`")?;
        Ok(Beats { address: usize::from_str_radix(address, 16)?, count: count.parse()? })
    }

    fn now(self, pid: Pid) -> Outcome<Vec<u64>> {
        let mut bytes = vec![0; self.count * 8];
        let remote = [RemoteIoVec { base: self.address, len: bytes.len() }];
        let read = process_vm_readv(pid, &mut [IoSliceMut::new(&mut bytes)], &remote);
        match read {
            Ok(len) if len == self.count * 8 => {}
            Ok(_) => return Err(Stopped::Failed("its counters cannot be read".to_owned())),
            Err(error) => return Err(Stopped::Failed(format!("its counters cannot be read: {error}"))),
        }
        let word = |bytes: &[u8]| bytes.try_into().map_or(0, u64::from_le_bytes);
        Ok(bytes.chunks_exact(8).map(word).collect())
    }

    /// Every thread of `pid` counts on.
    pub fn all_go_on(self, pid: Pid) -> Outcome<()> {
        self.all_go_on_within(pid, PATIENCE)
    }

    /// The same, when it is not clear that it ever will.
    pub fn all_go_on_within(self, pid: Pid, patience: Duration) -> Outcome<()> {
        if self.count == 0 {
            return Ok(());
        }
        let before = self.now(pid)?;
        let start = Instant::now();
        loop {
            let now = self.now(pid)?;
            // Two: the first may have been on its way already.
            let still = |(before, now): (&u64, &u64)| *now < before + 2;
            let Some(thread) = before.iter().zip(&now).position(still) else { return Ok(()) };
            if start.elapsed() > patience {
                return Err(Stopped::Failed(format!("thread number {thread} does not go on")));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn compiled(source: &Path, tools: &Tools) -> Outcome<PathBuf> {
    use std::sync::Mutex;
    static ONCE: Mutex<BTreeMap<PathBuf, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut once = ONCE.lock().map_err(|_| "a target did not compile")?;
    if let Some(program) = once.get(source) {
        return Ok(program.clone());
    }
    let program = guest::compile(source, tools)?;
    once.insert(source.to_owned(), program.clone());
    Ok(program)
}

/// The status of every thread.
fn threads(pid: Pid) -> Outcome<Vec<(i32, String)>> {
    let mut threads = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
        let entry = entry?;
        // A thread may end meanwhile.
        if let Ok(status) = fs::read_to_string(entry.path().join("status")) {
            threads.push((entry.file_name().to_string_lossy().parse()?, status));
        }
    }
    Ok(threads)
}

fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap_or_default().trim()
}

fn outside(pid: Pid) -> Outcome<Outside> {
    let masks =
        threads(pid)?.iter().map(|(tid, status)| (*tid, field(status, "SigBlk").to_owned())).collect();
    let mut descriptors = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let path = entry?.path();
        let target = fs::read_link(&path).unwrap_or_default();
        descriptors.push(format!("{} {}", path.display(), target.display()));
    }
    descriptors.sort();
    // One that is opened to look for a file is there for a moment.
    descriptors.retain(|line| !line.contains("/go."));
    Ok(Outside { mappings: fs::read_to_string(format!("/proc/{pid}/maps"))?, masks, descriptors })
}

fn changed(before: &str, now: &str) -> String {
    let gone = before
        .lines()
        .filter(|line| !now.lines().any(|other| other == *line))
        .map(|line| format!("- {line}"));
    let new = now
        .lines()
        .filter(|line| !before.lines().any(|other| other == *line))
        .map(|line| format!("+ {line}"));
    gone.chain(new).collect::<Vec<_>>().join("\n")
}
