//! Eventfds: all that there is to one stands in `/proc/PID/fdinfo`, since Linux 6.5 also whether it is a semaphore. No read
//! can find out without taking.

use super::Collected;
use super::descriptor::Open;
use crate::allow::Allow;
use crate::parse;
use binfmt::note::descriptor::DescriptionKind;
use binfmt::note::eventfd::Eventfd;

/// Completes `description`, or says what stands against it.
pub fn collect(description: u32, open: &Open<'_>, out: &mut Collected) -> DescriptionKind {
    match parse(&open.info) {
        Ok((value, semaphore)) => {
            out.note(Eventfd { description, value, semaphore });
            DescriptionKind::Eventfd
        }
        Err(why) => open.not_saved(Allow::Eventfd, &format!("an eventfd {why}"), out),
    }
}

/// Value, and whether it is a semaphore.
fn parse(info: &str) -> Result<(u64, bool), &'static str> {
    let value = parse::hex(info, "eventfd-count").ok_or("whose value this kernel does not tell")?;
    let semaphore = parse::decimal(info, "eventfd-semaphore")
        .ok_or("of which this kernel does not tell whether it is a semaphore (Linux 6.5 does)")?;
    match value {
        // Only the kernel can add the last one; nobody could write it again.
        u64::MAX => Err("that has overflown"),
        value => Ok((value, semaphore != 0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fdinfo_says_is_taken_apart() {
        let info = |value: &str, semaphore: &str| {
            format!(
                "pos:\t0\nflags:\t02004002\nmnt_id:\t16\nino:\t1061\neventfd-count: {value}\neventfd-id: 5\n{semaphore}"
            )
        };
        assert_eq!(parse(&info("               1f", "eventfd-semaphore: 1\n")), Ok((31, true)));
        assert_eq!(parse(&info("fffffffffffffffe", "eventfd-semaphore: 0\n")), Ok((u64::MAX - 1, false)));
        for (value, semaphore) in [("ffffffffffffffff", "eventfd-semaphore: 0\n"), ("1", ""), ("x", "")] {
            assert!(parse(&info(value, semaphore)).is_err(), "{value}");
        }
    }
}
