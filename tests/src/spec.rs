//! The `//#` lines at the top of a case.
//!
//! ```text
//! //# expect: resumes                    or: refused "text that stands in the message"
//! //# show: mapping shared=true          a note of this word that has all these fields, with these values
//! //# show-first: inotify unread_bytes=32   the same of the original's image alone, not of a copy's
//! //# needs: root                        or: kernel 6.13, huge-pages 2, capability sys_resource, config ANON_VMA_NAME
//! //# flavours: running killed           default: all
//! //# tasks: 4                           it has so many processes, those that have ended too; default: 1
//! //# image-below: 70 MiB                the image takes no more
//! //# state: stopped                     SIGSTOP before the checkpoint, SIGCONT before it goes on
//! //# terminal: controlling              it runs at a terminal; a line is typed when it goes on
//! //# args: one two                      of the guest
//! //# dump: --allow io_uring             options of ckpt-dump
//! //# resume: --allow changed-file       options of the loader
//! //# resume-descriptors: 1000           the loader has this limit of open descriptors, soft and hard
//! //# may-differ: fd/3/link a new inode  a difference of this case alone, with its reason
//! ```

use crate::flavour::Flavour;

/// What a case says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// What becomes of a checkpoint.
    pub expect: Expect,
    /// What must stand in the image.
    pub show: Vec<Show>,
    /// What must stand in an image of the original; in that of a copy it is otherwise.
    pub show_first: Vec<Show>,
    /// What the machine must have.
    pub needs: Vec<Need>,
    /// In which flavours it can run; empty for all.
    pub flavours: Vec<Flavour>,
    /// In which state it is checkpointed.
    pub state: State,
    /// Whether it runs at a terminal, as the leader of its session.
    pub terminal: bool,
    /// How many processes it has.
    pub tasks: usize,
    /// How much the image may take.
    pub image_below_bytes: Option<u64>,
    /// Arguments of the guest.
    pub args: Vec<String>,
    /// Options of `ckpt-dump`.
    pub dump: Vec<String>,
    /// Options of the loader.
    pub resume: Vec<String>,
    /// The loader's limit of open descriptors.
    pub resume_descriptors: Option<u32>,
    /// Keys of a snapshot that may differ, each with the reason.
    pub may_differ: Vec<(String, String)>,
}

impl Default for Spec {
    fn default() -> Spec {
        Spec {
            expect: Expect::Resumes,
            show: Vec::new(),
            show_first: Vec::new(),
            needs: Vec::new(),
            flavours: Vec::new(),
            state: State::Running,
            terminal: false,
            tasks: 1,
            image_below_bytes: None,
            args: Vec::new(),
            dump: Vec::new(),
            resume: Vec::new(),
            resume_descriptors: None,
            may_differ: Vec::new(),
        }
    }
}

/// What becomes of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Expect {
    /// It is made, and resumes.
    #[default]
    Resumes,
    /// It is refused with this text, before anything is written.
    Refused(String),
}

/// In which state a guest is checkpointed, and resumed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// It runs, and waits for its turn.
    #[default]
    Running,
    /// SIGSTOP has stopped it.
    Stopped,
}

/// A note that must stand in the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Show {
    /// Its word.
    pub word: String,
    /// Fields that stand together in it, or together in one record inside of it.
    pub fields: Vec<(String, String)>,
}

/// What a case needs of the machine or of its user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// To run as root.
    Root,
    /// A kernel of this version or a later one.
    Kernel(u32, u32),
    /// That so many huge pages of the default size can be reserved.
    HugePages(u64),
    /// A capability in the effective set, by its number.
    Capability(u32),
    /// An option of the kernel's build, without `CONFIG_`.
    Config(String),
}

/// Numbers of the capabilities that cases ask for (capabilities(7), linux/capability.h).
const CAPABILITIES: [(&str, u32); 9] = [
    ("net_admin", 12),
    ("sys_chroot", 18),
    ("sys_ptrace", 19),
    ("sys_admin", 21),
    ("sys_nice", 23),
    ("sys_resource", 24),
    ("lease", 28),
    ("wake_alarm", 35),
    ("checkpoint_restore", 40),
];

/// Reads the `//#` lines of a case.
pub fn parse(source: &str) -> Result<Spec, String> {
    let mut spec = Spec::default();
    let mut expects = false;
    for (index, line) in source.lines().enumerate() {
        let Some(line) = line.strip_prefix("//#") else { continue };
        let (key, value) = line.split_once(':').unwrap_or((line, ""));
        let (key, value) = (key.trim(), value.trim());
        let words = || value.split_whitespace().map(str::to_owned);
        let wrong = |what: &str| format!("line {}: {what}: `{}`", index + 1, line.trim());
        match key {
            "expect" => {
                expects = true;
                spec.expect = expect(value).ok_or_else(|| wrong("neither resumes nor refused \"text\""))?;
            }
            "show-first" => {
                spec.show_first.push(show(value).ok_or_else(|| wrong("not WORD FIELD=VALUE..."))?);
            }
            "show" => spec.show.push(show(value).ok_or_else(|| wrong("not WORD FIELD=VALUE..."))?),
            "needs" => spec.needs.push(need(value).ok_or_else(|| wrong("an unknown need"))?),
            "flavours" => {
                for word in value.split_whitespace() {
                    spec.flavours.push(Flavour::named(word).ok_or_else(|| wrong("an unknown flavour"))?);
                }
            }
            "state" => match value {
                "stopped" => spec.state = State::Stopped,
                _ => return Err(wrong("an unknown state")),
            },
            "terminal" => match value {
                "controlling" => spec.terminal = true,
                _ => return Err(wrong("an unknown kind of terminal")),
            },
            "tasks" => spec.tasks = value.parse().map_err(|_| wrong("not a number"))?,
            "image-below" => {
                let number = value.strip_suffix(" MiB").and_then(|number| number.parse::<u64>().ok());
                spec.image_below_bytes = Some(number.ok_or_else(|| wrong("not N MiB"))? << 20);
            }
            "args" => spec.args.extend(words()),
            "dump" => spec.dump.extend(words()),
            "resume" => spec.resume.extend(words()),
            "resume-descriptors" => {
                spec.resume_descriptors = Some(value.parse().map_err(|_| wrong("not a number"))?);
            }
            "may-differ" => {
                let (key, reason) =
                    value.split_once(' ').ok_or_else(|| wrong("a difference without a reason"))?;
                spec.may_differ.push((key.to_owned(), reason.trim().to_owned()));
            }
            _ => return Err(wrong("an unknown key")),
        }
    }
    if expects { Ok(spec) } else { Err("no line says `//# expect:`".to_owned()) }
}

fn expect(value: &str) -> Option<Expect> {
    if value == "resumes" {
        return Some(Expect::Resumes);
    }
    let text = value.strip_prefix("refused")?.trim().strip_prefix('"')?.strip_suffix('"')?;
    (!text.is_empty()).then(|| Expect::Refused(text.to_owned()))
}

fn show(value: &str) -> Option<Show> {
    let mut words = value.split_whitespace();
    let word = words.next()?.to_owned();
    let fields = words
        .map(|field| field.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())))
        .collect::<Option<Vec<_>>>()?;
    Some(Show { word, fields })
}

fn need(value: &str) -> Option<Need> {
    let (kind, rest) = value.split_once(' ').unwrap_or((value, ""));
    match kind {
        "root" => Some(Need::Root),
        "kernel" => {
            let (major, minor) = rest.split_once('.')?;
            Some(Need::Kernel(major.parse().ok()?, minor.parse().ok()?))
        }
        "huge-pages" => Some(Need::HugePages(rest.parse().ok()?)),
        "capability" => {
            CAPABILITIES.iter().find(|(name, _)| *name == rest).map(|(_, number)| Need::Capability(*number))
        }
        "config" => (!rest.is_empty()).then(|| Need::Config(rest.to_owned())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_read() {
        let spec = parse(
            "//# expect: refused \"an io_uring instance\"\n//# show: mapping shared=true name=x\n\
             //# needs: kernel 6.13\n//# needs: root\n//# flavours: running killed\n//# args: a b\n\
             //# tasks: 3\n//# image-below: 2 MiB\n//# resume-descriptors: 99\n\
             //# may-differ: fd/3/link another inode\nint main(void) {}\n",
        )
        .unwrap();
        assert_eq!(spec.expect, Expect::Refused("an io_uring instance".to_owned()));
        assert_eq!(spec.show[0].fields[1], ("name".to_owned(), "x".to_owned()));
        assert_eq!((spec.tasks, spec.image_below_bytes), (3, Some(2 << 20)));
        assert_eq!(spec.resume_descriptors, Some(99));
        assert_eq!(spec.needs, [Need::Kernel(6, 13), Need::Root]);
        assert_eq!(spec.flavours, [Flavour::Running, Flavour::Killed]);
        assert_eq!(spec.may_differ, [("fd/3/link".to_owned(), "another inode".to_owned())]);
    }

    #[test]
    fn a_case_that_says_nothing_or_nonsense_is_refused() {
        for source in ["int main(void) {}", "//# expect: maybe", "//# expect: resumes\n//# need: root"] {
            assert!(parse(source).is_err(), "{source}");
        }
    }
}
