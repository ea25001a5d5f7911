//! How the values of columns are written as values of a schema: [`RecordPlan`] the other way round.
//!
//! Invariant: a column is written to the field from which it is read. A field without a column takes null.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Fields};

use super::plan::{FieldStep, RecordPlan, source};
use super::schema::{AvroSchema, AvroShape, LogicalType, TypeId};
use crate::definition::message::TimestampUnit;
use crate::definition::types::sql_name;

/// How a value is written.
#[derive(Debug)]
pub(super) enum AvroTarget {
    Null,
    Boolean,
    Int,
    Long,
    /// A time as a number in the unit of the column.
    Moment {
        is_int: bool,
    },
    Date,
    Float,
    Double,
    /// Text, or bytes.
    Bytes,
    /// Bytes that must be UTF-8.
    Text,
    Symbol(HashMap<String, i64>),
    Uuid,
    Fixed(usize),
    Decimal {
        scale: u32,
        size: Option<usize>,
    },
    Timestamp(TimestampUnit),
    List(Box<AvroTarget>),
    Record(RecordTarget),
    /// By branch; `None` for one that cannot hold the column.
    Union(Vec<Option<AvroTarget>>),
}

/// How a record is written: its fields in order, each from a column, or null.
#[derive(Debug)]
pub(super) struct RecordTarget {
    pub(super) fields: Vec<(Option<usize>, AvroTarget)>,
    /// Columns that the record has no field for.
    pub(super) homeless: Vec<usize>,
    pub(super) names: Vec<String>,
}

/// How a row is written, behind the branch of a union.
#[derive(Debug)]
pub(super) enum RootTarget {
    Record { before: Vec<u8>, record: RecordTarget },
    Value { before: Vec<u8>, target: AvroTarget },
}

/// How rows with these columns are written.
///
/// Errors: why they cannot be, as the end of a sentence.
pub(super) fn root(schema: &AvroSchema, of: TypeId, columns: &Fields) -> Result<RootTarget, String> {
    match (&schema.get(of).shape, columns.as_ref()) {
        (AvroShape::Record { .. }, _) => {
            Ok(RootTarget::Record { before: Vec::new(), record: record(schema, of, columns)? })
        }
        (AvroShape::Union(branches), _) => {
            let roots = branches.iter().enumerate().map(|(at, branch)| {
                let mut found = root(schema, *branch, columns)?;
                let (RootTarget::Record { before, .. } | RootTarget::Value { before, .. }) = &mut found;
                long(at as i64, before);
                Ok(found)
            });
            let mut why = String::new();
            for found in roots {
                match found {
                    Ok(found) => return Ok(found),
                    Err(refused) => why = refused,
                }
            }
            Err(why)
        }
        (AvroShape::Null, _) => Err("the schema has null alone".into()),
        (_, [column]) => Ok(RootTarget::Value { before: Vec::new(), target: target(schema, of, column.data_type())? }),
        _ => Err(format!("a value is written as {}, and the stream has several columns", schema.name(of))),
    }
}

fn record(schema: &AvroSchema, of: TypeId, columns: &Fields) -> Result<RecordTarget, String> {
    let plan = RecordPlan::new(schema, of, columns)?;
    let AvroShape::Record { fields, .. } = &schema.get(of).shape else {
        return Err(format!("{} is no record", schema.name(of)));
    };
    let targets = plan.steps.iter().zip(fields).map(|(step, field)| match step {
        FieldStep::Take { column, .. } => {
            let target = target(schema, field.of, columns[*column].data_type());
            Ok((Some(*column), target.map_err(|why| format!("`{}`: {why}", field.name))?))
        }
        FieldStep::Skip { name, of } => match null(schema, *of) {
            Some(target) => Ok((None, target)),
            None => Err(format!("its field `{name}` needs a value, and the stream has no such column")),
        },
    });
    Ok(RecordTarget {
        fields: targets.collect::<Result<_, String>>()?,
        homeless: plan.absent,
        names: columns.iter().map(|field| field.name().clone()).collect(),
    })
}

/// How a type takes null.
fn null(schema: &AvroSchema, of: TypeId) -> Option<AvroTarget> {
    match &schema.get(of).shape {
        AvroShape::Null => Some(AvroTarget::Null),
        AvroShape::Union(branches) => {
            let branch = |id: &TypeId| (schema.get(*id).shape == AvroShape::Null).then_some(AvroTarget::Null);
            let branches: Vec<_> = branches.iter().map(branch).collect();
            branches.iter().any(Option::is_some).then_some(AvroTarget::Union(branches))
        }
        _ => None,
    }
}

/// How a type takes the values of a column.
///
/// Errors: why it cannot, as a clause.
fn target(schema: &AvroSchema, of: TypeId, column: &DataType) -> Result<AvroTarget, String> {
    use DataType as T;
    let found = schema.get(of);
    let refused = || format!("{} is read from {}, and is not written as it", sql_name(column), schema.name(of));
    let is_int = found.shape == AvroShape::Int;
    Ok(match (&found.shape, found.logical, column) {
        (AvroShape::Null, ..) => AvroTarget::Null,
        (AvroShape::Union(branches), ..) => {
            let targets: Vec<_> = branches.iter().map(|branch| target(schema, *branch, column)).collect();
            let takes = |found: &Result<AvroTarget, String>| !matches!(found, Err(_) | Ok(AvroTarget::Null));
            if !targets.iter().any(takes) {
                return Err(targets.into_iter().find_map(Result::err).unwrap_or_else(refused));
            }
            AvroTarget::Union(targets.into_iter().map(Result::ok).collect())
        }
        (AvroShape::Boolean, _, T::Boolean) => AvroTarget::Boolean,
        (AvroShape::Int, None | Some(LogicalType::Date), T::Date32) => AvroTarget::Date,
        (AvroShape::Long, Some(LogicalType::Timestamp(unit)), T::Timestamp(..)) => AvroTarget::Timestamp(unit),
        (AvroShape::Int | AvroShape::Long, None, T::Timestamp(..)) => AvroTarget::Moment { is_int },
        (AvroShape::Int, None, T::Int8 | T::Int16 | T::Int32 | T::Int64) => AvroTarget::Int,
        (AvroShape::Long, None, T::Int8 | T::Int16 | T::Int32 | T::Int64) => AvroTarget::Long,
        (AvroShape::Float, _, T::Float32 | T::Float64) => AvroTarget::Float,
        (AvroShape::Double, _, T::Float64) => AvroTarget::Double,
        (AvroShape::Bytes, Some(LogicalType::Decimal { scale, .. }), T::Decimal128(..)) => {
            AvroTarget::Decimal { scale, size: None }
        }
        (AvroShape::Fixed { size, .. }, Some(LogicalType::Decimal { scale, .. }), T::Decimal128(..)) => {
            AvroTarget::Decimal { scale, size: Some(*size) }
        }
        (_, Some(LogicalType::Decimal { .. } | LogicalType::Duration), _) => return Err(refused()),
        (AvroShape::Text | AvroShape::Bytes, _, T::Utf8) | (AvroShape::Bytes, _, T::Binary) => AvroTarget::Bytes,
        (AvroShape::Text, _, T::Binary) => AvroTarget::Text,
        (AvroShape::Enum { symbols, .. }, _, T::Utf8) => {
            AvroTarget::Symbol(symbols.iter().zip(0i64..).map(|(symbol, at)| (symbol.clone(), at)).collect())
        }
        (AvroShape::Fixed { .. }, Some(LogicalType::Uuid), T::Utf8) => AvroTarget::Uuid,
        (AvroShape::Fixed { size, .. }, _, T::Binary) => AvroTarget::Fixed(*size),
        (AvroShape::Array(items), _, T::List(item)) => {
            AvroTarget::List(Box::new(target(schema, *items, item.data_type())?))
        }
        (AvroShape::Record { .. }, _, T::Struct(fields)) => AvroTarget::Record(record(schema, of, fields)?),
        // In the words of the reader, if it takes none either.
        _ => return Err(source(schema, of, column).err().unwrap_or_else(refused)),
    })
}

/// Appends a number.
pub(super) fn long(number: i64, out: &mut Vec<u8>) {
    let mut zigzag = (number << 1 ^ number >> 63).cast_unsigned();
    while zigzag >= 0x80 {
        out.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}
