//! Text and bytes of the kernel, taken apart. Nothing here reads a file.

/// The little-endian word at `at`; 0 where the bytes end before.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map_or(0, u32::from_le_bytes)
}

/// The little-endian word at `at`; 0 where the bytes end before.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let word = bytes.get(at..at + 8).and_then(|word| word.try_into().ok());
    word.map_or(0, u64::from_le_bytes)
}

/// The fields of `/proc/PID/stat`, the first being the pid and the second the name without its parentheses. A name may
/// hold spaces and parentheses: the last closing one ends it.
pub(crate) fn stat_fields(text: &str) -> Option<Vec<&str>> {
    let (open, close) = (text.find('(')?, text.rfind(')')?);
    let name = text.get(open + 1..close)?;
    let mut fields = vec![text.get(..open)?.trim(), name];
    fields.extend(text.get(close + 1..)?.split_whitespace());
    Some(fields)
}

/// The name in `/proc/PID/stat`, whatever it holds.
pub(crate) fn stat_name(text: &[u8]) -> &[u8] {
    let (open, close) =
        (text.iter().position(|byte| *byte == b'('), text.iter().rposition(|byte| *byte == b')'));
    open.zip(close).and_then(|(open, close)| text.get(open + 1..close)).unwrap_or_default()
}

/// The same, to keep.
pub(crate) fn owned_stat(text: &str) -> Vec<String> {
    stat_fields(text).unwrap_or_default().into_iter().map(str::to_owned).collect()
}

/// Field `number` of `/proc/PID/stat`, counted from 1 as in proc(5).
pub(crate) fn stat_field<T: std::str::FromStr + Default>(fields: &[String], number: usize) -> T {
    fields.get(number - 1).and_then(|field| field.parse().ok()).unwrap_or_default()
}

/// The flag in field 9 of `/proc/PID/stat` that execve clears (include/linux/sched.h).
pub(crate) const PF_FORKNOEXEC: u64 = 0x40;

/// The number of the system call that `/proc/PID/syscall` says a waiting thread is in.
pub(crate) fn syscall_number(text: &str) -> Option<i64> {
    text.split_whitespace().next()?.parse().ok().filter(|number| *number >= 0)
}

/// The value of `key` in lines of `key:\tvalue`, as `/proc/PID/status` and `fdinfo` have them.
pub(crate) fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let begins_line = |at: usize| at == 0 || text.as_bytes().get(at - 1) == Some(&b'\n');
    let mut found = text.match_indices(key).filter(|(at, _)| begins_line(*at));
    let rest = found.find_map(|(at, _)| text.get(at + key.len()..)?.strip_prefix(':'))?;
    rest.lines().next().map(str::trim)
}

/// A hexadecimal value of `key`.
pub(crate) fn hex(text: &str, key: &str) -> Option<u64> {
    u64::from_str_radix(value(text, key)?, 16).ok()
}

/// A decimal value of `key`; what follows it is ignored (`12 kB`).
pub(crate) fn decimal(text: &str, key: &str) -> Option<u64> {
    value(text, key)?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_look_like_the_end_of_itself() {
        let fields = stat_fields("12 (a) R 1 (b) S 7 12 12 0").expect("odd but right");
        assert_eq!(fields[..4], ["12", "a) R 1 (b", "S", "7"]);
        assert_eq!(stat_fields("12 a R"), None);
        assert_eq!(stat_fields(""), None);
        assert_eq!(stat_fields(")("), None);
    }

    #[test]
    fn only_a_waiting_thread_is_in_a_system_call() {
        assert_eq!(syscall_number("58 0x1 0x0 0x0 0x0 0x0 0x0 0x7ffd 0x7f12\n"), Some(58));
        assert_eq!(syscall_number("running\n"), None);
        assert_eq!(syscall_number("-1 0x7ffd 0x7f12\n"), None);
        assert_eq!(syscall_number(""), None);
    }

    #[test]
    fn values_are_found_by_their_whole_key() {
        let status = "Name:\tx\nSigPnd:\t0000000000000002\nShdPnd:\t0\nVmLck:\t      12 kB\n";
        assert_eq!(hex(status, "SigPnd"), Some(2));
        assert_eq!(decimal(status, "VmLck"), Some(12));
        assert_eq!(value(status, "Sig"), None);
    }
}
