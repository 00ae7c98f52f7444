//! How `binfmt_misc` knows a checkpoint (Documentation/admin-guide/binfmt-misc.rst).
//!
//! [`line`] is the one definition: `ckpt register` writes it to the kernel, and `scripts/install` puts it where
//! systemd-binfmt finds it at boot. [`Handler`] is what the kernel says of a registration, [`Registry`] where it says so.

mod registry;

pub use registry::{Registered, Registry, RegistryError, State};

use crate::image::MARK;
use std::ffi::OsString;
use std::fmt::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Name under `/proc/sys/fs/binfmt_misc`.
pub const NAME: &str = "ckpt";
/// O: the image is opened for the loader (AT_EXECFD), readable by its path or not. P: argv[0] is kept. F: the loader is
/// opened now and runs in every mount namespace and chroot. Never C: an image must not lend its owner's rights.
pub const FLAGS: &str = "OPF";
/// What may stand between the fields of the line, the first that is in none of them. Not `#` and `;`: they begin a comment
/// in binfmt.d(5). Not `!` either, which a shell may take.
const DELIMITERS: [u8; 5] = *b":|,%@";
/// Longest line that the kernel takes (MAX_REGISTER_LENGTH in fs/binfmt_misc.c).
const LINE_MAX_BYTES: usize = 1920;

/// The bytes at the start of every image; `mask` says which of them count. OS ABI and its version are left open, and so
/// is the format's version: a file that is too new shall be refused by the loader, with a reason.
fn magic_and_mask() -> ([u8; 13], [u8; 13]) {
    let [c, k, p, t] = MARK;
    let magic = [0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, c, k, p, t];
    let mask = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0xff, 0xff, 0xff, 0xff];
    (magic, mask)
}

/// The line to write to `/proc/sys/fs/binfmt_misc/register`, for a handler called `name` with this loader; `None` if
/// name or path cannot stand in one.
pub fn line(name: &str, loader: &Path) -> Option<OsString> {
    let path = loader.as_os_str().as_bytes();
    let fits = |byte: &u8| !path.contains(byte) && !name.as_bytes().contains(byte);
    let delimiter = *DELIMITERS.iter().find(|byte| fits(byte))?;
    let possible_name = !matches!(name, "" | "." | ".." | "register" | "status") && !name.contains('/');
    if !possible_name || !fits(&0) || !fits(&b'\n') || !loader.is_absolute() {
        return None;
    }
    let escaped = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "\\x{byte:02x}");
            text
        })
    };
    let (magic, mask) = magic_and_mask();
    let (magic, mask) = (escaped(&magic), escaped(&mask));
    let fields = [name.as_bytes(), b"M", b"0", magic.as_bytes(), mask.as_bytes(), path, FLAGS.as_bytes()];
    let mut line = Vec::new();
    for field in fields {
        line.push(delimiter);
        line.extend_from_slice(field);
    }
    (line.len() <= LINE_MAX_BYTES).then(|| OsString::from_vec(line))
}

/// What the kernel says of a registration: the text of `/proc/sys/fs/binfmt_misc/NAME`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handler {
    /// Whether it is switched on.
    pub enabled: bool,
    /// The program that is run.
    pub loader: PathBuf,
    /// Letters of the flags.
    pub flags: String,
    /// `offset`, `magic` and `mask` lines, as they stand.
    pub pattern: Vec<String>,
}

impl Handler {
    /// Parses what the kernel says.
    pub fn parse(text: &[u8]) -> Option<Handler> {
        let mut lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let enabled = match lines.next()? {
            b"enabled" => true,
            b"disabled" => false,
            _ => return None,
        };
        let loader = lines.next()?.strip_prefix(b"interpreter ")?;
        let flags = String::from_utf8_lossy(lines.next()?.strip_prefix(b"flags: ")?).into_owned();
        let pattern = lines.map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        Some(Handler { enabled, loader: OsString::from_vec(loader.to_vec()).into(), flags, pattern })
    }

    /// What the kernel says of a handler that was registered with [`line`] and this loader.
    pub fn ours(loader: &Path) -> Handler {
        let hexadecimal = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let (magic, mask) = magic_and_mask();
        let pattern = vec![
            "offset 0".to_owned(),
            format!("magic {}", hexadecimal(&magic)),
            format!("mask {}", hexadecimal(&mask)),
        ];
        Handler { enabled: true, loader: loader.to_owned(), flags: FLAGS.to_owned(), pattern }
    }

    /// In what it differs from the `wanted` one, for a person; `None` if it does the same.
    pub fn difference(&self, wanted: &Handler) -> Option<String> {
        let sorted = |flags: &str| {
            let mut letters: Vec<char> = flags.chars().collect();
            letters.sort_unstable();
            letters
        };
        if self.loader != wanted.loader {
            Some(format!("its loader is {}", self.loader.display()))
        } else if sorted(&self.flags) != sorted(&wanted.flags) {
            Some(format!("its flags are {} instead of {}", self.flags, wanted.flags))
        } else if self.pattern != wanted.pattern {
            Some("it is for files with another mark".to_owned())
        } else if !self.enabled {
            Some("it is switched off".to_owned())
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_what_the_kernel_parses() {
        let text = line(NAME, Path::new("/usr/lib/ckpt/ckpt-loader"));
        assert_eq!(
            text.as_deref().and_then(|line| line.to_str()),
            Some(
                ":ckpt:M:0:\\x7f\\x45\\x4c\\x46\\x02\\x01\\x01\\x00\\x00\\x43\\x4b\\x50\\x54\
                 :\\xff\\xff\\xff\\xff\\xff\\xff\\xff\\x00\\x00\\xff\\xff\\xff\\xff\
                 :/usr/lib/ckpt/ckpt-loader:OPF"
            )
        );
    }

    #[test]
    fn what_would_break_the_line_is_refused_or_led_around() {
        let text = line("a", Path::new("/a:b/loader")).unwrap_or_default();
        assert!(text.as_bytes().starts_with(b"|a|M|0|"), "{text:?}");
        assert!(text.as_bytes().ends_with(b"|/a:b/loader|OPF"), "{text:?}");
        let refused = ["", ".", "..", "register", "status", "a/b", "a\nb", "a\0b"];
        refused.iter().for_each(|name| assert_eq!(line(name, Path::new("/loader")), None, "{name:?}"));
        assert_eq!(line("a", Path::new("loader")), None, "a relative path means another file elsewhere");
        assert_eq!(line("a", Path::new(&format!("/{}", "x".repeat(1900)))), None, "too long for the kernel");
    }

    #[test]
    fn a_registration_is_compared_with_the_one_wanted() {
        let text = b"enabled\ninterpreter /opt/my loader\nflags: POF\noffset 0\n\
                     magic 7f454c460201010000434b5054\nmask ffffffffffffff0000ffffffff\n";
        let found = Handler::parse(text);
        let ours = Handler::ours(Path::new("/opt/my loader"));
        assert_eq!(found.as_ref().and_then(|found| found.difference(&ours)), None);
        let other = Handler::ours(Path::new("/opt/other"));
        let difference = found.and_then(|found| found.difference(&other));
        assert_eq!(difference.as_deref(), Some("its loader is /opt/my loader"));
        let off = Handler { enabled: false, ..ours.clone() };
        assert_eq!(off.difference(&ours).as_deref(), Some("it is switched off"));
        let flags = Handler { flags: "OC".into(), ..ours.clone() };
        assert_eq!(flags.difference(&ours).as_deref(), Some("its flags are OC instead of OPF"));
        for odd in [&b""[..], b"enabled", b"on\ninterpreter /x\nflags: \n", b"enabled\nflags: O\n"] {
            assert_eq!(Handler::parse(odd), None);
        }
    }
}
