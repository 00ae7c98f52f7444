//! What this machine and this user have, so that a test that cannot run here says which right it lacks.

use crate::spec::Need;
use std::fs;

/// The capability without which no process can be made with a given pid.
pub const CHECKPOINT_RESTORE: u32 = 40;
const HUGE_PAGES: &str = "/proc/sys/vm/nr_hugepages";

/// Whether this is root.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Whether capability number `number` is in the effective set.
pub fn has_capability(number: u32) -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let mask = mask.and_then(|text| u64::from_str_radix(text.trim(), 16).ok()).unwrap_or(0);
    mask.checked_shr(number).is_some_and(|bits| bits & 1 == 1)
}

/// What is missing for `need`, if anything.
pub fn lacks(need: &Need) -> Option<String> {
    let missing = |met: bool, text: String| if met { None } else { Some(text) };
    match need {
        Need::Root => missing(is_root(), "it needs root".to_owned()),
        Need::Kernel(major, minor) => {
            let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
            let found = version(&release);
            missing(
                found >= (*major, *minor),
                format!("it needs Linux {major}.{minor}, this is {}", release.trim()),
            )
        }
        Need::HugePages(count) => {
            missing(reserve_huge_pages(*count), format!("{count} huge pages cannot be reserved"))
        }
        Need::Capability(number) => missing(has_capability(*number), format!("it needs capability {number}")),
        Need::Config(option) => {
            missing(has_option(option), format!("this kernel is built without CONFIG_{option}"))
        }
    }
}

/// Major and minor number of a release such as `6.18.44-lts`.
fn version(release: &str) -> (u32, u32) {
    let mut numbers =
        release.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The pool of huge pages as it was; dropping it puts it back.
#[derive(Debug)]
pub struct HugePagePool(Option<String>);

impl HugePagePool {
    /// Remembers it.
    pub fn remember() -> HugePagePool {
        HugePagePool(fs::read_to_string(HUGE_PAGES).ok())
    }
}

impl Drop for HugePagePool {
    fn drop(&mut self) {
        if let Some(before) =
            self.0.take().filter(|before| fs::read_to_string(HUGE_PAGES).is_ok_and(|now| now != *before))
        {
            // Who could raise it can lower it.
            let _ = fs::write(HUGE_PAGES, before);
        }
    }
}

/// Raises the pool to what all cases together use, until the runner puts it back.
fn reserve_huge_pages(count: u64) -> bool {
    let read =
        || fs::read_to_string(HUGE_PAGES).ok().and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0);
    // Every flavour of a case runs at the same time, the original beside its copies.
    let wanted = count * 16;
    if read() < wanted {
        // What the kernel gave is read back.
        let _ = fs::write(HUGE_PAGES, wanted.to_string());
    }
    read() >= wanted
}

/// An option whose file exists only if it was built in, or that the kernel shows as a whole.
fn has_option(option: &str) -> bool {
    let Ok(output) = std::process::Command::new("zgrep")
        .args(["-qx", &format!("CONFIG_{option}=y")])
        .arg("/proc/config.gz")
        .status()
    else {
        return true;
    };
    // 1: not there. 2: no such file: then the case finds out by itself.
    output.code() != Some(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_of_all_makers_are_compared() {
        assert_eq!(version("6.18.44-fc-v595"), (6, 18));
        assert_eq!(version("5.11-rc3"), (5, 11));
        assert_eq!(version("nonsense"), (0, 0));
        assert!(version("6.2.0") < (6, 13));
    }
}
