//! The `ckpt-dump` command.
fn main() {}
