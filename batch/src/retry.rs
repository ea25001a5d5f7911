//! Rejects that are read again: what can be decoded today enters the archive as an amendment of the stream.
//!
//! ```text
//!  rejects of one version, without those that have entered ─▶ decode ─▶ rows ─▶ one commit ─▶ Partition::RETRIED
//! ```
//!
//! Invariant: a reject enters once. The rejects are chosen in the version at which the amendment begins, and the commit
//! lands only if no other amendment has landed since.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray, new_null_array};
use arrow::compute::filter_record_batch;
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimestampMicrosecondType};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use datafusion::common::DFSchema;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::ident;
use futures::StreamExt;
use futures::future::BoxFuture;
use thalweg_schemas::algebra::{self, still_rejected, stream_column};
use thalweg_schemas::catalog::CatalogStream;
use thalweg_schemas::decode::Messages;
use thalweg_schemas::definition::message::{HEADERS, KEY_BYTES, PAYLOAD, ROW, SOURCE, UNLISTED};
use thalweg_schemas::definition::stream::{OFFSET, PARTITION, REJECT, StreamDefinition, TIMESTAMP};
use thalweg_schemas::engine::session;
use thalweg_schemas::error::Diagnostic;
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::MasterVersion;
use thalweg_schemas::{Fault, Frontier, Offset, Partition};

use crate::archive::{AmendOutcome, Archive, check_defined};
use crate::lease::{self, Taken};
use crate::run::{BatchConfig, bounded, rows};
use crate::{Error, Result};

const READING: &str = "reading rejects";
/// Rejects that are decoded together.
const TOGETHER: usize = 4096;

/// Which rejects are read again.
#[derive(Debug, Clone, Default)]
pub struct RetryScope {
    /// A condition over the columns of `rejects.STREAM`; all rejects if `None`.
    pub condition: Option<String>,
    /// True if nothing is to be committed.
    pub dry_run: bool,
}

/// How far a retry is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryProgress {
    /// Rejects that were read.
    pub read: u64,
    /// Those among them that are rows now.
    pub entered: u64,
}

/// The rows and rejects of messages, or why they cannot be decoded now, as a sentence for users.
pub type Redecoded = BoxFuture<'static, Result<RecordBatch, (Fault, String)>>;

/// Reads the archived rejects of `stream` again, and commits those that are rows under today's definition. `decode`
/// makes rows and rejects of messages.
///
/// Errors: [`Error::Amending`] if another process does the same; [`Error::ChooseRejects`]; those of the storage. After
/// an error nothing has entered, or, if the storage failed while committing, perhaps all; a second call enters what has
/// not.
pub async fn retry_rejects(
    warehouse: &Warehouse,
    stream: &CatalogStream,
    scope: &RetryScope,
    config: &BatchConfig,
    decode: impl Fn(Messages) -> Redecoded,
    mut progress: impl FnMut(RetryProgress),
) -> Result<RetryProgress> {
    let name = &stream.definition.name;
    let taken = lease::take_amendments(warehouse, name, Partition::RETRIED, &config.clock).await?;
    let amending = |holder: String| Error::Amending { stream: name.clone(), holder };
    let mut lease = match taken {
        Taken::Mine(lease) => lease,
        Taken::Held { holder, .. } => return Err(amending(holder.to_string())),
    };
    let held = lease.hold(retry(warehouse, stream, scope, config, decode, &mut progress)).await;
    lease.release().await;
    held.unwrap_or_else(|to| Err(amending(to.map_or("another process".to_owned(), |(holder, _)| holder.to_string()))))
}

async fn retry(
    warehouse: &Warehouse,
    stream: &CatalogStream,
    scope: &RetryScope,
    config: &BatchConfig,
    decode: impl Fn(Messages) -> Redecoded,
    progress: &mut impl FnMut(RetryProgress),
) -> Result<RetryProgress> {
    let definition = &stream.definition;
    let mut archive = Archive::open(warehouse, definition, stream.origin.clone()).await?;
    let state = session::state(bounded(warehouse, config).await?, 1);
    loop {
        let version = archive.latest().await?;
        if version.files.is_empty() {
            return Ok(RetryProgress::default());
        }
        let plan = candidates(&state, stream, &version, scope.condition.as_deref())?;
        let mut amendment = archive.begin_amendment(&version, Partition::RETRIED, "retried");
        let mut done = RetryProgress::default();
        let mut batches = algebra::stream(&state, READING, plan).await?;
        while let Some(batch) = batches.next().await {
            let batch = batch.map_err(|source| Error::RunPlan { what: READING.to_owned(), source })?;
            for start in (0..batch.num_rows()).step_by(TOGETHER) {
                let part = batch.slice(start, TOGETHER.min(batch.num_rows() - start));
                let read_again = |(fault, reason)| Error::ReadAgain { stream: definition.name.clone(), fault, reason };
                let decoded = decode(messages(&part)?).await.map_err(read_again)?;
                let rows = rows_of(&part, &decoded).map_err(|e| broken(&e))?;
                done.read += part.num_rows() as u64;
                done.entered += rows.num_rows() as u64;
                if !scope.dry_run {
                    amendment.push(&rows).await?;
                }
                progress(done);
            }
        }
        if scope.dry_run {
            amendment.abandon().await;
            return Ok(done);
        }
        if let Err(error) = check_defined(warehouse, stream).await {
            amendment.abandon().await;
            return Err(error);
        }
        match archive.amend(amendment).await? {
            AmendOutcome::Landed => return Ok(done),
            AmendOutcome::Fenced => {
                tracing::info!(stream = %definition.name, "another retry was first; beginning again")
            }
        }
    }
}

/// The rejects of `version` that are to be read again, in the order of their offsets.
fn candidates(
    state: &SessionState,
    stream: &CatalogStream,
    version: &MasterVersion,
    condition: Option<&str>,
) -> Result<LogicalPlan> {
    let definition = &stream.definition;
    let planning = |source| Error::RunPlan { what: "choosing rejects".to_owned(), source };
    let all = rows(definition, version, &stream.origin, &version.frontier)?.plan;
    let rejects = || {
        let rejected = LogicalPlanBuilder::from(all).filter(ident(REJECT).is_not_null())?.build()?;
        let schema = definition.reject_schema_with(&UNLISTED.into());
        let columns = schema.fields().iter().map(|f| Ok(stream_column(&rejected, f.name())?.alias(f.name())));
        let columns = columns.collect::<Result<Vec<_>, DataFusionError>>()?;
        LogicalPlanBuilder::from(rejected).project(columns)?.build()
    };
    let rejects = still_rejected(rejects().map_err(planning)?, retried(definition, version)?)?;
    let mut chosen = LogicalPlanBuilder::from(rejects);
    if let Some(condition) = condition {
        let refuse = |source: DataFusionError| Error::ChooseRejects {
            condition: condition.to_owned(),
            reason: Diagnostic::sentence(&source),
        };
        let schema = DFSchema::try_from(definition.reject_schema_with(&UNLISTED.into())).map_err(planning)?;
        let condition = state.create_logical_expr(condition, &schema).map_err(refuse)?;
        chosen = chosen.filter(condition).map_err(refuse)?;
    }
    let sorted = chosen.sort([PARTITION, OFFSET, ROW].map(|name| ident(name).sort(true, true)));
    sorted.and_then(LogicalPlanBuilder::build).map_err(planning)
}

/// The amendments of `version` that were rejects.
fn retried(definition: &StreamDefinition, version: &MasterVersion) -> Result<LogicalPlan> {
    let of = [Partition::RETRIED];
    let (from, to) = (Frontier::new().within(of), version.frontier.within(of));
    Ok(rows(definition, version, &from, &to)?.plan)
}

/// The messages of rejects.
fn messages(rejects: &RecordBatch) -> Result<Messages> {
    let column = |name: &str| {
        let found = rejects.column_by_name(name).map(Arc::clone);
        found.ok_or_else(|| Error::Broken(format!("rejects have no column {name}")))
    };
    let partitions = column(PARTITION)?;
    let offsets = column(OFFSET)?;
    let times = column(TIMESTAMP)?;
    let (payloads, keys, headers, numbers) = (column(PAYLOAD)?, column(KEY_BYTES)?, column(HEADERS)?, column(ROW)?);
    let numbers = numbers.as_primitive::<Int32Type>();
    let partitions = partitions.as_primitive::<Int32Type>();
    let offsets = offsets.as_primitive::<Int64Type>();
    let times = times.as_primitive::<TimestampMicrosecondType>();
    let (payloads, keys, headers) = (payloads.as_binary::<i32>(), keys.as_binary::<i32>(), headers.as_list::<i32>());
    let mut messages = Messages::new();
    for row in 0..rejects.num_rows() {
        let time_ms = times.is_valid(row).then(|| times.value(row).div_euclid(1000));
        let payload = payloads.is_valid(row).then(|| payloads.value(row));
        messages.push(Partition(partitions.value(row)), Offset(offsets.value(row)), time_ms, payload);
        if keys.is_valid(row) {
            messages.set_key(keys.value(row));
        }
        if numbers.is_valid(row) {
            messages.set_row(numbers.value(row));
        }
        if headers.is_valid(row) {
            let of_row = headers.value(row);
            let of_row = of_row.as_struct();
            let (names, values) = (of_row.column(0).as_string::<i32>(), of_row.column(1).as_binary::<i32>());
            for at in 0..of_row.len() {
                messages.add_header(names.value(at), values.is_valid(at).then(|| values.value(at)));
            }
        }
    }
    Ok(messages)
}

/// The rows that `rejects` have become in `decoded`, each with its reject as its source. A reject that was a whole
/// message leaves all of its rows out if one of them is still a reject, because none of them would be a reject
/// afterwards.
fn rows_of(rejects: &RecordBatch, decoded: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let reasons = decoded.column_by_name(REJECT).ok_or_else(|| ArrowError::SchemaError(REJECT.to_owned()))?;
    let places = |batch: &RecordBatch| {
        let partitions = batch[PARTITION].as_primitive::<Int32Type>().clone();
        let offsets = batch[OFFSET].as_primitive::<Int64Type>().clone();
        move |row: usize| (partitions.value(row), offsets.value(row))
    };
    let (place, rejected_at) = (places(decoded), places(rejects));
    let parts = rejects[ROW].as_primitive::<Int32Type>();
    let whole: BTreeSet<_> = (0..rejects.num_rows()).filter(|row| parts.is_null(*row)).map(rejected_at).collect();
    let still = (0..decoded.num_rows()).filter(|row| reasons.is_valid(*row)).map(&place);
    let still: BTreeSet<_> = still.filter(|place| whole.contains(place)).collect();
    let keep: BooleanArray =
        (0..decoded.num_rows()).map(|row| Some(reasons.is_null(row) && !still.contains(&place(row)))).collect();
    let rows = filter_record_batch(decoded, &keep)?;
    let place = places(&rows);
    let numbers = rows[ROW].as_primitive::<Int32Type>();
    let sources = (0..rows.num_rows()).map(|row| {
        let (partition, offset) = place(row);
        match whole.contains(&(partition, offset)) {
            true => format!("{partition}:{offset}"),
            false => format!("{partition}:{offset}:{}", numbers.value(row)),
        }
    });
    let sources: ArrayRef = Arc::new(StringArray::from_iter_values(sources));
    let mut arrays = rows.columns().to_vec();
    arrays[rows.schema().index_of(SOURCE)?] = sources;
    arrays[rows.schema().index_of(ROW)?] = new_null_array(&DataType::Int32, rows.num_rows());
    RecordBatch::try_new(rows.schema(), arrays)
}

fn broken(error: &ArrowError) -> Error {
    Error::Broken(format!("rows of rejects: {error}"))
}

#[cfg(test)]
mod tests;
