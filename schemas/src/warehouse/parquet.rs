//! Parquet files of a pinned version as a DataFusion table, and the settings for writing such files.
//!
//! Invariant: files written with [`writer_properties`] or [`state_properties`] carry no statistics for floating-point
//! columns, so no filter that is pushed down can prune a NaN.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::parquet::basic::{Compression, ZstdLevel};
use datafusion::parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use datafusion::parquet::schema::types::ColumnPath;
use datafusion::physical_plan::ExecutionPlan;

use crate::warehouse::Warehouse;
use crate::warehouse::versions::DataFile;

/// Rows per row group. Row groups are small, so that a filter on sorted groups reads few rows.
const ROW_GROUP_ROWS: usize = 64 * 1024;

/// Rows per page in files of states. Groups are sorted, so a filter on one group reads one page of every column.
const STATE_PAGE_ROWS: usize = 1024;

/// A table over exactly these files; no folder is listed. The warehouse must be registered in the session's runtime
/// ([`Warehouse::register`]).
#[derive(Debug)]
pub struct ParquetFiles {
    schema: SchemaRef,
    files: Vec<DataFile>,
}

impl ParquetFiles {
    /// The columns of every file are cast to `schema`.
    pub fn new(schema: SchemaRef, files: Vec<DataFile>) -> Self {
        Self { schema, files }
    }
}

#[async_trait]
impl TableProvider for ParquetFiles {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut source = ParquetSource::new(Arc::clone(&self.schema))
            .with_table_parquet_options(state.default_table_options().parquet);
        // The content of a named file never changes, so a cached footer is always valid.
        let env = state.runtime_env();
        source = source.with_parquet_file_reader_factory(Arc::new(CachedParquetFileReaderFactory::new(
            env.object_store(Warehouse::store_url())?,
            env.cache_manager.get_file_metadata_cache(),
        )));
        if let Some(filter) = conjunction(filters.to_vec()) {
            let schema = DFSchema::try_from(Arc::clone(&self.schema))?;
            source = source.with_predicate(state.create_physical_expr(filter, &schema)?);
        }
        let groups = state.config().target_partitions().max(1);
        let per_group = self.files.len().div_ceil(groups).max(1);
        let groups = self
            .files
            .chunks(per_group)
            .map(|files| FileGroup::new(files.iter().map(|f| PartitionedFile::new(f.path.clone(), f.size)).collect()))
            .collect();
        let mut statistics = Statistics::new_unknown(&self.schema);
        if let Some(rows) = self.files.iter().map(|file| file.rows).sum::<Option<u64>>() {
            // Inexact: an exact count would answer count(*) without reading.
            statistics.num_rows = Precision::Inexact(usize::try_from(rows).unwrap_or(usize::MAX));
        }
        let config = FileScanConfigBuilder::new(Warehouse::store_url(), Arc::new(source))
            .with_statistics(statistics)
            .with_file_groups(groups)
            .with_projection_indices(projection.cloned())?
            .with_limit(limit)
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// The settings for files of rows: zstd, and no statistics for floating-point columns. The values of the column `raw`
/// hardly repeat and are never searched, so it has neither a dictionary nor statistics.
pub fn writer_properties(schema: &SchemaRef, raw: &str) -> WriterProperties {
    let raw = || ColumnPath::new(vec![raw.to_owned()]);
    builder(schema)
        .set_column_dictionary_enabled(raw(), false)
        .set_column_statistics_enabled(raw(), EnabledStatistics::None)
        .build()
}

/// The settings for files of states: as for rows, but with small pages and without dictionaries. Groups hardly repeat
/// within a row group, and a lookup of one group would have to decode the dictionary of all of them.
pub fn state_properties(schema: &SchemaRef) -> WriterProperties {
    builder(schema).set_dictionary_enabled(false).set_data_page_row_count_limit(STATE_PAGE_ROWS).build()
}

fn builder(schema: &SchemaRef) -> WriterPropertiesBuilder {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_created_by(concat!("thalweg ", env!("CARGO_PKG_VERSION")).to_owned());
    for field in schema.fields() {
        let mut floats = Vec::new();
        float_leaves(field, vec![field.name().clone()], &mut floats);
        for path in floats {
            builder = builder.set_column_statistics_enabled(ColumnPath::new(path), EnabledStatistics::None);
        }
    }
    builder
}

/// Collects in `out` the Parquet paths of the floating-point columns within `field`.
fn float_leaves(field: &Field, path: Vec<String>, out: &mut Vec<Vec<String>>) {
    let below = |names: &[&str]| {
        let mut longer = path.clone();
        longer.extend(names.iter().map(|n| (*n).to_owned()));
        longer
    };
    match field.data_type() {
        DataType::Float16 | DataType::Float32 | DataType::Float64 => out.push(path),
        DataType::Struct(fields) => {
            for inner in fields {
                float_leaves(inner, below(&[inner.name()]), out);
            }
        }
        DataType::List(inner) | DataType::LargeList(inner) => {
            float_leaves(inner, below(&["list", inner.name()]), out);
        }
        _ => {}
    }
}
