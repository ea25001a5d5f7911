//! Runs a portal: asks the engine, and sends rows until the client has enough.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bytes::BytesMut;
use datafusion::execution::memory_pool::MemoryConsumer;
use futures::{FutureExt, StreamExt};
use pgwire::messages::copy::{CopyDone, CopyOutResponse};
use tokio::time::Instant;

use super::super::commands::{self, ClientCommand, ClientStatement};
use super::super::failure::{Failure, Unanswered, warning};
use super::super::rows::{CopyFormat, CopyLayout, EncodedBatch, Layout, Unwritten};
use super::super::wire::{Stop, Wire};
use super::portal::{OpenAnswer, Portal, PortalAnswer};
use super::{PostgresSession, sizes};
use crate::Error;
use crate::limits::slices::bytes;
use crate::parameters::Parameter;

/// Bytes of a batch that is encoded where the connection is served.
const ENCODED_HERE: usize = 64 << 10;

/// How a run of a portal ended.
#[derive(Debug, Default)]
pub(super) struct PortalRun {
    /// What has been done, by statement.
    pub(super) tags: Vec<String>,
    /// True if rows may be left.
    pub(super) suspended: bool,
}

impl PortalRun {
    pub(super) fn done(tag: impl Into<String>) -> Self {
        Self { tags: vec![tag.into()], suspended: false }
    }
}

impl PostgresSession {
    /// The columns of the rows that a run of `portal` sends; `None` if it sends none. Asks the engine if need be.
    pub(super) async fn columns(
        &mut self,
        wire: &mut Wire,
        portal: &mut Portal,
        stop: &Stop,
    ) -> Result<Option<SchemaRef>, Unanswered> {
        let prepared = Arc::clone(&portal.prepared);
        let Some(statement) = &prepared.statement else { return Ok(None) };
        match &statement.command {
            ClientCommand::Query { .. } => {
                self.open(wire, portal, stop).await?;
                Ok(portal.schema().cloned())
            }
            ClientCommand::Fetch { name, moves: false, .. } => Ok(self.cursor(name)?.schema().cloned()),
            command => Ok(self.local_columns(command)),
        }
    }

    /// The cursor of this name.
    ///
    /// Errors: a failure if there is none.
    pub(super) fn cursor(&self, name: &str) -> Result<&Portal, Failure> {
        let found = self.portals.get(name);
        found.ok_or_else(|| Failure::new("34000", format!("cursor \"{name}\" does not exist")))
    }

    /// Runs a portal and sends at most `most` rows.
    pub(super) async fn run(
        &mut self,
        wire: &mut Wire,
        portal: &mut Portal,
        most: Option<usize>,
        stop: &Stop,
    ) -> Result<PortalRun, Unanswered> {
        let prepared = Arc::clone(&portal.prepared);
        let Some(statement) = &prepared.statement else { return Ok(PortalRun::default()) };
        if std::mem::replace(&mut portal.has_run, true) && !statement.command.is_read_in_parts() {
            let failure = Failure::new("55000", "the portal has run and cannot be run again");
            return Err(failure.hint("Bind the statement anew.").into());
        }
        match &statement.command {
            ClientCommand::Query { tag } => {
                self.open(wire, portal, stop).await?;
                let layout = Layout::Rows(portal.formats.clone());
                let (rows, ended) = self.pump(wire, portal, Some(layout), most, stop).await?;
                let tag = if *tag == "SELECT" { format!("SELECT {rows}") } else { (*tag).to_owned() };
                Ok(if ended { PortalRun::done(tag) } else { PortalRun { tags: Vec::new(), suspended: true } })
            }
            ClientCommand::Define { tags } => self.define(wire, statement, portal.values.clone(), tags, stop).await,
            ClientCommand::Copy(layout) => self.copy(wire, portal, layout, stop).await,
            ClientCommand::Declare { name, hold } => self.declare(wire, portal, name, *hold, stop).await,
            ClientCommand::Fetch { name, rows, moves } => {
                self.cursor(name)?;
                let Some(mut cursor) = self.portals.remove(name) else { return Ok(PortalRun::default()) };
                let layout = (!moves).then(|| Layout::Rows(portal.formats.clone()));
                let fetched = self.pump(wire, &mut cursor, layout, *rows, stop).await;
                if fetched.is_err() && !matches!(cursor.answer, PortalAnswer::Overdue) {
                    cursor.answer = PortalAnswer::Failed;
                }
                self.portals.insert(name.clone(), cursor);
                Ok(PortalRun::done(format!("{} {}", if *moves { "MOVE" } else { "FETCH" }, fetched?.0)))
            }
            command => self.run_local(wire, portal, command, most, stop).await,
        }
    }

    /// Starts the query of a portal, unless it has been.
    pub(super) async fn open(&mut self, wire: &mut Wire, portal: &mut Portal, stop: &Stop) -> Result<(), Unanswered> {
        if !matches!(portal.answer, PortalAnswer::NotAsked) {
            return Ok(());
        }
        let prepared = Arc::clone(&portal.prepared);
        let Some(statement) = &prepared.statement else { return Ok(()) };
        let sql = match statement.command {
            ClientCommand::Copy(_) => commands::query(&statement.sql),
            _ => statement.sql.clone(),
        };
        if matches!(statement.command, ClientCommand::Copy(_))
            && let Some(answer) = self.listen(wire, statement, &sql, stop).await?
        {
            portal.answer = PortalAnswer::Open(Box::new(answer));
            return Ok(());
        }
        let until = Instant::now() + self.engine.config.query_timeout;
        let engine = Arc::clone(&self.engine);
        // The future is large, and a connection that waits has none.
        let running = Box::pin(engine.run_with(&sql, portal.values.clone(), self.options()));
        let answer = wire.attend(stop, running).await?;
        let answer = answer.map_err(|error| Failure::of(&error, &sql, statement.before))?;
        // A definition that came in between counts, whether the answer has it or not.
        portal.check_columns(&answer.schema, self.catalog_version())?;
        portal.columns_held = Some(self.budget.hold(sizes::columns(&answer.schema))?);
        self.frontier = Some(answer.frontier);
        let memory = answer.memory.map(|memory| MemoryConsumer::new("an encoded answer").register(&memory).into());
        portal.answer = PortalAnswer::Open(Box::new(OpenAnswer {
            schema: answer.schema,
            batches: answer.batches,
            memory,
            current: None,
            is_large: false,
            until: Some(until),
        }));
        Ok(())
    }

    /// Sends at most `most` rows of an open portal in a layout, or leaves them out without one. Returns their number,
    /// and whether the answer has ended.
    pub(super) async fn pump(
        &mut self,
        wire: &mut Wire,
        portal: &mut Portal,
        layout: Option<Layout>,
        most: Option<usize>,
        stop: &Stop,
    ) -> Result<(usize, bool), Unanswered> {
        let open = match &mut portal.answer {
            PortalAnswer::Open(open) => open,
            PortalAnswer::Overdue => {
                let seconds = self.engine.config.query_timeout.as_secs_f64();
                return Err(Failure::of(&Error::Timeout { seconds }, "", 0).into());
            }
            PortalAnswer::Failed => {
                let failure = Failure::new("55000", "reading the cursor has failed before, and its place is lost");
                return Err(failure.hint("Close the cursor, and declare it anew.").into());
            }
            PortalAnswer::NotAsked | PortalAnswer::Read(_) => return Ok((0, true)),
        };
        let layout = layout.map(Arc::new);
        let mut sent = 0;
        loop {
            let left = most.map_or(usize::MAX, |most| most - sent);
            if left == 0 {
                return Ok((sent, false));
            }
            if open.current.as_ref().is_none_or(|batch| batch.left() == 0) {
                let next = match open.batches.next().now_or_never() {
                    Some(next) => next,
                    None => {
                        // The client waits for rows that may be the last ones for a long time.
                        if open.until.is_none() {
                            wire.flush().await?;
                        }
                        wire.attend(stop, open.batches.next()).await?
                    }
                };
                match next {
                    None => break,
                    Some(batch) => open.load(batch.map_err(|error| Failure::of(&error, "", 0))?).await?,
                }
                if let (0, Some(Layout::Copy(copy)), Some(batch)) = (sent, layout.as_deref(), &mut open.current) {
                    batch.begin_copy(copy);
                }
            }
            sent += open.write(layout.as_ref(), left, &mut wire.out).await?;
            wire.flush_piece().await?;
            wire.attend(stop, std::future::ready(())).await?;
        }
        let schema = Arc::clone(&open.schema);
        portal.answer = PortalAnswer::Read(schema);
        Ok((sent, true))
    }

    async fn define(
        &mut self,
        wire: &mut Wire,
        statement: &ClientStatement,
        values: Vec<Parameter>,
        tags: &[String],
        stop: &Stop,
    ) -> Result<PortalRun, Unanswered> {
        let engine = Arc::clone(&self.engine);
        let running = Box::pin(engine.run_with(&statement.sql, values, self.options()));
        let answer = wire.attend(stop, running).await?;
        let mut answer = answer.map_err(|error| Failure::of(&error, &statement.sql, statement.before))?;
        if self.block.is_some() {
            wire.send(&warning("a definition holds at once, and ROLLBACK does not take it back"))?;
        }
        while let Some(batch) = answer.batches.next().await {
            let batch = batch.map_err(|error| Failure::of(&error, "", 0))?;
            for text in warnings(&batch) {
                wire.send(&warning(&text))?;
            }
        }
        Ok(PortalRun { tags: tags.to_vec(), suspended: false })
    }

    async fn copy(
        &mut self,
        wire: &mut Wire,
        portal: &mut Portal,
        layout: &CopyLayout,
        stop: &Stop,
    ) -> Result<PortalRun, Unanswered> {
        let wrong = |reason: String| Failure::new("22000", reason);
        self.open(wire, portal, stop).await?;
        let Some(schema) = portal.schema().cloned() else { return Ok(PortalRun::done("COPY 0")) };
        let format = i16::from(layout.format == CopyFormat::Binary);
        let columns = schema.fields().len();
        wire.send(&CopyOutResponse::new(format as i8, columns as i16, vec![format; columns]))?;
        let names = schema.fields().iter().map(|field| field.name().as_str());
        layout.head(names, &mut wire.out).map_err(wrong)?;
        let rows = self.pump(wire, portal, Some(Layout::Copy(layout.clone())), None, stop).await?.0;
        layout.tail(rows, &mut wire.out).map_err(wrong)?;
        wire.send(&CopyDone::new())?;
        Ok(PortalRun::done(format!("COPY {rows}")))
    }
}

/// The texts of the column `warning` of the answer to definitions.
fn warnings(batch: &RecordBatch) -> Vec<String> {
    use arrow::array::AsArray;
    let column = batch.column_by_name("warning").and_then(|column| column.as_string_opt::<i32>());
    column.into_iter().flatten().flatten().map(str::to_owned).collect()
}

impl OpenAnswer {
    /// Makes `batch` the current one.
    async fn load(&mut self, batch: RecordBatch) -> Result<(), Unanswered> {
        self.is_large = bytes(&batch) > ENCODED_HERE;
        let encoded = match self.is_large {
            false => EncodedBatch::new(&batch),
            true => blocking(move || EncodedBatch::new(&batch)).await?,
        };
        self.current = Some(encoded.map_err(|error| Failure::of(&Error::Encode(error), "", 0))?);
        Ok(())
    }

    /// Writes a piece of the current batch behind `out`, and returns the number of its rows.
    async fn write(
        &mut self,
        layout: Option<&Arc<Layout>>,
        most: usize,
        out: &mut BytesMut,
    ) -> Result<usize, Unanswered> {
        let Some(mut batch) = self.current.take() else { return Ok(0) };
        let Some(layout) = layout else {
            let left_out = batch.leave_out(most);
            self.current = Some(batch);
            return Ok(left_out);
        };
        let written = if self.is_large {
            let (layout, mut taken) = (Arc::clone(layout), std::mem::take(out));
            let memory = self.memory.clone();
            let encode = move || {
                let written = batch.write(&layout, most, &mut taken, memory.as_deref());
                (batch, taken, written)
            };
            let written;
            (batch, *out, written) = blocking(encode).await?;
            written
        } else {
            batch.write(layout, most, out, self.memory.as_deref())
        };
        self.current = Some(batch);
        if let Some(memory) = &self.memory {
            // A piece is longer than usual if a single value is.
            let resized = memory.try_resize(out.len());
            resized.map_err(|source| Failure::of(&Error::of_engine(source, false), "", 0))?;
        }
        match written {
            Ok(written) => Ok(written),
            Err(Unwritten::Value(reason)) => Err(Failure::new("22000", reason).into()),
            Err(Unwritten::Memory(source)) => Err(Failure::of(&Error::of_engine(source, false), "", 0).into()),
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Failure::new("XX000", error.to_string()))
}
