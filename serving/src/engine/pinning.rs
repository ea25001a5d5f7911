//! Pins of queries: everything that a query reads is taken once, before the query is planned.
//!
//! Invariant: pins are bounded by places, from the first one to the place in which the query runs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use datafusion::common::TableReference;
use thalweg_schemas::StreamName;
use thalweg_schemas::catalog::Catalog;
use tokio::time::{Instant, timeout_at};

use super::Engine;
use super::opened::Pinned;
use super::planning::{QueryTables, ReadQuery};
use super::standing::{Standing, frontiers, not_covered};
use super::text_places::TextPlaces;
use crate::options::Options;
use crate::pin::{PinOptions, Pins, changed, pin_all};
use crate::rollups::CalledAggregates;
use crate::system::{self, SystemSources};
use crate::{Error, Result, names};

impl Engine {
    /// Pins all that the query reads, with a place for that.
    pub(super) async fn pinned(&self, query: &ReadQuery, places: &TextPlaces, deadline: Instant) -> Result<Pinned> {
        // Until the query has a place to run, which bounds the pins from then on.
        let waiting = match &places.run {
            Some(_) => None,
            None => Some(self.places.pinned().await?),
        };
        let pinned = timeout_at(deadline, self.pin(query)).await;
        let tables = pinned.map_err(|_| self.timeout())??;
        Ok(Pinned { waiting, tables })
    }

    /// Pins all that the query reads.
    async fn pin(&self, query: &ReadQuery) -> Result<QueryTables> {
        if let Some(assembled) = &query.assembled {
            return Ok(self.assembled_tables(assembled));
        }
        let (catalog, pins) = self.pin_covering(query).await?;
        let sources = SystemSources { sources: &self.sources, activity: &self.activity };
        Ok(QueryTables {
            catalog,
            pins: Arc::new(pins),
            system: Box::new(system::read(names::system_tables(&query.references), sources).await),
            activity: Arc::clone(&self.activity),
            postgres: Arc::clone(&self.postgres),
            assembled: None,
        })
    }

    /// Pins the streams behind `references`, with views that may answer aggregates of `called`. A pin that fails is
    /// tried again for a `wait`.
    async fn pin_streams(
        &self,
        references: &[TableReference],
        called: Option<&CalledAggregates>,
        options: &Options,
        wait: Duration,
    ) -> Result<(Arc<Catalog>, Pins)> {
        let catalog = Arc::clone(&self.sources.shared.catalog.borrow());
        self.given.keep(|name| catalog.streams.contains_key(name));
        let unknown = |name: &&StreamName| !catalog.streams.contains_key(*name);
        if let Some(name) = options.min_frontier.keys().find(unknown) {
            return Err(Error::SetOption {
                reason: format!("min_frontier names the stream `{name}`, which does not exist"),
            });
        }
        names::refuse_sided_streams(&catalog, references, options.source)?;
        let wanted = names::wanted(&catalog, references, called, &self.sources.metrics)?;
        let terms = PinOptions { options, deadline: Instant::now() + wait, keep: self.config.query_timeout };
        let pins = pin_all(&self.sources, &self.given, &wanted, &terms).await?;
        Ok((catalog, pins))
    }

    /// Pins all that `query` reads. If a batch side is below the frontier that the request asks for, waits for the next
    /// version of its view.
    ///
    /// Errors: those of pins, and [`Error::NotHeld`].
    async fn pin_covering(&self, query: &ReadQuery) -> Result<(Arc<Catalog>, Pins)> {
        let until = Instant::now() + self.config.pin_wait;
        let mut published = self.sources.shared.published.clone();
        loop {
            published.borrow_and_update();
            let pinned = self.pin_streams(
                &query.references,
                query.called.as_ref().filter(|_| query.rolls_up),
                &query.options,
                self.config.pin_wait,
            );
            let (catalog, pins) = pinned.await?;
            let found = frontiers(query.tables(), &catalog, &pins);
            let Some((stream, below)) = not_covered(&found, &query.options.min_frontier) else {
                return Ok((catalog, pins));
            };
            if timeout_at(until, changed(&mut published)).await.is_err() {
                let asked = &query.options.min_frontier[&stream];
                let reason = format!(
                    "the batch side of its views stands at {below}, below {asked} which the request asks for; leave the \
                     option source away, or wait for the next run"
                );
                return Err(Error::NotHeld { stream, reason });
            }
        }
    }

    /// Where the answer to a query that reads these tables would stand now; `None` if that is not known at once. No
    /// later answer stands below, unless its client allows that.
    pub(crate) async fn standing(&self, references: &[TableReference], options: &Options) -> Option<Standing> {
        if references.is_empty() {
            return Some(Standing::default());
        }
        let place = self.places.pinned().await.ok()?;
        let (catalog, pins) = self.pin_streams(references, None, options, Duration::ZERO).await.ok()?;
        let standing = Standing::of(references, &catalog, &pins, &BTreeSet::new());
        drop((pins, place));
        Some(standing)
    }
}
