//! Scans of workers' data: the plan has one partition per worker, fetched on demand.
//!
//! Invariant: every read lies under the query's pins, which live as long as any stream that reads under them. Filters
//! are sent to workers only to save traffic: the plan filters again.

use std::fmt::Write as _;
use std::sync::Arc;

use arrow::array::RecordBatchOptions;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_flight::decode::DecodedPayload;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{internal_err, project_schema};
use datafusion::datasource::TableType;
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use futures::{StreamExt, TryStreamExt, stream};
use thalweg_schemas::engine::leaf::{LeafExec, LeafInput};
use thalweg_schemas::realtime::protocol::{GroupFilter, StatesTicket, Ticket};
use thalweg_schemas::{Frontier, ViewId};

use super::{Worker, WorkerPin};
use crate::Error;

/// The Kafka partitions that are read from one worker, at F.
#[derive(Debug)]
pub(crate) struct WorkerScan {
    pub(crate) pin: WorkerPin,
    pub(crate) frontier: Frontier,
}

/// The pins of one stream in one query.
pub(crate) type WorkerScans = Arc<Vec<WorkerScan>>;

/// The part of a stream that is read.
#[derive(Debug, Clone)]
enum RemoteContent {
    /// States of a view, with the columns that filters may name.
    States(ViewId, SchemaRef),
    Rows,
}

/// States of a view, or rows of a stream, from S to the pins' frontier.
#[derive(Debug)]
pub(crate) struct RemoteTable {
    part: RemoteContent,
    schema: SchemaRef,
    /// S of every partition.
    from: Frontier,
    shares: WorkerScans,
}

impl RemoteTable {
    /// `groups` is the number of columns after the first that are the view's groups.
    pub(crate) fn states(view: ViewId, schema: SchemaRef, groups: usize, from: Frontier, shares: WorkerScans) -> Self {
        let groups = schema.fields().iter().skip(1).take(groups).cloned();
        let groups = Arc::new(Schema::new(groups.collect::<Vec<_>>()));
        let part = RemoteContent::States(view, groups);
        Self { part, schema, from, shares }
    }

    pub(crate) fn rows(schema: SchemaRef, from: Frontier, shares: WorkerScans) -> Self {
        Self { part: RemoteContent::Rows, schema, from, shares }
    }

    fn translate(&self, filter: &Expr) -> Option<Vec<GroupFilter>> {
        match &self.part {
            RemoteContent::States(_, groups) => GroupFilter::translate(filter, groups),
            RemoteContent::Rows => None,
        }
    }
}

#[async_trait]
impl TableProvider for RemoteTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Temporary
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> EngineResult<Vec<TableProviderFilterPushDown>> {
        let supported = |filter: &&Expr| match self.translate(filter) {
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(supported).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        let projected = project_schema(&self.schema, projection)?;
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let mut columns = projection.unwrap_or(&all).clone();
        if columns.is_empty() {
            // The plan needs only the number of rows; a message has a row count only with a column.
            columns.push(0);
        }
        let filters: Vec<GroupFilter> = filters.iter().filter_map(|filter| self.translate(filter)).flatten().collect();
        let reads: Vec<Read> = self
            .shares
            .iter()
            .filter_map(|share| {
                let above = share.frontier.advanced_since(&self.from);
                let from = above.partitions().map(|p| (p, self.from.get(p)));
                let from: Frontier = from.collect();
                (!from.is_empty()).then(|| Read {
                    worker: Arc::clone(share.pin.worker()),
                    ticket: self.ticket(share.pin.answer().pin.clone(), from, &columns, &filters),
                    range: range(&self.from, &above),
                    rows: self.rows_of(share, &above),
                })
            })
            .collect();
        if reads.is_empty() {
            return Ok(Arc::new(EmptyExec::new(projected)));
        }
        let partitions = reads.len();
        let projection = Arc::clone(&projected);
        let reads = RemoteReads { reads, filters, projected, shares: Arc::clone(&self.shares) };
        Ok(Arc::new(LeafExec::new(reads, projection, partitions)))
    }
}

impl RemoteTable {
    /// The rows that are read from one worker: for states the number that the worker told, and otherwise the offsets
    /// of the range, of which each has one row at most.
    fn rows_of(&self, share: &WorkerScan, above: &Frontier) -> u64 {
        above.iter().fold(0, |rows: u64, (partition, end)| {
            let told = match &self.part {
                RemoteContent::States(view, _) => {
                    let pinned = share.pin.answer().partitions.get(&partition);
                    pinned.and_then(|pinned| pinned.states.get(view)).copied()
                }
                RemoteContent::Rows => None,
            };
            let offsets = end.0.saturating_sub(self.from.get(partition).0);
            rows.saturating_add(told.unwrap_or(u64::try_from(offsets).unwrap_or(0)))
        })
    }

    fn ticket(&self, pin: String, from: Frontier, columns: &[usize], filters: &[GroupFilter]) -> Ticket {
        match &self.part {
            RemoteContent::States(view, _) => Ticket::States(StatesTicket {
                pin,
                view: view.clone(),
                from,
                columns: Some(columns.to_vec()),
                filters: filters.to_vec(),
            }),
            RemoteContent::Rows => {
                let names = columns.iter().map(|i| self.schema.field(*i).name().clone());
                Ticket::Rows { pin, from, columns: Some(names.collect()) }
            }
        }
    }
}

/// Formats ranges as `0: 5..9, 3: 7..8`, for EXPLAIN.
fn range(from: &Frontier, to: &Frontier) -> String {
    let ranges = to.iter().map(|(p, end)| format!("{p}: {}..{end}", from.get(p)));
    ranges.collect::<Vec<_>>().join(", ")
}

/// A read from one worker.
#[derive(Debug, Clone)]
struct Read {
    worker: Arc<Worker>,
    ticket: Ticket,
    range: String,
    /// At most, before filters.
    rows: u64,
}

/// The reads from all workers; each read is one partition of the plan.
#[derive(Debug)]
pub(crate) struct RemoteReads {
    reads: Vec<Read>,
    filters: Vec<GroupFilter>,
    projected: SchemaRef,
    /// The pins. They must outlive the streams, because a plan is dropped before its streams are polled.
    shares: WorkerScans,
}

impl RemoteReads {
    /// The rows of all reads, at most.
    pub(crate) fn rows(&self) -> usize {
        let rows = self.reads.iter().map(|read| read.rows).fold(0, u64::saturating_add);
        usize::try_from(rows).unwrap_or(usize::MAX)
    }
}

impl LeafInput for RemoteReads {
    const NAME: &'static str = "RemoteExec";

    fn describe(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("workers=[")?;
        for (i, read) in self.reads.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} ({})", read.worker.address(), read.range)?;
        }
        let columns: Vec<&str> = self.projected.fields().iter().map(|c| c.name().as_str()).collect();
        write!(f, "], columns=[{}], sent filters=[", columns.join(", "))?;
        for (i, filter) in self.filters.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} {:?}", filter.column, filter.test)?;
        }
        f.write_char(']')
    }

    fn read(&self, partition: usize) -> EngineResult<SendableRecordBatchStream> {
        let Some(read) = self.reads.get(partition).cloned() else {
            return internal_err!("a scan of {} workers has no {partition}", self.reads.len());
        };
        let schema = Arc::clone(&self.projected);
        let to_schema = Arc::clone(&schema);
        let shares = Arc::clone(&self.shares);
        let address = read.worker.address().to_owned();
        let messages = async move { read.worker.read(&read.ticket).await.map_err(external) };
        let batches = stream::once(messages)
            .map_ok(move |messages| {
                let address = address.clone();
                messages.map_err(move |e| external(broken_off(&address, &e.into())))
            })
            .try_flatten()
            .try_filter_map(|message| {
                std::future::ready(Ok(match message.payload {
                    DecodedPayload::RecordBatch(batch) => Some(batch),
                    DecodedPayload::Schema(_) | DecodedPayload::None => None,
                }))
            })
            .map(move |batch| {
                let _kept: &WorkerScans = &shares;
                as_projected(batch?, &to_schema)
            });
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema, batches)))
    }
}

/// Returns the batch with the schema that the plan expects.
fn as_projected(batch: RecordBatch, schema: &SchemaRef) -> EngineResult<RecordBatch> {
    let rows = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    // Drop the column that was requested only for the number of rows.
    let columns = match schema.fields().is_empty() {
        true => Vec::new(),
        false => batch.columns().to_vec(),
    };
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &rows)?)
}

fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The error of a stream of messages that broke off before its end.
pub(super) fn broken_off(worker: &str, status: &tonic::Status) -> Error {
    Error::AskWorker { worker: worker.to_owned(), reason: format!("broke off: {}", status.message()) }
}

#[cfg(test)]
impl RemoteReads {
    /// A read of `rows` rows without columns, from a worker that is nowhere.
    pub(crate) fn of_rows(rows: u64) -> LeafExec<Self> {
        let worker = Arc::new(Worker::nowhere());
        let ticket = Ticket::Rows { pin: String::new(), from: Frontier::new(), columns: None };
        let read = Read { worker, ticket, range: String::new(), rows };
        let projected = Arc::new(Schema::empty());
        let shares = WorkerScans::default();
        let reads = Self { reads: vec![read], filters: Vec::new(), projected: Arc::clone(&projected), shares };
        LeafExec::new(reads, projected, 1)
    }
}
