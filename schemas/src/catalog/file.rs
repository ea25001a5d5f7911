//! The catalog's file format: definitions as their SQL text, and the view ids at the time of writing.
//!
//! Invariant: every part of a compiled plan is derived on loading. A file holds nothing that could contradict the
//! text.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::cache::ViewCache;
use super::kept::{Entry, KeptEntry, RestOfFile};
use super::{Catalog, CatalogStream, CatalogView, Comments, CompiledView};
use crate::algebra::ViewPlan;
use crate::definition::parse::read_kept;
use crate::definition::stream::StreamDefinition;
use crate::definition::view::ViewDefinition;
use crate::definition::{Statement, pieces};
use crate::engine::contain::contain;
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
    streams: BTreeMap<String, Entry<StreamEntry>>,
    views: BTreeMap<String, Entry<ViewEntry>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    dropped: BTreeMap<String, Entry<StreamEntry>>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    comments: BTreeMap<String, Entry<Comments>>,
    /// Keys of a newer version.
    #[serde(flatten)]
    keys: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StreamEntry {
    sql: String,
    origin: Frontier,
    #[serde(default, skip_serializing_if = "is_zero")]
    predecessors: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ViewEntry {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    serving: Option<VersionEntry>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    building: Option<VersionEntry>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionEntry {
    id: ViewId,
    sql: String,
}

impl CatalogFile {
    /// Makes the file of `catalog`. `changes` say what the version changed.
    pub(super) fn of(catalog: &Catalog, changes: Vec<String>) -> Self {
        let rest = &catalog.rest;
        let mut streams = texts(&rest.streams);
        streams.extend(stream_entries(&catalog.streams));
        let kept = catalog.kept_streams.iter();
        streams.extend(kept.map(|(name, kept)| (name.to_string(), Entry::Text(kept.text.clone()))));
        let mut views = texts(&rest.views);
        views.extend(catalog.views.iter().map(|(name, view)| (name.to_string(), ViewEntry::of(view))));
        let mut dropped = texts(&rest.dropped);
        dropped.extend(stream_entries(&catalog.dropped));
        let mut comments = texts(&rest.comments);
        let known = catalog.comments.iter();
        comments.extend(known.map(|(name, comments)| (name.clone(), Entry::New(comments.clone()))));
        Self {
            version: catalog.version,
            commit: Uuid::new_v4(),
            engine: session::ENGINE.to_owned(),
            written_ms: chrono::Utc::now().timestamp_millis(),
            changes,
            streams,
            views,
            dropped,
            comments,
            keys: rest.keys.clone(),
        }
    }

    /// Parses and compiles everything in the file. What this process does not understand is kept as text. If the id of
    /// a served view differs from the one that this engine computes, this engine must not use its states, so the view
    /// is built again.
    pub(super) async fn compile(self, cache: &ViewCache) -> Catalog {
        let mut catalog = Catalog { version: self.version, ..Catalog::default() };
        let mut rest = RestOfFile { keys: self.keys, ..RestOfFile::default() };
        for (name, entry) in self.streams {
            let Entry::Text(text) = entry else { continue };
            match (StreamName::new(&name), read_stream(&text)) {
                (Err(_), _) => drop(rest.streams.insert(name, text)),
                (Ok(name), Ok(stream)) => drop(catalog.streams.insert(name, Arc::new(stream))),
                (Ok(name), Err(reason)) => {
                    let reason = Some(reason);
                    catalog.kept_streams.insert(name, Arc::new(KeptEntry { text, reason }));
                }
            }
        }
        for (name, entry) in self.dropped {
            let Entry::Text(text) = entry else { continue };
            match (StreamName::new(&name), read_stream(&text)) {
                (Ok(name), Ok(stream)) => drop(catalog.dropped.insert(name, Arc::new(stream))),
                _ => drop(rest.dropped.insert(name, text)),
            }
        }
        for (name, entry) in self.views {
            let Entry::Text(text) = entry else { continue };
            match ViewName::new(&name) {
                Ok(name) => {
                    let view = read_view(text, &catalog, cache).await;
                    catalog.views.insert(name, view);
                }
                Err(_) => drop(rest.views.insert(name, text)),
            }
        }
        for (name, entry) in self.comments {
            let Entry::Text(text) = entry else { continue };
            match Entry::parse(&text) {
                Ok(comments) => drop(catalog.comments.insert(name, comments)),
                Err(_) => drop(rest.comments.insert(name, text)),
            }
        }
        catalog.rest = Arc::new(rest);
        cache.remember(&catalog);
        catalog
    }
}

impl ViewEntry {
    fn of(view: &CatalogView) -> Entry<Self> {
        if let Some(kept) = &view.kept {
            return Entry::Text(kept.text.clone());
        }
        let entry =
            |view: &Arc<CompiledView>| VersionEntry { id: view.plan.id().clone(), sql: view.definition.sql.clone() };
        let (serving, building) = (view.serving.as_ref().map(entry), view.building.as_ref().map(entry));
        Entry::New(Self { serving, building })
    }
}

fn texts<T>(kept: &BTreeMap<String, Box<RawValue>>) -> BTreeMap<String, Entry<T>> {
    kept.iter().map(|(name, text)| (name.clone(), Entry::Text(text.clone()))).collect()
}

fn stream_entries(
    streams: &BTreeMap<StreamName, Arc<CatalogStream>>,
) -> impl Iterator<Item = (String, Entry<StreamEntry>)> {
    streams.iter().map(|(name, stream)| {
        let entry = StreamEntry {
            sql: stream.definition.sql.clone(),
            origin: stream.origin.clone(),
            predecessors: stream.predecessors,
        };
        (name.to_string(), Entry::New(entry))
    })
}

/// Errors: why the entry is not understood.
fn read_stream(text: &RawValue) -> Result<CatalogStream, String> {
    let StreamEntry { sql, origin, predecessors } = Entry::parse(text)?;
    let definition = parse_stream(&sql).map_err(|e| e.to_string())?;
    Ok(CatalogStream { definition, origin, predecessors })
}

async fn read_view(text: Box<RawValue>, catalog: &Catalog, cache: &ViewCache) -> CatalogView {
    let entry: ViewEntry = match Entry::parse(&text) {
        Ok(entry) => entry,
        Err(reason) => {
            let kept = KeptEntry { text, reason: Some(reason) };
            return CatalogView { kept: Some(Arc::new(kept)), ..CatalogView::default() };
        }
    };
    let serving = compile_entry(&entry.serving, catalog, cache).await;
    let building = compile_entry(&entry.building, catalog, cache).await;
    let reason = serving.as_ref().err().or(building.as_ref().err()).cloned();
    let (serving, building) = (serving.unwrap_or_default(), building.unwrap_or_default());
    let trusted = serving.as_ref().zip(entry.serving.as_ref()).is_some_and(|(view, entry)| *view.plan.id() == entry.id);
    let is_kept = reason.is_some() || (entry.serving.is_some() && !trusted);
    let kept = is_kept.then(|| Arc::new(KeptEntry { text, reason }));
    match trusted {
        true => CatalogView { serving, building, kept },
        false => CatalogView { serving: None, building: building.or(serving), kept },
    }
}

/// Errors: why the definition is not understood.
async fn compile_entry(
    entry: &Option<VersionEntry>,
    catalog: &Catalog,
    cache: &ViewCache,
) -> Result<Option<Arc<CompiledView>>, String> {
    let Some(entry) = entry else {
        return Ok(None);
    };
    let definition = parse_view(&entry.sql).map_err(|e| e.to_string())?;
    if catalog.kept_streams.contains_key(&definition.stream) {
        return Err(format!("its stream `{}` is not understood", definition.stream));
    }
    match cache.find(&definition, &catalog.streams) {
        Some(view) => Ok(Some(view)),
        None => {
            let compiled = contain("compiling a view", compile_view(definition, &catalog.streams)).await;
            compiled.map(Some).map_err(|e| e.to_string())
        }
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
    let mut plan = ViewPlan::compile(&definition, &stream.definition).await?;
    if stream.predecessors > 0 {
        // States of a stream that went before are no states of this one.
        plan.id = ViewId::of(&[plan.id.as_str(), "after", &stream.predecessors.to_string()]);
    }
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
