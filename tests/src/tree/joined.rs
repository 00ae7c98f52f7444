//! Mappings side by side that only the kernel tells apart.
//!
//! The kernel does not join a new private mapping to one that was inherited by fork, so where the memory of a forked
//! process is cut into mappings depends on who mapped what when, parent or child: a resume need not cut it in the same
//! places. All that is of account to a program is the same, but for mremap(2) of a range that was one mapping.

use crate::snapshot::Snapshot;

/// Fields of smaps that are as large as the mapping; those of all parts are added.
const SIZES: [&str; 4] = ["Anonymous", "Locked", "Private_Hugetlb", "Shared_Hugetlb"];

struct Mapping {
    start: u64,
    end: u64,
    line: String,
    fields: Vec<(String, String)>,
}

impl Mapping {
    fn is_private_anonymous(&self) -> bool {
        let mut words = self.line.split(' ');
        words.next().is_some_and(|permissions| permissions.ends_with('p')) && words.nth(2) == Some("0")
    }

    fn continues(&self, before: &Mapping) -> bool {
        let same_field = |(one, other): (&(String, String), &(String, String))| {
            one == other || one.0 == other.0 && SIZES.contains(&one.0.as_str())
        };
        before.end == self.start
            && before.line == self.line
            && self.is_private_anonymous()
            && before.fields.len() == self.fields.len()
            && before.fields.iter().zip(&self.fields).all(same_field)
    }

    fn append(&mut self, next: &Mapping) {
        self.end = next.end;
        let sizes = self.fields.iter_mut().zip(&next.fields);
        for ((_, value), (_, more)) in sizes.filter(|((name, _), _)| SIZES.contains(&name.as_str())) {
            let kb = |text: &str| text.trim_end_matches(" kB").parse::<u64>().unwrap_or(0);
            *value = format!("{} kB", kb(value) + kb(more));
        }
    }
}

/// Joins private anonymous mappings that stand side by side and are alike.
pub(super) fn join(member: &mut Snapshot) {
    let mut mappings: Vec<Mapping> = member
        .iter()
        .filter_map(|(key, line)| {
            let range = key.strip_prefix("maps/")?;
            let (start, end) = range.split_once('-')?;
            let number = |text| u64::from_str_radix(text, 16).ok();
            let prefix = format!("smaps/{range}/");
            let fields = member
                .range(prefix.clone()..)
                .map_while(|(key, value)| Some((key.strip_prefix(&prefix)?.to_owned(), value.clone())));
            let (start, end) = (number(start)?, number(end)?);
            Some(Mapping { start, end, line: line.clone(), fields: fields.collect() })
        })
        .collect();
    mappings.sort_unstable_by_key(|mapping| mapping.start);
    let mut joined: Vec<Mapping> = Vec::new();
    for mapping in mappings {
        match joined.last_mut() {
            Some(last) if mapping.continues(last) => last.append(&mapping),
            _ => joined.push(mapping),
        }
    }
    member.retain(|key, _| !key.starts_with("maps/") && !key.starts_with("smaps/"));
    for Mapping { start, end, line, fields } in joined {
        let range = format!("{start:x}-{end:x}");
        for (name, value) in fields {
            member.insert(format!("smaps/{range}/{name}"), value);
        }
        member.insert(format!("maps/{range}"), line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(entries: &[(&str, &str)]) -> Snapshot {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn only_what_is_alike_is_joined() {
        let mut member = snapshot(&[
            ("maps/9000-a000", "rw-p 00000000 00:00 0"),
            ("maps/a000-c000", "rw-p 00000000 00:00 0"),
            ("maps/c000-d000", "r--p 00000000 00:00 0"),
            ("maps/d000-e000", "r--p 00000000 08:01 77 /a"),
            ("maps/e000-f000", "r--p 00000000 08:01 77 /a"),
            ("smaps/9000-a000/Anonymous", "4 kB"),
            ("smaps/9000-a000/VmFlags", "rd wr"),
            ("smaps/a000-c000/Anonymous", "8 kB"),
            ("smaps/a000-c000/VmFlags", "rd wr"),
        ]);
        join(&mut member);
        let kept = snapshot(&[
            ("maps/9000-c000", "rw-p 00000000 00:00 0"),
            ("maps/c000-d000", "r--p 00000000 00:00 0"),
            ("maps/d000-e000", "r--p 00000000 08:01 77 /a"),
            ("maps/e000-f000", "r--p 00000000 08:01 77 /a"),
            ("smaps/9000-c000/Anonymous", "12 kB"),
            ("smaps/9000-c000/VmFlags", "rd wr"),
        ]);
        assert_eq!(member, kept);
        member.insert("smaps/c000-d000/VmFlags".to_owned(), "rd".to_owned());
        let before = member.clone();
        join(&mut member);
        assert_eq!(member, before);
    }
}
