//! Images of random notes and segments come back as they were.

use super::*;
use crate::address::{HUGE_PAGE_BYTES, PAGE_BYTES};
use crate::note::Note;
use crate::note::tests::with_room;
use nix::sys::memfd::{MFdFlags, memfd_create};
use proptest::prelude::*;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Segments that do not overlap: owner, pages of distance to the one before, length in pages.
fn segments() -> impl Strategy<Value = Vec<Segment>> {
    let huge = HUGE_PAGE_BYTES / PAGE_BYTES;
    let pages = prop_oneof![1..4u64, huge - 1..huge + 2, 1..3 * huge];
    let one = (0..4u32, any::<bool>(), 0..2 * huge, pages, 0..8u32);
    proptest::collection::vec(one, 0..12).prop_map(|all| {
        let mut next = 0x1000_0000;
        let mut out = Vec::new();
        for (id, memory, gap, pages, flags) in all {
            let owner = if memory { Owner::Memory(id + ROOT_MEMORY) } else { Owner::Object(id + 1) };
            let start = next + gap * PAGE_BYTES;
            // The end of an object need not be that of a page.
            let cut = if memory { 0 } else { gap % PAGE_BYTES };
            let segment = Segment { owner, start, len_bytes: pages * PAGE_BYTES - cut, flags };
            next = start + pages * PAGE_BYTES;
            out.push(segment);
        }
        out
    })
}

fn standard() -> impl Strategy<Value = Vec<StandardNote>> {
    let one = ("[A-Z]{1,9}", any::<u32>(), any::<Vec<u8>>()).prop_filter("not ours", |note| note.0 != OWNER);
    let one = one.prop_map(|(owner, number, bytes)| StandardNote { owner, number, bytes });
    proptest::collection::vec(one, 0..4)
}

#[test]
fn only_the_same_range_of_another_memory_is_shared() {
    let segment = |owner, start| Segment { owner, start, len_bytes: 4096, flags: 6 };
    let first = segment(Owner::Memory(1), 0x1000);
    for other in [
        segment(Owner::Memory(1), 0x1000),
        segment(Owner::Memory(2), 0x2000),
        segment(Owner::Object(2), 0x1000),
        Segment { len_bytes: 8192, ..segment(Owner::Memory(2), 0x1000) },
    ] {
        let refused = Layout::sharing(&[], &[], &[first, other], &[None, Some(0)]).map(|_| ());
        assert_eq!(refused, Err(LayoutError::NotTheSame { start: other.start }));
    }
    let later = Layout::sharing(&[], &[], &[first, segment(Owner::Memory(2), 0x1000)], &[Some(1), None]);
    assert!(later.is_err(), "what is shared comes first");
}

/// Writes the image, every segment as holes, which are zeros.
fn write(layout: &Layout) -> File {
    let file = File::from(memfd_create(c"image", MFdFlags::MFD_CLOEXEC).unwrap());
    let mut zeros: std::collections::BTreeMap<u64, u64> = std::collections::BTreeMap::new();
    let mut digests = Vec::new();
    for (segment, _) in &layout.segments {
        let len = segment.len_bytes;
        let zero = || crate::digest::digest(&vec![0; usize::try_from(len).unwrap()]);
        digests.push(*zeros.entry(len).or_insert_with(zero));
    }
    file.write_all_at(&layout.head, 0).unwrap();
    file.write_all_at(&layout.tail(&digests), layout.tail_offset).unwrap();
    file
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn shared_segments_are_stored_once(segments in segments(), chosen in proptest::collection::vec(any::<prop::sample::Index>(), 0..6)) {
        let mut all = segments.clone();
        let mut placed_as = vec![None; all.len()];
        for (count, index) in chosen.into_iter().enumerate() {
            let memories: Vec<usize> =
                (0..segments.len()).filter(|at| matches!(segments[*at].owner, Owner::Memory(_))).collect();
            if memories.is_empty() {
                break;
            }
            let first = *index.get(&memories);
            let owner = Owner::Memory(100 + u32::try_from(count).unwrap());
            all.push(Segment { owner, ..all[first] });
            placed_as.push(Some(first));
        }
        let layout = Layout::sharing(&[], &[], &all, &placed_as).unwrap();
        let alone = Layout::new(&[], &[], &segments).unwrap();
        let more = layout.head.len() as u64 - alone.head.len() as u64;
        prop_assert!(layout.tail_offset - alone.tail_offset <= more.next_multiple_of(PAGE_BYTES) + 12 * HUGE_PAGE_BYTES);
        let image = Image::open(write(&layout)).unwrap();
        prop_assert_eq!(&image.segments, &layout.segments);
        let stored_by = image.stored_by();
        for (index, first) in placed_as.iter().enumerate() {
            prop_assert_eq!(stored_by[index], first.unwrap_or(index));
        }
        prop_assert!(image.check_segments(std::num::NonZeroUsize::MIN).is_empty());
        prop_assert!(!crate::consistency::check(&image).iter().any(|line| line.contains("partly")));
    }

    fn comes_back(
        notes in proptest::collection::vec(any::<Note>(), 0..8),
        standard in standard(),
        segments in segments(),
    ) {
        let layout = Layout::new(&standard, &notes, &segments).unwrap();
        let image = Image::open(write(&layout)).unwrap();
        prop_assert_eq!(&image.notes, &notes);
        prop_assert_eq!(&image.standard, &standard);
        prop_assert_eq!(&image.segments, &layout.segments);
        prop_assert_eq!(image.total_bytes, layout.total_bytes);
        let threads = std::num::NonZeroUsize::new(2).unwrap();
        prop_assert!(image.check_segments(threads).is_empty());
        let mut end = layout.head.len() as u64;
        for (segment, offset) in &image.segments {
            prop_assert!(*offset >= end, "in the order of a pipe");
            prop_assert_eq!(offset % PAGE_BYTES, 0);
            if segment.len_bytes >= HUGE_PAGE_BYTES {
                prop_assert_eq!(offset % HUGE_PAGE_BYTES, segment.start % HUGE_PAGE_BYTES);
            }
            // Never a gap of more than what the alignment asks for.
            prop_assert!(offset - end < HUGE_PAGE_BYTES);
            end = offset + segment.len_bytes;
        }
    }

    /// What a forger can reach: any bytes in the head, with the seal that belongs to them.
    fn is_no_panic_when_forged(
        notes in proptest::collection::vec(any::<Note>(), 1..6),
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let segments = [Segment { owner: Owner::Memory(ROOT_MEMORY), start: 0x1000, len_bytes: 4096, flags: 6 }];
        let mut layout = Layout::new(&[], &notes, &segments).unwrap();
        let seal = layout.head.len() - 28;
        for (place, byte) in edits {
            let at = 16 + place.index(seal - 16);
            layout.head[at] = byte;
        }
        let found = crate::digest::digest(&layout.head[..seal]);
        layout.head[seal + 20..].copy_from_slice(&found.to_le_bytes());
        if let Ok(image) = Image::open(write(&layout)) {
            let _ = crate::consistency::check(&image);
            let _ = image.check_segments(std::num::NonZeroUsize::MIN);
            image.notes.iter().for_each(|note| drop(crate::show::note_text(note)));
        }
    }
}

#[test]
fn every_image_comes_back() {
    with_room(comes_back);
}

#[test]
fn no_forgery_makes_us_panic() {
    with_room(is_no_panic_when_forged);
}
