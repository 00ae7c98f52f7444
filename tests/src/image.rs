//! What `ckpt show --json` says of an image, compared with what the case says must stand there.

use crate::spec::Show;
use crate::tools::{self, Tools, User};
use crate::{Outcome, Stopped};
use binfmt::note::kinds;
use binfmt::wire::Schema;
use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// Fails unless `image` is whole and holds every one of `expected`.
pub fn check(image: &Path, expected: &[Show], folder: &Path, tools: &Tools) -> Outcome<()> {
    let ckpt = |verb: &str| {
        let mut command = Command::new(tools.program("ckpt"));
        command.arg(verb).arg(image);
        command
    };
    let verified = tools::run(&mut ckpt("verify"), folder, "verify", User::Own)?;
    if !verified.status.success() {
        return Err(Stopped::Failed(format!("ckpt verify: {} {}", verified.status, verified.error)));
    }
    if expected.is_empty() {
        return Ok(());
    }
    let shown = tools::run(ckpt("show").arg("--json"), folder, "show", User::Own)?;
    if !shown.status.success() {
        return Err(Stopped::Failed(format!("ckpt show: {} {}", shown.status, shown.error)));
    }
    let mut notes = Vec::new();
    for value in serde_json::Deserializer::from_str(&shown.output).into_iter::<Value>() {
        collect(value?, &mut notes);
    }
    for show in expected {
        let mut of_word = notes.iter().filter(|note| word(note).is_some_and(|word| word == show.word));
        if !of_word.any(|note| holds(note, &show.fields)) {
            return Err(Stopped::Failed(format!(
                "no note of `{}` in the image has {:?}",
                show.word, show.fields
            )));
        }
    }
    Ok(())
}

/// Every object in `value` that is a note.
fn collect(value: Value, notes: &mut Vec<Value>) {
    match value {
        Value::Object(ref map) if map.get("note").is_some_and(Value::is_string) => notes.push(value),
        Value::Object(map) => map.into_iter().for_each(|(_, inner)| collect(inner, notes)),
        Value::Array(list) => list.into_iter().for_each(|inner| collect(inner, notes)),
        _ => {}
    }
}

/// The word of a note: the name of the file that declares its record.
fn word(note: &Value) -> Option<&'static str> {
    let name = note.get("note")?.as_str()?.replace('_', "");
    kinds().into_iter().find_map(|(_, word, _, schema)| match schema {
        Schema::Record(record, ..) if record.to_lowercase() == name => Some(word),
        _ => None,
    })
}

/// Whether all fields stand together in `value` or in one object inside of it.
fn holds(value: &Value, fields: &[(String, String)]) -> bool {
    match value {
        Value::Object(map) => {
            fields.iter().all(|(name, wanted)| map.get(name).is_some_and(|found| same(found, wanted)))
                || map.values().any(|inner| holds(inner, fields))
        }
        Value::Array(list) => list.iter().any(|inner| holds(inner, fields)),
        _ => false,
    }
}

/// Whether a value is written `wanted` in a case: numbers also in hexadecimal, `~text` for a part of a text.
fn same(found: &Value, wanted: &str) -> bool {
    match found {
        Value::String(text) => match wanted.strip_prefix('~') {
            Some(part) => text.contains(part),
            None => text == wanted,
        },
        Value::Number(number) => {
            let hexadecimal =
                wanted.strip_prefix("0x").and_then(|digits| u64::from_str_radix(digits, 16).ok());
            number.to_string() == wanted || (hexadecimal.is_some() && number.as_u64() == hexadecimal)
        }
        Value::Bool(truth) => truth.to_string() == wanted,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> Vec<(String, String)> {
        text.split(' ')
            .filter_map(|field| field.split_once('='))
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .collect()
    }

    #[test]
    fn fields_must_stand_together() {
        let note: Value = serde_json::from_str(
            r#"{"note":"memory","mappings":[{"start":4096,"shared":true,"name":""},{"start":8192,"shared":false,"name":"a heap"}]}"#,
        )
        .unwrap();
        assert_eq!(word(&note), Some("mapping"));
        assert!(holds(&note, &fields("start=0x1000 shared=true")));
        assert!(holds(&note, &fields("name=~heap")));
        assert!(!holds(&note, &fields("start=8192 shared=true")));
        assert!(!holds(&note, &fields("absent=1")));
    }

    #[test]
    fn notes_are_found_at_any_depth() {
        let mut notes = Vec::new();
        collect(
            serde_json::from_str(r#"{"notes":[{"note":"task"},{"x":[{"note":"pipe"}]}]}"#).unwrap(),
            &mut notes,
        );
        assert_eq!(notes.iter().filter_map(word).collect::<Vec<_>>(), ["task", "pipe"]);
    }
}
