//! How values stand in a note: fixed width, little-endian, in the order of their declaration, no padding.
//!
//! A *record* is declared once with [`record!`]; from that declaration come the Rust type, the encoder, the decoder,
//! the JSON (through serde) and the schema that the format document is printed from. A count stands before every
//! list; a list is never longer than the bytes that are left, so a hostile count allocates nothing.

use byteorder::{ByteOrder, LittleEndian};
use serde::{Serialize, Serializer};
use thiserror::Error;

/// Why the bytes of a note are not what its declaration says. Offsets count from the note's first byte.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum WireError {
    /// The note ends inside a field.
    #[error("{field} at byte {offset} needs {needed} bytes and {left} are left")]
    Short {
        /// What was being read.
        field: &'static str,
        /// Where it starts.
        offset: usize,
        /// How long it is, in bytes.
        needed: usize,
        /// How many bytes there are.
        left: usize,
    },
    /// A value that the declaration does not know.
    #[error("{field} at byte {offset} has the unknown value {value}")]
    Unknown {
        /// What was being read.
        field: &'static str,
        /// Where it starts.
        offset: usize,
        /// What stands there.
        value: u64,
    },
    /// The note goes on after its last field.
    #[error("{left} bytes follow the last field")]
    Trailing {
        /// How many.
        left: usize,
    },
}

/// Reads a note from its first byte to its last.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the first of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, offset: 0 }
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.offset
    }

    /// How many bytes were read.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The next `len` bytes.
    pub fn take(&mut self, field: &'static str, len: usize) -> Result<&'a [u8], WireError> {
        let short = WireError::Short { field, offset: self.offset, needed: len, left: self.left() };
        let end = self.offset.checked_add(len).ok_or_else(|| short.clone())?;
        let taken = self.bytes.get(self.offset..end).ok_or(short)?;
        self.offset = end;
        Ok(taken)
    }
}

/// What the format document says of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schema {
    /// A scalar, by its name in the document (`u64`, `text`, ...).
    Scalar(&'static str),
    /// A count (u32) and so many of the inner type.
    List(Box<Schema>),
    /// A record: name, documentation, fields.
    Record(&'static str, &'static str, Vec<(&'static str, &'static str, Schema)>),
    /// A number that stands for a name: name, width, documentation, variants (value, name, documentation).
    Enumeration(&'static str, &'static str, &'static str, Vec<(u64, &'static str, &'static str)>),
}

/// A type that can stand in a note.
pub trait Wire: Sized {
    /// Appends the value to `out`.
    fn put(&self, out: &mut Vec<u8>);
    /// Reads the value of `field` from `from`.
    fn get(field: &'static str, from: &mut Reader<'_>) -> Result<Self, WireError>;
    /// What the format document says of it.
    fn schema() -> Schema;
}

macro_rules! scalar {
    ($($type:ident $put:ident $get:ident;)*) => {$(
        impl Wire for $type {
            fn put(&self, out: &mut Vec<u8>) {
                let mut bytes = [0; size_of::<$type>()];
                LittleEndian::$put(&mut bytes, *self);
                out.extend_from_slice(&bytes);
            }
            fn get(field: &'static str, from: &mut Reader<'_>) -> Result<Self, WireError> {
                Ok(LittleEndian::$get(from.take(field, size_of::<$type>())?))
            }
            fn schema() -> Schema {
                Schema::Scalar(stringify!($type))
            }
        }
    )*};
}

scalar! {
    u16 write_u16 read_u16;
    u32 write_u32 read_u32;
    u64 write_u64 read_u64;
    i32 write_i32 read_i32;
    i64 write_i64 read_i64;
}

impl Wire for u8 {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }
    fn get(field: &'static str, from: &mut Reader<'_>) -> Result<Self, WireError> {
        Ok(from.take(field, 1)?.first().copied().unwrap_or_default())
    }
    fn schema() -> Schema {
        Schema::Scalar("u8")
    }
}

impl Wire for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
    fn get(field: &'static str, from: &mut Reader<'_>) -> Result<Self, WireError> {
        let offset = from.offset();
        match u8::get(field, from)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(WireError::Unknown { field, offset, value: value.into() }),
        }
    }
    fn schema() -> Schema {
        Schema::Scalar("bool")
    }
}

impl<T: Wire> Wire for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        // A list of 2^32 kernel objects does not fit in the memory of any machine; saturating keeps the decoder honest.
        u32::try_from(self.len()).unwrap_or(u32::MAX).put(out);
        self.iter().for_each(|item| item.put(out));
    }
    fn get(field: &'static str, from: &mut Reader<'_>) -> Result<Self, WireError> {
        let count = u32::get(field, from)?;
        // No capacity from the count: it is a stranger's word. Every item takes a byte at least, so the bytes bound it.
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(T::get(field, from)?);
        }
        Ok(items)
    }
    fn schema() -> Schema {
        Schema::List(Box::new(T::schema()))
    }
}

/// Uninterpreted bytes; hexadecimal in JSON.
#[derive(Clone, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
#[cfg_attr(test, derive(proptest_derive::Arbitrary))]
pub struct Bytes(pub Vec<u8>);

/// Bytes that a person reads as text: a path, a name. Linux demands no encoding, so neither does the format.
#[derive(Clone, PartialEq, Eq, Default, Hash, PartialOrd, Ord)]
#[cfg_attr(test, derive(proptest_derive::Arbitrary))]
pub struct Text(pub Vec<u8>);

macro_rules! byte_string {
    ($type:ident, $name:literal) => {
        impl Wire for $type {
            fn put(&self, out: &mut Vec<u8>) {
                u32::try_from(self.0.len()).unwrap_or(u32::MAX).put(out);
                out.extend_from_slice(&self.0);
            }
            fn get(field: &'static str, from: &mut Reader<'_>) -> Result<Self, WireError> {
                let len = usize::try_from(u32::get(field, from)?).unwrap_or(usize::MAX);
                Ok($type(from.take(field, len)?.to_vec()))
            }
            fn schema() -> Schema {
                Schema::Scalar($name)
            }
        }
        impl From<&[u8]> for $type {
            fn from(bytes: &[u8]) -> Self {
                $type(bytes.to_vec())
            }
        }
        impl From<Vec<u8>> for $type {
            fn from(bytes: Vec<u8>) -> Self {
                $type(bytes)
            }
        }
    };
}

byte_string!(Bytes, "bytes");
byte_string!(Text, "text");

impl From<&str> for Text {
    fn from(text: &str) -> Self {
        Text(text.as_bytes().to_vec())
    }
}

impl Text {
    /// The bytes as a path.
    pub fn as_path(&self) -> &std::path::Path {
        use std::os::unix::ffi::OsStrExt;
        std::path::Path::new(std::ffi::OsStr::from_bytes(&self.0))
    }
}

impl From<&std::path::Path> for Text {
    fn from(path: &std::path::Path) -> Self {
        use std::os::unix::ffi::OsStrExt;
        Text(path.as_os_str().as_bytes().to_vec())
    }
}

impl std::fmt::Display for Text {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Printable as it is, the rest as in a string literal, so that a hostile name cannot steer a terminal, and no two
        // texts look the same.
        for chunk in self.0.utf8_chunks() {
            for character in chunk.valid().chars() {
                match character {
                    '"' | '\'' => write!(out, "{character}")?,
                    _ => write!(out, "{}", character.escape_debug())?,
                }
            }
            for byte in chunk.invalid() {
                write!(out, "\\x{byte:02x}")?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "\"{self}\"")
    }
}

impl std::fmt::Display for Bytes {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl std::fmt::Debug for Bytes {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{self}")
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Declares records: the type and everything that follows from it.
macro_rules! record {
    ($($(#[doc = $doc:literal])* pub struct $name:ident {
        $($(#[doc = $field_doc:literal])* $field:ident: $type:ty,)*
    })*) => {$(
        $(#[doc = $doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
        #[cfg_attr(test, derive(proptest_derive::Arbitrary))]
        pub struct $name {
            $($(#[doc = $field_doc])* pub $field: $type,)*
        }

        impl $crate::wire::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }
            fn get(
                _field: &'static str,
                from: &mut $crate::wire::Reader<'_>,
            ) -> Result<Self, $crate::wire::WireError> {
                Ok($name { $($field: $crate::wire::Wire::get(stringify!($field), from)?,)* })
            }
            fn schema() -> $crate::wire::Schema {
                $crate::wire::Schema::Record(
                    stringify!($name),
                    concat!($($doc,)*),
                    vec![$((
                        stringify!($field),
                        concat!($($field_doc,)*),
                        <$type as $crate::wire::Wire>::schema(),
                    ),)*],
                )
            }
        }
    )*};
}
pub(crate) use record;

/// Declares numbers that stand for names. The first variant is the default. An unknown number is an error: what a
/// reader does not know it cannot restore.
macro_rules! enumeration {
    ($($(#[doc = $doc:literal])* pub enum $name:ident: $width:ident {
        $(#[doc = $first_doc:literal])* $first:ident = $first_value:literal,
        $($(#[doc = $variant_doc:literal])* $variant:ident = $value:literal,)*
    })*) => {$(
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, PartialOrd, Ord, serde::Serialize)]
        #[serde(rename_all = "snake_case")]
        #[cfg_attr(test, derive(proptest_derive::Arbitrary))]
        pub enum $name {
            $(#[doc = $first_doc])*
            #[default]
            $first = $first_value,
            $($(#[doc = $variant_doc])* $variant = $value,)*
        }

        impl $crate::wire::Wire for $name {
            fn put(&self, out: &mut Vec<u8>) {
                (*self as $width).put(out);
            }
            fn get(
                field: &'static str,
                from: &mut $crate::wire::Reader<'_>,
            ) -> Result<Self, $crate::wire::WireError> {
                let offset = from.offset();
                match <$width as $crate::wire::Wire>::get(field, from)? {
                    $first_value => Ok($name::$first),
                    $($value => Ok($name::$variant),)*
                    value => Err($crate::wire::WireError::Unknown { field, offset, value: value.into() }),
                }
            }
            fn schema() -> $crate::wire::Schema {
                $crate::wire::Schema::Enumeration(
                    stringify!($name),
                    stringify!($width),
                    concat!($($doc,)*),
                    vec![
                        ($first_value, stringify!($first), concat!($($first_doc,)*)),
                        $(($value, stringify!($variant), concat!($($variant_doc,)*)),)*
                    ],
                )
            }
        }
    )*};
}
pub(crate) use enumeration;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_count_allocates_nothing_and_is_refused() {
        let bytes = [0xff, 0xff, 0xff, 0xff, 1, 2, 3];
        let error = Vec::<u64>::get("list", &mut Reader::new(&bytes));
        assert_eq!(error, Err(WireError::Short { field: "list", offset: 4, needed: 8, left: 3 }));
    }

    #[test]
    fn text_cannot_steer_a_terminal() {
        assert_eq!(Text(b"a\x1b[2Jb\xff".to_vec()).to_string(), "a\\u{1b}[2Jb\\xff");
        assert_eq!(Text::from("a\u{202e}b\\xff é").to_string(), "a\\u{202e}b\\\\xff é");
    }
}
