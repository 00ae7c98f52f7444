//! The notes of an image, found by their kind and by the id of what they speak of, and decoded when they are first asked
//! for: an image of a thousand tasks has ten thousand notes, of which each task needs ten.

use crate::note::{FromNote, Note};
use crate::wire::WireError;
use std::ops::Range;
use std::sync::OnceLock;

/// Notes in the order of the file.
#[derive(Debug, Default)]
pub struct Notes {
    /// What they are decoded from.
    bytes: Vec<u8>,
    all: Vec<Place>,
    /// Kind, id and index of each, ascending.
    by_id: Vec<(u32, u32, usize)>,
}

/// A note and where it stands among the bytes.
#[derive(Debug)]
struct Place {
    number: u32,
    range: Range<usize>,
    note: OnceLock<Box<Note>>,
}

impl Notes {
    /// The notes that stand in `bytes`, each given by its number and where it stands. They are known to decode: one that
    /// does not is not there.
    pub(super) fn standing_in(bytes: Vec<u8>, places: Vec<(u32, Range<usize>)>) -> Notes {
        let place = |(number, range)| Place { number, range, note: OnceLock::new() };
        let all: Vec<Place> = places.into_iter().map(place).collect();
        let by_id = index(&all, |place| first_word(bytes.get(place.range.clone()).unwrap_or_default()));
        Notes { bytes, all, by_id }
    }

    /// Decodes all notes. Of the first that cannot be: its index, its number and why.
    pub(super) fn check(&self) -> Result<(), (usize, u32, WireError)> {
        for (index, place) in self.all.iter().enumerate() {
            let bytes = self.bytes.get(place.range.clone()).unwrap_or_default();
            match Note::decode(place.number, bytes) {
                Ok(Some(note)) => {
                    let _ = place.note.set(Box::new(note));
                }
                // Those of unknown kinds are not among them.
                Ok(None) => {}
                Err(error) => return Err((index, place.number, error)),
            }
        }
        Ok(())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Note> {
        self.all.iter().filter_map(|place| self.decoded(place))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Those of one kind.
    pub fn of_kind<'a, T: FromNote + 'a>(&'a self) -> impl Iterator<Item = &'a T> {
        let of_kind = self.all.iter().filter(|place| place.number == T::NUMBER);
        of_kind.filter_map(|place| T::from_note(self.decoded(place)?))
    }

    /// Those of one kind that speak of `id`.
    pub fn about<'a, T: FromNote + 'a>(&'a self, id: u32) -> impl Iterator<Item = &'a T> {
        let key = (T::NUMBER, id);
        let first = self.by_id.partition_point(|(number, id, _)| (*number, *id) < key);
        let found = self.by_id.iter().skip(first).take_while(move |(number, id, _)| (*number, *id) == key);
        found.filter_map(|(.., index)| T::from_note(self.decoded(self.all.get(*index)?)?))
    }

    /// Changes them.
    pub fn change<R>(&mut self, change: impl FnOnce(&mut Vec<Note>) -> R) -> R {
        let before = std::mem::take(self);
        let mut notes: Vec<Note> = before.iter().cloned().collect();
        let result = change(&mut notes);
        let place = |note: Note| Place { number: note.number(), range: 0..0, note: Box::new(note).into() };
        self.all = notes.into_iter().map(place).collect();
        let encoded = |place: &Place| place.note.get().map(|note| note.encode()).unwrap_or_default();
        self.by_id = index(&self.all, |place| first_word(&encoded(place)));
        result
    }

    fn decoded<'a>(&'a self, place: &'a Place) -> Option<&'a Note> {
        if place.note.get().is_none() {
            let bytes = self.bytes.get(place.range.clone())?;
            let note = Note::decode(place.number, bytes).ok().flatten()?;
            let _ = place.note.set(Box::new(note));
        }
        place.note.get().map(Box::as_ref)
    }
}

impl PartialEq<Vec<Note>> for Notes {
    fn eq(&self, others: &Vec<Note>) -> bool {
        self.iter().eq(others)
    }
}

fn index(all: &[Place], id: impl Fn(&Place) -> u32) -> Vec<(u32, u32, usize)> {
    let mut by_id: Vec<(u32, u32, usize)> =
        all.iter().enumerate().map(|(index, place)| (place.number, id(place), index)).collect();
    by_id.sort_unstable();
    by_id
}

/// What a note speaks of: its first field, in all kinds that speak of something with an id.
fn first_word(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |word| u32::from_le_bytes(*word))
}
