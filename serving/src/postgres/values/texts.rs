//! TextValues, bytes and booleans, and what has no type of its own in PostgreSQL.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::DataType;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use bytes::{BufMut, BytesMut};

use super::numbers::write;
use super::value::EncodedValues;

pub(super) struct BoolValues(pub(super) BooleanArray);

impl EncodedValues for BoolValues {
    fn text(&self, row: usize, out: &mut BytesMut) {
        out.put_u8(if self.0.value(row) { b't' } else { b'f' });
    }

    fn binary(&self, row: usize, out: &mut BytesMut) -> Result<(), String> {
        out.put_u8(u8::from(self.0.value(row)));
        Ok(())
    }

    fn json(&self, row: usize, out: &mut BytesMut) {
        write(out, format_args!("{}", self.0.value(row)));
    }
}

pub(super) struct TextValues(pub(super) ArrayRef);

impl TextValues {
    fn value(&self, row: usize) -> &str {
        match self.0.data_type() {
            DataType::Utf8View => self.0.as_string_view().value(row),
            DataType::LargeUtf8 => self.0.as_string::<i64>().value(row),
            _ => self.0.as_string::<i32>().value(row),
        }
    }
}

impl EncodedValues for TextValues {
    fn text(&self, row: usize, out: &mut BytesMut) {
        out.put_slice(self.value(row).as_bytes());
    }

    fn binary(&self, row: usize, out: &mut BytesMut) -> Result<(), String> {
        self.text(row, out);
        Ok(())
    }

    fn json(&self, row: usize, out: &mut BytesMut) {
        write_json_text(self.value(row), out);
    }
}

pub(super) struct ByteValues(pub(super) ArrayRef);

impl ByteValues {
    fn value(&self, row: usize) -> &[u8] {
        match self.0.data_type() {
            DataType::BinaryView => self.0.as_binary_view().value(row),
            DataType::LargeBinary => self.0.as_binary::<i64>().value(row),
            DataType::FixedSizeBinary(_) => self.0.as_fixed_size_binary().value(row),
            _ => self.0.as_binary::<i32>().value(row),
        }
    }

    fn write_hex(&self, row: usize, out: &mut BytesMut) {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        for byte in self.value(row) {
            out.put_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
    }
}

impl EncodedValues for ByteValues {
    fn text(&self, row: usize, out: &mut BytesMut) {
        out.put_slice(b"\\x");
        self.write_hex(row, out);
    }

    fn binary(&self, row: usize, out: &mut BytesMut) -> Result<(), String> {
        out.put_slice(self.value(row));
        Ok(())
    }

    fn json(&self, row: usize, out: &mut BytesMut) {
        out.put_u8(b'"');
        self.write_hex(row, out);
        out.put_u8(b'"');
    }
}

/// Values of the remaining types, as Arrow writes them.
pub(super) struct OtherValues(pub(super) ArrayRef);

impl OtherValues {
    fn value(&self, row: usize) -> String {
        let options = FormatOptions::new();
        let text = ArrayFormatter::try_new(&self.0, &options).and_then(|texts| texts.value(row).try_to_string());
        text.unwrap_or_else(|error| error.to_string())
    }
}

impl EncodedValues for OtherValues {
    fn text(&self, row: usize, out: &mut BytesMut) {
        // The type of these columns is JSON if they are nested, and text otherwise.
        match self.0.data_type().is_nested() {
            true => self.json(row, out),
            false => out.put_slice(self.value(row).as_bytes()),
        }
    }

    fn binary(&self, row: usize, out: &mut BytesMut) -> Result<(), String> {
        self.text(row, out);
        Ok(())
    }

    fn json(&self, row: usize, out: &mut BytesMut) {
        write_json_text(&self.value(row), out);
    }
}

pub(super) fn write_json_text(text: &str, out: &mut BytesMut) {
    out.put_u8(b'"');
    for character in text.chars() {
        match character {
            '"' => out.put_slice(b"\\\""),
            '\\' => out.put_slice(b"\\\\"),
            '\n' => out.put_slice(b"\\n"),
            '\r' => out.put_slice(b"\\r"),
            '\t' => out.put_slice(b"\\t"),
            control if control < ' ' => write(out, format_args!("\\u{:04x}", control as u32)),
            other => out.put_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    out.put_u8(b'"');
}
