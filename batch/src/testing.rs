//! What the crate's tests share: streams, epochs, and a store that fails or dies where it is told to.
//!
//! Invariant: a store that died answers nothing but errors, and the future that used it is dropped before it can act on
//! one: what remains is exactly what a killed process leaves behind.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, AsArray, Float64Array, RecordBatch, StringArray, new_null_array};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::prelude::col;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use thalweg_schemas::algebra::ViewPlan;
use thalweg_schemas::catalog::{Catalog, CatalogStream, CatalogView, CompiledView};
use thalweg_schemas::definition::stream::{OFFSET, PARTITION, RecordFormat, StreamDefinition};
use thalweg_schemas::definition::view::ViewDefinition;
use thalweg_schemas::engine::session;
use thalweg_schemas::realtime::epoch::Epoch;
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::parquet::ParquetFiles;
use thalweg_schemas::warehouse::versions::{DataFile, LastMessage};
use thalweg_schemas::{Frontier, Offset, Partition, StreamName, ViewName};
use tokio::sync::watch;
use url::Url;

/// Where trouble begins. Operations are counted from 1 since it was set.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Trouble {
    #[default]
    None,
    /// The process dies at this operation: before it takes effect, or after.
    Kill { at: usize, after: bool },
    /// The next `times` writes to a path that holds `part` fail: before they take effect, or after.
    Fail { part: &'static str, after: bool, times: usize },
}

#[derive(Debug)]
pub(crate) struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    trouble: Mutex<(Trouble, usize)>,
    dead: watch::Sender<bool>,
}

/// What an operation is to do.
enum Fate {
    Work,
    FailBefore,
    FailAfter,
}

impl FaultyStore {
    pub(crate) fn new(inner: Arc<dyn ObjectStore>) -> Arc<Self> {
        Arc::new(Self { inner, trouble: Mutex::default(), dead: watch::Sender::new(false) })
    }

    pub(crate) fn set(&self, trouble: Trouble) {
        *self.trouble.lock().unwrap() = (trouble, 0);
        self.dead.send_replace(false);
    }

    /// Runs `work` until it ends or the store dies; `None` if it died.
    pub(crate) async fn until_killed<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut dead = self.dead.subscribe();
        tokio::select! {
            biased;
            _ = dead.wait_for(|dead| *dead) => None,
            done = work => (!*self.dead.borrow()).then_some(done),
        }
    }

    fn fate(&self, path: &str, writes: bool) -> Fate {
        if *self.dead.borrow() {
            return Fate::FailBefore;
        }
        let mut trouble = self.trouble.lock().unwrap();
        trouble.1 += 1;
        let count = trouble.1;
        match &mut trouble.0 {
            Trouble::Kill { at, after } if *at == count => {
                self.dead.send_replace(true);
                if *after { Fate::FailAfter } else { Fate::FailBefore }
            }
            Trouble::Fail { part, after, times } if writes && *times > 0 && path.contains(*part) => {
                *times -= 1;
                if *after { Fate::FailAfter } else { Fate::FailBefore }
            }
            _ => Fate::Work,
        }
    }
}

fn broken() -> Error {
    Error::Generic { store: "faulty", source: "as told".into() }
}

impl std::fmt::Display for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        match self.fate(location.as_ref(), true) {
            Fate::Work => self.inner.put_opts(location, payload, opts).await,
            Fate::FailBefore => Err(broken()),
            Fate::FailAfter => {
                self.inner.put_opts(location, payload, opts).await?;
                Err(broken())
            }
        }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        match self.fate(location.as_ref(), true) {
            Fate::Work => self.inner.put_multipart_opts(location, opts).await,
            Fate::FailBefore | Fate::FailAfter => Err(broken()),
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        match self.fate(location.as_ref(), false) {
            Fate::Work => self.inner.get_opts(location, options).await,
            Fate::FailBefore | Fate::FailAfter => Err(broken()),
        }
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        match self.fate("", false) {
            Fate::Work => self.inner.delete_stream(locations),
            Fate::FailBefore | Fate::FailAfter => stream::once(async { Err(broken()) }).boxed(),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.fate("", false) {
            Fate::Work => self.inner.list(prefix),
            Fate::FailBefore | Fate::FailAfter => stream::once(async { Err(broken()) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        match self.fate("", false) {
            Fate::Work => self.inner.list_with_delimiter(prefix).await,
            Fate::FailBefore | Fate::FailAfter => Err(broken()),
        }
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        match self.fate(to.as_ref(), true) {
            Fate::Work => self.inner.copy_opts(from, to, options).await,
            Fate::FailBefore | Fate::FailAfter => Err(broken()),
        }
    }
}

/// A warehouse in memory whose store can be told to fail.
pub(crate) fn faulty_warehouse() -> (Warehouse, Arc<FaultyStore>) {
    let store = FaultyStore::new(Arc::new(InMemory::new()));
    (warehouse_over(Arc::clone(&store) as _), store)
}

pub(crate) fn warehouse_over(store: Arc<dyn ObjectStore>) -> Warehouse {
    Warehouse::over(Url::parse("memory:///").unwrap(), store)
}

pub(crate) fn at(pairs: &[(i32, i64)]) -> Frontier {
    pairs.iter().map(|(p, o)| (Partition(*p), Offset(*o))).collect()
}

/// A stream with one column of every kind that rows can have.
pub(crate) fn stream() -> StreamDefinition {
    let info = Fields::from(vec![Field::new("a", DataType::Int64, true), Field::new("b", DataType::Float32, true)]);
    let columns = [
        ("device", DataType::Utf8),
        ("ts", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("temperature", DataType::Float64),
        ("count", DataType::Int64),
        ("amount", DataType::Decimal128(20, 4)),
        ("day", DataType::Date32),
        ("fine", DataType::Boolean),
        ("raw", DataType::Binary),
        ("tags", DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true)))),
        ("info", DataType::Struct(info)),
    ];
    let fields: Vec<Field> = columns.into_iter().map(|(name, kind)| Field::new(name, kind, true)).collect();
    StreamDefinition {
        name: StreamName::new("sensor_data").unwrap(),
        topic: "sensor_data".into(),
        columns: Arc::new(Schema::new(fields)),
        format: RecordFormat::Json,
        event_time: Some("ts".into()),
        kafka: BTreeMap::new(),
        sql: String::new(),
    }
}

/// Rows of `schema` at these positions; the other columns are null, but for those in `columns`.
pub(crate) fn rows_at(schema: &SchemaRef, positions: &[(i32, i64)], columns: &[(&str, ArrayRef)]) -> RecordBatch {
    let arrays = schema.fields().iter().map(|field| -> ArrayRef {
        if let Some((_, array)) = columns.iter().find(|(name, _)| name == field.name()) {
            return Arc::clone(array);
        }
        match field.name().as_str() {
            PARTITION => Arc::new(arrow::array::Int32Array::from_iter_values(positions.iter().map(|(p, _)| *p))),
            OFFSET => Arc::new(arrow::array::Int64Array::from_iter_values(positions.iter().map(|(_, o)| *o))),
            _ => new_null_array(field.data_type(), positions.len()),
        }
    });
    RecordBatch::try_new(Arc::clone(schema), arrays.collect()).unwrap()
}

/// An epoch with a row at every offset, in two batches of which the second holds the lower partitions.
pub(crate) fn epoch(from: &[(i32, i64)], to: &[(i32, i64)], mark: bool) -> Epoch {
    let stream = stream();
    let schema = stream.row_schema();
    let (from, to) = (at(from), at(to));
    let mut positions: Vec<(i32, i64)> =
        to.iter().flat_map(|(p, end)| (from.get(p).0..end.0).map(move |o| (p.0, o))).collect();
    positions.sort_by_key(|(p, o)| (-p, *o));
    let half = positions.len() / 2;
    let rows = [&positions[..half], &positions[half..]]
        .into_iter()
        .filter(|part| !part.is_empty())
        .map(|part| rows_at(&schema, part, &[]))
        .collect();
    let advanced = to.advanced_since(&from);
    let last: HashMap<_, _> = advanced.iter().map(|(p, o)| (p, last(o.0 - 1))).collect();
    Epoch { stream: stream.name, from, to, rows, mark, last }
}

pub(crate) fn last(offset: i64) -> LastMessage {
    LastMessage { offset: Offset(offset), timestamp_ms: 1_000 + offset, hash: format!("{offset:016x}") }
}

/// Everything in `files`, as one batch in the order of `keys`.
pub(crate) async fn read(warehouse: &Warehouse, schema: &SchemaRef, files: &[DataFile], keys: &[&str]) -> RecordBatch {
    let context = session::context(session::runtime(Some(warehouse), None, None).unwrap(), 1);
    let table = Arc::new(ParquetFiles::new(Arc::clone(schema), files.to_vec()));
    let rows = context.read_table(table).unwrap();
    let keys = keys.iter().map(|key| col(*key).sort(true, true)).collect();
    let rows = rows.sort(keys).unwrap().collect().await.unwrap();
    concat_batches(schema, &rows).unwrap()
}

/// The positions of all rows in `files`, in order, each as often as it occurs.
pub(crate) async fn positions(warehouse: &Warehouse, files: &[DataFile]) -> Vec<(i32, i64)> {
    let rows = read(warehouse, &stream().row_schema(), files, &[PARTITION, OFFSET]).await;
    let partitions = rows[PARTITION].as_primitive::<Int32Type>();
    let offsets = rows[OFFSET].as_primitive::<Int64Type>();
    partitions.values().iter().copied().zip(offsets.values().iter().copied()).collect()
}

/// A catalog of [`stream`] and these views, all being built.
pub(crate) async fn catalog(origin: &[(i32, i64)], views: &[(&str, &str)]) -> Catalog {
    let stream = stream();
    let mut catalog = Catalog { version: 1, ..Catalog::default() };
    for (name, query) in views {
        let definition = ViewDefinition {
            name: ViewName::new(name).unwrap(),
            stream: stream.name.clone(),
            query: (*query).to_owned(),
            sql: (*query).to_owned(),
        };
        let plan = ViewPlan::compile(&definition, &stream).await.unwrap();
        let view = CatalogView { serving: None, building: Some(Arc::new(CompiledView { definition, plan })) };
        catalog.views.insert(ViewName::new(name).unwrap(), view);
    }
    let known = CatalogStream { definition: stream.clone(), origin: at(origin) };
    catalog.streams.insert(stream.name, Arc::new(known));
    catalog
}

/// The view of that name.
pub(crate) fn view(catalog: &Catalog, name: &str) -> Arc<CompiledView> {
    let view = &catalog.views[&ViewName::new(name).unwrap()];
    Arc::clone(view.building.as_ref().unwrap())
}

/// As [`epoch`], with a device (four of them), a count (the offset) and a temperature in every row.
pub(crate) fn measured(from: &[(i32, i64)], to: &[(i32, i64)], mark: bool) -> Epoch {
    let mut epoch = epoch(from, to, mark);
    for batch in &mut epoch.rows {
        let offsets = batch[OFFSET].as_primitive::<Int64Type>().clone();
        let partitions = batch[PARTITION].as_primitive::<Int32Type>().clone();
        let places: Vec<(i32, i64)> =
            partitions.values().iter().copied().zip(offsets.values().iter().copied()).collect();
        let devices = places.iter().map(|(p, o)| format!("d{}", (o + i64::from(*p)) % 4));
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("device", Arc::new(StringArray::from_iter_values(devices))),
            ("count", Arc::new(offsets)),
            ("temperature", Arc::new(Float64Array::from_iter_values(places.iter().map(|(_, o)| *o as f64)))),
        ];
        *batch = rows_at(&batch.schema(), &places, &columns);
    }
    epoch
}
