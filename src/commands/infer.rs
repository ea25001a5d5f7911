//! `thalweg infer`: proposes a stream for a topic.
//!
//! Invariant: the command prints a definition and creates nothing.

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use thalweg_client::terminal;
use thalweg_schemas::decode::infer::first_reject;
use thalweg_schemas::definition::stream::RecordFormat;
use thalweg_speed::Assignment;

use crate::flags::{self, KafkaFlags, WarehouseFlags};
use crate::proposal::{Proposal, SAMPLE, leading_to, propose};

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
    #[arg(long, value_name = "N", default_value_t = SAMPLE)]
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
    fn of_layer(self) -> RecordFormat {
        match self {
            Self::Avro => RecordFormat::Avro,
            Self::Json => RecordFormat::Json,
            Self::Protobuf => RecordFormat::Protobuf,
        }
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let settings = flags::settings(&arguments.warehouse, &[flags::table(&arguments.kafka)])?;
    let config = settings.speed(Assignment::All);
    let stream = leading_to(&arguments.topic, arguments.connection.as_deref())?;
    let wanted = arguments.format.map(InferredFormat::of_layer);
    let Proposal { inferred, format, sample } = propose(&config, &stream, wanted, arguments.sample).await?;
    if inferred.columns.is_empty() {
        bail!(
            "nothing of the messages of topic `{}` can be a column: {}",
            arguments.topic,
            inferred.left_out.join("; ")
        );
    }
    let mut options = vec![("format", format.name())];
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

/// A topic's name as that of a stream: lower-case letters, digits and underscores.
fn word(topic: &str) -> String {
    let name: String =
        topic.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' }).collect();
    match name.starts_with(|c: char| c.is_ascii_digit()) {
        true => format!("t_{name}"),
        false => name,
    }
}
