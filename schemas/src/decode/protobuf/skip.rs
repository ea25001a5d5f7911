//! Values that no column takes, and fields that must be there.
//!
//! Invariant: a value is skipped as strictly as others are read, only without looking at texts. A message is complete
//! if the whole of it is, whichever part of it is read.

use std::collections::HashMap;

use super::super::columns::ValueError;
use super::schema::{MessageId, ProtoField, ProtoSchema};
use super::wire::{RawValue, WireBytes, WireKey, WireType, check_depth};

/// How the values of a field come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FieldForm {
    One,
    /// Several, one behind the other, behind their length.
    Packed,
}

/// How the value behind a key of this field is written.
///
/// Errors: in another way than its type is.
pub(super) fn form(schema: &ProtoSchema, field: &ProtoField, key: WireKey) -> Result<FieldForm, ValueError> {
    if key.wire == field.of.wire() {
        return Ok(FieldForm::One);
    }
    if field.is_repeated && key.wire == WireType::Bytes && field.of.is_packable() {
        return Ok(FieldForm::Packed);
    }
    Err(match key.wire {
        WireType::GroupEnd => "a group ends that did not begin".into(),
        wire => format!("it is written as {}, and is declared as {}", wire.name(), schema.type_name(field.of)).into(),
    })
}

/// Reads the values of a packed list.
pub(super) fn each_packed<'a>(
    field: &ProtoField,
    packed: &'a [u8],
    mut item: impl FnMut(RawValue<'a>) -> Result<(), ValueError>,
) -> Result<(), ValueError> {
    let key = WireKey { number: field.number, wire: field.of.wire() };
    let mut bytes = WireBytes::new(packed);
    while !bytes.is_at_end() {
        item(bytes.value(key)?)?;
    }
    Ok(())
}

/// Checks a value of a field that no column takes.
pub(super) fn check_value(
    schema: &ProtoSchema,
    field: &ProtoField,
    form: FieldForm,
    value: RawValue<'_>,
    depth: usize,
) -> Result<(), ValueError> {
    match (form, value, field.of.message()) {
        (FieldForm::Packed, RawValue::Bytes(packed), _) => each_packed(field, packed, |_| Ok(())),
        (FieldForm::One, RawValue::Bytes(message), Some(id)) => check_message(schema, id, message, depth + 1),
        _ => Ok(()),
    }
}

/// Checks a message that no column takes.
pub(super) fn check_message(
    schema: &ProtoSchema,
    id: MessageId,
    message: &[u8],
    depth: usize,
) -> Result<(), ValueError> {
    check_depth(depth)?;
    let mut bytes = WireBytes::new(message);
    while let Some(key) = bytes.key()? {
        match schema.get(id).field(key.number) {
            None => drop(bytes.value(key)?),
            Some(field) => {
                let read = form(schema, field, key)
                    .and_then(|form| check_value(schema, field, form, bytes.value(key)?, depth));
                read.map_err(|why| within(&field.name, &why))?;
            }
        }
    }
    Ok(())
}

/// A reason with the field around the value.
pub(super) fn within(field: &str, why: &str) -> ValueError {
    format!("`{field}`: {why}").into()
}

/// Checks that a message, whose parts were read, has all required fields, and the messages in it too.
///
/// Errors: the first field that lacks.
pub(super) fn check_required(
    schema: &ProtoSchema,
    id: MessageId,
    parts: &[&[u8]],
    depth: usize,
) -> Result<(), ValueError> {
    let message = schema.get(id);
    if !message.needs_fields {
        return Ok(());
    }
    check_depth(depth)?;
    let mut is_there = vec![false; message.fields.len()];
    let mut inner: HashMap<usize, Vec<&[u8]>> = HashMap::new();
    let mut chosen: HashMap<usize, usize> = HashMap::new();
    for part in parts {
        let mut bytes = WireBytes::new(part);
        while let Some(key) = bytes.key()? {
            let value = bytes.value(key)?;
            let Some(place) = message.place(key.number) else { continue };
            let field = &message.fields[place];
            is_there[place] = true;
            if let Some(other) = field.oneof.and_then(|oneof| chosen.insert(oneof, place)).filter(|o| *o != place) {
                inner.remove(&other);
            }
            match (field.of.message(), value) {
                (Some(of), RawValue::Bytes(value)) if field.is_repeated => {
                    check_required(schema, of, &[value], depth + 1).map_err(|why| within(&field.name, &why))?;
                }
                (Some(of), RawValue::Bytes(value)) if schema.get(of).needs_fields => {
                    inner.entry(place).or_default().push(value);
                }
                _ => {}
            }
        }
    }
    if let Some(place) = (0..is_there.len()).find(|place| message.fields[*place].is_required && !is_there[*place]) {
        return Err(format!("the required field `{}` is missing", message.fields[place].name).into());
    }
    for (place, parts) in inner {
        let field = &message.fields[place];
        if let Some(of) = field.of.message() {
            check_required(schema, of, &parts, depth + 1).map_err(|why| within(&field.name, &why))?;
        }
    }
    Ok(())
}
