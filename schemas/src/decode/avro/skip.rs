//! Values that no column takes.
//!
//! Invariant: a value is skipped as strictly as others are read, only without looking at texts.

use super::super::columns::ValueError;
use super::cursor::{AvroBytes, each_item};
use super::schema::{AvroSchema, AvroShape, TypeId};

/// The deepest value that is skipped: schemas may be recursive.
const DEEPEST: usize = 200;

/// Skips a value of a type.
pub(super) fn skip(schema: &AvroSchema, of: TypeId, bytes: &mut AvroBytes<'_>) -> Result<(), ValueError> {
    skip_at(schema, of, bytes, 0)
}

fn skip_at(schema: &AvroSchema, of: TypeId, bytes: &mut AvroBytes<'_>, depth: usize) -> Result<(), ValueError> {
    if depth > DEEPEST {
        return Err(format!("values are nested more than {DEEPEST} deep").into());
    }
    match &schema.get(of).shape {
        AvroShape::Null => bytes.free(),
        AvroShape::Boolean => bytes.boolean().map(drop),
        AvroShape::Int => bytes.int().map(drop),
        AvroShape::Long => bytes.long().map(drop),
        AvroShape::Float => bytes.take(4).map(drop),
        AvroShape::Double => bytes.take(8).map(drop),
        AvroShape::Bytes | AvroShape::Text => bytes.bytes().map(drop),
        AvroShape::Fixed { size, .. } => bytes.take(*size).map(drop),
        AvroShape::Enum { symbols, .. } => bytes.branch(symbols.len()).map(drop),
        AvroShape::Array(items) => each_item(bytes, |bytes| skip_at(schema, *items, bytes, depth + 1)),
        AvroShape::Map(values) => each_item(bytes, |bytes| {
            bytes.bytes()?;
            skip_at(schema, *values, bytes, depth + 1)
        }),
        AvroShape::Record { fields, .. } => {
            fields.iter().try_for_each(|field| skip_at(schema, field.of, bytes, depth + 1))
        }
        AvroShape::Union(branches) => {
            let branch = bytes.branch(branches.len())?;
            skip_at(schema, branches[branch], bytes, depth + 1)
        }
    }
}
