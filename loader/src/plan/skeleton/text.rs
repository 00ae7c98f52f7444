//! How a skeleton reads: one line for each call, in an order in which they can be made.

use super::{Process, Role, SIGCHLD, Skeleton, Step};
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::fmt;

impl Skeleton {
    /// One line for each call, as strace would print them, in a possible order.
    pub fn lines(&self, words: &Words<'_>) -> Vec<String> {
        let mut reader = Reader {
            skeleton: self,
            words,
            labels: self.labels(),
            done: vec![0; self.processes.len()],
            born: BTreeSet::from([0]),
            barriers: self.meetings(),
            lines: Vec::new(),
        };
        reader.read();
        reader.lines
    }

    /// The line of one step, if there is anything to tell.
    pub fn line(&self, place: usize, step: &Step, words: &Words<'_>) -> Option<String> {
        let labels = self.labels();
        let text = self.text(step, &labels, words)?;
        Some(format!("{}: {text}", labels.get(place)?))
    }

    /// Who comes to each barrier.
    fn meetings(&self) -> Vec<BTreeSet<usize>> {
        let mut meetings = vec![BTreeSet::new(); self.barriers as usize];
        for (place, process) in self.processes.iter().enumerate() {
            for step in &process.steps {
                if let Step::Barrier(number) = step
                    && let Some(meeting) = meetings.get_mut(*number as usize)
                {
                    meeting.insert(place);
                }
            }
        }
        meetings
    }

    fn labels(&self) -> Vec<String> {
        let mut helpers = 0;
        let label = |process: &Process| match (process.role, process.pid) {
            (Role::Founder, _) => "ckpt".to_owned(),
            (_, 0) => {
                helpers += 1;
                format!("helper {helpers}")
            }
            (_, pid) => pid.to_string(),
        };
        self.processes.iter().map(label).collect()
    }
}

impl fmt::Display for Skeleton {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines(&Words::default()).iter().try_for_each(|line| writeln!(out, "{line}"))
    }
}

/// What the skeleton itself does not know of tasks, by their process ids.
pub struct Words<'a> {
    /// What to call it.
    pub name: &'a dyn Fn(u32) -> Option<String>,
    /// The calls that make its memory, one a line.
    pub memory: &'a dyn Fn(u32) -> Vec<String>,
    /// The calls that make the rest of it.
    pub rest: &'a dyn Fn(u32) -> Vec<String>,
}

impl Default for Words<'_> {
    fn default() -> Self {
        Words { name: &|_| None, memory: &|_| Vec::new(), rest: &|_| Vec::new() }
    }
}

/// Lets one after the other go as far as it can.
struct Reader<'a> {
    skeleton: &'a Skeleton,
    words: &'a Words<'a>,
    labels: Vec<String>,
    /// How many steps each has done.
    done: Vec<usize>,
    born: BTreeSet<usize>,
    /// Who has not come yet.
    barriers: Vec<BTreeSet<usize>>,
    lines: Vec<String>,
}

impl<'a> Reader<'a> {
    fn read(&mut self) {
        loop {
            let mut has_moved = false;
            for place in 0..self.skeleton.processes.len() {
                while self.born.contains(&place) && self.advance(place) {
                    has_moved = true;
                }
            }
            if !has_moved {
                return;
            }
        }
    }

    fn process(&self, place: usize) -> Option<&'a Process> {
        self.skeleton.processes.get(place)
    }

    fn label(&self, place: usize) -> &str {
        self.labels.get(place).map_or("", String::as_str)
    }

    /// Does one step, if it need not wait.
    fn advance(&mut self, place: usize) -> bool {
        let done = self.done.get(place).copied().unwrap_or(0);
        let Some(step) = self.process(place).and_then(|process| process.steps.get(done)) else {
            return false;
        };
        let may_go = match step {
            Step::Barrier(number) => self.meet(*number, place),
            Step::Reap(child) | Step::Await(child) => self.has_ended(*child),
            Step::Fork(child) | Step::ForkSibling(child) => {
                self.born.insert(*child);
                true
            }
            _ => true,
        };
        if may_go {
            self.tell(place, step);
            if let Some(done) = self.done.get_mut(place) {
                *done += 1;
            }
        }
        may_go
    }

    fn tell(&mut self, place: usize, step: &Step) {
        let pid = self.process(place).map_or(0, |process| process.pid);
        let calls = match step {
            Step::Memory => (self.words.memory)(pid),
            Step::Finish => (self.words.rest)(pid),
            _ => Vec::new(),
        };
        let calls = match calls.is_empty() {
            true => self.skeleton.text(step, &self.labels, self.words).into_iter().collect(),
            false => calls,
        };
        for call in calls {
            self.lines.push(format!("{}: {call}", self.label(place)));
        }
    }

    fn has_ended(&self, place: usize) -> bool {
        self.process(place).is_some_and(|process| self.done.get(place) == Some(&process.steps.len()))
    }

    /// Whether all have come, with this one.
    fn meet(&mut self, number: u32, place: usize) -> bool {
        let Some(missing) = self.barriers.get_mut(number as usize) else { return true };
        let is_last = missing.remove(&place) && missing.is_empty();
        let is_open = missing.is_empty();
        if is_last {
            let all = self.skeleton.meetings();
            let who: Vec<&str> =
                all.get(number as usize).into_iter().flatten().map(|place| self.label(*place)).collect();
            self.lines.push(format!("# {} have waited for each other", who.join(", ")));
        }
        is_open
    }
}

impl Skeleton {
    fn text(&self, step: &Step, labels: &[String], words: &Words<'_>) -> Option<String> {
        let label = |place: &usize| labels.get(*place).map_or("", String::as_str);
        let text = match step {
            Step::Exec => "execve(loader)".to_owned(),
            Step::Memory => "mmap(...)  # its memory stands".to_owned(),
            Step::Fork(child) => self.clone(*child, "", labels, words),
            Step::ForkSibling(child) => self.clone(*child, "CLONE_PARENT", labels, words),
            Step::BecomeSubreaper => "prctl(PR_SET_CHILD_SUBREAPER, 1)  # orphans come here".to_owned(),
            Step::EndSubreaper => "prctl(PR_SET_CHILD_SUBREAPER, 0)".to_owned(),
            Step::Setsid => "setsid()".to_owned(),
            Step::LeadGroup => "setpgid(0, 0)".to_owned(),
            Step::JoinGroup(group) => format!("setpgid(0, {group})"),
            Step::JoinCallersGroup => "setpgid(0, getpgid(ckpt))".to_owned(),
            Step::Barrier(_) | Step::Finish => return None,
            Step::Reap(child) => format!("wait4({}, __WALL)", label(child)),
            Step::Exit => "exit(0)".to_owned(),
            Step::Die => "exit()  # stays a zombie".to_owned(),
            Step::Await(child) => format!("waitid({}, WNOWAIT)", label(child)),
        };
        Some(text)
    }

    fn clone(&self, place: usize, flag: &str, labels: &[String], words: &Words<'_>) -> String {
        let Some(process) = self.processes.get(place) else { return String::new() };
        let mut arguments = Vec::new();
        if process.pid != 0 {
            arguments.push(format!("set_tid={}", process.pid));
        }
        if !flag.is_empty() {
            arguments.push(flag.to_owned());
        }
        if process.shares_memory {
            arguments.push("CLONE_VM".to_owned());
        }
        if process.exit_signal != SIGCHLD && flag.is_empty() {
            arguments.push(format!("exit_signal={}", signal_name(process.exit_signal)));
        }
        let mut notes: Vec<String> = (words.name)(process.pid).into_iter().collect();
        match process.role {
            Role::Helper if process.pid == 0 => notes.extend(labels.get(place).cloned()),
            Role::Helper => notes.push("a helper, for the group or session it led".to_owned()),
            Role::Task if process.steps.contains(&Step::Exec) => notes.push("exec'd".to_owned()),
            Role::Founder | Role::Task => {}
        }
        if process.namespace != 0 {
            notes.push(format!("in pid namespace {}", process.namespace));
        }
        let comment = if notes.is_empty() { String::new() } else { format!("  # {}", notes.join(", ")) };
        format!("clone3({}){comment}", arguments.join(", "))
    }
}

fn signal_name(signal: u32) -> String {
    let known = i32::try_from(signal).ok().and_then(|signal| Signal::try_from(signal).ok());
    known.map_or_else(|| signal.to_string(), |signal| signal.as_str().to_owned())
}
