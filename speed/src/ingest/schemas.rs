//! The ingest loop's part in schemas: a partition whose next message has an unknown schema waits for the registry.
//!
//! ```text
//!  unknown id ─▶ ask, for a moment ─┬─▶ known: decode
//!                                   └─▶ cut the batch before the message, stop reading the partition, ask again
//!                                       with back-off ─▶ known: read the partition from the message on
//! ```
//!
//! Invariant: no message is refused because the registry is away or does not know an id yet. The other partitions go
//! on, and a waiting partition costs no memory.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use thalweg_schemas::catalog::CatalogStore;
use thalweg_schemas::decode::SchemaId;
use thalweg_schemas::definition::stream::StreamDefinition;
use thalweg_schemas::{Frontier, Offset, Partition};
use tokio::time::{Instant, timeout_at};

use super::Ingest;
use super::event::JobDone;
use crate::config::SpeedConfig;
use crate::kafka::channel::Drained;
use crate::kafka::identity::last_message;
use crate::registry::Unfetched;
use crate::schema_cache::FetchedSchema;
use crate::schema_source::SchemaSource;
use crate::{Error, Result};

/// How long the loop itself waits for schemas of a batch.
const AT_ONCE: Duration = Duration::from_secs(2);
/// The pause after the first failed attempt; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The schemas that are waited for.
#[derive(Default)]
pub(super) struct AwaitedSchemas {
    source: Option<SchemaSource>,
    /// By partition, the message that cannot be decoded yet.
    waits: BTreeMap<Partition, (Offset, SchemaId)>,
    /// The schemas that are asked for beside the loop.
    asked: BTreeMap<SchemaId, AskedSchema>,
}

/// A schema that the registry did not give so far.
struct AskedSchema {
    /// The attempts that failed.
    failed: u32,
    last: Unfetched,
}

impl AwaitedSchemas {
    /// Errors: those of [`SchemaSource::needed`].
    pub(super) fn new(config: &SpeedConfig, stream: &StreamDefinition, catalogs: &CatalogStore) -> Result<Self> {
        Ok(Self { source: SchemaSource::needed(config, stream, catalogs)?, ..Self::default() })
    }

    /// True if messages of this partition are not read at the moment.
    pub(super) fn holds(&self, partition: Partition) -> bool {
        self.waits.contains_key(&partition)
    }

    /// Forgets that these partitions wait, because they are not read any more or are read from another offset. Returns
    /// those that did.
    pub(super) fn forget(&mut self, partitions: &BTreeSet<Partition>) -> BTreeSet<Partition> {
        let waiting = partitions.iter().copied().filter(|partition| self.waits.remove(partition).is_some());
        waiting.collect()
    }
}

impl Ingest<'_> {
    /// Makes the schemas of a batch known, or cuts the batch before the first message of each partition whose schema
    /// is not. `counted` are the partitions that count in the batch, as they do up to the cut.
    pub(super) async fn await_schemas(&mut self, drained: &mut Drained, counted: &BTreeSet<Partition>) -> Result<()> {
        let Some(source) = self.schemas.source.clone() else { return Ok(()) };
        let deadline = Instant::now() + AT_ONCE;
        let mut refused = BTreeMap::new();
        let mut unknown = loop {
            let unknown = self.decoder.unknown_schemas(&drained.messages);
            let counts = unknown.iter().filter(|(partition, _)| counted.contains(partition));
            let ids: BTreeSet<SchemaId> = counts.map(|(_, (_, id))| *id).collect();
            let next = ids.into_iter().find(|id| !refused.contains_key(id) && !self.schemas.asked.contains_key(id));
            let Some(id) = next else { break unknown };
            match timeout_at(deadline, source.fetch(id)).await {
                Ok(Ok(fetched)) => self.learn(id, &fetched),
                Ok(Err(failed)) => drop(refused.insert(id, failed)),
                Err(_) => {
                    let reason = "the registry has not answered yet".to_owned();
                    refused.insert(id, Unfetched { reason, is_unknown: false });
                }
            }
        };
        if unknown.is_empty() {
            return Ok(());
        }
        let ends: BTreeMap<Partition, Offset> = unknown.iter().map(|(p, (offset, _))| (*p, *offset)).collect();
        drained.messages = drained.messages.below(&ends);
        // What else was drained of a partition that waits, or was assigned again, is read later.
        unknown.retain(|partition, _| counted.contains(partition));
        for (partition, (offset, id)) in &unknown {
            drained.positions.set(*partition, *offset);
            drained.ends.remove(partition);
            drained.last.remove(partition);
            if let Some(last) = drained.messages.last_of(*partition) {
                let last = last_message(last.offset.0, last.timestamp_ms, last.key, last.payload);
                drained.last.insert(*partition, last);
            }
            self.schemas.waits.insert(*partition, (*offset, *id));
        }
        self.connections.unassign(unknown.keys().copied().collect())?;
        for (id, last) in refused {
            let stream = self.state.name();
            tracing::warn!(%stream, at = %Frontier::from_iter(ends.clone()), "waiting for schema {id}: {}", last.reason);
            self.schemas.asked.insert(id, AskedSchema { failed: 0, last });
            self.work.fetch_schema(source.clone(), id, FIRST_PAUSE);
        }
        for partition in unknown.keys() {
            self.tell_wait(*partition);
        }
        Ok(())
    }

    /// Takes the answer of a registry. Partitions that waited for the schema are read again.
    pub(super) fn take_schema(&mut self, id: SchemaId, answer: Result<FetchedSchema, Unfetched>) -> Result<()> {
        let waiting = self.schemas.waits.iter().filter(|(_, (_, awaited))| *awaited == id);
        let waiting: Frontier = waiting.map(|(partition, (offset, _))| (*partition, *offset)).collect();
        match answer {
            Ok(fetched) => {
                self.learn(id, &fetched);
                self.schemas.asked.remove(&id);
                self.schemas.forget(&waiting.partitions().collect());
                for partition in waiting.partitions() {
                    self.state.go_on(partition);
                }
                if waiting.is_empty() {
                    return Ok(());
                }
                let stands = self.state.frontier().within(waiting.partitions());
                if stands != waiting {
                    return Err(Error::Broken(format!("partitions wait at {waiting} and were read up to {stands}")));
                }
                tracing::info!(stream = %self.state.name(), partitions = %waiting, "schema {id} is known: reading goes on");
                self.connections.assign(&waiting)?;
                if self.state.paused_since().is_some() {
                    self.connections.pause()?;
                }
            }
            Err(_) if waiting.is_empty() => drop(self.schemas.asked.remove(&id)),
            Err(last) => {
                if let (Some(source), Some(asked)) = (&self.schemas.source, self.schemas.asked.get_mut(&id)) {
                    *asked = AskedSchema { failed: asked.failed + 1, last };
                    let pause = FIRST_PAUSE.saturating_mul(2u32.saturating_pow(asked.failed)).min(LONGEST_PAUSE);
                    self.work.fetch_schema(source.clone(), id, pause);
                }
                for partition in waiting.partitions() {
                    self.tell_wait(partition);
                }
            }
        }
        Ok(())
    }

    fn learn(&self, id: SchemaId, fetched: &FetchedSchema) {
        self.decoder.learn_schema(id, fetched);
    }

    /// Shows why a partition waits. If the registry says that it has no such schema, no process can have read further,
    /// so the partition stands at its end for now, and queries are answered.
    fn tell_wait(&mut self, partition: Partition) {
        let Some((offset, id)) = self.schemas.waits.get(&partition) else { return };
        if let Some(AskedSchema { last, .. }) = self.schemas.asked.get(id) {
            let told = format!("partition {partition} waits at offset {offset} for schema {id}: {}", last.reason);
            self.state.wait(partition, told, last.is_unknown);
        }
    }
}

impl super::work::Work {
    /// Asks for a schema after a pause.
    fn fetch_schema(&mut self, source: SchemaSource, id: SchemaId, pause: Duration) {
        self.spawn(async move {
            tokio::time::sleep(pause).await;
            Ok(JobDone::Schema(id, source.fetch(id).await))
        });
    }
}
