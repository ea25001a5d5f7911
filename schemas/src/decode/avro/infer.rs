//! The columns that take all of an Avro schema.
//!
//! Invariant: a stream with these columns reads every message of the schema, except values that no column type holds,
//! which are named.

use super::super::inferred::{InferredColumns, Nesting};
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
        let mut nesting = Nesting::within(schema.root);
        let sql = sql_type(&schema, field.of, &mut nesting);
        inferred.add_written(&field.name, sql, &nesting);
    }
    Ok(inferred)
}

/// The SQL type for a type.
///
/// Errors: why there is none.
fn sql_type(schema: &AvroSchema, of: TypeId, nesting: &mut Nesting<TypeId>) -> Result<String, String> {
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
        (AvroShape::Array(items), None) => format!("{}[]", sql_type(schema, *items, nesting)?),
        (AvroShape::Map(values), None) => {
            format!("STRUCT<key STRING, value {}>[]", sql_type(schema, *values, nesting)?)
        }
        (AvroShape::Record { name, fields }, None) => {
            nesting.enter(of)?;
            let fields = fields.iter().map(|field| (field.name.as_str(), field.of));
            let inner = nesting.fields(fields, |of, nesting| sql_type(schema, of, nesting).ok());
            nesting.leave();
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
                [branch] => sql_type(schema, branch, nesting)?,
                _ => {
                    let mut fields = Vec::with_capacity(branches.len());
                    for branch in branches {
                        fields.push(format!("{} {}", schema.name(branch), sql_type(schema, branch, nesting)?));
                    }
                    format!("STRUCT<{}>", fields.join(", "))
                }
            }
        }
    })
}
