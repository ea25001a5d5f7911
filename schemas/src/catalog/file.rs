//! The catalog's file format: definitions as their SQL text, and the view ids at the time of writing.
//!
//! Invariant: every part of a compiled plan is derived on loading. A file holds nothing that could contradict the
//! text.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::cache::ViewCache;
use super::{Catalog, CatalogStream, CatalogView, CompiledView};
use crate::algebra::ViewPlan;
use crate::definition::parse::read_kept;
use crate::definition::stream::StreamDefinition;
use crate::definition::view::ViewDefinition;
use crate::definition::{Statement, pieces};
use crate::engine::session;
use crate::{Error, Frontier, Result, StreamName, ViewId, ViewName};

/// One numbered file.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CatalogFile {
    pub(super) version: u64,
    /// Identifies the writer's own file after an error.
    pub(super) commit: Uuid,
    /// The engine that computed the view ids.
    engine: String,
    /// The time of writing, in milliseconds since 1970.
    written_ms: i64,
    /// The changes of this version, in words.
    pub(super) changes: Vec<String>,
    streams: BTreeMap<StreamName, StreamEntry>,
    views: BTreeMap<ViewName, ViewEntry>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    dropped: BTreeMap<StreamName, StreamEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StreamEntry {
    sql: String,
    origin: Frontier,
}

#[derive(Debug, Serialize, Deserialize)]
struct ViewEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    serving: Option<VersionEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    building: Option<VersionEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
struct VersionEntry {
    id: ViewId,
    sql: String,
}

impl CatalogFile {
    /// Makes the file of `catalog`. `changes` say what the version changed.
    pub(super) fn of(catalog: &Catalog, changes: Vec<String>) -> Self {
        Self {
            version: catalog.version,
            commit: Uuid::new_v4(),
            engine: session::ENGINE.to_owned(),
            written_ms: chrono::Utc::now().timestamp_millis(),
            changes,
            streams: stream_entries(&catalog.streams),
            views: catalog.views.iter().map(|(name, view)| (name.clone(), ViewEntry::of(view))).collect(),
            dropped: stream_entries(&catalog.dropped),
        }
    }

    /// Parses and compiles everything in the file. If the id of a served view differs from the one that this engine
    /// computes, this engine must not use its states, so the view is built again.
    ///
    /// Errors: [`Error::ReadCatalog`] if a definition is no longer accepted.
    pub(super) async fn compile(self, path: &str, cache: &ViewCache) -> Result<Catalog> {
        let unreadable =
            |what: &str, e: Error| Error::ReadCatalog { path: path.to_owned(), reason: format!("{what}: {e}") };
        let mut catalog = Catalog { version: self.version, ..Catalog::default() };
        for (entries, streams) in [(self.streams, &mut catalog.streams), (self.dropped, &mut catalog.dropped)] {
            for (name, entry) in entries {
                let definition = parse_stream(&entry.sql).map_err(|e| unreadable(&format!("stream `{name}`"), e))?;
                let origin = entry.origin;
                streams.insert(name, Arc::new(CatalogStream { definition, origin }));
            }
        }
        for (name, entry) in self.views {
            let what = format!("view `{name}`");
            let serving = compile_entry(&entry.serving, &catalog, cache).await.map_err(|e| unreadable(&what, e))?;
            let building = compile_entry(&entry.building, &catalog, cache).await.map_err(|e| unreadable(&what, e))?;
            let trusted =
                serving.as_ref().zip(entry.serving.as_ref()).is_some_and(|(view, entry)| *view.plan.id() == entry.id);
            let view = if trusted {
                CatalogView { serving, building }
            } else {
                CatalogView { serving: None, building: building.or(serving) }
            };
            catalog.views.insert(name, view);
        }
        cache.remember(&catalog);
        Ok(catalog)
    }
}

impl ViewEntry {
    fn of(view: &CatalogView) -> Self {
        let entry =
            |view: &Arc<CompiledView>| VersionEntry { id: view.plan.id().clone(), sql: view.definition.sql.clone() };
        Self { serving: view.serving.as_ref().map(entry), building: view.building.as_ref().map(entry) }
    }
}

fn stream_entries(streams: &BTreeMap<StreamName, Arc<CatalogStream>>) -> BTreeMap<StreamName, StreamEntry> {
    streams
        .iter()
        .map(|(name, stream)| {
            let entry = StreamEntry { sql: stream.definition.sql.clone(), origin: stream.origin.clone() };
            (name.clone(), entry)
        })
        .collect()
}

async fn compile_entry(
    entry: &Option<VersionEntry>,
    catalog: &Catalog,
    cache: &ViewCache,
) -> Result<Option<Arc<CompiledView>>> {
    let Some(entry) = entry else {
        return Ok(None);
    };
    let definition = parse_view(&entry.sql)?;
    match cache.find(&definition, &catalog.streams) {
        Some(view) => Ok(Some(view)),
        None => Ok(Some(compile_view(definition, &catalog.streams).await?)),
    }
}

/// Compiles a view over its stream.
///
/// Errors: [`Error::FindDefinition`] if the stream does not exist, and the errors of [`ViewPlan::compile`].
pub(super) async fn compile_view(
    definition: ViewDefinition,
    streams: &BTreeMap<StreamName, Arc<CatalogStream>>,
) -> Result<Arc<CompiledView>> {
    let stream = streams
        .get(&definition.stream)
        .ok_or_else(|| Error::FindDefinition { kind: "stream", name: definition.stream.to_string() })?;
    let plan = ViewPlan::compile(&definition, &stream.definition).await?;
    Ok(Arc::new(CompiledView { definition, plan }))
}

fn parse_stream(sql: &str) -> Result<StreamDefinition> {
    match single(sql)? {
        Statement::CreateStream { definition, .. } => Ok(definition),
        _ => Err(Error::Broken("the statement of a stream defines none".into())),
    }
}

fn parse_view(sql: &str) -> Result<ViewDefinition> {
    match single(sql)? {
        Statement::CreateView { definition, .. } => Ok(definition),
        _ => Err(Error::Broken("the statement of a view defines none".into())),
    }
}

fn single(sql: &str) -> Result<Statement> {
    let pieces = pieces::split(sql)?;
    let [piece] = pieces.as_slice() else {
        return Err(Error::Broken("one statement was expected".into()));
    };
    let mut statements = read_kept(piece)?;
    match (statements.pop(), statements.is_empty()) {
        (Some(placed), true) => Ok(placed.statement),
        _ => Err(Error::Broken("one statement was expected".into())),
    }
}
