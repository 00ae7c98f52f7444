//! Notes as text for people: one printer for all kinds, from the same data as the JSON and the schema.
//!
//! A value that fits stands on one line, `{field value, ...}` or `[item, ...]`; any other is opened, a field or an item
//! a line. Numbers are decimal, unless their bits are what matters ([`Notation`]). Text is in quotes, with escapes as in
//! Rust; bytes are hexadecimal.

use crate::note::{self, Note};
use crate::wire::Schema;
use serde_json::Value;
use std::fmt::Write;

/// What a line may hold beside its indentation.
const LINE_CHARACTERS: usize = 100;
/// Bytes in one line of an opened byte string.
const LINE_BYTES: usize = 32;

/// How a number is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Notation {
    Decimal,
    /// Addresses and bits.
    Hexadecimal,
    /// Permission bits.
    Octal,
}

impl Notation {
    /// The one rule: `mode` and `umask` are octal; what is named after bits, and a u64 whose name tells neither a unit
    /// nor a count, is hexadecimal; all else is decimal.
    fn of(field: &str, scalar: &str) -> Notation {
        const COUNTS: [&str; 5] = ["inode", "offset", "position", "soft", "hard"];
        const BITS: [&str; 8] =
            ["flags", "modes", "mask", "bits", "seals", "features", "protection", "registrations"];
        let ends = |endings: &[&str]| endings.iter().any(|ending| field.ends_with(ending));
        match scalar {
            "u16" | "u32" if field == "mode" || field == "umask" => Notation::Octal,
            "u16" | "u32" if ends(&BITS) => Notation::Hexadecimal,
            "u64" if !ends(&COUNTS) && !ends(&["_bytes", "_ns"]) => Notation::Hexadecimal,
            _ => Notation::Decimal,
        }
    }
}

/// The whole of `note`: a line that names it, then its fields.
pub fn note_text(note: &Note) -> String {
    let schema = note::kinds().into_iter().find(|kind| kind.0 == note.number()).map(|kind| kind.3);
    let value = serde_json::to_value(note).unwrap_or_default();
    let mut out = format!("{} {}\n", note.word(), note.name());
    if let Some(Schema::Record(_, _, fields)) = schema {
        put_fields(&mut out, &fields, &value, 1);
    }
    out
}

type Fields = [(&'static str, &'static str, Schema)];

fn put_fields(out: &mut String, fields: &Fields, value: &Value, depth: usize) {
    for (name, _, schema) in fields {
        indent(out, depth);
        out.push_str(name);
        put_value(out, name, schema, value.get(name).unwrap_or(&Value::Null), depth);
    }
}

/// Puts a value behind the name or the dash that ends `out`, on the same line if it fits.
fn put_value(out: &mut String, name: &str, schema: &Schema, value: &Value, depth: usize) {
    let mut line = String::new();
    if put_inline(&mut line, name, schema, value, LINE_CHARACTERS.saturating_sub(2 * depth)).is_some() {
        out.push(' ');
        out.push_str(&line);
        out.push('\n');
        return;
    }
    out.push('\n');
    match (schema, value) {
        (Schema::Record(_, _, fields), _) => put_fields(out, fields, value, depth + 1),
        (Schema::List(item), Value::Array(items)) => match **item {
            Schema::Scalar(_) | Schema::Enumeration(..) => put_rows(out, name, item, items, depth + 1),
            _ => items.iter().for_each(|each| {
                indent(out, depth + 1);
                out.push('-');
                put_value(out, name, item, each, depth + 1);
            }),
        },
        (Schema::Scalar("bytes"), Value::String(digits)) => put_bytes(out, digits, depth + 1),
        _ => {
            indent(out, depth + 1);
            let _ = put_inline(out, name, schema, value, usize::MAX);
            out.push('\n');
        }
    }
}

/// Appends `value` as it stands on one line, or `None` once that has become longer than `room` characters.
fn put_inline(out: &mut String, name: &str, schema: &Schema, value: &Value, room: usize) -> Option<()> {
    match (schema, value) {
        (Schema::Record(_, _, fields), _) => {
            let mut separator = "{";
            for (field, _, schema) in fields {
                out.push_str(separator);
                out.push_str(field);
                out.push(' ');
                put_inline(out, field, schema, value.get(field).unwrap_or(&Value::Null), room)?;
                separator = ", ";
            }
            out.push('}');
        }
        (Schema::List(item), Value::Array(items)) => {
            out.push('[');
            for (index, each) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                put_inline(out, name, item, each, room)?;
            }
            out.push(']');
        }
        (Schema::Scalar("text"), Value::String(text)) => out.push_str(&format!("\"{text}\"")),
        (Schema::Scalar("bytes"), Value::String(digits)) if digits.is_empty() => out.push_str("no bytes"),
        (Schema::Scalar(scalar), Value::Number(number)) => put_number(out, name, scalar, number),
        (_, Value::String(text)) => out.push_str(text),
        (_, other) => out.push_str(&other.to_string()),
    }
    (out.len() <= room).then_some(())
}

fn put_number(out: &mut String, name: &str, scalar: &str, number: &serde_json::Number) {
    // Writing to a String cannot fail.
    let _ = match (number.as_u64(), Notation::of(name, scalar)) {
        (Some(u64::MAX), _) | (Some(_), Notation::Hexadecimal) => {
            write!(out, "{:#x}", number.as_u64().unwrap_or_default())
        }
        (Some(value), Notation::Octal) => write!(out, "0{value:o}"),
        _ => write!(out, "{number}"),
    };
}

/// A list of scalars that is too long for one line: as many lines as it takes.
fn put_rows(out: &mut String, name: &str, item: &Schema, items: &[Value], depth: usize) {
    let mut row = String::new();
    for each in items {
        let mut text = String::new();
        let _ = put_inline(&mut text, name, item, each, usize::MAX);
        if !row.is_empty() && row.len() + 1 + text.len() > LINE_CHARACTERS.saturating_sub(2 * depth) {
            put_row(out, &row, depth);
            row.clear();
        }
        row.push_str(if row.is_empty() { "" } else { " " });
        row.push_str(&text);
    }
    put_row(out, &row, depth);
}

fn put_row(out: &mut String, row: &str, depth: usize) {
    indent(out, depth);
    out.push_str(row);
    out.push('\n');
}

/// Hexadecimal digits, with the offset of each line's first byte; a star stands for lines that are equal to the one before.
fn put_bytes(out: &mut String, digits: &str, depth: usize) {
    let (lines, mut before) = (digits.as_bytes().chunks(2 * LINE_BYTES), None);
    let last = lines.len().saturating_sub(1);
    let mut starred = false;
    for (index, line) in lines.enumerate() {
        let equal = before == Some(line) && index < last;
        if !equal {
            let line = String::from_utf8_lossy(line);
            put_row(out, &format!("{:06x} {line}", index * LINE_BYTES), depth);
        } else if !starred {
            put_row(out, "*", depth);
        }
        (starred, before) = (equal, Some(line));
    }
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n("  ", depth));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::note::descriptor::{Descriptor, DescriptorTable};
    use crate::note::filesystem::Filesystem;
    use crate::note::mapping::Memory;
    use crate::note::schedule::Schedule;
    use crate::wire::Bytes;
    use proptest::prelude::*;

    #[test]
    fn what_fits_stands_on_one_line() {
        let descriptors = vec![Descriptor { number: 3, close_on_exec: true, description: 7 }];
        let table = DescriptorTable { id: 1, descriptors };
        assert_eq!(
            note_text(&table.into()),
            "descriptor DescriptorTable\n  id 1\n  descriptors [{number 3, close_on_exec true, description 7}]\n"
        );
    }

    #[test]
    fn what_does_not_fit_is_opened() {
        let descriptors = (0..4).map(|number| Descriptor { number, ..Descriptor::default() }).collect();
        let table = DescriptorTable { id: 1, descriptors };
        let text = note_text(&table.into());
        assert_eq!(text.lines().nth(2), Some("  descriptors"));
        assert_eq!(text.lines().nth(4), Some("    - {number 1, close_on_exec false, description 0}"));
        let memory = Memory { auxv: Bytes(vec![0xab; 65]), ..Memory::default() };
        let text = note_text(&memory.into());
        assert!(text.contains("\n  auxv\n    000000 abab"), "{text}");
        assert!(text.contains("\n    000040 ab\n"), "{text}");
        let memory = Memory { auxv: Bytes(vec![0; 32 * 9]), ..Memory::default() };
        let zeros = "00".repeat(32);
        let expected = format!("\n    000000 {zeros}\n    *\n    000100 {zeros}\n  executable");
        assert!(note_text(&memory.into()).contains(&expected));
    }

    #[test]
    fn numbers_are_written_as_people_read_them() {
        let filesystem = Filesystem { umask: 0o22, ..Filesystem::default() };
        assert!(note_text(&filesystem.into()).contains("  umask 022\n"));
        let memory = Memory { brk: 0x5000, ..Memory::default() };
        assert!(note_text(&memory.into()).contains("  brk 0x5000\n"));
        let schedule = Schedule { nice: -5, timer_slack_ns: 50_000, ..Schedule::default() };
        let text = note_text(&schedule.into());
        assert!(text.contains("  nice -5\n") && text.contains("  timer_slack_ns 50000\n"), "{text}");
    }

    proptest! {
        fn is_printed_with_all_its_fields(note: Note) {
            let text = note_text(&note);
            let schema = note::kinds().into_iter().find(|kind| kind.0 == note.number()).map(|kind| kind.3);
            let Some(Schema::Record(_, _, fields)) = schema else { panic!("every note is a record") };
            for (field, ..) in fields {
                prop_assert!(text.lines().any(|line| {
                    line.strip_prefix("  ").is_some_and(|line| line.split(' ').next() == Some(field))
                }), "{field} in {text}");
            }
        }
    }

    #[test]
    fn every_field_of_every_note_is_printed() {
        crate::note::tests::with_room(is_printed_with_all_its_fields);
    }
}
