//! The loader must be static: `binfmt_misc` runs it in any chroot, and it moves its own image about.

fn main() {
    let features = std::env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    assert!(
        features.split(',').any(|feature| feature == "crt-static"),
        "the loader must be linked statically; RUSTFLAGS in the environment overrides .cargo/config.toml: unset it, \
         or add -C target-feature=+crt-static"
    );
}
