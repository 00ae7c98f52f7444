//! The line by which `binfmt_misc` knows a checkpoint (Documentation/admin-guide/binfmt-misc.rst).
//!
//! `ckpt register` writes it and `scripts/install` puts the same line where systemd-binfmt finds it at boot.

use crate::image::MARK;
use std::fmt::Write;
use std::path::Path;

/// Name under `/proc/sys/fs/binfmt_misc`.
pub const NAME: &str = "ckpt";
/// O: the image is opened for the loader (AT_EXECFD), readable by its path or not. P: argv[0] is kept. F: the loader is
/// opened now and runs in every mount namespace and chroot. Never C: an image must not lend its owner's rights.
pub const FLAGS: &str = "OPF";

/// The bytes at the start of every image; `mask` says which of them count. OS ABI and its version are left open, and so
/// is the format's version: a file that is too new shall be refused by the loader, with a reason.
fn magic_and_mask() -> ([u8; 13], [u8; 13]) {
    let [c, k, p, t] = MARK;
    let magic = [0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, c, k, p, t];
    let mask = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff];
    (magic, mask)
}

/// The line to write to `/proc/sys/fs/binfmt_misc/register`, for a handler called `name` with this loader.
pub fn line(name: &str, loader: &Path) -> String {
    let escaped = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
            text
        })
    };
    let (magic, mask) = magic_and_mask();
    format!(":{name}:M:0:{}:{}:{}:{FLAGS}", escaped(&magic), escaped(&mask), loader.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_what_the_kernel_parses() {
        assert_eq!(
            line(NAME, Path::new("/usr/lib/ckpt/ckpt-loader")),
            ":ckpt:M:0:\\x7f\\x45\\x4c\\x46\\x02\\x01\\x01\\x00\\x00\\x43\\x4b\\x50\\x54\
             :\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\x00\\xff\\xff\\xff\\xff\
             :/usr/lib/ckpt/ckpt-loader:OPF"
        );
    }
}
