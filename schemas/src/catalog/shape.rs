//! What may change of a stream while it has an archive or views: its options, and columns that are added.
//!
//! Invariant: archived rows fit the definition that replaces theirs.

use arrow::datatypes::{Field, FieldRef, Schema};

use crate::definition::statement::{AddedColumn, Statement};
use crate::definition::stream::{RecordFormat, StreamDefinition};
use crate::definition::{self, alter_stream};
use crate::{Error, Result};

/// The first column of `before` that `after` does not have as it was, in the same order.
fn lost_column<'a>(before: &'a Schema, after: &Schema) -> Option<&'a FieldRef> {
    let mut kept = before.fields().iter().peekable();
    for field in after.fields() {
        kept.next_if(|next| *next == field);
    }
    kept.next()
}

/// True if both definitions say the same, however they are written. The one that stands may have got columns since.
pub(super) fn is_same(before: &StreamDefinition, after: &StreamDefinition) -> bool {
    let StreamDefinition { name: _, topic, columns, format, event_time, connection, messages, kafka, sql: _ } = before;
    *topic == after.topic
        && lost_column(&after.columns, columns).is_none()
        && *format == after.format
        && *event_time == after.event_time
        && *connection == after.connection
        && *messages == after.messages
        && *kafka == after.kafka
}

/// The definition with more columns; `None` if it has them all. `repeated`: a column that stands as it is written is no
/// conflict.
pub(super) fn widened(
    before: &StreamDefinition,
    columns: &[AddedColumn],
    repeated: bool,
) -> Result<Option<StreamDefinition>> {
    let mut definition = before.clone();
    for added in columns {
        let known = definition.columns.field_with_name(&added.name).ok().cloned();
        let sql = alter_stream::with_column(&definition.sql, &added.text);
        let sql = sql.ok_or_else(|| Error::Broken(format!("stream {} has no list of columns", before.name)))?;
        match known {
            Some(_) if added.if_not_exists => {}
            // The text with the column twice is refused, so the column is compared in a stream of its own.
            Some(known) if repeated && is_declared(&known, added)? => {}
            Some(_) => {
                return Err(Error::refuse(
                    format!("Stream `{}` has a column `{}` already", before.name, added.name),
                    "Use another name, or ADD COLUMN IF NOT EXISTS.",
                ));
            }
            None => definition = stream_of(&sql)?,
        }
    }
    Ok((definition.sql != before.sql).then_some(definition))
}

/// True if `added` declares the column that a stream has.
fn is_declared(known: &Field, added: &AddedColumn) -> Result<bool> {
    let alone = stream_of(&format!("CREATE EXTERNAL TABLE s ({}) STORED AS KAFKA LOCATION 's'", added.text))?;
    Ok(alone.columns.fields().iter().any(|field| field.as_ref() == known))
}

fn stream_of(sql: &str) -> Result<StreamDefinition> {
    match definition::parse(sql)?.pop() {
        Some(Statement::CreateStream { definition, .. }) => Ok(definition),
        _ => Err(Error::Broken(format!("`{sql}` defines no stream"))),
    }
}

/// Refuses a stream whose rows would not fit the archived rows or the compiled views. Columns may be added.
pub(super) fn keep_shape(before: &StreamDefinition, after: &StreamDefinition) -> Result<()> {
    let name = &after.name;
    let refuse = |what: &str| {
        Err(Error::refuse(
            format!("Stream `{name}` has an archive or views, so its {what} cannot change"),
            "Create a stream with another name; options may change, and columns may be added.",
        ))
    };
    if lost_column(&before.columns, &after.columns).is_some() {
        return refuse("columns");
    }
    let fields = || after.columns.fields().iter();
    let is_new = |field: &&FieldRef| before.columns.field_with_name(field.name()).is_err();
    if let Some(required) = fields().filter(is_new).find(|field| !field.is_nullable()) {
        let what = format!("Column `{}` of stream `{name}`", required.name());
        return Err(Error::refuse(
            format!("{what} is new and NOT NULL, and archived rows have no value"),
            "Leave out NOT NULL.",
        ));
    }
    let by_place = matches!(after.format, RecordFormat::Csv | RecordFormat::Tsv);
    if by_place && fields().take(before.columns.fields().len()).any(|field| is_new(&field)) {
        return Err(Error::refuse(
            format!("Values of stream `{name}` meet its columns by their places"),
            "Add new columns behind the others.",
        ));
    }
    if before.topic != after.topic {
        return refuse("topic");
    }
    if before.format != after.format {
        return refuse("format");
    }
    Ok(())
}
