//! Queries over tables that this process has put together: steps of changes.
//!
//! Invariant: such a query runs under the limits of every other query. It starts again over the same tables.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::sql::parser::Statement as EngineStatement;
use futures::stream::{self, BoxStream};
use thalweg_schemas::StreamName;
use tokio::time::{Instant, timeout_at};

use super::assembled::AssembledTables;
use super::planning::{QueryTables, RequestContent, RequestText};
use super::{Engine, Started};
use crate::options::Options;
use crate::parameters::Bindings;
use crate::pin::{PinOptions, Pins, Wanted, pin_all};
use crate::{Error, Result};

/// The rows of a query over assembled tables.
pub(crate) struct AssembledRows {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: BoxStream<'static, Result<RecordBatch>>,
}

impl Engine {
    /// Pins what `wanted` names, at the newest frontier.
    ///
    /// Errors: those of pins.
    pub(crate) async fn pin_wanted(&self, name: &StreamName, wanted: Wanted, options: &Options) -> Result<Pins> {
        let terms =
            PinOptions { options, deadline: Instant::now() + self.config.pin_wait, keep: self.config.query_timeout };
        let wanted = std::iter::once((name.clone(), wanted)).collect();
        pin_all(&self.sources, &self.given, &wanted, &terms).await
    }

    /// Runs `statement` over `tables`. `text` stands for the query in the log.
    ///
    /// Errors: those of a query that cannot start.
    pub(crate) async fn run_over(
        self: &Arc<Self>,
        text: String,
        statement: impl FnOnce() -> Result<EngineStatement> + Send + 'static,
        tables: AssembledTables,
    ) -> Result<AssembledRows> {
        let deadline = Instant::now() + self.config.query_timeout;
        let request = RequestText::Parts { text, statement: Box::new(statement) };
        let (content, places) = self.read(request, Bindings::Values(Vec::new()), Options::default(), deadline).await?;
        let RequestContent::Query(mut query) = content else {
            return Err(Error::FindStatement);
        };
        query.assembled = Some(tables);
        let Started { head, running } = self.start_surely(Arc::from(query), places, None, deadline).await?;
        let engine = Arc::clone(self);
        let batches = stream::try_unfold(running, move |mut running| {
            let engine = Arc::clone(&engine);
            async move {
                match timeout_at(deadline, running.next()).await {
                    Ok(Some(Ok(batch))) => Ok(Some((batch, running))),
                    Ok(Some(Err(source))) => Err(Error::of_engine(source, false)),
                    Ok(None) => match running.end().await {
                        Ok(true) => Ok(None),
                        Ok(false) => Err(engine.timeout()),
                        Err(panic) => Err(engine.panicked(panic, "")),
                    },
                    Err(_) => Err(engine.timeout()),
                }
            }
        });
        Ok(AssembledRows { schema: head.schema, batches: Box::pin(batches) })
    }

    /// What a query over assembled tables reads: those alone.
    pub(super) fn assembled_tables(&self, assembled: &AssembledTables) -> QueryTables {
        QueryTables {
            catalog: Arc::clone(&self.sources.shared.catalog.borrow()),
            pins: Arc::default(),
            system: Box::default(),
            activity: Arc::clone(&self.activity),
            postgres: Arc::clone(&self.postgres),
            assembled: Some(assembled.clone()),
        }
    }
}
