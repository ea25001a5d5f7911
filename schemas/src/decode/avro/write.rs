//! Avro values, as the schema of a stream's definition or of its registry has them.
//!
//! Columns and fields meet as they do when the stream reads. A value is written
//! only if the field holds all of it. A field without a column is null; a column without a field must have no value.
//!
//! Invariant: a value that was written is read back as it was.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    SchemaRef, TimestampMicrosecondType,
};
use arrow::record_batch::RecordBatch;
use uuid::Uuid;

use super::super::writers::{RegisteredSchema, SchemaKind};
use super::super::{numbers, times};
use super::fingerprint::fingerprint;
use super::schema::AvroSchema;
use super::target::{AvroTarget, RecordTarget, RootTarget, long, root};
use crate::definition::message::{AvroFraming, AvroOptions, TimestampUnit, TimestampUnits};

/// Writes the rows of a batch.
#[derive(Debug)]
pub(crate) struct AvroWriter {
    /// What each message begins with.
    frame: Vec<u8>,
    root: RootTarget,
    units: Vec<TimestampUnit>,
    names: Vec<String>,
}

impl AvroWriter {
    /// The writer for the schema of a definition; of a list of schemas, for the last.
    ///
    /// Errors: why there is none, as the end of a sentence.
    pub(crate) fn new(columns: &SchemaRef, units: &TimestampUnits, options: &AvroOptions) -> Result<Self, String> {
        let text = options.schema.as_ref().filter(|_| options.framing != AvroFraming::Confluent);
        let text = text.ok_or("the schema of its messages is in a registry")?;
        let last = match serde_json::from_str(text) {
            Ok(serde_json::Value::Array(list)) if options.framing == AvroFraming::SingleObject => {
                list.last().map(ToString::to_string)
            }
            _ => None,
        };
        let schema = AvroSchema::parse(last.as_ref().unwrap_or(text), &[])?;
        let mut frame = Vec::new();
        if options.framing == AvroFraming::SingleObject {
            frame.extend_from_slice(&[0xc3, 0x01]);
            frame.extend_from_slice(&fingerprint(&schema).to_le_bytes());
        }
        Self::with_schema(columns, units, frame, &schema)
    }

    /// The writer for the schema with this id in a registry.
    ///
    /// Errors: the text is no schema, or cannot hold the columns.
    pub(crate) fn registered(
        columns: &SchemaRef,
        units: &TimestampUnits,
        id: u32,
        schema: &RegisteredSchema,
    ) -> Result<Self, String> {
        schema.expect(SchemaKind::Avro)?;
        let schema = AvroSchema::parse(&schema.text, &schema.references)?;
        let frame = [&[0], id.to_be_bytes().as_slice()].concat();
        Self::with_schema(columns, units, frame, &schema)
    }

    fn with_schema(
        columns: &SchemaRef,
        units: &TimestampUnits,
        frame: Vec<u8>,
        schema: &AvroSchema,
    ) -> Result<Self, String> {
        let names: Vec<String> = columns.fields().iter().map(|field| field.name().clone()).collect();
        Ok(Self {
            frame,
            root: root(schema, schema.root, columns.fields())?,
            units: names.iter().map(|name| units.of(name)).collect(),
            names,
        })
    }

    /// Appends the message of a row.
    ///
    /// Errors: a value has no form that would be read back.
    pub(crate) fn write(&self, rows: &RecordBatch, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        out.extend_from_slice(&self.frame);
        match &self.root {
            RootTarget::Record { before, record } => {
                out.extend_from_slice(before);
                write_record(record, rows.columns(), |at| self.units[at], row, out)
            }
            RootTarget::Value { before, target } => {
                out.extend_from_slice(before);
                write(target, rows.column(0), row, self.units[0], out)
                    .map_err(|why| format!("the value of `{}` cannot be written: {why}", self.names[0]))
            }
        }
    }
}

fn write_record(
    record: &RecordTarget,
    columns: &[ArrayRef],
    unit: impl Fn(usize) -> TimestampUnit,
    row: usize,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    if let Some(column) = record.homeless.iter().find(|column| columns[**column].is_valid(row)) {
        let name = &record.names[*column];
        return Err(format!("`{name}` has a value, and the schema has no field for it"));
    }
    for (column, target) in &record.fields {
        match column {
            None => write_null(target, out)?,
            Some(at) => write(target, &columns[*at], row, unit(*at), out)
                .map_err(|why| format!("the value of `{}` cannot be written: {why}", record.names[*at]))?,
        }
    }
    Ok(())
}

fn write_null(target: &AvroTarget, out: &mut Vec<u8>) -> Result<(), String> {
    match target {
        AvroTarget::Null => Ok(()),
        AvroTarget::Union(branches) => {
            let at = branches.iter().position(|branch| matches!(branch, Some(AvroTarget::Null)));
            long(at.ok_or(NO_NULL)? as i64, out);
            Ok(())
        }
        _ => Err(NO_NULL.to_owned()),
    }
}

const NO_NULL: &str = "there is none, and the schema allows no null";
const RANGE: &str = "it is out of range";
const FRACTION: &str = "the schema has fewer decimal places";

fn write(
    target: &AvroTarget,
    array: &dyn Array,
    row: usize,
    unit: TimestampUnit,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    if array.is_null(row) {
        return write_null(target, out);
    }
    match target {
        AvroTarget::Null => return Err("the schema allows null alone".into()),
        AvroTarget::Union(branches) => return write_branch(branches, array, row, unit, out),
        AvroTarget::Boolean => out.push(u8::from(array.as_boolean().value(row))),
        AvroTarget::Int => long(i32::try_from(whole(array, row)).map_err(|_| RANGE)?.into(), out),
        AvroTarget::Long => long(whole(array, row), out),
        AvroTarget::Date => {
            let days = times::in_range(array.as_primitive::<Date32Type>().value(row).into());
            long(days.map_err(|_| RANGE)?.into(), out);
        }
        AvroTarget::Timestamp(unit) => long(in_unit(micros(array, row)?, *unit)?, out),
        AvroTarget::Moment { is_int } => {
            let micros = micros(array, row)?;
            let number = in_unit(micros, unit)?;
            if times::micros_of_whole(number, unit) != Ok(micros) || (*is_int && i32::try_from(number).is_err()) {
                return Err(format!("as a number of {} it would be read as another time", unit.plural()));
            }
            long(number, out);
        }
        AvroTarget::Float => {
            let value = match array.data_type() {
                DataType::Float32 => array.as_primitive::<Float32Type>().value(row),
                _ => {
                    let value = array.as_primitive::<Float64Type>().value(row);
                    let float = value as f32;
                    if !value.is_nan() && f64::from(float) != value {
                        return Err("a float does not hold all of its digits".into());
                    }
                    float
                }
            };
            out.extend_from_slice(&value.to_le_bytes());
        }
        AvroTarget::Double => out.extend_from_slice(&array.as_primitive::<Float64Type>().value(row).to_le_bytes()),
        AvroTarget::Bytes => put(bytes(array, row), out),
        AvroTarget::Text => {
            let bytes = bytes(array, row);
            std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8 text")?;
            put(bytes, out);
        }
        AvroTarget::Symbol(symbols) => {
            let text = array.as_string::<i32>().value(row);
            long(*symbols.get(text).ok_or("it is no symbol of the enum")?, out);
        }
        AvroTarget::Uuid => {
            let text = array.as_string::<i32>().value(row);
            let uuid = Uuid::parse_str(text).ok().filter(|uuid| uuid.hyphenated().to_string() == text);
            out.extend_from_slice(uuid.ok_or("it is not a UUID in small letters")?.as_bytes());
        }
        AvroTarget::Fixed(size) => {
            let bytes = bytes(array, row);
            if bytes.len() != *size {
                return Err(format!("it has {} bytes, and the schema says {size}", bytes.len()));
            }
            out.extend_from_slice(bytes);
        }
        AvroTarget::Decimal { scale, size } => put_decimal(array, row, *scale, *size, out)?,
        AvroTarget::List(item) => {
            let items = array.as_list::<i32>().value(row);
            if !items.is_empty() {
                long(items.len() as i64, out);
            }
            for at in 0..items.len() {
                write(item, &items, at, unit, out).map_err(|why| format!("item {}: {why}", at + 1))?;
            }
            long(0, out);
        }
        AvroTarget::Record(record) => write_record(record, array.as_struct().columns(), |_| unit, row, out)?,
    }
    Ok(())
}

/// Writes the first branch that holds the value.
fn write_branch(
    branches: &[Option<AvroTarget>],
    array: &dyn Array,
    row: usize,
    unit: TimestampUnit,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let (start, mut refused) = (out.len(), None);
    for (at, branch) in branches.iter().enumerate() {
        let Some(target) = branch.as_ref().filter(|target| !matches!(target, AvroTarget::Null)) else { continue };
        long(at as i64, out);
        match write(target, array, row, unit, out) {
            Ok(()) => return Ok(()),
            Err(why) => {
                out.truncate(start);
                refused.get_or_insert(why);
            }
        }
    }
    Err(refused.unwrap_or_else(|| "the schema allows null alone".into()))
}

fn whole(array: &dyn Array, row: usize) -> i64 {
    match array.data_type() {
        DataType::Int8 => array.as_primitive::<Int8Type>().value(row).into(),
        DataType::Int16 => array.as_primitive::<Int16Type>().value(row).into(),
        DataType::Int32 => array.as_primitive::<Int32Type>().value(row).into(),
        _ => array.as_primitive::<Int64Type>().value(row),
    }
}

fn micros(array: &dyn Array, row: usize) -> Result<i64, String> {
    let micros = array.as_primitive::<TimestampMicrosecondType>().value(row);
    match times::TIMES.contains(&i128::from(micros)) {
        true => Ok(micros),
        false => Err(RANGE.to_owned()),
    }
}

/// A time in a unit that loses nothing of it.
fn in_unit(micros: i64, unit: TimestampUnit) -> Result<i64, String> {
    let per = match unit {
        TimestampUnit::Seconds => 1_000_000,
        TimestampUnit::Milliseconds => 1000,
        TimestampUnit::Microseconds => 1,
        TimestampUnit::Nanoseconds => return micros.checked_mul(1000).ok_or_else(|| RANGE.to_owned()),
    };
    match micros % per {
        0 => Ok(micros / per),
        _ => Err(format!("{} do not hold all of its digits", unit.plural())),
    }
}

fn put_decimal(
    array: &dyn Array,
    row: usize,
    scale: u32,
    size: Option<usize>,
    out: &mut Vec<u8>,
) -> Result<(), String> {
    let DataType::Decimal128(_, from) = array.data_type() else { return Err(RANGE.to_owned()) };
    let from = u32::try_from(*from).map_err(|_| RANGE)?;
    let value = array.as_primitive::<Decimal128Type>().value(row);
    let value = numbers::rescaled(value, from, scale).map_err(|error| match error {
        numbers::NumberError::Fraction => FRACTION,
        other => numbers::explain(other),
    })?;
    let all = value.to_be_bytes();
    let sign = if value < 0 { 0xff } else { 0 };
    // As few bytes as keep the sign.
    let spare = all.windows(2).take_while(|pair| pair[0] == sign && (pair[1] & 0x80) == (sign & 0x80)).count();
    let digits = &all[spare..];
    match size {
        None => put(digits, out),
        Some(size) => {
            let missing = size.checked_sub(digits.len()).ok_or(RANGE)?;
            out.extend(std::iter::repeat_n(sign, missing));
            out.extend_from_slice(digits);
        }
    }
    Ok(())
}

fn bytes(array: &dyn Array, row: usize) -> &[u8] {
    match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value(row).as_bytes(),
        _ => array.as_binary::<i32>().value(row),
    }
}

fn put(bytes: &[u8], out: &mut Vec<u8>) {
    long(bytes.len() as i64, out);
    out.extend_from_slice(bytes);
}
