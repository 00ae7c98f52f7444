//! The image format of checkpoints.
//!
//! A checkpoint is one ELF file. Read from the top: [`image`] is the file, [`note`] what it says of each kind of kernel
//! state, [`wire`] how that stands in bytes, [`core_note`] the standard notes that make debuggers understand it.
//! [`program`] is the one mechanism that dumper and loader share: system calls as data. [`restart`] decides what
//! becomes of an interrupted system call, and [`registration`] is the line that `binfmt_misc` knows us by.

pub mod address;
pub mod core_note;
pub mod digest;
pub mod image;
pub mod note;
pub mod program;
pub mod registration;
pub mod restart;
mod sys;
pub mod wire;
