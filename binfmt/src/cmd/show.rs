//! `ckpt show`: what an image says, in full.

use super::{Failure, open};
use binfmt::image::{Image, Owner, Segment, StandardNote};
use binfmt::note::{self, Note};
use binfmt::show::note_text;
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde::Serialize;
use std::io::Write;
use std::path::PathBuf;

/// The word for the stored bytes, and that for the notes of a core file.
const SEGMENT: &str = "segment";
const STANDARD: &str = "standard";

/// Arguments of `ckpt show`.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// The checkpoint
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print only these kinds
    #[arg(value_parser = PossibleValuesParser::new(words()), value_name = "WORD")]
    words: Vec<String>,
}

/// What can be asked for, in the order in which it is printed.
fn words() -> Vec<&'static str> {
    let mut words: Vec<&str> = Vec::new();
    for (_, word, ..) in note::kinds() {
        if !words.contains(&word) {
            words.push(word);
        }
    }
    words.extend([STANDARD, SEGMENT]);
    words
}

#[derive(Serialize)]
struct Document<'a> {
    format_version: u8,
    total_bytes: u64,
    notes: Vec<&'a Note>,
    #[serde(skip_serializing_if = "Option::is_none")]
    standard: Option<Vec<Standard<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segments: Option<Vec<Stored>>,
}

/// A standard note: what it is, not its bytes, which say in a kernel's struct what our notes say too.
#[derive(Serialize)]
struct Standard<'a> {
    owner: &'a str,
    number: u32,
    name: &'static str,
    len_bytes: usize,
}

#[derive(Serialize)]
struct Stored {
    owner: &'static str,
    id: u32,
    start: u64,
    len_bytes: u64,
    file_offset: u64,
}

impl Show {
    pub(super) fn run(self, out: &mut impl Write) -> Result<(), Failure> {
        let image = open("show", &self.file)?;
        let wanted = |word: &str| self.words.is_empty() || self.words.iter().any(|asked| asked == word);
        let notes = image.notes.iter().filter(|note| wanted(note.word())).collect();
        let standard = wanted(STANDARD).then(|| image.standard.iter().map(Standard::new).collect());
        let segments = wanted(SEGMENT).then(|| stored(&image));
        let format_version = binfmt::image::VERSION;
        let document = Document { format_version, total_bytes: image.total_bytes, notes, standard, segments };
        if self.json {
            serde_json::to_writer_pretty(&mut *out, &document).map_err(std::io::Error::from)?;
            return Ok(writeln!(out)?);
        }
        document.notes.iter().try_for_each(|note| out.write_all(note_text(note).as_bytes()))?;
        for note in document.standard.unwrap_or_default() {
            writeln!(
                out,
                "standard {} {} ({:#x}) {} bytes",
                note.owner, note.name, note.number, note.len_bytes
            )?;
        }
        for segment in document.segments.unwrap_or_default() {
            let Stored { owner, id, start, len_bytes, file_offset } = segment;
            writeln!(
                out,
                "segment {owner} {id} {start:#x} {len_bytes} bytes at {file_offset:#x} of the file"
            )?;
        }
        Ok(())
    }
}

impl<'a> Standard<'a> {
    fn new(note: &'a StandardNote) -> Standard<'a> {
        let StandardNote { owner, number, bytes } = note;
        Standard { owner, number: *number, name: binfmt::core_note::name(*number), len_bytes: bytes.len() }
    }
}

fn stored(image: &Image) -> Vec<Stored> {
    let stored = |(segment, file_offset): &(Segment, u64)| {
        let (owner, id) = match segment.owner {
            Owner::Memory(id) => ("memory", id),
            Owner::Object(id) => ("object", id),
        };
        let (start, len_bytes) = (segment.start, segment.len_bytes);
        Stored { owner, id, start, len_bytes, file_offset: *file_offset }
    };
    image.segments.iter().map(stored).collect()
}
