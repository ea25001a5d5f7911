//! What a stream of a topic could be: columns from the topic's newest schema, or guessed from its newest messages.
//!
//! Invariant: a guess says so, and from how many messages it is.

use anyhow::{Result, bail};
use futures::FutureExt;
use futures::future::BoxFuture;
use thalweg_schemas::catalog::FoundColumns;
use thalweg_schemas::decode::SchemaKind;
use thalweg_schemas::decode::infer::{InferredColumns, columns_of_json, columns_of_schema, first_reject};
use thalweg_schemas::definition::statement::OpenStream;
use thalweg_schemas::definition::stream::{RecordFormat, StreamDefinition};
use thalweg_schemas::definition::{self, Statement};
use thalweg_speed::SpeedConfig;

use crate::flags::Usage;

/// The messages that columns are guessed from, unless a user says another number.
pub(crate) const SAMPLE: usize = 1000;

/// Proposed columns, the format of their messages, and the messages that they are guessed from.
pub(crate) struct Proposal {
    pub(crate) inferred: InferredColumns,
    pub(crate) format: RecordFormat,
    pub(crate) sample: Vec<Vec<u8>>,
}

pub(crate) async fn propose(
    config: &SpeedConfig,
    stream: &StreamDefinition,
    wanted: Option<RecordFormat>,
    sample: usize,
) -> Result<Proposal> {
    let topic = &stream.topic;
    if wanted != Some(RecordFormat::Json) {
        if let Some(schema) = thalweg_speed::newest_schema(config, stream).await? {
            let format = if schema.kind == SchemaKind::Protobuf { RecordFormat::Protobuf } else { RecordFormat::Avro };
            if let Some(wanted) = wanted.filter(|wanted| *wanted != format) {
                let (wanted, found) = (wanted.name(), format.name());
                bail!("the newest schema of topic `{topic}` is one of {found}, and --format is {wanted}");
            }
            let refused = |why| anyhow::anyhow!("the newest schema of topic `{topic}` cannot be used: {why}");
            let inferred = columns_of_schema(&schema).map_err(refused)?;
            return Ok(Proposal { inferred, format, sample: Vec::new() });
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
    Ok(Proposal { inferred, format: RecordFormat::Json, sample: messages })
}

/// A stream that leads to the topic; its columns do not matter.
pub(crate) fn leading_to(topic: &str, connection: Option<&str>) -> Result<StreamDefinition> {
    let text = |text: &str| text.replace('\'', "''");
    let connection = connection.map(|name| format!(", 'connection' '{}'", text(name)));
    let sql = format!(
        "CREATE EXTERNAL TABLE sample (message BYTEA) STORED AS KAFKA LOCATION '{}' OPTIONS ('format' 'raw'{})",
        text(topic),
        connection.unwrap_or_default()
    );
    match definition::parse(&sql).map_err(|e| Usage(e.to_string()))?.pop() {
        Some(Statement::CreateStream { definition, .. }) => Ok(definition),
        _ => bail!("`{sql}` defines no stream"),
    }
}

/// Finds out the columns of a stream that was created without.
///
/// Errors: those of [`propose`]; the topic has nothing that a column could be.
pub(crate) fn columns_of(config: SpeedConfig, open: OpenStream) -> BoxFuture<'static, Result<FoundColumns>> {
    async move {
        let stream = leading_to(&open.topic, open.connection.as_deref())?;
        let Proposal { inferred, sample, .. } = propose(&config, &stream, Some(open.format), SAMPLE).await?;
        if inferred.columns.is_empty() {
            let left_out = inferred.left_out.join("; ");
            bail!("nothing of the messages of topic `{}` can be a column: {left_out}", open.topic);
        }
        let columns = inferred.list();
        let mut notes = Vec::new();
        if !sample.is_empty() {
            let all = sample.len();
            notes.push(format!("the columns are guessed from {all} messages: {columns}"));
            if let Some((rejects, first)) = first_reject(&open.text_with(&columns), &sample)? {
                notes.push(format!("{rejects} of {all} messages would be rejects, the first because {first}"));
            }
        }
        notes.extend(inferred.left_out.into_iter().map(|left| format!("no column for {left}")));
        Ok((columns, notes))
    }
    .boxed()
}
