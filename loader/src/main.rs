//! The loader that `binfmt_misc` runs for a checkpoint.
fn main() {}
