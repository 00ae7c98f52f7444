//! The skeleton: which process makes which, and what each does to come to its place in the tree.
//!
//! A pure function from the tasks of an image to the ordered steps of every process that must be made. Between two
//! barriers the processes go on independently: a skeleton is right only if it is right however they are interleaved.
//!
//! Every file decides one thing: `callers` which session becomes the caller's, `census` who is there and what
//! contradicts itself, `lineage` who makes whom in which session, `cast` which helpers that takes, `memory` who is made
//! into whose memory, `group` who comes into which group and when, `inside` what pid namespaces of the tree's own
//! forbid, `rise` in which order orphans come to their parents; `weave` writes all of it down as steps, and `text` reads
//! them. The tests hold the plans against a model of the kernel's rules.

mod callers;
mod cast;
mod census;
mod group;
mod inside;
mod lineage;
mod member;
mod memory;
mod rise;
mod table;
pub mod text;
mod weave;

pub use callers::find;
pub use inside::Inside;
pub use member::{CALLERS, Member};

use cast::Cast;
use census::Census;
use group::Groups;
use rise::Rounds;

/// The signal that a parent gets when a child ends, unless the child was made with another one.
pub const SIGCHLD: u32 = libc::SIGCHLD.cast_unsigned();

/// The steps of every process that must be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skeleton {
    /// The processes: the founder, the loader process that the user started, in the caller's session and group; the
    /// tasks in their order; helpers. Each but the founder is made by exactly one [`Step::Fork`] or
    /// [`Step::ForkSibling`].
    pub processes: Vec<Process>,
    /// Barriers are numbered from 0 up to this.
    pub barriers: u32,
}

impl Skeleton {
    /// Whether a process forks many that do not begin with an exec.
    pub fn forks_many(&self, process: usize) -> bool {
        const MANY: usize = 8;
        let steps = self.processes.get(process).map(|process| process.steps.as_slice()).unwrap_or_default();
        let stays = |step: &&Step| match step {
            Step::Fork(child) | Step::ForkSibling(child) => {
                let child = self.processes.get(*child).and_then(|child| child.steps.first());
                child.is_some_and(|first| *first != Step::Exec)
            }
            _ => false,
        };
        steps.iter().filter(stays).count() >= MANY
    }
}

/// A process that is made, and what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its process id. 0 for the founder, whose own does not matter, and for a helper that needs none: the kernel
    /// chooses, but it must be no id of the image, nor that of another process here (a helper made with such a one is
    /// made again).
    pub pid: u32,
    /// What it is.
    pub role: Role,
    /// In which pid namespace inside of the tree it lives; 0 for that of the tree. Where its maker lives elsewhere, it is
    /// made with this namespace if it is the init there, and else when that init exists.
    pub namespace: u32,
    /// The exit signal it is made with. Its later one can differ: exec and the death of its parent make it SIGCHLD.
    /// Helpers that nobody needs to hear of have 0, so they are waited for with `__WALL`.
    pub exit_signal: u32,
    /// Whether it is made with CLONE_VM: it runs in its maker's address space, whose `Memory` is its own.
    pub shares_memory: bool,
    /// What it does, in this order.
    pub steps: Vec<Step>,
}

/// What a process of the skeleton is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The loader process that the user started.
    Founder,
    /// A task of the image.
    Task,
    /// A process that is needed on the way and ends: the dead leader of a session or group, or a parent to die.
    Helper,
}

/// What a process does next. An index is one into [`Skeleton::processes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Execs the loader again: the task had exec'd. Comes before `Memory`; only once. It is the first step, unless the
    /// task must make others before, for their exit signals or for memory that a zombie hands on. A helper does it
    /// where its end would kill its parent by its exit signal: exec makes that SIGCHLD.
    Exec,
    /// Its memory stands from here on: what it forks later shares it copy-on-write. Every task but zombies has it
    /// once; one that [shares memory](Process::shares_memory) with its maker finds it standing.
    Memory,
    /// Makes that process as its own child, with its pid (clone3 `set_tid`) and exit signal.
    Fork(usize),
    /// Makes it with CLONE_PARENT: it becomes a child of this process's parent, with this one's exit signal.
    ForkSibling(usize),
    /// Sets PR_SET_CHILD_SUBREAPER, so that an orphan comes here; the task sets its own final value after `Finish`.
    BecomeSubreaper,
    /// Unsets it, because the next orphan must pass.
    EndSubreaper,
    /// Makes a session and a group of its own: setsid().
    Setsid,
    /// Makes a group of its own: setpgid(0, 0).
    LeadGroup,
    /// Joins a group, which has a member then: setpgid(0, id). A task's own id never stands here.
    JoinGroup(u32),
    /// Joins the group in which the founder was started.
    JoinCallersGroup,
    /// Waits until every process that has this step has come to it.
    Barrier(u32),
    /// Waits for the end of that helper, its own child, so that it is no zombie.
    Reap(usize),
    /// A helper ends, with status 0.
    Exit,
    /// A zombie ends, with its saved status, and is not reaped: the last step of a zombie.
    Die,
    /// Waits until that zombie, its own child, has died (WNOWAIT), so that it can drop the signal.
    Await(usize),
    /// The task goes on to take its descriptors, threads, ...: the last step of every task but zombies. The last step
    /// of the founder too, which goes on to supervise.
    Finish,
}

/// Finds a way to the tree, or every reason why the kernel allows none.
///
/// The first member is the root that the founder makes as its own child. Further ones without a parent become
/// children of init.
pub fn plan(tasks: &[Member]) -> Result<Skeleton, Vec<String>> {
    plan_inside(tasks, &Inside::default())
}

/// The same with pid namespaces inside of the tree.
pub fn plan_inside(tasks: &[Member], inside: &Inside) -> Result<Skeleton, Vec<String>> {
    let census = Census::take(tasks, inside)?;
    let origins = lineage::find(&census).map_err(|reason| vec![reason])?;
    let mut cast = Cast::gather(&census, &origins);
    memory::share(&census, &mut cast)?;
    Groups::hire(&census, &mut cast);
    cast.settle(&census);
    let forbidden = cast.forbidden(&census);
    if !forbidden.is_empty() {
        return Err(forbidden);
    }
    let groups = Groups::decide(&census, &cast);
    let forbidden = groups.forbidden(&census, &cast);
    if !forbidden.is_empty() {
        return Err(forbidden);
    }
    let rounds = Rounds::find(&cast);
    let skeleton = weave::weave(&census, &cast, &groups, &rounds);
    let entered = entered(&skeleton, inside);
    if entered.is_empty() { Ok(skeleton) } else { Err(entered) }
}

/// Who would have to be made in a pid namespace by somebody else than who has made its init: they could wait for each
/// other for ever.
fn entered(skeleton: &Skeleton, inside: &Inside) -> Vec<String> {
    let mut reasons = Vec::new();
    for process in &skeleton.processes {
        let mut made_inits = Vec::new();
        for step in &process.steps {
            let (Step::Fork(made) | Step::ForkSibling(made)) = step else { continue };
            let Some(made) = skeleton.processes.get(*made) else { continue };
            if inside.is_init(made.pid) {
                made_inits.push(made.namespace);
            } else if made.namespace != process.namespace && !made_inits.contains(&made.namespace) {
                reasons.push(format!(
                    "process {} has come into a pid namespace in another way than by fork, as with nsenter(1)",
                    made.pid
                ));
            }
        }
    }
    reasons
}

/// Whom the founder makes.
pub fn founded(skeleton: &Skeleton) -> Vec<&Process> {
    let steps = skeleton.processes.first().into_iter().flat_map(|founder| &founder.steps);
    let made = steps.filter_map(|step| match step {
        Step::Fork(made) => skeleton.processes.get(*made),
        _ => None,
    });
    made.collect()
}

#[cfg(test)]
mod tests;
