//! `/proc/PID/smaps`, taken apart.

/// One mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Area {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// PROT_READ, PROT_WRITE, PROT_EXEC.
    pub protection: u32,
    /// MAP_SHARED
    pub shared: bool,
    /// Offset in the file.
    pub offset: u64,
    /// Device of the file (st_dev).
    pub device: u64,
    /// Its inode; 0 for none.
    pub inode: u64,
    /// Path, or a name in brackets; empty for none.
    pub path: Vec<u8>,
    /// Page size in bytes.
    pub page_bytes: u64,
    /// Whether any page is present or swapped out.
    pub populated: bool,
    /// Whether another process may have one of its pages as well.
    pub has_shared_pages: bool,
    /// Protection key.
    pub protection_key: u32,
    /// Two-letter flags, separated by spaces.
    pub flags: String,
    /// How much is swapped out.
    swapped_kib: u64,
}

impl Area {
    /// Length in bytes.
    pub fn len_bytes(&self) -> u64 {
        self.end - self.start
    }

    /// Whether it is the kernel's code for user space.
    pub fn is_vdso(&self) -> bool {
        self.path == b"[vdso]"
    }

    /// Whether `flag` is among its flags.
    pub fn has(&self, flag: &str) -> bool {
        self.flags.split(' ').any(|set| set == flag)
    }
}

/// All mappings, ascending; `None` if the text is not what proc(5) says.
pub fn parse(text: &[u8]) -> Option<Vec<Area>> {
    let mut areas: Vec<Area> = Vec::new();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        if line.first().is_some_and(u8::is_ascii_uppercase) {
            attribute(areas.last_mut()?, std::str::from_utf8(line).ok()?)?;
        } else {
            areas.push(header(line)?);
        }
    }
    Some(areas)
}

/// `START-END PERMS OFFSET MAJOR:MINOR INODE   PATH`
fn header(line: &[u8]) -> Option<Area> {
    let mut rest = line;
    let mut word = || -> Option<&str> {
        let end = rest.iter().position(|byte| *byte == b' ').unwrap_or(rest.len());
        let (word, after) = rest.split_at_checked(end)?;
        rest = after.get(1..).unwrap_or_default();
        std::str::from_utf8(word).ok()
    };
    let hex = |text: &str| u64::from_str_radix(text, 16).ok();
    let (start, end) = word()?.split_once('-')?;
    let permissions = word()?.as_bytes();
    let offset = hex(word()?)?;
    let (major, minor) = word()?.split_once(':')?;
    let device = libc::makedev(u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?);
    let inode = word()?.parse().ok()?;
    let path_at = rest.iter().position(|byte| *byte != b' ').unwrap_or(rest.len());
    let path = unescape(rest.get(path_at..)?);
    let (start, end) = (hex(start)?, hex(end)?);
    let bit = |at: usize, letter, bit| if permissions.get(at) == Some(&letter) { bit } else { 0 };
    let protection = bit(0, b'r', 1) | bit(1, b'w', 2) | bit(2, b'x', 4);
    let shared = permissions.get(3) == Some(&b's');
    (start < end).then_some(Area {
        start,
        end,
        protection,
        shared,
        offset,
        device,
        inode,
        path,
        page_bytes: binfmt::address::PAGE_BYTES,
        ..Area::default()
    })
}

/// The kernel writes a newline in a path as `\012`.
fn unescape(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        match rest.strip_prefix(b"\\012") {
            Some(after) => {
                out.push(b'\n');
                rest = after;
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

fn attribute(area: &mut Area, line: &str) -> Option<()> {
    let (key, value) = line.split_once(':')?;
    let number = || value.split_whitespace().next()?.parse::<u64>().ok();
    match key {
        "KernelPageSize" => area.page_bytes = number()?.checked_mul(1024)?,
        "Rss" | "Private_Hugetlb" | "Shared_Hugetlb" => area.populated |= number()? > 0,
        "Swap" => {
            area.swapped_kib = number()?;
            area.populated |= area.swapped_kib > 0;
        }
        // Its part of what several have swapped out.
        "SwapPss" => area.has_shared_pages |= number()? < area.swapped_kib,
        "Shared_Clean" | "Shared_Dirty" => area.has_shared_pages |= number()? > 0,
        "ProtectionKey" => area.protection_key = u32::try_from(number()?).ok()?,
        "VmFlags" => area.flags = value.trim().to_owned(),
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &[u8] = b"\
559e7d6d2000-559e7d6d4000 r-xp 00002000 08:01 4325413                    /usr/bin/a b\n\
Size:                  8 kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\nRss:                   8 kB\nShared_Clean:          4 kB\nShared_Dirty:          0 kB\n\
Swap:                  0 kB\nTHPeligible:           0\nProtectionKey:         3\nVmFlags: rd ex mr mw me sd \n\
7f0000000000-7f0000200000 rw-s 00000000 00:0f 77 /anon_hugepage (deleted)\n\
KernelPageSize:     2048 kB\nRss:                   0 kB\nShared_Hugetlb:     2048 kB\nVmFlags: rd wr sh ht\n\
7ffd0000-7ffd1000 ---p 00000000 00:00 0 \nRss: 0 kB\nVmFlags: mr\n\
ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0                  [vsyscall]\nVmFlags: ex\n";

    #[test]
    fn mappings_are_taken_apart() {
        let areas = parse(SAMPLE).expect("as the kernel prints them");
        assert_eq!(areas.len(), 4);
        let first = &areas[0];
        assert_eq!((first.start, first.end, first.offset), (0x559e_7d6d_2000, 0x559e_7d6d_4000, 0x2000));
        assert_eq!((first.protection, first.shared, first.protection_key), (5, false, 3));
        assert_eq!((first.device, first.inode), (libc::makedev(8, 1), 4_325_413));
        assert_eq!(first.path, b"/usr/bin/a b");
        assert!(first.has("sd") && !first.has("s") && first.populated && first.has_shared_pages);
        assert!(!areas[1].has_shared_pages);
        assert_eq!((areas[1].page_bytes, areas[1].shared, areas[1].populated), (2 << 20, true, true));
        assert_eq!((areas[2].path.as_slice(), areas[2].populated), (&b""[..], false));
        assert_eq!(areas[3].path, b"[vsyscall]");
    }

    #[test]
    fn odd_paths_come_back_whole() {
        let areas = parse(b"1000-2000 r--p 0 00:01 5 /a\\012b\xff \n").expect("odd but right");
        assert_eq!(areas[0].path, b"/a\nb\xff ");
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(parse(b"Rss: 1 kB\n"), None, "an attribute of nothing");
        assert_eq!(parse(b"2000-1000 r--p 0 00:01 5 x\n"), None, "it ends before it begins");
        assert_eq!(parse(b"1000-2000 r--p\n"), None);
        assert_eq!(parse(b"1000-2000 r--p 0 00:01 5\nRss: much\n"), None);
        assert_eq!(parse(b""), Some(vec![]));
    }
}
