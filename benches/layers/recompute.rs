//! A full recomputation of a view: from archived rows to published states.
//!
//! Invariant: the archive itself writes the master dataset, epoch by epoch.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};
use thalweg_batch::{Archive, BatchConfig, run_view};
use thalweg_schemas::Frontier;
use thalweg_schemas::api::runs::RunMode;
use thalweg_schemas::catalog::CatalogStore;
use thalweg_schemas::definition::statement::Statement;
use thalweg_schemas::realtime::epoch::{Epoch, EpochOutcome};
use thalweg_schemas::warehouse::Warehouse;

use crate::events;

const EPOCHS: u64 = 8;
const EPOCH_ROWS: usize = 250_000;
const DEVICES: u64 = 25_000;

fn at(offset: u64) -> Frontier {
    Frontier::from([(0, offset as i64)])
}

async fn archive(warehouse: &Warehouse) {
    let stream = events::stream();
    let mut archive = Archive::open(warehouse, &stream, at(0)).await.expect("a new table");
    for n in 0..EPOCHS {
        let from = n * EPOCH_ROWS as u64;
        let epoch = Epoch {
            stream: stream.name.clone(),
            from: at(from),
            to: at(from + EPOCH_ROWS as u64),
            rows: vec![events::rows(from, EPOCH_ROWS, DEVICES)],
            mark: true,
            last: HashMap::new(),
        };
        let outcome = archive.commit(&epoch).await.expect("a commit");
        assert!(matches!(outcome, EpochOutcome::Landed(_)));
    }
}

pub(crate) fn recompute(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let folder = tempfile::tempdir().expect("a folder");
    let url = folder.path().join("warehouse");
    let warehouse = Warehouse::open(&url.to_string_lossy(), &BTreeMap::new()).expect("a local warehouse");
    let catalogs = CatalogStore::new(warehouse.clone());
    let catalog = runtime.block_on(async {
        let stream = Statement::CreateStream { definition: events::stream(), or_replace: false, if_not_exists: false };
        let view = Statement::CreateView { definition: events::view(), or_replace: false, if_not_exists: false };
        catalogs.apply(vec![stream, view]).await.expect("definitions");
        catalogs.record_origin(&events::stream().name, &at(0)).await.expect("an origin");
        archive(&warehouse).await;
        catalogs.load().await.expect("a catalog")
    });
    let view = catalog.compiled().next().expect("one view");
    let config = BatchConfig { spill: folder.path().join("spill"), target_partitions: 1, ..BatchConfig::default() };
    let mut group = criterion.benchmark_group("recompute");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(10));
    group.throughput(Throughput::Elements(EPOCHS * EPOCH_ROWS as u64));
    group.bench_function(format!("full, {} groups, on disk", DEVICES * 4), |bencher| {
        bencher.iter(|| {
            let run = run_view(&warehouse, &catalog, view, RunMode::Full, &config, |_| ());
            runtime.block_on(run).expect("a run")
        });
    });
    group.finish();
}
