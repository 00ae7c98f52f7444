//! The description of the format, `binfmt/FORMAT.md`, from the declarations that the encoder and the decoder come from.

use crate::image::{DIGESTS, Digests, OWNER, PT_CKPT_MEMORY, PT_CKPT_OBJECT, SEAL, Seal, VERSION};
use crate::note::{ANCILLARY, kinds};
use crate::wire::{Schema, Wire};
use std::collections::BTreeSet;
use std::fmt::Write;

/// What is said of the file as a whole.
const FRAME: &str = include_str!("document.md");

/// The whole document, in Markdown.
pub fn document() -> String {
    let mut out = FRAME
        .replace("{VERSION}", &VERSION.to_string())
        .replace("{OWNER}", OWNER)
        .replace("{ANCILLARY}", &format!("{ANCILLARY:#010x}"))
        .replace("{PT_CKPT_MEMORY}", &format!("{PT_CKPT_MEMORY:#010x}"))
        .replace("{PT_CKPT_OBJECT}", &format!("{PT_CKPT_OBJECT:#010x}"));
    let framing = [
        (SEAL, "seal", "The end of the metadata, and the proof that they are whole.", Seal::schema()),
        (DIGESTS, "digests", "The end of the file, and the proof that it is whole.", Digests::schema()),
    ];
    let kinds: Vec<_> = kinds().into_iter().chain(framing).collect();
    out.push_str("\n| type | note | word | what it says |\n| --- | --- | --- | --- |\n");
    for (number, word, says, schema) in &kinds {
        let name = name(schema);
        let anchor = name.to_lowercase();
        put(&mut out, format_args!("| {number:#06x} | [{name}](#{anchor}) | `{word}` | {} |\n", cell(says)));
    }
    let mut told = BTreeSet::new();
    for (number, _, _, schema) in &kinds {
        put_type(&mut out, schema, Some(*number), &mut told);
    }
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String cannot fail.
    let _ = out.write_fmt(text);
}

/// What may stand in a table.
fn cell(says: &str) -> String {
    says.trim().replace('|', "\\|")
}

fn name(schema: &Schema) -> String {
    match schema {
        Schema::Scalar(name) | Schema::Record(name, ..) | Schema::Enumeration(name, ..) => (*name).to_owned(),
        Schema::List(item) => format!("list of {}", name(item)),
    }
}

/// The name, with a link to where the type is told.
fn reference(schema: &Schema) -> String {
    match schema {
        Schema::Scalar(name) => (*name).to_owned(),
        Schema::List(item) => format!("list of {}", reference(item)),
        Schema::Record(name, ..) | Schema::Enumeration(name, ..) => {
            format!("[{name}](#{})", name.to_lowercase())
        }
    }
}

/// Tells a type and, behind it, those it is made of, each once.
fn put_type(out: &mut String, schema: &Schema, number: Option<u32>, told: &mut BTreeSet<&'static str>) {
    match schema {
        Schema::Scalar(_) => {}
        Schema::List(item) => put_type(out, item, None, told),
        Schema::Record(name, says, fields) if told.insert(name) => {
            let number = number.map(|number| format!("Type {number:#06x}. ")).unwrap_or_default();
            put(out, format_args!("\n### {name}\n\n{number}{}\n\n", says.trim()));
            out.push_str("| field | type | |\n| --- | --- | --- |\n");
            for (field, says, schema) in fields {
                put(out, format_args!("| `{field}` | {} | {} |\n", reference(schema), cell(says)));
            }
            fields.iter().for_each(|(_, _, schema)| put_type(out, schema, None, told));
        }
        Schema::Enumeration(name, width, says, variants) if told.insert(name) => {
            put(out, format_args!("\n### {name}\n\n{} (`{width}`)\n\n", says.trim()));
            out.push_str("| value | name | |\n| --- | --- | --- |\n");
            for (value, name, says) in variants {
                put(out, format_args!("| {value} | {name} | {} |\n", cell(says)));
            }
        }
        Schema::Record(..) | Schema::Enumeration(..) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `UPDATE=1 cargo test -p ckpt-binfmt document` writes it anew.
    #[test]
    fn the_document_is_what_the_declarations_say() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/FORMAT.md");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(path, document()).unwrap();
        }
        let found = std::fs::read_to_string(path).unwrap();
        assert!(found == document(), "FORMAT.md is out of date: UPDATE=1 cargo test -p ckpt-binfmt document");
    }

    #[test]
    fn no_two_types_bear_one_name() {
        fn collect(schema: &Schema, found: &mut Vec<(&'static str, Schema)>) {
            match schema {
                Schema::Scalar(_) => {}
                Schema::List(item) => collect(item, found),
                Schema::Record(name, _, fields) => {
                    found.push((name, schema.clone()));
                    fields.iter().for_each(|(_, _, schema)| collect(schema, found));
                }
                Schema::Enumeration(name, ..) => found.push((name, schema.clone())),
            }
        }
        let mut found = Vec::new();
        kinds().iter().for_each(|kind| collect(&kind.3, &mut found));
        for (name, schema) in &found {
            assert!(found.iter().all(|(other, same)| name != other || schema == same), "{name}");
        }
    }
}
