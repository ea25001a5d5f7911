//! How the columns of a stream get their values from messages of one type.
//!
//! | Protobuf | column |
//! |---|---|
//! | `bool` | BOOLEAN |
//! | whole numbers of all kinds | TINYINT to BIGINT, DECIMAL, REAL, DOUBLE; TIMESTAMP in the stream's unit; of 32 bits also DATE |
//! | `float`, `double` | REAL takes `float`, DOUBLE both |
//! | `string`, `bytes` in UTF-8 | STRING |
//! | `bytes`, `string` | BYTEA |
//! | enums | STRING, the name, or the digits of a number without one; whole numbers |
//! | messages, groups | STRUCT |
//! | `repeated` | lists |
//! | `map` | lists of STRUCT<key, value> |
//! | messages of known types | also what [`super::known_types`] lists |
//!
//! Fields and columns meet by the field's name, as keys of JSON do, or else by its JSON name. A column without a field
//! has no value, and a field without a column is skipped.
//!
//! Invariant: a plan has one source for each column. Fields of one oneof share a slot, so that the last one wins.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Fields};

use super::super::fields::FieldNames;
use super::known_types::KnownType;
use super::schema::{EnumId, MessageId, ProtoField, ProtoSchema, ProtoType};
use crate::definition::types::sql_name;

/// What a value becomes.
#[derive(Debug)]
pub(super) enum ProtoSource {
    /// A whole number, or that of an enum.
    Whole(ProtoType),
    Bool,
    Float,
    Double,
    Text,
    Bytes,
    Symbol(EnumId),
    Message(Box<ProtoPlan>),
    Known(KnownType, MessageId),
    /// The field 1 of a message that only wraps it.
    Wrapped(Box<ProtoSource>, MessageId),
}

/// How a message fills the fields of a STRUCT, or the columns of a stream.
#[derive(Debug)]
pub(super) struct ProtoPlan {
    pub(super) message: MessageId,
    /// By field of the message.
    pub(super) steps: Vec<ProtoStep>,
    /// The number of values that are held until the message ends.
    pub(super) slots: usize,
    /// By field of the STRUCT.
    pub(super) columns: Vec<ColumnPlan>,
}

/// What is done with the values of a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum ProtoStep {
    /// They are checked.
    Skip,
    /// The last one is held in this slot; of a field without a column, only that there is one.
    Hold { slot: usize, column: Option<usize> },
    /// Each is an item of the list in this column.
    Item { column: usize },
}

/// Where the value of a column comes from.
#[derive(Debug)]
pub(super) enum ColumnPlan {
    /// The message has no field for it.
    Absent,
    /// One value in a slot.
    One { field: usize, slot: usize, source: ProtoSource },
    /// The items were appended while the message was read.
    List(ProtoSource),
    /// The entries of a map in a slot.
    Entries { field: usize, slot: usize, plan: ProtoPlan },
}

impl ProtoPlan {
    /// The plan for the fields `wanted` from messages of a type.
    ///
    /// Errors: why the fields cannot be had, as a clause.
    pub(super) fn new(schema: &ProtoSchema, message: MessageId, wanted: &Fields) -> Result<Self, String> {
        let fields = &schema.get(message).fields;
        let taken = meet(fields, wanted)?;
        let mut column_of = vec![None; fields.len()];
        for (column, field) in taken.iter().enumerate() {
            if let Some(field) = field {
                column_of[*field] = Some(column);
            }
        }
        // A member without a column counts if another member has one: the last one wins.
        let mut slots = 0;
        let mut new_slot = || {
            slots += 1;
            slots - 1
        };
        let mut slot_of_oneof = HashMap::new();
        for (field, column) in fields.iter().zip(&column_of) {
            if let (Some(oneof), Some(_)) = (field.oneof, column) {
                slot_of_oneof.entry(oneof).or_insert_with(&mut new_slot);
            }
        }
        let step = |(field, column): (&ProtoField, &Option<usize>)| {
            let shared = field.oneof.and_then(|oneof| slot_of_oneof.get(&oneof).copied());
            match (*column, shared) {
                (column, Some(slot)) => ProtoStep::Hold { slot, column },
                (None, None) => ProtoStep::Skip,
                (Some(column), None) if field.is_repeated && !is_map(schema, field) => ProtoStep::Item { column },
                (column, None) => ProtoStep::Hold { slot: new_slot(), column },
            }
        };
        let steps: Vec<ProtoStep> = fields.iter().zip(&column_of).map(step).collect();
        let column = |(at, place): (usize, &Option<usize>)| {
            let Some(place) = *place else { return Ok(ColumnPlan::Absent) };
            let field = &fields[place];
            column_plan(schema, place, field, steps[place], wanted[at].data_type())
                .map_err(|why| format!("`{}`: {why}", field.name))
        };
        let columns = taken.iter().enumerate().map(column).collect::<Result<_, String>>()?;
        Ok(Self { message, slots, columns, steps })
    }
}

/// By column, the field of its name.
fn meet(fields: &[ProtoField], wanted: &Fields) -> Result<Vec<Option<usize>>, String> {
    let names = FieldNames::new(wanted);
    let mut taken: Vec<Option<usize>> = vec![None; wanted.len()];
    let mut is_free = vec![true; fields.len()];
    for (by_json_name, exactly) in [(false, true), (false, false), (true, true), (true, false)] {
        let before = taken.clone();
        for (at, field) in fields.iter().enumerate() {
            let name = if by_json_name { &field.json_name } else { &field.name };
            let Some((column, exact)) = names.place(name).filter(|_| is_free[at]) else { continue };
            if exact != exactly || before[column].is_some() {
                continue;
            }
            if let Some(other) = taken[column].replace(at) {
                let (one, two, both) = (&fields[other].name, &field.name, names.name(column));
                return Err(format!("`{one}` and `{two}` are both `{both}`"));
            }
        }
        for at in taken.iter().flatten() {
            is_free[*at] = false;
        }
    }
    Ok(taken)
}

fn is_map(schema: &ProtoSchema, field: &ProtoField) -> bool {
    field.is_repeated && field.of.message().is_some_and(|message| schema.get(message).is_map_entry)
}

/// How a field fills a column of type `wanted`.
///
/// Errors: why it cannot, as a clause.
fn column_plan(
    schema: &ProtoSchema,
    place: usize,
    field: &ProtoField,
    step: ProtoStep,
    wanted: &DataType,
) -> Result<ColumnPlan, String> {
    let refused = |what: &str| format!("it is written as {what}, which no {} takes", sql_name(wanted));
    match (step, wanted) {
        (ProtoStep::Skip, _) => Ok(ColumnPlan::Absent),
        (ProtoStep::Item { .. }, DataType::List(item)) => {
            Ok(ColumnPlan::List(source(schema, field.of, item.data_type())?))
        }
        (ProtoStep::Item { .. }, _) => Err(refused(&format!("repeated {}", schema.type_name(field.of)))),
        (ProtoStep::Hold { slot, .. }, _) if is_map(schema, field) => {
            let only = || "it is written as map, which STRUCT<key …, value …>[] takes".to_owned();
            let (DataType::List(item), Some(entry)) = (wanted, field.of.message()) else { return Err(only()) };
            let DataType::Struct(fields) = item.data_type() else { return Err(only()) };
            if !fields.iter().all(|field| matches!(field.name().as_str(), "key" | "value")) {
                return Err(only());
            }
            Ok(ColumnPlan::Entries { field: place, slot, plan: ProtoPlan::new(schema, entry, fields)? })
        }
        (ProtoStep::Hold { slot, .. }, _) => {
            Ok(ColumnPlan::One { field: place, slot, source: source(schema, field.of, wanted)? })
        }
    }
}

/// What values of type `of` become in a column of type `wanted`.
///
/// Errors: why the column cannot take them, as a clause.
fn source(schema: &ProtoSchema, of: ProtoType, wanted: &DataType) -> Result<ProtoSource, String> {
    use DataType as T;
    use ProtoSource as To;
    use ProtoType as From;
    let refused = || format!("it is written as {}, which no {} takes", schema.type_name(of), sql_name(wanted));
    Ok(match (of, wanted) {
        (From::Bool, T::Boolean) => To::Bool,
        (From::Float, T::Float32 | T::Float64) => To::Float,
        (From::Double, T::Float64) => To::Double,
        (From::Text | From::Bytes, T::Utf8) => To::Text,
        (From::Text | From::Bytes, T::Binary) => To::Bytes,
        (From::Enum(id), T::Utf8) => To::Symbol(id),
        (From::Enum(_), T::Int8 | T::Int16 | T::Int32 | T::Int64) => To::Whole(of),
        (From::Message(id) | From::Group(id), T::Struct(fields)) => {
            To::Message(Box::new(ProtoPlan::new(schema, id, fields)?))
        }
        (From::Message(id), _) => match KnownType::wrapped(schema, id) {
            Some(inner) => To::Wrapped(Box::new(source(schema, inner, wanted)?), id),
            None => To::Known(KnownType::of(schema, id, wanted).ok_or_else(refused)?, id),
        },
        (From::Bool | From::Float | From::Double | From::Text | From::Bytes | From::Enum(_) | From::Group(_), _) => {
            return Err(refused());
        }
        (_, T::Int8 | T::Int16 | T::Int32 | T::Int64 | T::Decimal128(..) | T::Float32 | T::Float64) => To::Whole(of),
        (_, T::Timestamp(..)) => To::Whole(of),
        (From::Int32 | From::Uint32 | From::Sint32 | From::Fixed32 | From::Sfixed32, T::Date32) => To::Whole(of),
        _ => return Err(refused()),
    })
}
