//! What one start of the loader hands to the next, as arguments.

use crate::arena::Hole;
use crate::error::{Error, Result};
use crate::wish::Wishes;
use binfmt::underway::STAGE_MARK;
use std::os::fd::RawFd;

/// Where a start goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// In a process of its own that has just exec'd: step aside.
    Aside,
    /// In the hole: build the task.
    Assemble,
}

/// Under which process id the task comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// Its original one; threads too.
    Keep,
    /// That of the exec'd process.
    Fresh,
    /// Its original one, in a pid namespace of its own.
    Namespace,
}

/// What is handed over. Descriptors stay open over exec; the numbers are all that is known of them.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Where to go on.
    pub point: Point,
    /// The image.
    pub image: RawFd,
    /// The control pages.
    pub control: RawFd,
    /// Where errors are told.
    pub report: RawFd,
    /// Where to stand.
    pub hole: Hole,
    /// Under which process id.
    pub identity: Identity,
    /// Whether the caller's terminal is ours to change: we are in its foreground.
    pub foreground: bool,
    /// Whether the root stays in the caller's session, although it led one.
    pub joins_session: bool,
    /// Whether it is in a user namespace, where supplementary groups cannot be set.
    pub user_namespace: bool,
    /// Whether the image was exec'd through its handler, by which tasks that had exec'd then do so again.
    pub by_handler: bool,
    /// Whether every step is told.
    pub verbose: bool,
    /// The process group of the founder.
    pub callers_group: u32,
    /// Which process of the skeleton this is.
    pub process: usize,
    /// How many of its steps it has done.
    pub steps_done: usize,
    /// Whether the root forks many that go on without an exec.
    pub forks_many: bool,
    /// What shall be otherwise than in the image.
    pub wishes: Wishes,
}

impl Stage {
    /// The arguments of the next start.
    pub fn to_arguments(&self) -> Vec<String> {
        let point = match self.point {
            Point::Aside => "aside",
            Point::Assemble => "assemble",
        };
        let identity = match self.identity {
            Identity::Keep => "keep",
            Identity::Fresh => "fresh",
            Identity::Namespace => "namespace",
        };
        let numbers = [
            self.image.into(),
            self.control.into(),
            self.report.into(),
            self.hole.start.cast_signed(),
            self.hole.heap_bytes.cast_signed(),
            self.hole.control_bytes.cast_signed(),
            self.hole.arena_bytes.cast_signed(),
            i64::from(self.foreground),
            i64::from(self.joins_session),
            i64::from(self.user_namespace),
            i64::from(self.by_handler),
            i64::from(self.verbose),
            self.callers_group.into(),
            i64::try_from(self.process).unwrap_or(0),
            i64::try_from(self.steps_done).unwrap_or(0),
            i64::from(self.forks_many),
        ];
        let fixed = ["ckpt-loader", STAGE_MARK, point, identity].map(str::to_owned);
        let numbers = numbers.map(|number| number.to_string());
        fixed.into_iter().chain(numbers).chain(self.wishes.to_arguments()).collect()
    }

    /// What the previous start handed over, if there was one. Through the handler, the kernel puts its own two arguments
    /// first (flag P).
    pub fn from_arguments(arguments: &[String]) -> Result<Option<Stage>> {
        let mark = arguments.iter().take(4).position(|argument| argument == STAGE_MARK);
        let Some(after) = mark.and_then(|mark| arguments.get(mark + 1..)) else { return Ok(None) };
        let [point, identity, rest @ ..] = after else { return Ok(None) };
        let broken = || Error::Internal("what one stage of the loader handed to the next is broken");
        let numbers: Vec<i64> = rest.iter().map_while(|number| number.parse().ok()).collect();
        let [
            image,
            control,
            report,
            start,
            heap,
            pages,
            arena,
            foreground,
            joins,
            user,
            handler,
            verbose,
            group,
            process,
            steps,
            forks_many,
        ] = numbers[..]
        else {
            return Err(broken());
        };
        let fd = |number: i64| RawFd::try_from(number).map_err(|_| broken());
        Ok(Some(Stage {
            point: if point == "aside" { Point::Aside } else { Point::Assemble },
            identity: match identity.as_str() {
                "keep" => Identity::Keep,
                "fresh" => Identity::Fresh,
                _ => Identity::Namespace,
            },
            image: fd(image)?,
            control: fd(control)?,
            report: fd(report)?,
            hole: Hole {
                start: start.cast_unsigned(),
                heap_bytes: heap.cast_unsigned(),
                control_bytes: pages.cast_unsigned(),
                arena_bytes: arena.cast_unsigned(),
            },
            foreground: foreground != 0,
            joins_session: joins != 0,
            user_namespace: user != 0,
            by_handler: handler != 0,
            verbose: verbose != 0,
            callers_group: u32::try_from(group).map_err(|_| broken())?,
            process: usize::try_from(process).map_err(|_| broken())?,
            steps_done: usize::try_from(steps).map_err(|_| broken())?,
            forks_many: forks_many != 0,
            wishes: Wishes::from_arguments(rest.get(numbers.len()..).unwrap_or_default()),
        }))
    }
}
