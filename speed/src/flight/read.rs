//! Reading for a ticket: a plan, or held segments, and the stream of batches.
//!
//! Invariant: everything sent lies between the ticket's `from` and the pin's frontier, in the partitions that the
//! ticket names, and each offset is sent once.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_flight::FlightData;
use arrow_flight::encode::{DictionaryHandling, FlightDataEncoder, FlightDataEncoderBuilder};
use arrow_flight::error::FlightError;
use datafusion::execution::context::SessionState;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::prelude::ident;
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use thalweg_schemas::algebra::{batches, between, stream as run};
use thalweg_schemas::realtime::protocol::{SegmentHead, StatesTicket, Ticket};
use thalweg_schemas::realtime::segment::Segment;
use thalweg_schemas::realtime::tile::{rows_between, tile};
use thalweg_schemas::{Error as SharedError, Frontier, Offset, Partition, ViewId};
use tonic::Status;

use super::answer::one;
use super::pins::PinEntry;

/// The stream of messages to a reader.
pub(super) type FlightFrames = BoxStream<'static, Result<FlightData, Status>>;

/// Plans the read that `ticket` requests from the pin, and starts it.
///
/// Errors: `invalid_argument` if the ticket is invalid, `failed_precondition` if the pin does not hold the requested
/// data.
pub(super) async fn start(state: &SessionState, kept: &PinEntry, ticket: Ticket) -> Result<FlightFrames, Status> {
    match ticket {
        Ticket::States(ticket) => {
            let (plan, schema) = states(kept, &ticket)?;
            planned(state, plan, schema).await
        }
        Ticket::Rows { from, columns, .. } => {
            let (plan, schema) = rows(kept, &from, columns)?;
            planned(state, plan, schema).await
        }
        Ticket::Segments { view, from, .. } => segments(kept, &view, &from),
    }
}

/// F of the partitions that `from` names.
fn frontier(kept: &PinEntry, from: &Frontier) -> Result<Frontier, Status> {
    from.partitions()
        .map(|partition| {
            let offset = kept.snapshot.frontier.named(partition);
            let offset = offset.ok_or_else(|| not_held(format!("partition {partition}")))?;
            Ok((partition, offset))
        })
        .collect()
}

/// A plan for the states of the view, with neighbours merged, and the schema in which the states are sent.
fn states(kept: &PinEntry, ticket: &StatesTicket) -> Result<(LogicalPlan, SchemaRef), Status> {
    let id = &ticket.view;
    let (Some(view), Some(held)) = (kept.views.get(id), kept.snapshot.views.get(id)) else {
        return Err(not_held(format!("view {id}")));
    };
    let schema = view.plan.state_schema();
    let mut tiles: Vec<Arc<Segment>> = Vec::new();
    let mut neighbours = false;
    for (partition, to) in frontier(kept, &ticket.from)?.iter() {
        let (from, to) = (one(partition, ticket.from.get(partition)), one(partition, to));
        let found = tile(id, held, &from, &to).map_err(refused)?;
        let found = found.into_iter().filter(|tile| tile.states.num_rows() > 0);
        let before = tiles.len();
        tiles.extend(found);
        neighbours |= tiles.len() > before + 1;
    }
    let segments = tiles.iter().map(|tile| tile.states.clone()).collect();
    let mut plan = batches("segments", Arc::clone(schema), segments).map_err(refused)?;
    let groups: Vec<usize> = (1..=view.plan.group_count()).collect();
    let groups = schema.project(&groups).map_err(invalid)?;
    for filter in &ticket.filters {
        let condition = filter.condition(&groups).map_err(Status::invalid_argument)?;
        plan = LogicalPlanBuilder::from(plan).filter(condition).and_then(LogicalPlanBuilder::build).map_err(invalid)?;
    }
    // The merge is not needed if every partition has a single segment, because a segment has every group only once.
    if neighbours {
        plan = view.plan.merge(plan).map_err(refused)?;
    }
    let wanted = match &ticket.columns {
        Some(columns) => schema.project(columns).map_err(invalid)?,
        None => schema.as_ref().clone(),
    };
    Ok((select(plan, &wanted)?, Arc::new(wanted)))
}

/// A plan for rows and rejects from `from` to F, and the schema in which they are sent.
fn rows(kept: &PinEntry, from: &Frontier, columns: Option<Vec<String>>) -> Result<(LogicalPlan, SchemaRef), Status> {
    let to = frontier(kept, from)?;
    let mut held: BTreeSet<usize> = BTreeSet::new();
    for (partition, to) in to.iter() {
        let found = rows_between(&kept.snapshot.rows, partition, from.get(partition), to);
        let found = found.map_err(not_held)?;
        held.extend(kept.snapshot.rows.iter().enumerate().filter_map(|(i, chunk)| {
            let used = found.iter().any(|found| Arc::ptr_eq(found, chunk));
            used.then_some(i)
        }));
    }
    let held = held.iter().map(|i| &kept.snapshot.rows[*i]);
    let held = held.flat_map(|chunk| chunk.batches.iter().cloned()).collect();
    let schema = &kept.row_schema;
    let plan = batches("rows", Arc::clone(schema), held).and_then(|rows| between(rows, from, &to)).map_err(refused)?;
    let wanted = match columns {
        Some(columns) => {
            let indices = columns.iter().map(|name| schema.index_of(name));
            let indices = indices.collect::<Result<Vec<_>, _>>().map_err(invalid)?;
            schema.project(&indices).map_err(invalid)?
        }
        None => schema.as_ref().clone(),
    };
    Ok((select(plan, &wanted)?, Arc::new(wanted)))
}

fn select(plan: LogicalPlan, wanted: &Schema) -> Result<LogicalPlan, Status> {
    if wanted.fields().is_empty() {
        return Err(Status::invalid_argument("a ticket must name a column"));
    }
    let columns = wanted.fields().iter().map(|field| ident(field.name()));
    LogicalPlanBuilder::from(plan)
        .project(columns.collect::<Vec<_>>())
        .and_then(LogicalPlanBuilder::build)
        .map_err(invalid)
}

async fn planned(state: &SessionState, plan: LogicalPlan, schema: SchemaRef) -> Result<FlightFrames, Status> {
    let batches = run(state, "reading for another process", plan).await.map_err(refused)?;
    let to_schema = Arc::clone(&schema);
    let batches =
        batches.map_err(|e| FlightError::Tonic(Box::new(Status::internal(e.to_string())))).and_then(move |batch| {
            let columns = batch.columns().to_vec();
            let batch = RecordBatch::try_new(Arc::clone(&to_schema), columns);
            std::future::ready(batch.map_err(FlightError::Arrow))
        });
    let messages = encoder().with_schema(schema).build(batches);
    Ok(send(messages))
}

/// Every held segment that ends above `from`, one after the other.
fn segments(kept: &PinEntry, view: &ViewId, from: &Frontier) -> Result<FlightFrames, Status> {
    let Some(held) = kept.snapshot.views.get(view) else {
        return Err(not_held(format!("view {view}")));
    };
    frontier(kept, from)?;
    let above = |(partition, from): (Partition, Offset)| {
        let list = held.partitions.get(&partition);
        let list = list.into_iter().flatten();
        list.filter(move |segment| segment.to > from).cloned()
    };
    let found: Vec<Arc<Segment>> = from.iter().flat_map(above).collect();
    let messages = stream::iter(found).flat_map(|segment| {
        let head = SegmentHead {
            partition: segment.partition,
            from: segment.from,
            to: segment.to,
            provenance: segment.provenance,
        };
        let states = segment.states.clone();
        match serde_json::to_vec(&head) {
            Ok(head) => {
                let encoder = encoder().with_metadata(head.into()).with_schema(states.schema());
                send(encoder.build(stream::iter([Ok(states)])))
            }
            Err(e) => stream::iter([Err(Status::internal(e.to_string()))]).boxed(),
        }
    });
    Ok(messages.boxed())
}

/// Types are sent unchanged, because a reader merges the states with its own.
fn encoder() -> FlightDataEncoderBuilder {
    FlightDataEncoderBuilder::new().with_dictionary_handling(DictionaryHandling::Resend)
}

fn send(messages: FlightDataEncoder) -> FlightFrames {
    messages.map_err(Status::from).boxed()
}

fn invalid(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

fn not_held(what: String) -> Status {
    Status::failed_precondition(format!("not held under this pin: {what}"))
}

fn refused(error: SharedError) -> Status {
    match error {
        SharedError::NotHeld { .. } => not_held(error.to_string()),
        other => Status::internal(other.to_string()),
    }
}
