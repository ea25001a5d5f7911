//! `CREATE EXTERNAL TABLE … STORED AS KAFKA` as a stream definition.
//!
//! Invariant: every clause and every option either becomes part of the definition or is refused.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Schema};
use datafusion::sql::parser::CreateExternalTable;
use datafusion::sql::sqlparser::ast::{Spanned, TableConstraint, Value};
use datafusion::sql::sqlparser::keywords::Keyword;

use crate::definition::avro_options::{self, read_avro};
use crate::definition::column;
use crate::definition::json_options::{self, read_json, read_tombstones, set_units_of_envelope};
use crate::definition::kafka_options::KAFKA;
use crate::definition::message::{KeptPart, MessageOptions, TimestampUnit, TimestampUnits};
use crate::definition::pieces::Piece;
use crate::definition::protobuf_options::{self, read_protobuf};
use crate::definition::statement::{PlacedStatement, Statement, stream_name};
use crate::definition::stream::{RecordFormat, StreamDefinition};
use crate::error::TextSpan;
use crate::error::nearest::nearest;
use crate::{Error, Result};

const FORMAT: &str = "format";
const EVENT_TIME: &str = "event_time";
const CONNECTION: &str = "connection";
/// The longest name of a connection, in characters.
const LONGEST_CONNECTION: usize = 63;
const TIMESTAMP_UNIT: &str = "timestamp_unit";
/// The unit of one column: `'timestamp_unit.at' 'ms'`.
const UNIT_OF: &str = "timestamp_unit.";
const KEEP: &str = "keep";
const EVOLVE: &str = "evolve";
/// Every option but librdkafka's properties and the units of columns.
const NAMES: [&str; 19] = [
    FORMAT,
    EVENT_TIME,
    CONNECTION,
    TIMESTAMP_UNIT,
    KEEP,
    EVOLVE,
    json_options::TOMBSTONES,
    json_options::ENVELOPE,
    json_options::ROWS,
    json_options::BYTES,
    json_options::DECIMALS,
    avro_options::FRAMING,
    avro_options::SCHEMA,
    avro_options::REFUSED,
    protobuf_options::FRAMING,
    protobuf_options::SCHEMA,
    protobuf_options::DESCRIPTOR,
    protobuf_options::MESSAGE,
    protobuf_options::REFUSED,
];
/// Where the options of formats with schemas begin.
const OF_FORMATS: usize = 6;
/// Kafka's limit, in characters.
const LONGEST_TOPIC: usize = 249;

/// `piece` is the statement that `create` was parsed from.
///
/// Errors: [`Error::RefuseDefinition`], [`Error::CheckName`].
pub(super) fn create_stream(create: CreateExternalTable, piece: &Piece<'_>) -> Result<PlacedStatement> {
    let subject = TextSpan::of_parser(create.name.span());
    let name = stream_name(&create.name)?;
    refuse_clauses(&create, piece)?;
    let topic = read_topic(&create.locations, piece)?;
    let columns = column::schema(create.columns)?;
    let mut options = read_options(create.options, piece)?;
    let value_of = |key| piece.option(key).and_then(|option| option.value);
    let format = read_format(&mut options, &columns).map_err(|refusal| refusal.at(value_of(FORMAT)))?;
    let event_time = options.remove(EVENT_TIME);
    if let Some(column) = &event_time {
        let found = columns.field_with_name(column).ok().map(|f| f.data_type());
        if !matches!(found, Some(DataType::Timestamp(..))) {
            return Err(Error::refuse(
                match found {
                    None => format!("The event time `{column}` is not a column"),
                    Some(_) => format!("The event time `{column}` is not a TIMESTAMP"),
                },
                "Name a column that is declared as TIMESTAMP.",
            )
            .at(value_of(EVENT_TIME)));
        }
    }
    let connection = options.remove(CONNECTION);
    if let Some(name) = connection.as_deref().filter(|name| !is_connection(name)) {
        return Err(Error::refuse(
            format!("`{name}` is not the name of a connection"),
            "Names have lower-case letters, digits and dashes: [connection.eu] in the settings is 'connection' 'eu'.",
        )
        .at(value_of(CONNECTION)));
    }
    let json = read_json(&mut options, format, piece)?;
    let mut units = read_units(&mut options, &columns, piece)?;
    set_units_of_envelope(&mut units, &columns, json.envelope);
    let messages = MessageOptions {
        json,
        avro: read_avro(&mut options, format, piece)?,
        protobuf: Box::new(read_protobuf(&mut options, format, piece)?),
        tombstones: read_tombstones(&mut options, format, json.envelope, piece)?,
        evolves: read_evolve(&mut options, piece)?,
        units,
        keep: read_keep(&mut options, format, piece)?,
    };
    let definition = StreamDefinition {
        name,
        topic,
        columns,
        format,
        event_time,
        connection,
        messages,
        kafka: options
            .into_iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(KAFKA)?.to_owned(), value)))
            .collect(),
        sql: piece.text.to_owned(),
    };
    if definition.messages.evolves && !definition.needs_registry() {
        let help = "Leave out 'evolve'; ALTER TABLE … ADD COLUMN adds columns to any stream.";
        let refusal = Error::refuse("Only a stream whose schemas are in a registry gets columns by itself", help);
        return Err(refusal.at(piece.option(EVOLVE).and_then(|option| option.name)));
    }
    let (or_replace, if_not_exists) = (create.or_replace, create.if_not_exists);
    let statement = Statement::CreateStream { definition, or_replace, if_not_exists };
    Ok(PlacedStatement { statement, subject, stream: None })
}

/// The topic of a stream without columns.
///
/// Errors: as [`create_stream`].
pub(super) fn topic_of(create: &CreateExternalTable, piece: &Piece<'_>) -> Result<String> {
    refuse_clauses(create, piece)?;
    read_options(create.options.clone(), piece)?;
    read_topic(&create.locations, piece)
}

/// The format that a stream without columns names, if there is such a format.
pub(super) fn format_of(create: &CreateExternalTable) -> Option<RecordFormat> {
    let name = option_of(create, FORMAT)?;
    RecordFormat::ALL.into_iter().find(|format| name.eq_ignore_ascii_case(format.name()))
}

/// The connection that a stream without columns names.
pub(super) fn connection_of(create: &CreateExternalTable) -> Option<String> {
    option_of(create, CONNECTION)
}

fn option_of(create: &CreateExternalTable, name: &str) -> Option<String> {
    let (_, value) = create.options.iter().find(|(key, _)| key.eq_ignore_ascii_case(name))?;
    Some(text_of(value.clone()))
}

/// The text of an option's value.
fn text_of(value: Value) -> String {
    match value {
        Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) | Value::EscapedStringLiteral(text) => text,
        other => other.to_string(),
    }
}

fn refuse_clauses(create: &CreateExternalTable, piece: &Piece<'_>) -> Result<()> {
    if create.file_type != "KAFKA" {
        return Err(Error::refuse(
            format!("STORED AS {} is not supported", create.file_type),
            "Use STORED AS KAFKA with LOCATION '<topic>'.",
        )
        .at(piece.clause_and_next(&[Keyword::STORED, Keyword::AS])));
    }
    if create.temporary {
        let refusal = Error::refuse("A stream is archived, so it cannot be temporary", "Leave out TEMPORARY.");
        return Err(refusal.at(piece.clause(&[Keyword::TEMPORARY])));
    }
    if !create.table_partition_cols.is_empty() {
        return Err(Error::refuse(
            "PARTITIONED BY is not supported: the archive is laid out by Kafka's partitions and offsets",
            "Leave it out.",
        )
        .at(piece.clause(&[Keyword::PARTITIONED, Keyword::BY])));
    }
    if !create.order_exprs.is_empty() {
        return Err(Error::refuse(
            "WITH ORDER is not supported: rows come in the order of Kafka's offsets",
            "Leave it out.",
        )
        .at(piece.clause(&[Keyword::WITH, Keyword::ORDER])));
    }
    match create.constraints.first() {
        None => Ok(()),
        Some(TableConstraint::PrimaryKey(_)) => {
            Err(column::no_primary_key().at(piece.clause(&[Keyword::PRIMARY, Keyword::KEY])))
        }
        Some(other) => Err(Error::refuse(
            format!("The constraint `{other}` is not supported"),
            "Leave it out; NOT NULL is the only one there is.",
        )
        .at(TextSpan::of_parser(other.span()))),
    }
}

fn read_topic(locations: &[String], piece: &Piece<'_>) -> Result<String> {
    let [topic] = locations else {
        let refusal = Error::refuse("A stream has one topic", "Define a stream for each: LOCATION '<topic>'.");
        return Err(refusal.at(piece.clause(&[Keyword::LOCATION])));
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = (1..=LONGEST_TOPIC).contains(&topic.len()) && !matches!(topic.as_str(), "." | "..");
    if !fits || !topic.chars().all(legal) {
        return Err(Error::refuse(
            format!("LOCATION '{topic}' is not the name of a Kafka topic"),
            "Use the topic's name alone; brokers go into the settings.",
        )
        .at(piece.next_to(&[Keyword::LOCATION])));
    }
    Ok(topic.clone())
}

/// True if the settings can define a connection of this name.
pub fn is_connection(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=LONGEST_CONNECTION).contains(&name.len()) && name.chars().all(legal)
}

/// Takes the units of TIMESTAMP columns out of `options`.
fn read_units(options: &mut BTreeMap<String, String>, columns: &Schema, piece: &Piece<'_>) -> Result<TimestampUnits> {
    let mut units = TimestampUnits::default();
    let keys: Vec<String> =
        options.keys().filter(|key| *key == TIMESTAMP_UNIT || key.starts_with(UNIT_OF)).cloned().collect();
    for key in keys {
        let Some(text) = options.remove(&key) else { continue };
        let spans = piece.option(&key);
        let (name, value) = spans.map_or((None, None), |spans| (spans.name, spans.value));
        let unit = TimestampUnit::parse(&text).ok_or_else(|| {
            Error::refuse(format!("`{text}` is no unit of time"), "Units are 's', 'ms', 'us' and 'ns'.").at(value)
        })?;
        let Some(column) = key.strip_prefix(UNIT_OF) else {
            units.others = unit;
            continue;
        };
        match columns.fields().iter().find(|field| field.name().to_lowercase() == column) {
            Some(field) if has_timestamps(field.data_type()) => {
                units.columns.insert(field.name().clone(), unit);
            }
            found => {
                let message = match found {
                    None => format!("`{column}` has a unit and is not a column"),
                    Some(_) => format!("`{column}` has a unit and is not a TIMESTAMP"),
                };
                return Err(Error::refuse(message, "Name a column that is declared as TIMESTAMP.").at(name));
            }
        }
    }
    Ok(units)
}

/// True if `data_type` is a TIMESTAMP, or holds one at any depth.
fn has_timestamps(data_type: &DataType) -> bool {
    match data_type {
        DataType::Timestamp(..) => true,
        DataType::List(item) => has_timestamps(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_timestamps(field.data_type())),
        _ => false,
    }
}

/// Takes the format out of `options`. Raw messages need one column for their payload.
fn read_format(options: &mut BTreeMap<String, String>, columns: &Schema) -> Result<RecordFormat> {
    let Some(name) = options.remove(FORMAT) else { return Ok(RecordFormat::Json) };
    let format = RecordFormat::ALL.into_iter().find(|format| name.eq_ignore_ascii_case(format.name()));
    let types: Vec<&DataType> = columns.fields().iter().map(|field| field.data_type()).collect();
    match (format, types.as_slice()) {
        (None, _) => Err(Error::refuse(
            format!("Messages in the format `{name}` cannot be decoded"),
            "Formats are 'json', one JSON object per message, 'avro', one Avro value, 'protobuf', one Protobuf message, \
             'csv' and 'tsv', one line, and 'raw', the payload as it is.",
        )),
        (Some(RecordFormat::Raw), [DataType::Utf8 | DataType::Binary]) => Ok(RecordFormat::Raw),
        (Some(RecordFormat::Raw), _) => Err(Error::refuse(
            "A stream of raw messages has one column, for the payload, of type STRING or BYTEA",
            "Declare that column alone: (line STRING). Key, headers and time of a message are in _key, _headers and \
             _timestamp.",
        )),
        (Some(format), _) => Ok(format),
    }
}

/// Takes the option that says what is kept of a message out of `options`. The column of a raw message is its payload.
fn read_keep(options: &mut BTreeMap<String, String>, format: RecordFormat, piece: &Piece<'_>) -> Result<KeptPart> {
    match options.remove(KEEP) {
        None if format == RecordFormat::Raw => Ok(KeptPart::Row),
        None => Ok(KeptPart::default()),
        Some(part) if part.eq_ignore_ascii_case("message") => Ok(KeptPart::Message),
        Some(part) if part.eq_ignore_ascii_case("row") => Ok(KeptPart::Row),
        Some(other) => Err(Error::refuse(
            format!("`{other}` is no part of a message that can be kept"),
            "Use 'message' for columns and payload, or 'row' for the columns alone.",
        )
        .at(piece.option(KEEP).and_then(|option| option.value))),
    }
}

/// Takes the option that says whether new fields become columns out of `options`.
fn read_evolve(options: &mut BTreeMap<String, String>, piece: &Piece<'_>) -> Result<bool> {
    match options.remove(EVOLVE) {
        None => Ok(false),
        Some(text) if text.eq_ignore_ascii_case("auto") => Ok(true),
        Some(text) if text.eq_ignore_ascii_case("none") => Ok(false),
        Some(other) => {
            let help = "Write 'auto', and new fields become columns, or 'none'.";
            let value = piece.option(EVOLVE).and_then(|option| option.value);
            Err(Error::refuse(format!("`{other}` is no 'evolve'"), help).at(value))
        }
    }
}

/// The options by lower-case key. Unknown and repeated options are refused.
fn read_options(options: Vec<(String, Value)>, piece: &Piece<'_>) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for (key, value) in options {
        let key = key.to_lowercase();
        let refuse = |message, help: String| {
            let name = piece.option(&key).and_then(|option| option.name);
            Err(Error::refuse(message, help).at(name))
        };
        let named = |prefix| key.strip_prefix(prefix).is_some_and(|rest: &str| !rest.is_empty());
        if !named(KAFKA) && !named(UNIT_OF) && !NAMES.contains(&key.as_str()) {
            return refuse(format!("There is no option '{key}'"), nearest_option(&key));
        }
        if found.insert(key.clone(), text_of(value)).is_some() {
            return refuse(format!("The option '{key}' is given twice"), "Keep one of them.".into());
        }
    }
    Ok(found)
}

fn nearest_option(key: &str) -> String {
    match nearest(key, NAMES) {
        Some(known) => format!("Did you mean '{known}'?"),
        None if key.contains('.') => {
            format!("Did you mean '{KAFKA}{}'?", key.trim_start_matches('.'))
        }
        None => format!(
            "Options are '{FORMAT}', '{EVENT_TIME}', '{CONNECTION}', '{TIMESTAMP_UNIT}', '{UNIT_OF}<column>', '{KEEP}', \
             '{EVOLVE}', {} and librdkafka's properties as '{KAFKA}<property>'.",
            NAMES[OF_FORMATS..].iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join(", "),
        ),
    }
}
