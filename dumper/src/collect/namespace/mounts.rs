//! Mount namespaces, as far as they have the mounts of this program's: as `unshare --mount` and `ip netns exec` make them. Paths
//! then mean the same in both. One with mounts of its own is refused.

use super::Collected;
use crate::error::Error;
use crate::procdir::ProcDir;
use binfmt::note::namespace::{Namespace, Propagation};

/// What is mounted where: device, root, place, options of the mount (not of the filesystem), type.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mounted {
    place: String,
    device: String,
    root: String,
    options: String,
    filesystem: String,
}

/// The lines of a `/proc/PID/mountinfo`, and how mounts come to the root.
fn parse(text: &str) -> (Vec<Mounted>, Propagation) {
    let mut propagation = Propagation::Private;
    let mut all: Vec<Mounted> = text
        .lines()
        .filter_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            let mut words = before.split(' ').skip(2).map(str::to_owned);
            let (device, root, place, options) = (words.next()?, words.next()?, words.next()?, words.next()?);
            if place == "/" {
                let tags: Vec<String> = words.collect();
                let is = |what: &str| tags.iter().any(|tag| tag.starts_with(what));
                propagation = match (is("shared:"), is("master:")) {
                    (true, _) => Propagation::Shared,
                    (_, true) => Propagation::Slave,
                    _ => Propagation::Private,
                };
            }
            Some(Mounted { place, device, root, options, filesystem: after.split(' ').next()?.to_owned() })
        })
        .collect();
    all.sort_unstable();
    (all, propagation)
}

fn is_sys(mounted: &Mounted) -> bool {
    mounted.place == "/sys" || mounted.place.starts_with("/sys/")
}

/// What one has that the other lacks.
fn lacks<'a>(one: &'a [&Mounted], other: &[&Mounted]) -> Option<&'a Mounted> {
    one.iter().copied().find(|mounted| !other.contains(mounted))
}

/// Adds how a mount namespace differs from ours, or refuses it.
pub(super) fn describe(note: Namespace, proc: ProcDir, out: &mut Collected) -> Result<Namespace, Error> {
    let own = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let (own, _) = parse(&String::from_utf8_lossy(&own));
    let (its, propagation) = parse(&proc.text("mountinfo")?);
    let sys = |all: &[Mounted]| all.iter().filter(|it| is_sys(it)).cloned().collect::<Vec<_>>();
    let own_sysfs = match sys(&its).as_slice() {
        same if same == sys(&own).as_slice() => false,
        [alone] => {
            let is_plain = alone.options == "rw,relatime";
            alone.place == "/sys" && alone.filesystem == "sysfs" && alone.root == "/" && is_plain
        }
        _ => false,
    };
    let counts = |it: &&Mounted| !own_sysfs || !is_sys(it);
    let (own, its): (Vec<_>, Vec<_>) =
        (own.iter().filter(counts).collect(), its.iter().filter(counts).collect());
    let more =
        lacks(&its, &own).map(|it| format!("has {} ({}, {}) mounted", it.place, it.filesystem, it.options));
    let less = lacks(&own, &its).map(|it| format!("lacks {} ({})", it.place, it.filesystem));
    let differs = more.or(less).or((own != its).then(|| "has other mounts".to_owned()));
    if let Some(differs) = differs {
        let advice =
            format!("run ckpt-dump inside it: nsenter --target {} --mount ckpt-dump ...", proc.pid());
        out.unsupported(
            format!("it lives in another mount namespace than this program, which {differs}"),
            advice,
        );
    }
    Ok(Namespace { propagation, own_sysfs, ..note })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart() {
        let text = "22 1 254:0 / / rw,relatime master:2 - ext4 /dev/vda rw\n\
                    40 22 0:35 /a /mnt rw - overlay overlay rw\nnonsense\n";
        let (all, propagation) = parse(text);
        assert_eq!(propagation, Propagation::Slave);
        let places: Vec<_> =
            all.iter().map(|it| (it.place.as_str(), it.root.as_str(), it.filesystem.as_str())).collect();
        assert_eq!(places, [("/", "/", "ext4"), ("/mnt", "/a", "overlay")]);
        let refs: Vec<_> = all.iter().collect();
        assert_eq!(lacks(&refs, &refs[..1]).map(|it| it.place.as_str()), Some("/mnt"));
        let (read_only, _) = parse(&text.replace("/mnt rw", "/mnt ro"));
        assert_eq!(
            lacks(&read_only.iter().collect::<Vec<_>>(), &refs).map(|it| it.options.as_str()),
            Some("ro")
        );
        assert_eq!(parse("22 1 254:0 / / rw shared:1 - ext4 x rw\n").1, Propagation::Shared);
    }
}
