//! How the columns of a stream get their values from the values of one writer, whose schema need not be the stream's.
//!
//! | Avro | column |
//! |---|---|
//! | `boolean` | BOOLEAN |
//! | `int`, `long` | TINYINT to BIGINT, DECIMAL, REAL, DOUBLE; TIMESTAMP in the stream's unit; `int` also DATE |
//! | `float`, `double` | REAL takes `float`, DOUBLE both |
//! | `string`, enums, `bytes` in UTF-8, UUIDs | STRING |
//! | `bytes`, `fixed`, `string` | BYTEA |
//! | decimals | DECIMAL |
//! | `date` | DATE |
//! | `timestamp-*`, `local-timestamp-*` | TIMESTAMP |
//! | `time-*` | BIGINT, in microseconds; STRING |
//! | `duration` | STRING, as in ISO 8601; BYTEA |
//! | arrays | lists |
//! | maps | lists of STRUCT<key, value> |
//! | records | STRUCT |
//! | unions | what each branch gives; or STRUCT with a field for each branch, by the branch's name |
//!
//! Fields and columns meet by name, as keys of JSON do. A column without a field has no value, and a field without a
//! column is skipped: the resolution of schemas in Avro's specification, with the stream as the reader.
//!
//! Invariant: a plan has one source for each column, and the order of the fields is the writer's.

use arrow::datatypes::{DataType, FieldRef, Fields};

use super::super::fields::FieldNames;
use super::schema::{AvroField, AvroSchema, AvroShape, LogicalType, TypeId};
use crate::definition::message::TimestampUnit;
use crate::definition::types::sql_name;

/// Where the value of a column comes from.
#[derive(Debug)]
pub(super) enum ValueSource {
    Null,
    Boolean,
    Int,
    Long,
    /// A number that is a time in the unit of the column.
    Moment,
    Date,
    Float,
    Double,
    Text,
    Symbol(Vec<String>),
    /// Sixteen bytes as the text of a UUID.
    Uuid,
    Bytes,
    Fixed(usize),
    /// A decimal with so many places, in so many bytes if their number is fixed.
    Decimal {
        scale: u32,
        size: Option<usize>,
    },
    Timestamp(TimestampUnit),
    Time(TimestampUnit),
    Duration,
    List(Box<ValueSource>),
    /// The entries of a map, and the places of key and value in the column's STRUCT.
    Entries(Box<RecordPlan>),
    Record(Box<RecordPlan>),
    /// By branch, or why the column cannot take the branch.
    Union(Vec<Result<ValueSource, String>>),
    /// By branch, the field of the column that takes the branch; `None` for null.
    BranchFields(Vec<Option<(usize, ValueSource)>>),
}

/// How a record fills the fields of a STRUCT, or the columns of a stream.
#[derive(Debug)]
pub(super) struct RecordPlan {
    /// The fields of the writer, in its order.
    pub(super) steps: Vec<FieldStep>,
    /// The fields of the column that the writer does not have.
    pub(super) absent: Vec<usize>,
}

/// One field of a writer's record.
#[derive(Debug)]
pub(super) enum FieldStep {
    Skip { name: String, of: TypeId },
    Take { column: usize, source: ValueSource },
}

impl RecordPlan {
    /// The plan for the fields `wanted` from a record of type `record`.
    ///
    /// Errors: why the fields cannot be had, as a sentence.
    pub(super) fn new(schema: &AvroSchema, record: TypeId, wanted: &Fields) -> Result<Self, String> {
        let AvroShape::Record { fields, .. } = &schema.get(record).shape else {
            return Err(format!("{} is no record", schema.name(record)));
        };
        let names = FieldNames::new(wanted);
        let mut taken: Vec<Option<usize>> = vec![None; wanted.len()];
        for exactly in [true, false] {
            let before = taken.clone();
            for (at, field) in fields.iter().enumerate() {
                let Some((column, exact)) = names.place(&field.name) else { continue };
                if exact != exactly || before[column].is_some() {
                    continue;
                }
                if let Some(other) = taken[column].replace(at) {
                    return Err(format!(
                        "`{}` and `{}` are both `{}`",
                        fields[other].name,
                        field.name,
                        names.name(column)
                    ));
                }
            }
        }
        let mut columns = vec![None; fields.len()];
        for (column, at) in taken.iter().enumerate() {
            if let Some(at) = at {
                columns[*at] = Some(column);
            }
        }
        let step = |(field, column): (&AvroField, &Option<usize>)| match *column {
            None => Ok(FieldStep::Skip { name: field.name.clone(), of: field.of }),
            Some(column) => {
                let source = source(schema, field.of, wanted[column].data_type());
                let source = source.map_err(|why| format!("`{}`: {why}", field.name))?;
                Ok(FieldStep::Take { column, source })
            }
        };
        let steps = fields.iter().zip(&columns).map(step).collect::<Result<_, String>>()?;
        let absent = (0..wanted.len()).filter(|column| taken[*column].is_none()).collect();
        Ok(Self { steps, absent })
    }
}

/// Where a column of type `wanted` gets values of type `of` from.
///
/// Errors: why the column cannot take them, as a clause.
pub(super) fn source(schema: &AvroSchema, of: TypeId, wanted: &DataType) -> Result<ValueSource, String> {
    use DataType as T;
    use ValueSource as From;
    let found = schema.get(of);
    let is_whole = matches!(wanted, T::Int8 | T::Int16 | T::Int32 | T::Int64);
    Ok(match (&found.shape, found.logical, wanted) {
        (AvroShape::Null, ..) => From::Null,
        (AvroShape::Union(branches), ..) => return union(schema, branches, wanted),
        (AvroShape::Boolean, _, T::Boolean) => From::Boolean,
        (_, Some(LogicalType::Date), T::Date32) => From::Date,
        (_, Some(LogicalType::Timestamp(unit)), T::Timestamp(..)) => From::Timestamp(unit),
        (_, Some(LogicalType::Time(unit)), T::Int64 | T::Utf8) => From::Time(unit),
        (_, Some(LogicalType::Date | LogicalType::Timestamp(_) | LogicalType::Time(_)), _) => {
            return Err(refusal(schema, of, wanted));
        }
        (AvroShape::Int, _, T::Date32) => From::Date,
        (AvroShape::Int, _, T::Timestamp(..) | T::Decimal128(..) | T::Float32 | T::Float64) => From::Int,
        (AvroShape::Long, _, T::Timestamp(..)) => From::Moment,
        (AvroShape::Long, _, T::Decimal128(..) | T::Float32 | T::Float64) => From::Long,
        (AvroShape::Int, ..) if is_whole => From::Int,
        (AvroShape::Long, ..) if is_whole => From::Long,
        (AvroShape::Float, _, T::Float32 | T::Float64) => From::Float,
        (AvroShape::Double, _, T::Float64) => From::Double,
        (AvroShape::Bytes, Some(LogicalType::Decimal { scale, .. }), T::Decimal128(..)) => {
            From::Decimal { scale, size: None }
        }
        (AvroShape::Fixed { size, .. }, Some(LogicalType::Decimal { scale, .. }), T::Decimal128(..)) => {
            From::Decimal { scale, size: Some(*size) }
        }
        (_, Some(LogicalType::Decimal { .. }), _) => return Err(refusal(schema, of, wanted)),
        (AvroShape::Text | AvroShape::Bytes, _, T::Utf8) => From::Text,
        (AvroShape::Text | AvroShape::Bytes, _, T::Binary) => From::Bytes,
        (AvroShape::Enum { symbols, .. }, _, T::Utf8) => From::Symbol(symbols.clone()),
        (AvroShape::Fixed { .. }, Some(LogicalType::Uuid), T::Utf8) => From::Uuid,
        (AvroShape::Fixed { .. }, Some(LogicalType::Duration), T::Utf8) => From::Duration,
        (AvroShape::Fixed { size, .. }, _, T::Binary) => From::Fixed(*size),
        (AvroShape::Array(items), _, T::List(item)) => From::List(Box::new(source(schema, *items, item.data_type())?)),
        (AvroShape::Map(values), _, T::List(item)) => return entries(schema, *values, item.data_type()),
        (AvroShape::Record { .. }, _, T::Struct(fields)) => {
            From::Record(Box::new(RecordPlan::new(schema, of, fields)?))
        }
        _ => return Err(refusal(schema, of, wanted)),
    })
}

fn refusal(schema: &AvroSchema, of: TypeId, wanted: &DataType) -> String {
    let written = match schema.get(of).logical {
        None => schema.name(of),
        Some(LogicalType::Decimal { .. }) => "decimal",
        Some(LogicalType::Date) => "date",
        Some(LogicalType::Time(_)) => "time of day",
        Some(LogicalType::Timestamp(_)) => "timestamp",
        Some(LogicalType::Uuid) => "uuid",
        Some(LogicalType::Duration) => "duration",
    };
    format!("it is written as {written}, which no {} takes", sql_name(wanted))
}

/// A map as a list of STRUCTs of key and value.
fn entries(schema: &AvroSchema, values: TypeId, item: &DataType) -> Result<ValueSource, String> {
    let refused = || "it is written as map, which STRUCT<key STRING, value …>[] takes".to_owned();
    let DataType::Struct(fields) = item else { return Err(refused()) };
    let place = |name| fields.iter().position(|field| field.name() == name);
    let known = |field: &FieldRef| matches!(field.name().as_str(), "key" | "value");
    let key = place("key").filter(|key| *fields[*key].data_type() == DataType::Utf8);
    let (Some(key), true) = (key, fields.iter().all(known)) else { return Err(refused()) };
    let mut steps = vec![FieldStep::Take { column: key, source: ValueSource::Text }];
    steps.push(match place("value") {
        None => FieldStep::Skip { name: "value".to_owned(), of: values },
        Some(column) => FieldStep::Take { column, source: source(schema, values, fields[column].data_type())? },
    });
    Ok(ValueSource::Entries(Box::new(RecordPlan { steps, absent: Vec::new() })))
}

fn union(schema: &AvroSchema, branches: &[TypeId], wanted: &DataType) -> Result<ValueSource, String> {
    let is_null = |branch: &TypeId| schema.get(*branch).shape == AvroShape::Null;
    if let DataType::Struct(fields) = wanted
        && branches.iter().filter(|branch| !is_null(branch)).count() > 1
        && let Some(sources) = branch_fields(schema, branches, fields)
    {
        return Ok(ValueSource::BranchFields(sources));
    }
    let sources: Vec<Result<ValueSource, String>> =
        branches.iter().map(|branch| source(schema, *branch, wanted)).collect();
    let takes_none = branches.iter().zip(&sources).all(|(branch, source)| is_null(branch) || source.is_err());
    let refused = sources.iter().find_map(|source| source.as_ref().err());
    match refused {
        Some(refused) if takes_none => Err(refused.clone()),
        _ => Ok(ValueSource::Union(sources)),
    }
}

/// For each branch, the field of its name; `None` if a branch or a field has no other.
fn branch_fields(
    schema: &AvroSchema,
    branches: &[TypeId],
    fields: &Fields,
) -> Option<Vec<Option<(usize, ValueSource)>>> {
    let place = |name: &str| fields.iter().position(|field| field.name().eq_ignore_ascii_case(name));
    if !fields.iter().all(|field| branches.iter().any(|b| schema.name(*b).eq_ignore_ascii_case(field.name()))) {
        return None;
    }
    let of_branch = |branch: &TypeId| {
        if schema.get(*branch).shape == AvroShape::Null {
            return Some(None);
        }
        let field = place(schema.name(*branch))?;
        let source = source(schema, *branch, fields[field].data_type()).ok()?;
        Some(Some((field, source)))
    };
    branches.iter().map(of_branch).collect()
}
