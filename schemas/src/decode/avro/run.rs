//! Values of one schema that stand one behind the other, as in a block of an object container file.
//!
//! Invariant: the values are whole, and nothing is behind the last one.

use super::super::writers::RegisteredSchema;
use super::cursor::AvroBytes;
use super::schema::{AvroSchema, AvroShape};
use super::skip::skip;
use crate::decode::SchemaKind;

/// The schema of the values.
#[derive(Debug)]
pub(crate) struct ValueRun {
    schema: AvroSchema,
}

impl ValueRun {
    /// Errors: why the text is no schema.
    pub(crate) fn of(schema: &str) -> Result<Self, String> {
        let schema = RegisteredSchema::alone(SchemaKind::Avro, schema);
        Ok(Self { schema: AvroSchema::parse(&schema.text, &schema.references)? })
    }

    /// The names of the fields, if the values are records.
    pub(crate) fn field_names(&self) -> Option<Vec<&str>> {
        match &self.schema.get(self.schema.root).shape {
            AvroShape::Record { fields, .. } => Some(fields.iter().map(|field| field.name.as_str()).collect()),
            _ => None,
        }
    }

    /// The bytes of each of `count` values.
    ///
    /// Errors: why `bytes` are not so many values.
    pub(crate) fn split<'a>(&self, bytes: &'a [u8], count: usize) -> Result<Vec<&'a [u8]>, String> {
        let mut open = AvroBytes::new(bytes);
        // A value may take no bytes, so the number is not believed.
        let mut values = Vec::with_capacity(count.min(bytes.len()));
        for _ in 0..count {
            let before = open.rest;
            open.free()
                .and_then(|()| skip(&self.schema, self.schema.root, &mut open))
                .map_err(|why| why.into_owned())?;
            values.push(&before[..before.len() - open.rest.len()]);
        }
        match open.rest.len() {
            0 => Ok(values),
            left => Err(format!("{left} bytes are left behind the last value")),
        }
    }
}
