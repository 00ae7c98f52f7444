//! `/proc/PID/mountinfo` (proc_pid_mountinfo(5)): what is mounted where.

use crate::note::file::MountPoint;
use crate::wire::Text;

/// The mounts of a `/proc/PID/mountinfo`, in its order: of two at one place the later one is on top. A line that nobody
/// understands is left out.
pub fn parse(text: &[u8]) -> Vec<MountPoint> {
    text.split(|byte| *byte == b'\n').filter_map(line).collect()
}

/// `ID PARENT MAJOR:MINOR ROOT PATH OPTIONS [OPTIONAL...] - TYPE SOURCE OPTIONS`
fn line(line: &[u8]) -> Option<MountPoint> {
    let mut words = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let path = words.nth(3)?;
    words.find(|word| *word == b"-")?;
    let (filesystem, source) = (words.next()?, words.next().unwrap_or_default());
    Some(MountPoint {
        id,
        path: unescaped(path),
        filesystem: unescaped(filesystem),
        source: unescaped(source),
    })
}

/// Blanks and backslashes in names stand there in octal.
pub fn unescaped(word: &[u8]) -> Text {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, after)) = rest.split_first() {
        let digits =
            after.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                plain.push(byte);
                rest = after.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(*first);
                rest = after;
            }
        }
    }
    Text::from(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood_with_and_without_optional_fields() {
        let text = b"22 1 254:0 / / rw,relatime shared:1 master:2 - ext4 /dev/vda rw\n\
                     40 22 0:35 /a/b /mnt/with\\040blank rw - overlay over\\134lay rw,lowerdir=x\n\
                     nonsense\n41 22 0:36 / /no-source rw - tmpfs\n";
        let mount = |id, path: &str, filesystem: &str, source: &str| MountPoint {
            id,
            path: path.into(),
            filesystem: filesystem.into(),
            source: source.into(),
        };
        let expected = [
            mount(22, "/", "ext4", "/dev/vda"),
            mount(40, "/mnt/with blank", "overlay", "over\\lay"),
            mount(41, "/no-source", "tmpfs", ""),
        ];
        assert_eq!(parse(text), expected);
        assert_eq!(parse(b""), []);
        assert_eq!(unescaped(b"\\04"), "\\04".into(), "cut short");
    }
}
