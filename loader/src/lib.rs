//! Resumes a checkpoint when it is executed.
