//! What the end-to-end tests share.
//!
//! A case is a C program under `cases/<word>/` that says in its first lines what is to be done with it ([`spec`]). It
//! becomes one test for every [`flavour`] in which it can be checkpointed and resumed; [`guest`] starts it on a [`stage`]
//! and tells it to go on. While it waits, before the checkpoint and after the resume, a [`snapshot`] of all that `/proc` says of
//! every process of its [`tree`] is taken, and every [`difference`] that is not known and explained is a failure. [`machine`] knows what this machine
//! lacks, and [`tools`] where the programs under test are.
//!
//! A real [`program`] is checkpointed at random [`moments`], and what comes of it is compared with an undisturbed run.
//!
//! The safety tests do their worst to a [`target`] that watches itself: [`tracer`] runs a dumper or a loader and kills it, or
//! fails a call of it, at any system call; [`aftermath`] says what a resume left.
//!
//! Every one of these is a [`trial`](mod@trial), which has an end even if it hangs.

pub mod aftermath;
pub mod difference;
pub mod flavour;
pub mod guest;
pub mod handler;
pub mod image;
pub mod machine;
pub mod moments;
pub mod namespace;
pub mod program;
pub mod script;
pub mod snapshot;
pub mod spec;
pub mod stage;
pub mod sys;
pub mod target;
pub mod tools;
pub mod tracer;
pub mod tree;
pub mod trial;

/// Why a test failed, for the person who reads it.
pub type Outcome<T> = Result<T, Stopped>;

/// Why a test did not come to its end.
#[derive(Debug)]
pub enum Stopped {
    /// It failed.
    Failed(String),
    /// This machine or its user lacks something.
    Skipped(String),
}

impl<E: std::fmt::Display> From<E> for Stopped {
    fn from(error: E) -> Stopped {
        Stopped::Failed(error.to_string())
    }
}
