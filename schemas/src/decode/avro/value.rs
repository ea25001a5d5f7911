//! Values of a writer, appended to the columns of a stream.
//!
//! Invariant: every append adds exactly one entry to its column, also if the value is refused. Its message is a reject
//! then, and what was appended for it is never seen.

use std::borrow::Cow;

use uuid::Uuid;

use super::super::binary::{RecordError, UNPLANNED, big_endian, decimal, fit, put, time};
use super::super::columns::{ColumnBuilder, ValueError};
use super::super::times;
use super::cursor::{AvroBytes, each_item};
use super::plan::{FieldStep, RecordPlan, ValueSource};
use super::schema::AvroSchema;
use super::skip::skip;
use crate::definition::message::TimestampUnit;

/// Appends a record to `columns`.
pub(super) fn append_record(
    schema: &AvroSchema,
    plan: &RecordPlan,
    columns: &mut [ColumnBuilder],
    bytes: &mut AvroBytes<'_>,
) -> Result<(), RecordError> {
    let mut refused = bytes.free().map_err(RecordError::Whole);
    for step in &plan.steps {
        match (step, &refused) {
            (FieldStep::Take { column, source }, Ok(())) => {
                let appended = append(schema, source, &mut columns[*column], bytes);
                refused = appended.map_err(|why| RecordError::Column(*column, why));
            }
            (FieldStep::Skip { name, of }, Ok(())) => {
                refused = skip(schema, *of, bytes).map_err(|why| RecordError::Field(name.clone(), why));
            }
            (FieldStep::Take { column, .. }, Err(_)) => columns[*column].append_null(),
            (FieldStep::Skip { .. }, Err(_)) => {}
        }
    }
    for column in &plan.absent {
        columns[*column].append_null();
    }
    refused
}

/// Appends one value.
pub(super) fn append(
    schema: &AvroSchema,
    source: &ValueSource,
    column: &mut ColumnBuilder,
    bytes: &mut AvroBytes<'_>,
) -> Result<(), ValueError> {
    use ColumnBuilder as To;
    use ValueSource as From;
    match (source, column) {
        (From::Null, column) => {
            column.append_null();
            bytes.free()
        }
        (From::Union(branches), column) => {
            let chosen = bytes.branch(branches.len()).and_then(|at| match &branches[at] {
                Ok(source) => Ok(source),
                Err(why) => Err(why.clone().into()),
            });
            match chosen {
                Ok(source) => append(schema, source, column, bytes),
                Err(why) => {
                    column.append_null();
                    Err(why)
                }
            }
        }
        (From::Boolean, To::Boolean(builder)) => {
            let value = bytes.boolean();
            builder.append_option(value.as_ref().ok().copied());
            value.map(drop)
        }
        (From::Int | From::Long, To::Int8(builder)) => put(builder, whole(source, bytes).and_then(fit)),
        (From::Int | From::Long, To::Int16(builder)) => put(builder, whole(source, bytes).and_then(fit)),
        (From::Int | From::Long, To::Int32(builder)) => put(builder, whole(source, bytes).and_then(fit)),
        (From::Int | From::Long, To::Int64(builder)) => put(builder, whole(source, bytes)),
        // Nearest, as the specification promotes them.
        (From::Int | From::Long, To::Float32(builder)) => put(builder, whole(source, bytes).map(|n| n as f32)),
        (From::Int | From::Long, To::Float64(builder)) => put(builder, whole(source, bytes).map(|n| n as f64)),
        (From::Int | From::Long, To::Decimal(builder, precision, scale, _)) => {
            put(builder, whole(source, bytes).and_then(|n| decimal(i128::from(n), 0, *precision, *scale)))
        }
        (From::Int | From::Moment, To::Timestamp(builder, unit)) => {
            let micros = whole(source, bytes).and_then(|n| time(times::micros_of_whole(n, *unit), *unit));
            put(builder, micros)
        }
        (From::Date, To::Date(builder)) => {
            let days = bytes.int().and_then(|n| time(times::in_range(n.into()), TimestampUnit::default()));
            put(builder, days)
        }
        (From::Float, To::Float32(builder)) => put(builder, float(bytes)),
        (From::Float, To::Float64(builder)) => put(builder, float(bytes).map(f64::from)),
        (From::Double, To::Float64(builder)) => put(builder, bytes.array().map(f64::from_le_bytes)),
        (From::Timestamp(unit), To::Timestamp(builder, _)) => {
            put(builder, bytes.long().and_then(|n| time(times::micros_of_declared(n, *unit), *unit)))
        }
        (From::Time(unit), To::Int64(builder)) => put(builder, time_of_day(bytes, *unit)),
        (From::Decimal { scale, size }, To::Decimal(builder, precision, to, _)) => {
            put(builder, unscaled(bytes, *size).and_then(|n| decimal(n, *scale, *precision, *to)))
        }
        (source, To::Text(builder)) => {
            let text = text(source, bytes);
            builder.append_option(text.as_deref().ok());
            text.map(drop)
        }
        (From::Bytes | From::Fixed(_), To::Bytes(builder, _)) => {
            let value = match source {
                From::Fixed(size) => bytes.take(*size),
                _ => bytes.bytes(),
            };
            builder.append_option(value.as_ref().ok());
            value.map(drop)
        }
        (From::List(item), To::List(list)) => {
            let (items, length) = (&mut list.items, &mut list.length);
            let appended = each_item(bytes, |bytes| {
                *length += 1;
                append(schema, item, items, bytes)
            });
            list.end();
            appended
        }
        (From::Entries(plan), To::List(list)) => {
            let (items, length) = (&mut list.items, &mut list.length);
            let appended = each_item(bytes, |bytes| {
                *length += 1;
                append_struct(schema, plan, items, bytes)
            });
            list.end();
            appended
        }
        (From::Record(plan), column) => append_struct(schema, plan, column, bytes),
        (From::BranchFields(branches), To::Struct(object)) => {
            let branch = bytes.branch(branches.len());
            let chosen = branch.as_ref().ok().and_then(|at| branches[*at].as_ref());
            let mut appended = branch.as_ref().map(drop).map_err(Clone::clone);
            for (at, field) in object.columns.iter_mut().enumerate() {
                match chosen.filter(|(place, _)| *place == at) {
                    Some((_, source)) => appended = append(schema, source, field, bytes),
                    None => field.append_null(),
                }
            }
            object.present.append(chosen.is_some());
            appended
        }
        (_, column) => {
            column.append_null();
            Err(UNPLANNED)
        }
    }
}

fn append_struct(
    schema: &AvroSchema,
    plan: &RecordPlan,
    column: &mut ColumnBuilder,
    bytes: &mut AvroBytes<'_>,
) -> Result<(), ValueError> {
    let ColumnBuilder::Struct(object) = column else {
        column.append_null();
        return Err(UNPLANNED);
    };
    let appended = append_record(schema, plan, &mut object.columns, bytes);
    object.present.append_non_null();
    appended.map_err(|refused| refused.of_struct(object))
}

fn whole(source: &ValueSource, bytes: &mut AvroBytes<'_>) -> Result<i64, ValueError> {
    match source {
        ValueSource::Int => bytes.int().map(i64::from),
        _ => bytes.long(),
    }
}

fn float(bytes: &mut AvroBytes<'_>) -> Result<f32, ValueError> {
    bytes.array().map(f32::from_le_bytes)
}

/// The number of a decimal: two's complement, the highest byte first.
fn unscaled(bytes: &mut AvroBytes<'_>, size: Option<usize>) -> Result<i128, ValueError> {
    let digits = match size {
        Some(size) => bytes.take(size)?,
        None => bytes.bytes()?,
    };
    big_endian(digits)
}

const DAY_MICROS: i64 = 86_400_000_000;

fn time_of_day(bytes: &mut AvroBytes<'_>, unit: TimestampUnit) -> Result<i64, ValueError> {
    let micros = match unit {
        TimestampUnit::Milliseconds => i64::from(bytes.int()?) * 1000,
        _ => bytes.long()?,
    };
    match (0..DAY_MICROS).contains(&micros) {
        true => Ok(micros),
        false => Err("it is no time of a day".into()),
    }
}

fn text<'t, 's: 't, 'b: 't>(source: &'s ValueSource, bytes: &mut AvroBytes<'b>) -> Result<Cow<'t, str>, ValueError> {
    Ok(match source {
        ValueSource::Text => Cow::Borrowed(bytes.text()?),
        ValueSource::Symbol(symbols) => {
            let at = bytes.branch(symbols.len()).map_err(|_| ValueError::Borrowed("the enum has no such symbol"))?;
            Cow::Borrowed(&symbols[at])
        }
        ValueSource::Uuid => Uuid::from_bytes(bytes.array()?).hyphenated().to_string().into(),
        ValueSource::Time(unit) => {
            let micros = time_of_day(bytes, *unit)?;
            let (seconds, rest) = (micros / 1_000_000, micros % 1_000_000);
            format!("{:02}:{:02}:{:02}.{rest:06}", seconds / 3600, seconds / 60 % 60, seconds % 60).into()
        }
        ValueSource::Duration => {
            let [months, days, millis] = [bytes.array()?, bytes.array()?, bytes.array()?].map(u32::from_le_bytes);
            format!("P{months}M{days}DT{}.{:03}S", millis / 1000, millis % 1000).into()
        }
        _ => return Err(UNPLANNED),
    })
}
