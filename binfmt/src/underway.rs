//! By what a resume that is under way can be known from outside.
//!
//! A process that is being built is no program yet, and one that stays as its supervisor is not the program: who is
//! asked for a checkpoint of either says so, and keeps from tracing what the loader has to trace itself.

/// File name of the loader.
pub const LOADER: &str = "ckpt-loader";
/// First argument of a start of the loader that goes on where another one stopped.
pub const STAGE_MARK: &str = "\u{1}ckpt-stage";
/// Name of the memfd by which a task that is being built and its midwife speak; both map it.
pub const CONTROL_PAGE: &std::ffi::CStr = c"ckpt-control";
