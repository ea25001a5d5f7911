//! The columns that take all of an Avro schema.
//!
//! Invariant: a stream with these columns reads every message of the schema, except values that no column type holds,
//! which are named.

use super::super::inferred::InferredColumns;
use super::super::writers::RegisteredSchema;
use super::schema::{AvroSchema, AvroShape, LogicalType, TypeId};

/// The most digits of a DECIMAL.
const MOST_DIGITS: u32 = 38;

/// The columns for a schema.
///
/// Errors: why there are none, as the end of a sentence.
pub(in super::super) fn columns_of(schema: &RegisteredSchema) -> Result<InferredColumns, String> {
    let schema = AvroSchema::parse(&schema.text, &schema.references)?;
    let AvroShape::Record { fields, .. } = &schema.get(schema.root).shape else {
        return Err(format!("it is of {}, and columns are the fields of a record", schema.name(schema.root)));
    };
    let mut inferred = InferredColumns::default();
    for field in fields {
        let mut open = vec![schema.root];
        match sql_type(&schema, field.of, &mut open) {
            Ok(sql) => inferred.add(&field.name, sql),
            Err(why) => inferred.left_out.push(format!("{}: {why}", field.name)),
        }
    }
    Ok(inferred)
}

/// The SQL type for a type. `open` are the records around it.
///
/// Errors: why there is none.
fn sql_type(schema: &AvroSchema, of: TypeId, open: &mut Vec<TypeId>) -> Result<String, String> {
    let found = schema.get(of);
    Ok(match (&found.shape, found.logical) {
        (_, Some(LogicalType::Decimal { precision, scale })) if precision <= MOST_DIGITS => {
            format!("DECIMAL({precision}, {scale})")
        }
        (_, Some(LogicalType::Decimal { precision, .. })) => return Err(format!("a decimal of {precision} digits")),
        (_, Some(LogicalType::Date)) => "DATE".into(),
        (_, Some(LogicalType::Time(_))) => "BIGINT".into(),
        (_, Some(LogicalType::Timestamp(_))) => "TIMESTAMP".into(),
        (_, Some(LogicalType::Uuid | LogicalType::Duration)) | (AvroShape::Text | AvroShape::Enum { .. }, None) => {
            "STRING".into()
        }
        (AvroShape::Null, None) => return Err("it is always null".into()),
        (AvroShape::Boolean, None) => "BOOLEAN".into(),
        (AvroShape::Int, None) => "INT".into(),
        (AvroShape::Long, None) => "BIGINT".into(),
        (AvroShape::Float, None) => "REAL".into(),
        (AvroShape::Double, None) => "DOUBLE".into(),
        (AvroShape::Bytes | AvroShape::Fixed { .. }, None) => "BYTEA".into(),
        (AvroShape::Array(items), None) => format!("{}[]", sql_type(schema, *items, open)?),
        (AvroShape::Map(values), None) => format!("STRUCT<key STRING, value {}>[]", sql_type(schema, *values, open)?),
        (AvroShape::Record { .. }, None) if open.contains(&of) => return Err("it holds itself".into()),
        (AvroShape::Record { name, fields }, None) => {
            open.push(of);
            let inner = fields.iter().filter_map(|field| Some((&field.name, sql_type(schema, field.of, open).ok()?)));
            let inner: Vec<String> = inner.map(|(name, sql)| format!("{name} {sql}")).collect();
            open.pop();
            if inner.is_empty() {
                return Err(format!("the record {name} has no fields with columns"));
            }
            format!("STRUCT<{}>", inner.join(", "))
        }
        (AvroShape::Union(branches), None) => {
            let branches: Vec<TypeId> =
                branches.iter().copied().filter(|branch| schema.get(*branch).shape != AvroShape::Null).collect();
            match branches[..] {
                [] => return Err("it is always null".into()),
                [branch] => sql_type(schema, branch, open)?,
                _ => {
                    let fields = branches
                        .iter()
                        .map(|branch| Ok(format!("{} {}", schema.name(*branch), sql_type(schema, *branch, open)?)));
                    format!("STRUCT<{}>", fields.collect::<Result<Vec<String>, String>>()?.join(", "))
                }
            }
        }
    })
}
