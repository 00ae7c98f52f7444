//! Quantities as people read them.

use std::time::{Duration, UNIX_EPOCH};

/// A number of bytes in the largest unit that leaves a number of at least one: `12 bytes`, `1.5 MiB`.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} bytes");
    }
    // Tenths of the unit, rounded down.
    let (mut tenths, mut unit) = (u128::from(count) * 10 / 1024, 0);
    while tenths >= 10_240 {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS.get(unit).unwrap_or(&"?"))
}

/// A count and its noun.
pub fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// A moment in nanoseconds since the epoch, in UTC to the second.
pub fn moment(realtime_ns: i64) -> String {
    match u64::try_from(realtime_ns) {
        Ok(ns) => humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_nanos(ns)).to_string(),
        Err(_) => format!("{} seconds before 1970", realtime_ns.unsigned_abs() / 1_000_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_their_unit() {
        let cases = [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1.0 KiB"), (1536, "1.5 KiB")];
        cases.iter().for_each(|(count, text)| assert_eq!(bytes(*count), *text));
        assert_eq!(bytes((1 << 30) - 1), "1023.9 MiB");
        assert_eq!(bytes(u64::MAX), "15.9 EiB");
    }

    #[test]
    fn no_moment_is_beyond_words() {
        assert_eq!(moment(1_763_725_551_000_000_000), "2025-11-21T11:45:51Z");
        assert_eq!(moment(i64::MAX), "2262-04-11T23:47:16Z");
        assert_eq!(moment(i64::MIN), "9223372036 seconds before 1970");
    }
}
