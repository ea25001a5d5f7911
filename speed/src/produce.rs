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

mod csv;
mod json;
mod parquet;

mod send;

use std::fs::File;
use std::io::Read;
use std::sync::mpsc;

use thalweg_schemas::decode::SchemaId;
use thalweg_schemas::definition::stream::RecordFormat;
use thalweg_schemas::encode::MessageEncoder;
use tokio_util::sync::CancellationToken;

use crate::config::SpeedConfig;
use crate::registry::SchemaRegistry;
use crate::{Error, Result};
use counts::RowCounts;
use rows::{EncodedRows, FromFile, RowReader, reader_gone};
use send::Sender;

pub use counts::{Loss, ProduceCounts, Produced};
pub use plan::{FileFormat, ProducePlan, RowsFrom};

/// Batches between the thread that reads and the one that sends.
const AHEAD: usize = 2;

/// Reads, encodes and sends the rows, and waits for the report of each. Blocks a thread of a runtime. `counts` has the
/// progress. After `stop` nothing new is sent.
///
/// Errors: nothing was sent, because the plan cannot be carried out or no broker answers.
pub fn produce(plan: &ProducePlan, counts: &ProduceCounts, stop: &CancellationToken) -> Result<Produced> {
    let encoder = encoder(plan)?;
    let reader = RowReader::new(plan, encoder, counts.0.clone())?;
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
            let end = read(opened, format, reader, &mut pass).map_or_else(FromFile::Failed, |()| FromFile::End);
            let _ = to.send(end);
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

enum OpenedRows {
    Bytes(Box<dyn Read + Send>),
    File(File),
}

fn open(plan: &ProducePlan) -> Result<OpenedRows> {
    let failed = |source| Error::OpenRows { file: plan.from.to_string(), source };
    match (&plan.from, plan.format) {
        (RowsFrom::Stdin, FileFormat::Parquet) => {
            let source = std::io::Error::other("Parquet is read from its end; give a file");
            Err(failed(source))
        }
        (RowsFrom::Stdin, _) => Ok(OpenedRows::Bytes(Box::new(std::io::stdin()))),
        (RowsFrom::File(path), format) => {
            let file = File::open(path).map_err(failed)?;
            if file.metadata().map_err(failed)?.is_dir() {
                return Err(failed(std::io::Error::other("it is a folder")));
            }
            Ok(match format {
                FileFormat::Parquet => OpenedRows::File(file),
                _ => OpenedRows::Bytes(Box::new(file)),
            })
        }
    }
}

/// Reads all rows. `pass` returns false if no more are wanted.
fn read(
    opened: OpenedRows,
    format: FileFormat,
    reader: RowReader,
    pass: &mut dyn FnMut(EncodedRows) -> bool,
) -> Result<()> {
    match (opened, format) {
        (OpenedRows::File(file), _) => parquet::read(file, reader, pass),
        (OpenedRows::Bytes(bytes), FileFormat::Csv) => csv::read(bytes, b',', reader, pass),
        (OpenedRows::Bytes(bytes), FileFormat::Tsv) => csv::read(bytes, b'\t', reader, pass),
        (OpenedRows::Bytes(bytes), FileFormat::Json) => json::read(bytes, reader, pass),
        (OpenedRows::Bytes(bytes), _) => json::read_lines(bytes, reader, pass),
    }
}

#[cfg(test)]
mod tests;
