//! The image format of checkpoints.
//!
//! A checkpoint is one ELF file. Read from the top: [`image`] is the file, [`note`] what it says of each kind of kernel
//! state, [`wire`] how that stands in bytes, [`core_note`] the standard notes that make debuggers understand it.
//! [`program`] is the one mechanism that dumper and loader share: system calls as data. [`restart`] decides what
//! becomes of an interrupted system call, [`consistency`] whether the notes fit together, and [`registration`] is how
//! `binfmt_misc` knows us, [`underway`] how a resume is known; [`workers`] are threads that help. [`show`], [`human`] and
//! [`document`] are what people read.

pub mod address;
pub mod build_id;
pub mod consistency;
pub mod core_note;
pub mod digest;
pub mod document;
pub mod hold;
pub mod human;
pub mod image;
pub mod installation;
pub mod ipc;
pub mod mountinfo;
pub mod netlink;
pub mod note;
pub mod program;
pub mod registration;
pub mod restart;
pub mod show;
mod sys;
pub mod underway;
pub mod wire;
pub mod workers;
