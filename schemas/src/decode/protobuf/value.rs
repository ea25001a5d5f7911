//! Values of messages, appended to the columns of a stream.
//!
//! The fields of a message come in any order, some of them twice: the last value counts, messages are merged, and the
//! lists of all parts follow each other. So a message is read once, its items are appended as they come, and its other
//! values are held by reference until it ends. A message that came in parts is read as if the parts were one.
//!
//! Invariant: every append adds exactly one entry to its column, also if the value is refused. Its message is a reject
//! then, and what was appended for it is never seen.

use std::collections::HashMap;

use super::super::binary::{RecordError, UNPLANNED, put, refuse};
use super::super::columns::{ColumnBuilder, ValueError};
use super::known_types::{append_known, only_field};
use super::plan::{ColumnPlan, ProtoPlan, ProtoSource, ProtoStep};
use super::schema::{EnumId, ProtoField, ProtoSchema, ProtoType};
use super::skip::{FieldForm, check_message, check_value, each_packed, form, within};
use super::whole::{append_whole, narrow, whole};
use super::wire::{RawValue, WireBytes, check_depth};

const UTF8: ValueError = ValueError::Borrowed("the text is not UTF-8");

/// The values of messages that are being read, each until its message ends.
#[derive(Debug, Default)]
pub(super) struct HeldValues<'a>(Vec<HeldValue<'a>>);

/// A value, and the field that it belongs to: members of a oneof share a slot.
#[derive(Debug, Default)]
struct HeldValue<'a> {
    field: usize,
    value: HeldContent<'a>,
}

#[derive(Debug, Default)]
enum HeldContent<'a> {
    #[default]
    Nothing,
    One(RawValue<'a>),
    /// The parts of a message, or the entries of a map.
    Several(Vec<&'a [u8]>),
}

impl<'a> HeldValues<'a> {
    /// Holds a value, in place of the one before. Values that `add` up are kept behind those before. Returns the value
    /// of another field that it replaces.
    fn hold(&mut self, slot: usize, field: usize, value: RawValue<'a>, add: bool) -> Option<HeldValue<'a>> {
        let held = &mut self.0[slot];
        let before = std::mem::take(&mut held.value);
        if held.field != field {
            let other = std::mem::replace(held, HeldValue { field, value: HeldContent::One(value) }).field;
            return Some(HeldValue { field: other, value: before });
        }
        held.value = match (before, value) {
            (HeldContent::One(RawValue::Bytes(first)), RawValue::Bytes(next)) if add => {
                HeldContent::Several(vec![first, next])
            }
            (HeldContent::Several(mut parts), RawValue::Bytes(next)) if add => {
                parts.push(next);
                HeldContent::Several(parts)
            }
            _ => HeldContent::One(value),
        };
        None
    }

    /// The value of a field, which is not held any more.
    fn take(&mut self, slot: usize, field: usize) -> HeldContent<'a> {
        let held = &mut self.0[slot];
        if held.field == field { std::mem::take(&mut held.value) } else { HeldContent::Nothing }
    }
}

/// Appends a message, in one part or several, to `columns`.
pub(super) fn append_message<'a>(
    schema: &ProtoSchema,
    plan: &ProtoPlan,
    columns: &mut [ColumnBuilder],
    parts: &[&'a [u8]],
    depth: usize,
    held: &mut HeldValues<'a>,
) -> Result<(), RecordError> {
    let base = held.0.len();
    held.0.resize_with(base + plan.slots, HeldValue::default);
    let reading = MessageReading { schema, plan, base, depth };
    let mut refused = parts.iter().try_for_each(|part| reading.read(part, columns, held));
    for (at, (from, column)) in plan.columns.iter().zip(columns).enumerate() {
        match (from, column) {
            (ColumnPlan::List(_), ColumnBuilder::List(list)) => list.end(),
            (_, column) if refused.is_err() => column.append_null(),
            (from, column) => {
                let appended = reading.append_held(from, column, held);
                refused = appended.map_err(|why| RecordError::Column(at, why));
            }
        }
    }
    held.0.truncate(base);
    refused
}

/// A message that is being read.
struct MessageReading<'s> {
    schema: &'s ProtoSchema,
    plan: &'s ProtoPlan,
    /// Where its values are held.
    base: usize,
    depth: usize,
}

impl MessageReading<'_> {
    /// Reads one part: appends the items of lists, and holds other values.
    fn read<'a>(
        &self,
        part: &'a [u8],
        columns: &mut [ColumnBuilder],
        held: &mut HeldValues<'a>,
    ) -> Result<(), RecordError> {
        check_depth(self.depth).map_err(RecordError::Whole)?;
        let message = self.schema.get(self.plan.message);
        let mut bytes = WireBytes::new(part);
        while let Some(key) = bytes.key().map_err(RecordError::Whole)? {
            let Some(place) = message.place(key.number) else {
                let unknown =
                    |why| RecordError::Whole(format!("field {}, which is not known: {why}", key.number).into());
                bytes.value(key).map_err(unknown)?;
                continue;
            };
            let (field, step) = (&message.fields[place], self.plan.steps[place]);
            let read = form(self.schema, field, key).and_then(|form| Ok((form, bytes.value(key)?)));
            let done = read.and_then(|(form, value)| match step {
                ProtoStep::Skip => check_value(self.schema, field, form, value, self.depth),
                ProtoStep::Hold { slot, column } => {
                    let replaced = held.hold(self.base + slot, place, value, field.of.message().is_some());
                    let checked = replaced.map_or(Ok(()), |replaced| self.check_replaced(&replaced));
                    match column {
                        Some(_) => checked,
                        None => checked.and_then(|()| check_value(self.schema, field, form, value, self.depth)),
                    }
                }
                ProtoStep::Item { column } => self.append_items(column, field, form, value, columns, held),
            });
            done.map_err(|why| match step {
                ProtoStep::Hold { column: Some(column), .. } | ProtoStep::Item { column } => {
                    RecordError::Column(column, why)
                }
                _ => RecordError::Field(field.name.clone(), why),
            })?;
        }
        Ok(())
    }

    /// Checks a message of a oneof that another member replaced, so that no column takes it.
    fn check_replaced(&self, replaced: &HeldValue<'_>) -> Result<(), ValueError> {
        let field = &self.schema.get(self.plan.message).fields[replaced.field];
        let Some(id) = field.of.message() else { return Ok(()) };
        let checked = match &replaced.value {
            HeldContent::One(RawValue::Bytes(part)) => check_message(self.schema, id, part, self.depth + 1),
            HeldContent::Several(parts) => {
                parts.iter().try_for_each(|part| check_message(self.schema, id, part, self.depth + 1))
            }
            _ => Ok(()),
        };
        checked.map_err(|why| within(&field.name, &why))
    }

    fn append_items<'a>(
        &self,
        column: usize,
        field: &ProtoField,
        form: FieldForm,
        value: RawValue<'a>,
        columns: &mut [ColumnBuilder],
        held: &mut HeldValues<'a>,
    ) -> Result<(), ValueError> {
        let (ColumnBuilder::List(list), ColumnPlan::List(source)) = (&mut columns[column], &self.plan.columns[column])
        else {
            return Err(UNPLANNED);
        };
        let (items, length) = (&mut list.items, &mut list.length);
        let mut append = |value| {
            *length += 1;
            self.append_value(source, items, value, held)
        };
        match (form, value) {
            (FieldForm::Packed, RawValue::Bytes(packed)) => each_packed(field, packed, append),
            _ => append(value),
        }
    }

    /// Appends what a column takes of the held values.
    fn append_held<'a>(
        &self,
        from: &ColumnPlan,
        column: &mut ColumnBuilder,
        held: &mut HeldValues<'a>,
    ) -> Result<(), ValueError> {
        match from {
            ColumnPlan::Absent | ColumnPlan::List(_) => {
                column.append_null();
                Ok(())
            }
            ColumnPlan::One { field, slot, source } => match held.take(self.base + slot, *field) {
                HeldContent::One(value) => self.append_value(source, column, value, held),
                HeldContent::Several(parts) => self.append_parts(source, column, &parts, held),
                HeldContent::Nothing => {
                    let field = &self.schema.get(self.plan.message).fields[*field];
                    match (field.absent.raw(), source) {
                        (None, _) => {
                            column.append_null();
                            Ok(())
                        }
                        (Some(_), _) if field.of.message().is_some() => self.append_parts(source, column, &[&[]], held),
                        (Some(value), source) => append_scalar(self.schema, source, column, value),
                    }
                }
            },
            ColumnPlan::Entries { field, slot, plan } => {
                let entries = match held.take(self.base + slot, *field) {
                    HeldContent::Nothing => Vec::new(),
                    HeldContent::One(RawValue::Bytes(entry)) => vec![entry],
                    HeldContent::One(_) => return refuse(column, UNPLANNED),
                    HeldContent::Several(entries) => entries,
                };
                self.append_entries(plan, column, &entries, held)
            }
        }
    }

    fn append_value<'a>(
        &self,
        source: &ProtoSource,
        column: &mut ColumnBuilder,
        value: RawValue<'a>,
        held: &mut HeldValues<'a>,
    ) -> Result<(), ValueError> {
        match (source, value) {
            (ProtoSource::Message(_) | ProtoSource::Known(..) | ProtoSource::Wrapped(..), RawValue::Bytes(message)) => {
                self.append_parts(source, column, &[message], held)
            }
            _ => append_scalar(self.schema, source, column, value),
        }
    }

    /// Appends a message within this one.
    fn append_parts<'a>(
        &self,
        source: &ProtoSource,
        column: &mut ColumnBuilder,
        parts: &[&'a [u8]],
        held: &mut HeldValues<'a>,
    ) -> Result<(), ValueError> {
        let (schema, depth) = (self.schema, self.depth + 1);
        match (source, column) {
            (ProtoSource::Message(plan), column) => append_struct(schema, plan, column, parts, depth, held),
            (ProtoSource::Known(known, id), column) => append_known(schema, *known, *id, column, parts, depth),
            (ProtoSource::Wrapped(inner, id), column) => match only_field(schema, *id, parts, depth) {
                Ok(Some(value)) => append_scalar(schema, inner, column, value),
                Ok(None) => match schema.get(*id).field(1).and_then(|field| field.absent.raw()) {
                    Some(value) => append_scalar(schema, inner, column, value),
                    None => refuse(column, UNPLANNED),
                },
                Err(why) => refuse(column, why),
            },
            (_, column) => refuse(column, UNPLANNED),
        }
    }

    /// Appends a map: of entries with the same key, the last one.
    fn append_entries<'a>(
        &self,
        plan: &ProtoPlan,
        column: &mut ColumnBuilder,
        entries: &[&'a [u8]],
        held: &mut HeldValues<'a>,
    ) -> Result<(), ValueError> {
        let ColumnBuilder::List(list) = column else { return refuse(column, UNPLANNED) };
        let mut appended = Ok(());
        let kept = match entries {
            [] | [_] => Ok(entries.to_vec()),
            _ => self.last_of_each_key(plan, entries),
        };
        match kept {
            Ok(kept) => {
                for entry in kept {
                    list.length += 1;
                    appended = append_struct(self.schema, plan, &mut list.items, &[entry], self.depth + 1, held);
                    if appended.is_err() {
                        break;
                    }
                }
            }
            Err(why) => appended = Err(why),
        }
        list.end();
        appended
    }

    fn last_of_each_key<'a>(&self, plan: &ProtoPlan, entries: &[&'a [u8]]) -> Result<Vec<&'a [u8]>, ValueError> {
        let Some(field) = self.schema.get(plan.message).field(1) else { return Err(UNPLANNED) };
        let mut last = HashMap::with_capacity(entries.len());
        for (at, entry) in entries.iter().enumerate() {
            let found = only_field(self.schema, plan.message, &[entry], self.depth + 1)?;
            let key = match (found.or(field.absent.raw()), field.of) {
                (Some(RawValue::Bytes(text)), _) => MapKey::Text(text.to_vec()),
                (Some(value), ProtoType::Bool) => MapKey::Number((value != RawValue::Varint(0)).into()),
                (Some(value), of) => MapKey::Number(whole(of, value)?),
                (None, _) => return Err(UNPLANNED),
            };
            if let Some(replaced) = last.insert(key, at) {
                check_message(self.schema, plan.message, entries[replaced], self.depth + 1)?;
            }
        }
        let mut places: Vec<usize> = last.into_values().collect();
        places.sort_unstable();
        Ok(places.into_iter().map(|at| entries[at]).collect())
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
enum MapKey {
    Text(Vec<u8>),
    Number(i128),
}

fn append_struct<'a>(
    schema: &ProtoSchema,
    plan: &ProtoPlan,
    column: &mut ColumnBuilder,
    parts: &[&'a [u8]],
    depth: usize,
    held: &mut HeldValues<'a>,
) -> Result<(), ValueError> {
    let ColumnBuilder::Struct(object) = column else { return refuse(column, UNPLANNED) };
    let appended = append_message(schema, plan, &mut object.columns, parts, depth, held);
    object.present.append_non_null();
    appended.map_err(|refused| refused.of_struct(object))
}

/// Appends a value that is no message.
fn append_scalar(
    schema: &ProtoSchema,
    source: &ProtoSource,
    column: &mut ColumnBuilder,
    value: RawValue<'_>,
) -> Result<(), ValueError> {
    use ColumnBuilder as To;
    use ProtoSource as From;
    match (source, column, value) {
        (From::Whole(of), column, value) => append_whole(column, whole(*of, value)),
        (From::Bool, To::Boolean(builder), RawValue::Varint(number)) => {
            builder.append_value(number != 0);
            Ok(())
        }
        (From::Float, To::Float32(builder), RawValue::Fixed32(bits)) => put(builder, Ok(f32::from_bits(bits))),
        (From::Float, To::Float64(builder), RawValue::Fixed32(bits)) => {
            put(builder, Ok(f64::from(f32::from_bits(bits))))
        }
        (From::Double, To::Float64(builder), RawValue::Fixed64(bits)) => put(builder, Ok(f64::from_bits(bits))),
        (From::Text, To::Text(builder), RawValue::Bytes(bytes)) => {
            let text = std::str::from_utf8(bytes).map_err(|_| UTF8);
            builder.append_option(text.as_ref().ok());
            text.map(drop)
        }
        (From::Bytes, To::Bytes(builder, _), RawValue::Bytes(bytes)) => {
            builder.append_value(bytes);
            Ok(())
        }
        (From::Symbol(id), To::Text(builder), RawValue::Varint(number)) => {
            let number = narrow(number);
            match &number {
                Ok(number) => append_symbol(schema, *id, *number, builder),
                Err(_) => builder.append_null(),
            }
            number.map(drop)
        }
        (_, column, _) => refuse(column, UNPLANNED),
    }
}

fn append_symbol(schema: &ProtoSchema, id: EnumId, number: i32, builder: &mut arrow::array::StringBuilder) {
    match schema.get_enum(id).symbol(number) {
        Some(symbol) => builder.append_value(symbol),
        // A newer writer knows it. Its digits are what the canonical JSON of Protobuf has in its place.
        None => builder.append_value(number.to_string()),
    }
}
