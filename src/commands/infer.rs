//! `thalweg infer`: proposes a stream for a topic.
//!
//! Invariant: the command prints a definition and creates nothing.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use thalweg_client::terminal;
use thalweg_schemas::decode::SchemaKind;
use thalweg_schemas::decode::infer::{InferredColumns, columns_of_json, columns_of_schema, first_reject};
use thalweg_schemas::definition::stream::{RecordFormat, StreamDefinition};
use thalweg_schemas::definition::{self, Statement};
use thalweg_speed::{Assignment, SpeedConfig};

use crate::flags::{self, KafkaFlags, Usage, WarehouseFlags};

const EXAMPLES: &str = "\
Examples:
  thalweg infer orders --kafka bootstrap.servers=kafka:9092 > orders.sql
  thalweg infer orders --kafka bootstrap.servers=kafka:9092 --kafka schema.registry.url=http://registry:8081
  thalweg infer clicks --connection eu --format json --sample 10000

With a schema registry in the connection, the columns are those of the newest schema of the subject TOPIC-value, in
Avro or Protobuf; else they are guessed from the newest messages. Read what is printed, correct it, and apply it with `thalweg apply`.";

/// Propose a stream for a topic, from its schema or from a sample of its messages
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// The topic
    topic: String,
    /// The name of the stream [default: the topic's, with underscores]
    #[arg(long, value_name = "STREAM")]
    name: Option<String>,
    /// The connection of the settings that leads to the topic [default: kafka]
    #[arg(long, value_name = "NAME")]
    connection: Option<String>,
    /// How messages are encoded [default: as the schema in the registry says if the connection has one, else json]
    #[arg(long, value_enum)]
    format: Option<InferredFormat>,
    /// The number of messages that are read, if columns are guessed from messages
    #[arg(long, value_name = "N", default_value_t = 1000)]
    sample: usize,
    #[command(flatten)]
    kafka: KafkaFlags,
    #[command(flatten)]
    warehouse: WarehouseFlags,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum InferredFormat {
    Avro,
    Json,
    Protobuf,
}

impl InferredFormat {
    /// The name that the option `format` has for it.
    fn name(self) -> &'static str {
        match self {
            Self::Avro => RecordFormat::Avro.name(),
            Self::Json => RecordFormat::Json.name(),
            Self::Protobuf => RecordFormat::Protobuf.name(),
        }
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let settings = flags::settings(&arguments.warehouse, &[flags::table(&arguments.kafka)])?;
    let config = settings.speed(Assignment::All);
    let stream = stream(&arguments)?;
    let Proposal { inferred, format, sample } = propose(&config, &stream, arguments.format, arguments.sample).await?;
    if inferred.columns.is_empty() {
        bail!(
            "nothing of the messages of topic `{}` can be a column: {}",
            arguments.topic,
            inferred.left_out.join("; ")
        );
    }
    let mut options = vec![("format", format)];
    options.extend(arguments.connection.as_deref().map(|name| ("connection", name)));
    let name = arguments.name.unwrap_or_else(|| word(&arguments.topic));
    let statement = inferred.statement(&name, &arguments.topic, &options);
    terminal::out(statement.trim_end())?;
    if let Some((rejects, first)) = first_reject(&statement, &sample)? {
        let all = sample.len();
        terminal::err(&format!(
            "note: {rejects} of {all} messages of the sample would be rejects, the first because {first}"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

/// Proposed columns, the format of their messages, and the messages that they are guessed from.
struct Proposal {
    inferred: InferredColumns,
    format: &'static str,
    sample: Vec<Vec<u8>>,
}

async fn propose(
    config: &SpeedConfig,
    stream: &StreamDefinition,
    wanted: Option<InferredFormat>,
    sample: usize,
) -> Result<Proposal> {
    let topic = &stream.topic;
    if wanted != Some(InferredFormat::Json) {
        if let Some(schema) = thalweg_speed::newest_schema(config, stream).await? {
            let format =
                if schema.kind == SchemaKind::Protobuf { InferredFormat::Protobuf } else { InferredFormat::Avro };
            if let Some(wanted) = wanted.filter(|wanted| *wanted != format) {
                let (wanted, found) = (wanted.name(), format.name());
                bail!("the newest schema of topic `{topic}` is one of {found}, and --format is {wanted}");
            }
            let refused = |why| anyhow::anyhow!("the newest schema of topic `{topic}` cannot be used: {why}");
            let inferred = columns_of_schema(&schema).map_err(refused)?;
            return Ok(Proposal { inferred, format: format.name(), sample: Vec::new() });
        }
        if let Some(wanted) = wanted {
            let needs = format!("{} needs a schema registry: add --kafka schema.registry.url=URL", wanted.name());
            return Err(Usage(needs).into());
        }
    }
    let messages = thalweg_speed::newest_messages(config, stream, sample).await?;
    if messages.is_empty() {
        bail!("topic `{topic}` has no messages yet; produce some, or write the definition by hand");
    }
    let refused = |why| {
        anyhow::anyhow!(
            "columns for topic `{topic}` cannot be guessed: {why}; is it Avro or Protobuf? Then add --kafka schema.registry.url=URL"
        )
    };
    let inferred = columns_of_json(&messages).map_err(refused)?;
    Ok(Proposal { inferred, format: InferredFormat::Json.name(), sample: messages })
}

/// A stream that leads to the topic; its columns do not matter.
fn stream(arguments: &Arguments) -> Result<StreamDefinition> {
    let text = |text: &str| text.replace('\'', "''");
    let connection = arguments.connection.as_ref().map(|name| format!(", 'connection' '{}'", text(name)));
    let sql = format!(
        "CREATE EXTERNAL TABLE sample (message BYTEA) STORED AS KAFKA LOCATION '{}' OPTIONS ('format' 'raw'{})",
        text(&arguments.topic),
        connection.unwrap_or_default()
    );
    match definition::parse(&sql).map_err(|e| Usage(e.to_string()))?.pop() {
        Some(Statement::CreateStream { definition, .. }) => Ok(definition),
        _ => bail!("`{sql}` defines no stream"),
    }
}

/// A topic's name as that of a stream: lower-case letters, digits and underscores.
fn word(topic: &str) -> String {
    let name: String =
        topic.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    match name.starts_with(|c: char| c.is_ascii_digit()) {
        true => format!("t_{name}"),
        false => name,
    }
}
