//! Builders of columns, which append one JSON value at a time. [`super::json`] lists the values that each type takes.
//!
//! Invariant: every [`ColumnBuilder::append`] adds exactly one entry. The entry of a refused value is null, and its
//! message is a reject.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, ArrowPrimitiveType, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
    Float64Builder, Int8Builder, Int16Builder, Int32Builder, Int64Builder, ListArray, NullBufferBuilder,
    PrimitiveBuilder, StringBuilder, StructArray, TimestampMicrosecondBuilder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, TimeUnit};
use arrow::error::ArrowError;
use serde_json::value::RawValue;

use super::base64;
use super::fields::{FieldNames, FieldValues};
use super::numbers::{self, NumberError};
use super::texts;
use super::times::{self, TimeError};
use crate::definition::message::{BytesForm, DecimalForm, TimestampUnit};
use crate::definition::types::sql_name;

/// Why a value is not of its column's type, as the end of a sentence: "the value of `a` is not a valid INT: …".
pub(super) type ValueError = Cow<'static, str>;

/// Why a value was not taken into its column.
pub(super) fn refused_value(column: &Field, why: &str) -> ValueError {
    let (name, wanted) = (column.name(), sql_name(column.data_type()));
    format!("the value of `{name}` is not a valid {wanted}: {why}").into()
}

/// The builder of one column with a canonical type.
#[derive(Debug)]
pub(super) enum ColumnBuilder {
    Boolean(BooleanBuilder),
    Int8(Int8Builder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Decimal(Decimal128Builder, u8, i8, DecimalForm),
    Text(StringBuilder),
    Bytes(BinaryBuilder, BytesForm),
    Date(Date32Builder),
    Timestamp(TimestampMicrosecondBuilder, TimestampUnit),
    List(Box<List>),
    Struct(Box<Struct>),
}

/// The builder of a list column, with the items of all lists end to end.
#[derive(Debug)]
pub(super) struct List {
    item: FieldRef,
    pub(super) items: ColumnBuilder,
    ends: Vec<i32>,
    /// The number of all items.
    pub(super) length: i32,
    present: NullBufferBuilder,
}

/// The builder of a STRUCT column, with one builder per field.
#[derive(Debug)]
pub(super) struct Struct {
    fields: Fields,
    names: FieldNames,
    pub(super) columns: Vec<ColumnBuilder>,
    pub(super) present: NullBufferBuilder,
}

impl ColumnBuilder {
    /// An empty column with capacity for `rows` entries. Numbers in its timestamps are in `unit`.
    ///
    /// Errors: `data_type` is not canonical.
    pub(super) fn new(data_type: &DataType, unit: TimestampUnit, rows: usize) -> Result<Self, ArrowError> {
        use DataType as T;
        Ok(match data_type {
            T::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            T::Int8 => Self::Int8(Int8Builder::with_capacity(rows)),
            T::Int16 => Self::Int16(Int16Builder::with_capacity(rows)),
            T::Int32 => Self::Int32(Int32Builder::with_capacity(rows)),
            T::Int64 => Self::Int64(Int64Builder::with_capacity(rows)),
            T::Float32 => Self::Float32(Float32Builder::with_capacity(rows)),
            T::Float64 => Self::Float64(Float64Builder::with_capacity(rows)),
            T::Decimal128(precision, scale) => Self::Decimal(
                Decimal128Builder::with_capacity(rows).with_data_type(data_type.clone()),
                *precision,
                *scale,
                DecimalForm::default(),
            ),
            T::Utf8 => Self::Text(StringBuilder::with_capacity(rows, rows * 8)),
            T::Binary => Self::Bytes(BinaryBuilder::with_capacity(rows, rows * 8), BytesForm::default()),
            T::Date32 => Self::Date(Date32Builder::with_capacity(rows)),
            T::Timestamp(TimeUnit::Microsecond, _) => Self::Timestamp(
                TimestampMicrosecondBuilder::with_capacity(rows).with_data_type(data_type.clone()),
                unit,
            ),
            T::List(item) => Self::List(Box::new(List {
                items: Self::new(item.data_type(), unit, rows)?,
                item: Arc::clone(item),
                ends: Vec::with_capacity(rows),
                length: 0,
                present: NullBufferBuilder::new(rows),
            })),
            T::Struct(fields) => Self::Struct(Box::new(Struct {
                names: FieldNames::new(fields),
                columns: columns(fields, |_| unit, rows)?,
                fields: fields.clone(),
                present: NullBufferBuilder::new(rows),
            })),
            other => {
                return Err(ArrowError::NotYetImplemented(format!("{other} is no canonical type")));
            }
        })
    }

    /// Reads strings of bytes and decimals in these forms from now on, at any depth.
    pub(super) fn read_as(&mut self, bytes: BytesForm, decimals: DecimalForm) {
        match self {
            Self::Bytes(_, form) => *form = bytes,
            Self::Decimal(_, _, _, form) => *form = decimals,
            Self::List(list) => list.items.read_as(bytes, decimals),
            Self::Struct(object) => object.columns.iter_mut().for_each(|column| column.read_as(bytes, decimals)),
            _ => {}
        }
    }

    /// Appends the value of `raw`, one JSON value. `None` appends null.
    pub(super) fn append(&mut self, raw: Option<&str>) -> Result<(), ValueError> {
        let raw = raw.filter(|raw| *raw != "null");
        match self {
            Self::Boolean(builder) => {
                let value = match raw {
                    None => Ok(None),
                    Some("true") => Ok(Some(true)),
                    Some("false") => Ok(Some(false)),
                    Some(raw) => Err(ValueError::Borrowed(kind(raw))),
                };
                builder.append_option(*value.as_ref().unwrap_or(&None));
                value.map(|_| ())
            }
            Self::Int8(builder) => number(builder, raw, numbers::whole),
            Self::Int16(builder) => number(builder, raw, numbers::whole),
            Self::Int32(builder) => number(builder, raw, numbers::whole),
            Self::Int64(builder) => number(builder, raw, numbers::whole),
            Self::Float32(builder) => float(builder, raw, [f32::NAN, f32::INFINITY]),
            Self::Float64(builder) => float(builder, raw, [f64::NAN, f64::INFINITY]),
            Self::Decimal(builder, precision, scale, form) => value(builder, raw, |raw| {
                let value = match form {
                    DecimalForm::Base64 if raw.starts_with(['"', '{']) => base64::decimal(raw, *scale)?,
                    _ => numbers::scaled(&digits(raw)?, *scale).map_err(explain)?,
                };
                let limit = 10u128.pow(u32::from(*precision));
                if value.unsigned_abs() < limit { Ok(value) } else { Err(explain(NumberError::Range)) }
            }),
            Self::Text(builder) => {
                let text = raw.map(text).transpose();
                match &text {
                    Ok(text) => builder.append_option(text.as_deref()),
                    Err(_) => builder.append_null(),
                }
                text.map(|_| ())
            }
            Self::Bytes(builder, form) => {
                let read = |raw| match form {
                    BytesForm::Hexadecimal => texts::bytes(&text(raw)?).ok_or(NOT_HEXADECIMAL),
                    BytesForm::Base64 => base64::bytes(&text(raw)?).map_err(ValueError::from),
                };
                let bytes = raw.map(read).transpose();
                match &bytes {
                    Ok(bytes) => builder.append_option(bytes.as_deref()),
                    Err(_) => builder.append_null(),
                }
                bytes.map(|_| ())
            }
            Self::Date(builder) => value(builder, raw, |raw| {
                let days = if raw.starts_with('"') {
                    times::days_of_text(&text(raw)?)
                } else {
                    times::days_of_number(&digits(raw)?)
                };
                days.map_err(|error| match error {
                    TimeError::Form => "it is not written as YYYY-MM-DD".into(),
                    other => times::explain(other, TimestampUnit::default()),
                })
            }),
            Self::Timestamp(builder, unit) => value(builder, raw, |raw| {
                let micros = if raw.starts_with('"') {
                    times::micros_of_text(&text(raw)?)
                } else {
                    times::micros_of_number(&digits(raw)?, *unit)
                };
                micros.map_err(|error| times::explain(error, *unit))
            }),
            Self::List(list) => list.append(raw),
            Self::Struct(object) => object.append(raw),
        }
    }

    /// Appends null.
    pub(super) fn append_null(&mut self) {
        match self {
            Self::Boolean(builder) => builder.append_null(),
            Self::Int8(builder) => builder.append_null(),
            Self::Int16(builder) => builder.append_null(),
            Self::Int32(builder) => builder.append_null(),
            Self::Int64(builder) => builder.append_null(),
            Self::Float32(builder) => builder.append_null(),
            Self::Float64(builder) => builder.append_null(),
            Self::Decimal(builder, ..) => builder.append_null(),
            Self::Text(builder) => builder.append_null(),
            Self::Bytes(builder, _) => builder.append_null(),
            Self::Date(builder) => builder.append_null(),
            Self::Timestamp(builder, _) => builder.append_null(),
            Self::List(list) => {
                list.ends.push(list.length);
                list.present.append_null();
            }
            Self::Struct(object) => {
                object.columns.iter_mut().for_each(Self::append_null);
                object.present.append_null();
            }
        }
    }

    /// The appended values as an array.
    pub(super) fn finish(self) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Boolean(mut builder) => Arc::new(builder.finish()),
            Self::Int8(mut builder) => Arc::new(builder.finish()),
            Self::Int16(mut builder) => Arc::new(builder.finish()),
            Self::Int32(mut builder) => Arc::new(builder.finish()),
            Self::Int64(mut builder) => Arc::new(builder.finish()),
            Self::Float32(mut builder) => Arc::new(builder.finish()),
            Self::Float64(mut builder) => Arc::new(builder.finish()),
            Self::Decimal(mut builder, ..) => Arc::new(builder.finish()),
            Self::Text(mut builder) => Arc::new(builder.finish()),
            Self::Bytes(mut builder, _) => Arc::new(builder.finish()),
            Self::Date(mut builder) => Arc::new(builder.finish()),
            Self::Timestamp(mut builder, _) => Arc::new(builder.finish()),
            Self::List(list) => {
                let mut list = *list;
                let ends = std::iter::once(0).chain(list.ends).collect();
                Arc::new(ListArray::try_new(
                    list.item,
                    OffsetBuffer::new(ends),
                    list.items.finish()?,
                    list.present.finish(),
                )?)
            }
            Self::Struct(object) => {
                let mut object = *object;
                let rows = object.present.len();
                let columns = object.columns.into_iter().map(Self::finish);
                Arc::new(StructArray::try_new_with_length(
                    object.fields,
                    columns.collect::<Result<_, _>>()?,
                    object.present.finish(),
                    rows,
                )?)
            }
        })
    }
}

/// Empty columns for `fields`. `unit` gives the unit of a column's numbers by the column's name.
pub(super) fn columns(
    fields: &Fields,
    unit: impl Fn(&str) -> TimestampUnit,
    rows: usize,
) -> Result<Vec<ColumnBuilder>, ArrowError> {
    let empty = fields.iter().map(|f| ColumnBuilder::new(f.data_type(), unit(f.name()), rows));
    empty.collect()
}

impl List {
    /// Ends a list whose items were appended.
    pub(super) fn end(&mut self) {
        self.ends.push(self.length);
        self.present.append_non_null();
    }

    fn append(&mut self, raw: Option<&str>) -> Result<(), ValueError> {
        let items: Result<Option<Vec<&RawValue>>, ValueError> = raw
            .map(|raw| match serde_json::from_str(raw) {
                Ok(items) if raw.starts_with('[') => Ok(items),
                _ => Err(kind(raw).into()),
            })
            .transpose();
        let mut refused = items.as_ref().err().cloned();
        for (at, item) in items.iter().flatten().flatten().enumerate() {
            self.length += 1;
            if let Err(why) = self.items.append(Some(item.get()))
                && refused.is_none()
            {
                let wanted = sql_name(self.item.data_type());
                refused = Some(format!("item {} is not a valid {wanted}: {why}", at + 1).into());
            }
        }
        self.ends.push(self.length);
        self.present.append(matches!(items, Ok(Some(_))));
        refused.map_or(Ok(()), Err)
    }
}

impl Struct {
    /// The name of a field.
    pub(super) fn name(&self, at: usize) -> &str {
        self.names.name(at)
    }

    fn append(&mut self, raw: Option<&str>) -> Result<(), ValueError> {
        let mut values = FieldValues::new(self.columns.len());
        let filled: Result<(), ValueError> = match raw {
            Some(raw) if raw.starts_with('{') => match values.fill(&self.names, raw) {
                Ok(None) => Ok(()),
                Ok(Some(twice)) => Err(format!("`{}` occurs twice", self.names.name(twice)).into()),
                Err(error) => Err(error.to_string().into()),
            },
            Some(raw) => Err(kind(raw).into()),
            None => Ok(()),
        };
        let mut refused = filled.err();
        for (at, column) in self.columns.iter_mut().enumerate() {
            if let Err(why) = column.append(values.raw(at))
                && refused.is_none()
            {
                let field = &self.fields[at];
                let wanted = sql_name(field.data_type());
                refused = Some(format!("`{}` is not a valid {wanted}: {why}", field.name()).into());
            }
        }
        self.present.append(raw.is_some());
        refused.map_or(Ok(()), Err)
    }
}

const NOT_HEXADECIMAL: ValueError = Cow::Borrowed("it is not pairs of hexadecimal digits");

/// The kind of a JSON value, as the reason why the value is refused.
fn kind(raw: &str) -> &'static str {
    match raw.as_bytes().first() {
        Some(b'"') => "it is text",
        Some(b't' | b'f') => "it is a boolean",
        Some(b'{') => "it is an object",
        Some(b'[') => "it is a list",
        _ => "it is a number",
    }
}

/// The text of a JSON string.
fn text(raw: &str) -> Result<Cow<'_, str>, ValueError> {
    if !raw.starts_with('"') {
        return Err(kind(raw).into());
    }
    texts::unquote(raw).ok_or("half of a surrogate pair is missing".into())
}

/// The digits of a JSON number, or of a number in a JSON string.
fn digits(raw: &str) -> Result<Cow<'_, str>, ValueError> {
    match raw.as_bytes().first() {
        Some(b'-' | b'0'..=b'9') => Ok(Cow::Borrowed(raw)),
        Some(b'"') => match text(raw)? {
            digits if texts::is_number(&digits) => Ok(digits),
            _ => Err("its text is not a number".into()),
        },
        _ => Err(kind(raw).into()),
    }
}

fn explain(error: NumberError) -> ValueError {
    numbers::explain(error).into()
}

/// Appends a value. Appends null if there is no value or if the value is refused.
fn value<P: ArrowPrimitiveType>(
    builder: &mut PrimitiveBuilder<P>,
    raw: Option<&str>,
    read: impl FnOnce(&str) -> Result<P::Native, ValueError>,
) -> Result<(), ValueError> {
    let Some(raw) = raw else {
        builder.append_null();
        return Ok(());
    };
    match read(raw) {
        Ok(value) => builder.append_value(value),
        Err(why) => {
            builder.append_null();
            return Err(why);
        }
    }
    Ok(())
}

fn number<P: ArrowPrimitiveType>(
    builder: &mut PrimitiveBuilder<P>,
    raw: Option<&str>,
    read: impl FnOnce(&str) -> Result<P::Native, NumberError>,
) -> Result<(), ValueError> {
    value(builder, raw, |raw| read(&digits(raw)?).map_err(explain))
}

/// Like [`number`]; `nan` and `infinity` are the values of `"NaN"` and `"Infinity"`.
fn float<P>(
    builder: &mut PrimitiveBuilder<P>,
    raw: Option<&str>,
    [nan, infinity]: [P::Native; 2],
) -> Result<(), ValueError>
where
    P: ArrowPrimitiveType,
    P::Native: numbers::Float + std::ops::Neg<Output = P::Native>,
{
    value(builder, raw, |raw| match raw {
        "\"NaN\"" => Ok(nan),
        "\"Infinity\"" => Ok(infinity),
        "\"-Infinity\"" => Ok(-infinity),
        _ => numbers::nearest(&digits(raw)?).map_err(explain),
    })
}
