//! Lists, structs and maps.

use arrow::array::{Array, ListArray, MapArray, StructArray};
use arrow::error::ArrowError;
use bytes::{BufMut, BytesMut};

use super::super::types;
use super::Column;
use super::keyed::refuse_spread;
use super::texts::write_json_text;
use super::value::EncodedValues;

/// Lists of scalars are arrays, and lists of anything else are JSON.
pub(super) struct Lists {
    lists: ListArray,
    items: Column,
    /// The type of the items of an array; `None` for JSON.
    item_oid: Option<u32>,
}

impl Lists {
    pub(super) fn new(lists: ListArray) -> Result<Self, ArrowError> {
        let item_oid = types::item(&types::shown(lists.data_type())).map(|item| item.oid());
        refuse_spread(lists.values())?;
        Ok(Self { items: Column::new(lists.values())?, item_oid, lists })
    }

    fn range(&self, row: usize) -> std::ops::Range<usize> {
        let offsets = self.lists.value_offsets();
        offsets[row] as usize..offsets[row + 1] as usize
    }

    fn write_array(&self, row: usize, out: &mut BytesMut) {
        out.put_u8(b'{');
        let range = self.range(row);
        let start = range.start;
        let mut item = BytesMut::new();
        for at in range {
            if at > start {
                out.put_u8(b',');
            }
            if self.items.is_null(at) {
                out.put_slice(b"NULL");
                continue;
            }
            item.clear();
            self.items.values().text(at, &mut item);
            write_item(&item, out);
        }
        out.put_u8(b'}');
    }
}

/// Writes an item of an array, in quotes if its text would be read as something else.
fn write_item(item: &[u8], out: &mut BytesMut) {
    let special = |byte: &u8| matches!(byte, b'{' | b'}' | b',' | b'"' | b'\\') || is_space(*byte);
    if !item.is_empty() && !item.iter().any(special) && !item.eq_ignore_ascii_case(b"NULL") {
        return out.put_slice(item);
    }
    out.put_u8(b'"');
    for byte in item {
        if matches!(byte, b'"' | b'\\') {
            out.put_u8(b'\\');
        }
        out.put_u8(*byte);
    }
    out.put_u8(b'"');
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b
}

impl EncodedValues for Lists {
    fn text(&self, row: usize, out: &mut BytesMut) {
        match self.item_oid {
            Some(_) => self.write_array(row, out),
            None => self.json(row, out),
        }
    }

    fn binary(&self, row: usize, out: &mut BytesMut) -> Result<(), String> {
        let Some(item_oid) = self.item_oid else {
            self.json(row, out);
            return Ok(());
        };
        let range = self.range(row);
        out.put_i32(i32::from(!range.is_empty()));
        out.put_i32(i32::from(range.clone().any(|at| self.items.is_null(at))));
        out.put_u32(item_oid);
        if range.is_empty() {
            return Ok(());
        }
        // The length, and the number of the first item.
        out.put_i32(i32::try_from(range.len()).map_err(|_| "a list is too long".to_owned())?);
        out.put_i32(1);
        for at in range {
            match self.items.is_null(at) {
                true => out.put_i32(-1),
                false => sized(out, |out| self.items.values().binary(at, out))?,
            }
        }
        Ok(())
    }

    fn json(&self, row: usize, out: &mut BytesMut) {
        out.put_u8(b'[');
        let range = self.range(row);
        let start = range.start;
        for at in range {
            if at > start {
                out.put_u8(b',');
            }
            self.items.json(at, out);
        }
        out.put_u8(b']');
    }
}

/// Writes a value behind its length.
pub(in crate::postgres) fn sized(
    out: &mut BytesMut,
    write: impl FnOnce(&mut BytesMut) -> Result<(), String>,
) -> Result<(), String> {
    let at = out.len();
    out.put_i32(0);
    write(out)?;
    let length = i32::try_from(out.len() - at - 4).map_err(|_| "a value is longer than 2 GiB".to_owned())?;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

pub(super) struct Structs {
    fields: Vec<(String, Column)>,
}

impl Structs {
    pub(super) fn new(structs: &StructArray) -> Result<Self, ArrowError> {
        let columns = structs.columns().iter().map(Column::new);
        let fields = structs.fields().iter().zip(columns).map(|(field, column)| Ok((field.name().clone(), column?)));
        Ok(Self { fields: fields.collect::<Result<_, ArrowError>>()? })
    }
}

impl EncodedValues for Structs {
    fn text(&self, row: usize, out: &mut BytesMut) {
        self.json(row, out);
    }

    fn binary(&self, row: usize, out: &mut BytesMut) -> Result<(), String> {
        self.json(row, out);
        Ok(())
    }

    fn json(&self, row: usize, out: &mut BytesMut) {
        out.put_u8(b'{');
        for (at, (name, column)) in self.fields.iter().enumerate() {
            if at > 0 {
                out.put_u8(b',');
            }
            write_json_text(name, out);
            out.put_u8(b':');
            column.json(row, out);
        }
        out.put_u8(b'}');
    }
}

pub(super) struct Maps {
    maps: MapArray,
    keys: Column,
    values: Column,
}

impl Maps {
    pub(super) fn new(maps: &MapArray) -> Result<Self, ArrowError> {
        refuse_spread(maps.keys())?;
        refuse_spread(maps.values())?;
        Ok(Self { keys: Column::new(maps.keys())?, values: Column::new(maps.values())?, maps: maps.clone() })
    }
}

impl EncodedValues for Maps {
    fn text(&self, row: usize, out: &mut BytesMut) {
        self.json(row, out);
    }

    fn binary(&self, row: usize, out: &mut BytesMut) -> Result<(), String> {
        self.json(row, out);
        Ok(())
    }

    fn json(&self, row: usize, out: &mut BytesMut) {
        let offsets = self.maps.value_offsets();
        let mut key = BytesMut::new();
        out.put_u8(b'{');
        for at in offsets[row] as usize..offsets[row + 1] as usize {
            if at > offsets[row] as usize {
                out.put_u8(b',');
            }
            key.clear();
            self.keys.values().text(at, &mut key);
            write_json_text(&String::from_utf8_lossy(&key), out);
            out.put_u8(b':');
            self.values.json(at, out);
        }
        out.put_u8(b'}');
    }
}
