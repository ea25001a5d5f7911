//! The rows of a range, wherever they are: in files of the archive, in memory, or in both.
//!
//! Invariant: no row is planned twice: files have the rows below the archive frontier, memory has the rows above it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use thalweg_schemas::algebra::{self, between};
use thalweg_schemas::warehouse::parquet::ParquetFiles;
use thalweg_schemas::warehouse::versions::{DataFile, MasterVersion};
use thalweg_schemas::{Error as SharedError, Frontier, Result as SharedResult};

/// Rows that do not change, of one stream.
#[derive(Debug, Clone)]
pub(crate) struct RowSource {
    /// The schema of the stream's rows.
    pub(crate) schema: SchemaRef,
    /// The pinned version whose files hold the rows below `archived`.
    pub(crate) master: Arc<MasterVersion>,
    /// The archive frontier. Partitions that it does not name are archived as far as they were read here.
    pub(crate) archived: Frontier,
    /// Rows in memory. The batches may contain rows outside the range.
    pub(crate) memory: Vec<RecordBatch>,
}

impl RowSource {
    /// The rows of `[from, to)`.
    ///
    /// Errors: [`SharedError::RunPlan`].
    pub(crate) fn rows(&self, from: &Frontier, to: &Frontier) -> SharedResult<LogicalPlan> {
        let border = border(from, to, &self.archived);
        let in_files = !border.advanced_since(from).is_empty();
        let in_memory = !to.advanced_since(&border).is_empty();
        let files = || archived_rows(&self.schema, &self.master, from, &border);
        let memory = || memory_rows(&self.schema, &self.memory, &border, to);
        match (in_files, in_memory) {
            (true, true) => {
                let both = LogicalPlanBuilder::from(files()?).union(memory()?).and_then(LogicalPlanBuilder::build);
                both.map_err(|source| SharedError::RunPlan { what: "planning rows of both layers", source })
            }
            (false, true) => memory(),
            (_, false) => files(),
        }
    }

    /// Bytes of the rows in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.memory.iter().map(RecordBatch::get_array_memory_size).sum()
    }
}

/// The end of the part of `[from, to)` that is archived.
pub(crate) fn border(from: &Frontier, to: &Frontier, archived: &Frontier) -> Frontier {
    let at = |(p, end)| (p, archived.named(p).map_or(end, |archived| archived.min(end).max(from.get(p).min(end))));
    to.iter().map(at).collect()
}

/// The rows of `[from, to)` in the files of `master`.
pub(crate) fn archived_rows(
    schema: &SchemaRef,
    master: &MasterVersion,
    from: &Frontier,
    to: &Frontier,
) -> SharedResult<LogicalPlan> {
    let files: Vec<DataFile> = master.files.iter().filter(|file| file.touches(from, to)).cloned().collect();
    if files.is_empty() {
        return algebra::batches("master", Arc::clone(schema), Vec::new());
    }
    let files = ParquetFiles::new(Arc::clone(schema), files);
    between(algebra::scan("master", Arc::new(files))?, from, to)
}

/// The rows of `[from, to)` among `batches`, which have the stream's row schema.
pub(crate) fn memory_rows(
    schema: &SchemaRef,
    batches: &[RecordBatch],
    from: &Frontier,
    to: &Frontier,
) -> SharedResult<LogicalPlan> {
    between(algebra::batches("memory", Arc::clone(schema), batches.to_vec())?, from, to)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use arrow::array::AsArray;
    use arrow::datatypes::{DataType, Int32Type};
    use thalweg_kit::definitions;
    use thalweg_kit::positions::at;
    use thalweg_kit::segments::rows;
    use thalweg_schemas::algebra::collect;
    use thalweg_schemas::definition::stream::PARTITION;
    use thalweg_schemas::engine::session;

    use super::*;

    #[test]
    fn files_end_where_memory_begins() {
        type Pairs<'a> = &'a [(i32, i64)];
        let check = |from: Pairs<'_>, to: Pairs<'_>, archived: Pairs<'_>, expect: Pairs<'_>| {
            assert_eq!(border(&at(from), &at(to), &at(archived)), at(expect), "{from:?} {to:?} {archived:?}");
        };
        check(&[(0, 3)], &[(0, 9)], &[(0, 9)], &[(0, 9)]);
        check(&[(0, 3)], &[(0, 9)], &[(0, 20)], &[(0, 9)]);
        check(&[(0, 3)], &[(0, 9)], &[(0, 3)], &[(0, 3)]);
        check(&[(0, 3)], &[(0, 9)], &[(0, 1)], &[(0, 3)]);
        check(&[(0, 3)], &[(0, 9)], &[(0, 5)], &[(0, 5)]);
        // A revoked partition is archived.
        check(&[(0, 3), (1, 4)], &[(0, 9), (1, 8)], &[(0, 3)], &[(0, 3), (1, 8)]);
        // A partition that does not advance.
        check(&[(0, 3), (1, 4)], &[(0, 9), (1, 4)], &[(0, 5), (1, 2)], &[(0, 5), (1, 4)]);
    }

    #[tokio::test]
    async fn rows_in_memory_count_above_the_archive_frontier() {
        let stream = definitions::stream("s", &[("x", DataType::Int64)]);
        let (from, to) = (at(&[(0, 2), (1, 5)]), at(&[(0, 8), (1, 9)]));
        let batch = rows(&stream, &at(&[(0, 0), (1, 0)]), &at(&[(0, 20), (1, 20)]), |_, o| format!(r#"{{"x":{o}}}"#));
        let master = MasterVersion {
            stream: stream.name.clone(),
            version: 1,
            frontier: Frontier::new(),
            mark: Frontier::new(),
            files: Arc::from([]),
            last: HashMap::new(),
        };
        let state = session::state(session::runtime(None, None, None).unwrap(), 1);
        let catalog =
            definitions::catalog(stream.clone(), at(&[(0, 0)]), &[("v", "SELECT count(x) AS n FROM s")]).await;
        let view = definitions::view(&catalog, "v");
        // There are no files, so the rows below the archive frontier are missing.
        for (archived, expect) in [
            (at(&[(0, 2), (1, 5)]), vec![(0, 6), (1, 4)]),
            (at(&[(0, 6), (1, 5)]), vec![(0, 2), (1, 4)]),
            (at(&[(0, 6)]), vec![(0, 2)]),
            (at(&[(0, 9), (1, 9)]), vec![]),
        ] {
            let source = RowSource {
                schema: stream.row_schema(),
                master: Arc::new(master.clone()),
                archived: archived.clone(),
                memory: vec![batch.clone()],
            };
            assert!(source.bytes() > 0);
            let plan = source.rows(&from, &to).unwrap();
            let mut got: BTreeMap<i32, usize> = BTreeMap::new();
            for batch in collect(&state, "test", plan.clone()).await.unwrap() {
                for partition in batch[PARTITION].as_primitive::<Int32Type>().values() {
                    *got.entry(*partition).or_default() += 1;
                }
            }
            assert_eq!(got, expect.into_iter().collect(), "{archived}");
            // A view takes such rows, and has one state for each partition.
            let states = collect(&state, "test", view.plan.update(plan).unwrap()).await.unwrap();
            assert_eq!(states.iter().map(RecordBatch::num_rows).sum::<usize>(), got.len());
        }
    }
}
