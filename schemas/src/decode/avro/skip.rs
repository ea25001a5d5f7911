//! Values that no column takes.
//!
//! Invariant: a value is skipped as strictly as others are read, only without looking at texts.

use super::super::columns::ValueError;
use super::cursor::{AvroBytes, each_item};
use super::schema::{AvroSchema, Shape, TypeId};

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
        Shape::Null => bytes.free(),
        Shape::Boolean => bytes.boolean().map(drop),
        Shape::Int => bytes.int().map(drop),
        Shape::Long => bytes.long().map(drop),
        Shape::Float => bytes.take(4).map(drop),
        Shape::Double => bytes.take(8).map(drop),
        Shape::Bytes | Shape::Text => bytes.bytes().map(drop),
        Shape::Fixed { size, .. } => bytes.take(*size).map(drop),
        Shape::Enum { symbols, .. } => bytes.branch(symbols.len()).map(drop),
        Shape::Array(items) => each_item(bytes, |bytes| skip_at(schema, *items, bytes, depth + 1)),
        Shape::Map(values) => each_item(bytes, |bytes| {
            bytes.bytes()?;
            skip_at(schema, *values, bytes, depth + 1)
        }),
        Shape::Record { fields, .. } => fields.iter().try_for_each(|field| skip_at(schema, field.of, bytes, depth + 1)),
        Shape::Union(branches) => {
            let branch = bytes.branch(branches.len())?;
            skip_at(schema, branches[branch], bytes, depth + 1)
        }
    }
}
