//! The SQL names of a query: `public` (streams and views), `batch` and `speed` (one side of a view), `rejects`.
//!
//! Invariant: the tables that a query reads are built from its pins. All other tables of the catalog can be described
//! (SHOW TABLES, `information_schema`, `pg_catalog`) but not read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProviderList, SchemaProvider, Session, TableProvider,
};
use datafusion::common::{TableReference, not_impl_err};
use datafusion::datasource::{MemTable, TableType};
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::logical_expr::Expr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::sql::sqlparser::ast::ObjectName;
use thalweg_schemas::catalog::{Catalog, CatalogStream, CompiledView};
use thalweg_schemas::definition::stream::PAYLOAD;
use thalweg_schemas::{Result as SharedResult, StreamName, ViewId, ViewName};

use crate::metrics::Metrics;
use crate::options::SourceLayer;
use crate::pin::{Pins, Wanted};
use crate::planned_table::{PlannedTable, TableContent};
use crate::rollups::CalledAggregates;
use crate::system::{self, StateTable, SystemRows};
use crate::tables::{self, Side};
use crate::{Error, Result};

/// The name of the only SQL catalog.
pub(crate) const CATALOG: &str = "thalweg";
/// The schema of unqualified names.
pub(crate) const PUBLIC: &str = "public";
const BATCH: &str = "batch";
const SPEED: &str = "speed";
const REJECTS: &str = "rejects";
const SCHEMAS: [&str; 4] = [PUBLIC, BATCH, SPEED, REJECTS];

/// The unlisted columns that a query mentions.
pub(crate) type Mentioned = BTreeSet<&'static str>;

/// The object that a name refers to.
#[derive(Debug, Clone)]
pub(crate) enum Named {
    Rows(Arc<CatalogStream>),
    Rejects(Arc<CatalogStream>),
    View(Arc<CompiledView>, Side),
}

impl Named {
    /// Returns the columns of the table. Columns that `*` leaves out are there if the query mentions them.
    pub(crate) fn schema(&self, mentioned: &Mentioned) -> SchemaRef {
        match self {
            Named::Rows(stream) => stream.definition.table_schema_with(mentioned),
            Named::Rejects(stream) => stream.definition.reject_schema_with(mentioned),
            Named::View(view, _) => Arc::clone(view.plan.output_schema()),
        }
    }

    /// Returns the stream whose pin the table is at.
    pub(crate) fn stream(&self) -> &StreamName {
        match self {
            Named::Rows(stream) | Named::Rejects(stream) => &stream.definition.name,
            Named::View(view, _) => view.plan.stream(),
        }
    }

    /// Returns the CREATE statement as users may see it.
    pub(crate) fn definition(&self) -> String {
        match self {
            Named::Rows(stream) | Named::Rejects(stream) => stream.definition.shown_sql(),
            Named::View(view, _) => view.definition.sql.clone(),
        }
    }

    /// Returns the table at its pin, if the query has a pin for it.
    fn table(&self, pins: &Pins, mentioned: &Mentioned) -> SharedResult<Option<Arc<dyn TableProvider>>> {
        let Some(pin) = pins.get(self.stream()) else {
            return Ok(None);
        };
        let planned = match self {
            Named::Rows(stream) => pin.rows.as_ref().map(|rows| {
                let plan = tables::rows(pin, rows, &self.schema(mentioned))?;
                Ok((plan, TableContent::Rows(stream.definition.name.clone())))
            }),
            Named::Rejects(_) => pin.rows.as_ref().map(|rows| {
                let plan = tables::rejects(pin, rows, &self.schema(mentioned))?;
                Ok((plan, TableContent::Rejects))
            }),
            Named::View(view, side) => pin.views.get(view.plan.id()).map(|pinned| {
                let plan = tables::view(pin, pinned, *side)?;
                Ok((plan, TableContent::View(view.plan.stream().clone(), view.plan.id().clone(), *side)))
            }),
        };
        let table = |(plan, content)| {
            let table: Arc<dyn TableProvider> = Arc::new(PlannedTable::new(plan, self.definition(), content));
            table
        };
        planned.map(|planned: SharedResult<_>| planned.map(table)).transpose()
    }
}

/// Returns all names of `catalog`, by schema. A view that is being built has no name, unless an older version serves.
pub(crate) fn all_names(catalog: &Catalog) -> HashMap<&'static str, BTreeMap<String, Named>> {
    let mut names: HashMap<&'static str, BTreeMap<String, Named>> =
        SCHEMAS.iter().map(|s| (*s, BTreeMap::new())).collect();
    let mut add = |schema, name: &str, named| {
        if let Some(tables) = names.get_mut(schema) {
            tables.insert(name.to_owned(), named);
        }
    };
    for (name, stream) in &catalog.streams {
        add(PUBLIC, name.as_str(), Named::Rows(Arc::clone(stream)));
        add(REJECTS, name.as_str(), Named::Rejects(Arc::clone(stream)));
    }
    for (name, view) in &catalog.views {
        if let Some(view) = &view.serving {
            for (schema, side) in [(PUBLIC, Side::Merged), (BATCH, Side::Batch), (SPEED, Side::Speed)] {
                add(schema, name.as_str(), Named::View(Arc::clone(view), side));
            }
        }
    }
    names
}

/// Returns the table that `reference` names, if there is one.
pub(crate) fn find(catalog: &Catalog, reference: &TableReference) -> Option<Named> {
    if reference.catalog().is_some_and(|c| c != CATALOG) {
        return None;
    }
    let table = reference.table();
    let stream = || catalog.streams.get(&StreamName::new(table).ok()?).cloned();
    let view = |side| Some(Named::View(catalog.views.get(&ViewName::new(table).ok()?)?.serving.clone()?, side));
    match reference.schema().unwrap_or(PUBLIC) {
        PUBLIC => view(Side::Merged).or_else(|| stream().map(Named::Rows)),
        BATCH => view(Side::Batch),
        SPEED => view(Side::Speed),
        REJECTS => stream().map(Named::Rejects),
        _ => None,
    }
}

/// Returns `reference` with the schema of `source` if it has none.
pub(crate) fn of_source(reference: TableReference, source: SourceLayer) -> TableReference {
    match (source, reference) {
        (SourceLayer::Merged, reference) => reference,
        (source, TableReference::Bare { table }) => TableReference::partial(source.as_str(), table),
        (_, reference) => reference,
    }
}

/// Errors: [`Error::SetOption`] if a stream is read from one layer alone, which only views can be.
pub(crate) fn refuse_sided_streams(
    catalog: &Catalog,
    references: &[TableReference],
    source: SourceLayer,
) -> Result<()> {
    let is_sided = |reference: &&TableReference| {
        let is_view = catalog.views.keys().any(|view| view.as_str() == reference.table());
        source != SourceLayer::Merged && reference.schema() == Some(source.as_str()) && !is_view
    };
    let sided = references.iter().filter(is_sided).find(|reference| is_stream(catalog, reference.table()));
    match sided {
        None => Ok(()),
        Some(reference) => Err(Error::SetOption {
            reason: format!(
                "thalweg.source = '{}' is for views, and `{table}` is a stream; write public.{table} for its rows, or leave \
                 the option away",
                source.as_str(),
                table = reference.table()
            ),
        }),
    }
}

/// Returns what the query must pin to read `references`. Unknown names are left to the planner, which knows their
/// place in the text.
///
/// Errors: [`Error::NotReady`] for a view that is being built for the first time, [`Error::ViewFailed`] if its run has
/// failed, [`Error::NotUnderstood`]. `metrics` knows the newest runs. Views that may answer an aggregate of `called`
/// over rows are pinned if they can be.
pub(crate) fn wanted(
    catalog: &Catalog,
    references: &[TableReference],
    called: Option<&CalledAggregates>,
    metrics: &Metrics,
) -> Result<BTreeMap<StreamName, Wanted>> {
    let mut wanted: BTreeMap<StreamName, Wanted> = BTreeMap::new();
    for reference in references {
        if reference.catalog().is_some_and(|c| c != CATALOG) {
            continue;
        }
        let schema = reference.schema().unwrap_or(PUBLIC);
        let Some(named) = find(catalog, reference) else {
            if SCHEMAS.contains(&schema) {
                refuse_kept_stream(catalog, reference.table())?;
            }
            if schema != REJECTS && SCHEMAS.contains(&schema) {
                refuse_building(catalog, reference.table(), metrics)?;
            }
            continue;
        };
        let stream = match &named {
            Named::Rows(stream) | Named::Rejects(stream) => stream,
            Named::View(view, _) => match catalog.streams.get(view.plan.stream()) {
                Some(stream) => stream,
                None => continue,
            },
        };
        let of_stream = wanted.entry(stream.definition.name.clone()).or_insert_with(|| Wanted {
            stream: Arc::clone(stream),
            rows: false,
            views: BTreeMap::new(),
            spare: BTreeMap::new(),
        });
        match named {
            Named::Rows(stream) => {
                of_stream.rows = true;
                if let Some(called) = called {
                    of_stream.spare.extend(views_for(catalog, &stream.definition.name, called));
                }
            }
            Named::Rejects(_) => of_stream.rows = true,
            Named::View(view, _) => {
                of_stream.views.insert(view.plan.id().clone(), view);
            }
        }
    }
    for of_stream in wanted.values_mut() {
        of_stream.spare.retain(|id, _| !of_stream.views.contains_key(id));
    }
    Ok(wanted)
}

/// The views that may answer aggregates of a stream's rows.
fn views_for<'a>(
    catalog: &'a Catalog,
    stream: &'a StreamName,
    called: &'a CalledAggregates,
) -> impl Iterator<Item = (ViewId, Arc<CompiledView>)> + 'a {
    let serving = catalog.views.values().filter_map(|view| view.serving.as_ref());
    let may_answer = serving.filter(move |view| view.plan.stream() == stream && called.may_read(view));
    may_answer.map(|view| (view.plan.id().clone(), Arc::clone(view)))
}

/// The system tables among `references`.
pub(crate) fn system_tables(references: &[TableReference]) -> BTreeSet<StateTable> {
    let of_schema = |reference: &&TableReference| {
        reference.schema() == Some(system::SCHEMA) && reference.catalog().is_none_or(|catalog| catalog == CATALOG)
    };
    references.iter().filter(of_schema).filter_map(|reference| StateTable::named(reference.table())).collect()
}

fn refuse_building(catalog: &Catalog, table: &str, metrics: &Metrics) -> Result<()> {
    let Some((name, view)) = catalog.views.iter().find(|(name, _)| name.as_str() == table) else {
        return Ok(());
    };
    match (&view.building, view.not_understood()) {
        (Some(building), _) => Err(match metrics.run_failure(building.plan.id()) {
            Some(failure) => Error::ViewFailed { view: name.clone(), failure: Arc::new(failure) },
            None => Error::NotReady {
                what: format!("view `{table}`"),
                reason: "it is being built; it answers once its first batch version is published".into(),
            },
        }),
        (None, Some(reason)) => Err(Error::NotUnderstood { name: name.to_string(), reason: reason.to_owned() }),
        (None, None) => Ok(()),
    }
}

fn refuse_kept_stream(catalog: &Catalog, table: &str) -> Result<()> {
    let kept = catalog.kept_streams.iter().find(|(name, _)| name.as_str() == table);
    match kept.and_then(|(name, kept)| Some((name, kept.reason.clone()?))) {
        Some((name, reason)) => Err(Error::NotUnderstood { name: name.to_string(), reason }),
        None => Ok(()),
    }
}

/// Returns the columns of `mentioned` that `*` leaves out of the table `name`.
pub(crate) fn unlisted(catalog: &Catalog, mentioned: &Mentioned, name: &ObjectName) -> Vec<&'static str> {
    let parts: Vec<String> = name.0.iter().map(|part| part.to_string().to_lowercase()).collect();
    let rejects = match parts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [table] | [PUBLIC, table] | [CATALOG, PUBLIC, table] if is_stream(catalog, table) => false,
        [REJECTS, table] | [CATALOG, REJECTS, table] if is_stream(catalog, table) => true,
        _ => return Vec::new(),
    };
    mentioned.iter().copied().filter(|column| !rejects || *column != PAYLOAD).collect()
}

fn is_stream(catalog: &Catalog, name: &str) -> bool {
    catalog.streams.keys().any(|stream| stream.as_str() == name)
}

/// Returns the SQL catalog of one query: the names of `catalog`, and the schemas `others`. A table is planned when the
/// query names it.
pub(crate) fn catalog_list(
    catalog: &Arc<Catalog>,
    pins: Arc<Pins>,
    mentioned: &Arc<Mentioned>,
    others: Vec<(&'static str, Arc<dyn SchemaProvider>)>,
) -> Arc<dyn CatalogProviderList> {
    let schemas = SCHEMAS
        .into_iter()
        .map(|schema| {
            let (catalog, pins, mentioned) = (Arc::clone(catalog), Arc::clone(&pins), Arc::clone(mentioned));
            let tables: Arc<dyn SchemaProvider> = Arc::new(Tables { schema, catalog, pins, mentioned });
            (schema, tables)
        })
        .chain(others)
        .collect();
    let list = MemoryCatalogProviderList::new();
    list.register_catalog(CATALOG.to_owned(), Arc::new(Schemas(schemas)));
    Arc::new(list)
}

#[derive(Debug)]
struct Schemas(HashMap<&'static str, Arc<dyn SchemaProvider>>);

impl CatalogProvider for Schemas {
    fn schema_names(&self) -> Vec<String> {
        let names: BTreeSet<&str> = self.0.keys().copied().collect();
        names.into_iter().map(str::to_owned).collect()
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        self.0.get(name).cloned()
    }
}

#[derive(Debug)]
struct Tables {
    schema: &'static str,
    catalog: Arc<Catalog>,
    pins: Arc<Pins>,
    mentioned: Arc<Mentioned>,
}

#[async_trait]
impl SchemaProvider for Tables {
    fn table_names(&self) -> Vec<String> {
        let names = all_names(&self.catalog).remove(self.schema).unwrap_or_default();
        names.into_keys().collect()
    }

    async fn table(&self, name: &str) -> EngineResult<Option<Arc<dyn TableProvider>>> {
        let Some(named) = find(&self.catalog, &TableReference::partial(self.schema, name)) else {
            return Ok(None);
        };
        match named.table(&self.pins, &self.mentioned) {
            Ok(Some(table)) => Ok(Some(table)),
            Ok(None) => Ok(Some(Arc::new(Described {
                definition: named.definition(),
                schema: named.schema(&self.mentioned),
                named,
            }))),
            Err(error) => Err(DataFusionError::External(Box::new(error))),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        find(&self.catalog, &TableReference::partial(self.schema, name)).is_some()
    }
}

/// The schema `thalweg`, with the rows that a query reads of it.
pub(crate) fn system_schema(rows: SystemRows) -> (&'static str, Arc<dyn SchemaProvider>) {
    (system::SCHEMA, Arc::new(StateSchema(rows)))
}

/// The tables of the schema `thalweg`.
#[derive(Debug)]
struct StateSchema(SystemRows);

#[async_trait]
impl SchemaProvider for StateSchema {
    fn table_names(&self) -> Vec<String> {
        StateTable::ALL.iter().map(|table| table.name().to_owned()).collect()
    }

    async fn table(&self, name: &str) -> EngineResult<Option<Arc<dyn TableProvider>>> {
        let Some(table) = StateTable::named(name) else {
            return Ok(None);
        };
        // A query that only describes the table has read no rows.
        let rows = self.0.get(&table).cloned();
        let batches = vec![rows.into_iter().collect()];
        Ok(Some(Arc::new(MemTable::try_new(table.schema(), batches)?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        StateTable::named(name).is_some()
    }
}

/// A table that the query does not read; only its columns and definition are known.
#[derive(Debug)]
struct Described {
    named: Named,
    schema: SchemaRef,
    definition: String,
}

#[async_trait]
impl TableProvider for Described {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        match self.named {
            Named::View(..) => TableType::View,
            Named::Rows(_) | Named::Rejects(_) => TableType::Base,
        }
    }

    fn get_table_definition(&self) -> Option<&str> {
        Some(&self.definition)
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> EngineResult<Arc<dyn ExecutionPlan>> {
        not_impl_err!("a table that was not pinned for this query is read")
    }
}
