//! `CREATE EXTERNAL TABLE … STORED AS KAFKA` as a stream definition.
//!
//! Invariant: every clause and every option is either taken into the definition or refused.

use std::collections::BTreeMap;

use arrow::datatypes::DataType;
use datafusion::sql::parser::CreateExternalTable;
use datafusion::sql::sqlparser::ast::{TableConstraint, Value};

use crate::definition::column;
use crate::definition::statement::{Statement, bare_name};
use crate::definition::stream::{RecordFormat, StreamDefinition};
use crate::error::nearest::nearest;
use crate::{Error, Result, StreamName};

const FORMAT: &str = "format";
const EVENT_TIME: &str = "event_time";
const KAFKA: &str = "kafka.";
/// Kafka's own limit.
const LONGEST_TOPIC: usize = 249;

/// `sql` is the statement's own text.
///
/// Errors: [`Error::RefuseDefinition`], [`Error::CheckName`].
pub(super) fn create_stream(create: CreateExternalTable, sql: &str) -> Result<Statement> {
    let name = StreamName::new(&bare_name(&create.name)?)?;
    refuse_clauses(&create)?;
    let topic = read_topic(&create.locations)?;
    let columns = column::schema(create.columns)?;
    let mut options = read_options(create.options)?;
    let format = match options.remove(FORMAT) {
        None => RecordFormat::Json,
        Some(format) if format.eq_ignore_ascii_case("json") => RecordFormat::Json,
        Some(other) => {
            return Err(Error::refuse(
                format!("Messages in the format `{other}` cannot be decoded."),
                "The format that exists is 'json': one JSON object per message.",
            ));
        }
    };
    let event_time = options.remove(EVENT_TIME);
    if let Some(column) = &event_time {
        let found = columns.field_with_name(column).ok().map(|f| f.data_type());
        if !matches!(found, Some(DataType::Timestamp(..))) {
            return Err(Error::refuse(
                match found {
                    None => format!("The event time `{column}` is not a column."),
                    Some(_) => format!("The event time `{column}` is not a TIMESTAMP."),
                },
                "Name a column that is declared as TIMESTAMP.",
            ));
        }
    }
    Ok(Statement::CreateStream {
        definition: StreamDefinition {
            name,
            topic,
            columns,
            format,
            event_time,
            kafka: options
                .into_iter()
                .filter_map(|(key, value)| Some((key.strip_prefix(KAFKA)?.to_owned(), value)))
                .collect(),
            sql: sql.to_owned(),
        },
        or_replace: create.or_replace,
        if_not_exists: create.if_not_exists,
    })
}

fn refuse_clauses(create: &CreateExternalTable) -> Result<()> {
    if create.file_type != "KAFKA" {
        return Err(Error::refuse(
            format!("STORED AS {} is not supported.", create.file_type),
            "Use STORED AS KAFKA with LOCATION '<topic>'.",
        ));
    }
    if create.temporary {
        return Err(Error::refuse("A stream is archived, so it cannot be temporary.", "Leave out TEMPORARY."));
    }
    if !create.table_partition_cols.is_empty() {
        return Err(Error::refuse(
            "PARTITIONED BY is not supported: the archive is laid out by Kafka's partitions and offsets.",
            "Leave it out.",
        ));
    }
    if !create.order_exprs.is_empty() {
        return Err(Error::refuse(
            "WITH ORDER is not supported: rows come in the order of Kafka's offsets.",
            "Leave it out.",
        ));
    }
    match create.constraints.first() {
        None => Ok(()),
        Some(TableConstraint::PrimaryKey(_)) => Err(column::no_primary_key()),
        Some(other) => Err(Error::refuse(
            format!("The constraint `{other}` is not supported."),
            "Leave it out; NOT NULL is the only one there is.",
        )),
    }
}

fn read_topic(locations: &[String]) -> Result<String> {
    let [topic] = locations else {
        return Err(Error::refuse("A stream has one topic.", "Define a stream for each: LOCATION '<topic>'."));
    };
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = (1..=LONGEST_TOPIC).contains(&topic.len()) && !matches!(topic.as_str(), "." | "..");
    if !fits || !topic.chars().all(legal) {
        return Err(Error::refuse(
            format!("LOCATION '{topic}' is not the name of a Kafka topic."),
            "Use the topic's name alone; brokers go into the option 'kafka.bootstrap.servers'.",
        ));
    }
    Ok(topic.clone())
}

/// Options by lower-case key, each of a known name and given once.
fn read_options(options: Vec<(String, Value)>) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for (key, value) in options {
        let key = key.to_lowercase();
        let kafka = key.strip_prefix(KAFKA).is_some_and(|rest| !rest.is_empty());
        if !kafka && key != FORMAT && key != EVENT_TIME {
            return Err(Error::refuse(format!("There is no option '{key}'."), nearest_option(&key)));
        }
        let value = match value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) | Value::EscapedStringLiteral(text) => {
                text
            }
            other => other.to_string(),
        };
        if found.insert(key.clone(), value).is_some() {
            return Err(Error::refuse(format!("The option '{key}' is given twice."), "Keep one of them."));
        }
    }
    Ok(found)
}

fn nearest_option(key: &str) -> String {
    match nearest(key, [FORMAT, EVENT_TIME]) {
        Some(known) => format!("Did you mean '{known}'?"),
        None if key.contains('.') => {
            format!("Did you mean '{KAFKA}{}'?", key.trim_start_matches('.'))
        }
        None => format!("Options are '{FORMAT}', '{EVENT_TIME}' and librdkafka's properties as '{KAFKA}<property>'."),
    }
}
