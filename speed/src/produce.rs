//! Producing: the rows of a file become messages of a stream's topic.
//!
//! ```text
//!  file ─▶ rows (thread) ─▶ the stream's columns ─▶ payloads ─▶ bounded queue ─▶ librdkafka ─▶ reports
//! ```
//!
//! Invariant: memory does not grow with the file. Every row that was passed to librdkafka is counted as delivered, or
//! as not delivered with the reason, before [`produce`] returns.

mod plan;

mod counts;

mod rows;

mod send;

use std::fs::File;
use std::sync::{Arc, mpsc};

use thalweg_schemas::decode::SchemaId;
use thalweg_schemas::definition::stream::RecordFormat;
use thalweg_schemas::encode::MessageEncoder;
use thalweg_schemas::files::{BadRows, FileFormat, OpenedRows, RowReader, read};
use tokio_util::sync::CancellationToken;

use crate::config::SpeedConfig;
use crate::registry::SchemaRegistry;
use crate::{Error, Result};
use counts::RowCounts;
use rows::{EncodedRows, FromFile, RowEncoder, reader_gone};
use send::Sender;

pub use counts::{Loss, ProduceCounts, Produced};
pub use plan::{ProducePlan, RowsFrom};

/// Batches between the thread that reads and the one that sends.
const AHEAD: usize = 2;

/// Reads, encodes and sends the rows, and waits for the report of each. Blocks a thread of a runtime. `counts` has the
/// progress. After `stop` nothing new is sent.
///
/// Errors: nothing was sent, because the plan cannot be carried out or no broker answers.
pub fn produce(plan: &ProducePlan, counts: &ProduceCounts, stop: &CancellationToken) -> Result<Produced> {
    let bad = BadRows {
        file: plan.from.to_string(),
        format: plan.format,
        skip: plan.skip_bad,
        notes: Arc::clone(&counts.0.notes),
    };
    let encoder = RowEncoder::new(plan, encoder(plan)?, bad.clone())?;
    let reader = RowReader::new(&plan.stream, bad, plan.limit)?;
    let opened = open(plan)?;
    let sender = match plan.dry_run {
        true => None,
        false => Some(Sender::open(plan, counts.0.clone(), stop.clone())?),
    };
    let (to, from) = mpsc::sync_channel(AHEAD);
    let reading = std::thread::Builder::new().name("produce-rows".to_owned()).spawn({
        let format = plan.format;
        move || {
            // A receiver that is gone needs no more rows.
            let mut pass = |rows: EncodedRows| to.send(FromFile::Rows(rows)).is_ok();
            let read = read_encoded(opened, format, reader, &encoder, &mut pass);
            let _ = to.send(read.map_or_else(FromFile::Failed, |()| FromFile::End));
        }
    });
    reading.map_err(Error::StartThreads)?;
    match sender {
        Some(sender) => Ok(sender.send_all(&from, plan)),
        None => Ok(encode_all(&from, &counts.0, stop)),
    }
}

/// The encoder of the stream; for messages that name their schema by its id, with the newest of the topic's subject.
///
/// Errors: [`Error::FetchSchema`], and those of the registry's configuration and of the encoder.
fn encoder(plan: &ProducePlan) -> Result<MessageEncoder> {
    let stream = &plan.stream;
    if !stream.needs_registry() || stream.format != RecordFormat::Avro {
        return Ok(MessageEncoder::new(stream)?);
    }
    let config = SpeedConfig { kafka: plan.kafka.clone(), ..SpeedConfig::default() };
    let registry = SchemaRegistry::open(&config, stream)?;
    let subject = format!("{}-value", stream.topic);
    let failed = |reason: String| Error::FetchSchema { stream: stream.name.clone(), reason };
    let fetched = tokio::runtime::Handle::current().block_on(async {
        let id = registry.newest(&subject).await?;
        registry.fetch(SchemaId::Number(id)).await.map(|schema| (id, schema))
    });
    let (id, schema) = fetched.map_err(|unfetched| match unfetched.is_unknown {
        true => failed(format!("{}; register the schema of the topic's values there first", unfetched.reason)),
        false => failed(unfetched.reason),
    })?;
    Ok(MessageEncoder::registered(stream, id, &schema.map_err(failed)?)?)
}

/// Encodes without sending.
fn encode_all(from: &mpsc::Receiver<FromFile>, counts: &RowCounts, stop: &CancellationToken) -> Produced {
    let mut failure = None;
    let is_complete = loop {
        if stop.is_cancelled() {
            break false;
        }
        match from.recv() {
            Ok(FromFile::Rows(rows)) => rows.iter().for_each(|row| counts.would_send(row.bytes())),
            Ok(FromFile::End) => break true,
            Ok(FromFile::Failed(error)) => failure = Some(error),
            Err(mpsc::RecvError) => {
                failure.get_or_insert_with(reader_gone);
                break false;
            }
        }
    };
    Produced { is_complete, is_committed: None, failure, lost: Vec::new() }
}

fn open(plan: &ProducePlan) -> Result<OpenedRows> {
    let failed = |source| thalweg_schemas::Error::OpenRows { file: plan.from.to_string(), source };
    match &plan.from {
        RowsFrom::Stdin => Ok(OpenedRows::Bytes(Box::new(std::io::stdin()))),
        RowsFrom::File(path) => {
            let file = File::open(path).map_err(failed)?;
            if file.metadata().map_err(failed)?.is_dir() {
                return Err(failed(std::io::Error::other("it is a folder")).into());
            }
            Ok(OpenedRows::File(file))
        }
    }
}

/// Reads and encodes all rows. `pass` returns false if no more are wanted.
fn read_encoded(
    opened: OpenedRows,
    format: FileFormat,
    reader: RowReader,
    encoder: &RowEncoder,
    pass: &mut dyn FnMut(EncodedRows) -> bool,
) -> Result<()> {
    let mut failed = None;
    read(opened, format, reader, &mut |rows| match encoder.encode(rows) {
        Ok(encoded) => pass(encoded),
        Err(error) => {
            failed = Some(error);
            false
        }
    })?;
    failed.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests;
