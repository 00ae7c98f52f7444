//! Userfaultfds that serve no memory: what was agreed on stands in fdinfo. One that serves some has a say in every page of it,
//! which nobody can take over.

use super::Collected;
use super::descriptor::Group;
use super::mapping::smaps::Area;
use crate::allow::Allow;
use crate::parse;
use binfmt::note::descriptor::DescriptionKind;
use binfmt::note::userfaultfd::Userfaultfd;
use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;

/// Completes the description of `group`, or says what stands against it; `all` are the descriptions of the tree.
pub fn collect(group: &Group<'_>, all: &[Group<'_>], out: &mut Collected) -> DescriptionKind {
    let open = group.first;
    let found = match against(group, all) {
        Some(why) => Err(why),
        None => parse_info(&open.info),
    };
    match found {
        Ok((agreed, features)) => {
            out.note(Userfaultfd { description: group.id, agreed, features });
            DescriptionKind::Userfaultfd
        }
        Err((why, advice)) => {
            open.not_saved_but(Allow::Userfaultfd, &format!("a userfaultfd {why}"), advice, out)
        }
    }
}

type Against = (&'static str, &'static str);

fn against(group: &Group<'_>, all: &[Group<'_>]) -> Option<Against> {
    let open = group.first;
    let tables: BTreeSet<u32> =
        group.members.iter().map(|member| member.subject.shares.descriptors.id).collect();
    let watched = format!("ino:{:x} ", open.place.metadata.ino());
    let is_watched = |group: &Group<'_>| {
        group.first.place.label == b"anon_inode:[eventpoll]" && group.first.info.contains(&watched)
    };
    if open.subject.areas.iter().any(serves) {
        Some(("that serves memory", "wait until the program has unregistered it (UFFDIO_UNREGISTER)"))
    } else if tables.len() > 1 || group.members.iter().any(|member| member.way.is_some()) {
        Some(("that several processes have", "have it closed by those whose memory it is not for"))
    } else if all.iter().any(is_watched) {
        Some(("that an epoll set watches", "have it taken out of the set while it serves nothing"))
    } else {
        None
    }
}

/// Whether a mapping has some fault or other served.
pub fn serves(area: &Area) -> bool {
    ["um", "uw", "ui"].iter().any(|flag| area.has(flag))
}

/// Whether something was agreed on, and on which features.
fn parse_info(info: &str) -> Result<(bool, u64), Against> {
    const INITIALIZED: u64 = 1 << 31;
    let no_sense = || ("of which this kernel does not tell enough", "have the program close it");
    let waiting = parse::decimal(info, "total").ok_or_else(no_sense)?;
    let mut parts = parse::value(info, "API").ok_or_else(no_sense)?.split(':');
    let is_known = parts.next() == Some("aa");
    let features = parts.next().and_then(|word| u64::from_str_radix(word, 16).ok()).filter(|_| is_known);
    let features = features.ok_or_else(no_sense)?;
    if waiting > 0 {
        return Err(("with events that nobody has read", "wait until they have been read"));
    }
    let agreed = features & INITIALIZED != 0;
    Ok((agreed, if agreed { features & !INITIALIZED } else { 0 }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fdinfo_says_is_taken_apart() {
        let info = |total: u32, api: &str| {
            format!("pos:\t0\nflags:\t02004000\npending:\t0\ntotal:\t{total}\nAPI:\t{api}\n")
        };
        assert_eq!(parse_info(&info(0, "aa:80000022:80000000000001ff")), Ok((true, 0x22)));
        assert_eq!(parse_info(&info(0, "aa:0:80000000000001ff")), Ok((false, 0)));
        for (total, api) in [(1, "aa:80000022:1ff"), (0, "ab:80000022:1ff"), (0, "aa"), (0, "")] {
            assert!(parse_info(&info(total, api)).is_err(), "{total} {api}");
        }
    }
}
