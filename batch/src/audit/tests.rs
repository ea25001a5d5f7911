//! Audits of correct segments, and of forged ones.

use futures::StreamExt;
use thalweg_kit::definitions::view;
use thalweg_kit::positions::at;
use thalweg_kit::world::faulty_warehouse;
use thalweg_kit::{segments, snapshots};
use thalweg_schemas::api::runs::RunMode;

use super::*;
use crate::run::{BatchConfig, run_view};
use crate::testing::{catalog, measured, stream};

const VIEW: &str = "SELECT device, count(*) AS n, sum(count) AS total FROM sensor_data GROUP BY device";

/// The states of `[from, to)` of one partition, computed from the rows of an epoch.
async fn segment(
    view: &CompiledView,
    rows: &[RecordBatch],
    partition: i32,
    (from, to): (i64, i64),
    provenance: Provenance,
) -> Arc<Segment> {
    let state = session::state(session::runtime(None, None, None).unwrap(), 1);
    let (partition, range) = (Partition(partition), (Offset(from), Offset(to)));
    Arc::new(segments::segment(&state, view, rows, partition, range, provenance).await)
}

fn snapshot(
    view: &CompiledView,
    master: Arc<MasterVersion>,
    frontier: &Frontier,
    segments: Vec<Arc<Segment>>,
) -> StreamSnapshot {
    let mut held = ViewSegments::default();
    for segment in segments {
        held.partitions.entry(segment.partition).or_default().push(segment);
    }
    let mut snapshot = snapshots::snapshot(master, &at(&[(0, 0), (1, 0)]), frontier);
    snapshot.views.insert(view.plan.id().clone(), Arc::new(held));
    snapshot
}

#[tokio::test]
async fn an_audit_of_what_is_not_archived_creates_nothing() {
    let (warehouse, _) = faulty_warehouse();
    let origin = &[(0, 0), (1, 0)];
    let catalog = catalog(origin, &[("v", VIEW)]).await;
    let view = view(&catalog, "v");
    let name = view.plan.stream().clone();
    let master = MasterVersion {
        stream: name,
        version: 0,
        frontier: at(origin),
        mark: at(origin),
        files: Vec::new().into(),
        last: Default::default(),
    };
    let live = snapshot(&view, Arc::new(master), &at(&[(0, 5), (1, 5)]), Vec::new());
    let report = audit_view(&warehouse, &catalog, &view, &live).await.unwrap();
    assert!(report.parts.is_empty(), "{report:?}");
    assert!(PublishedRange::find(&warehouse, &catalog, &view).await.unwrap().is_none());
    assert_eq!(warehouse.store().list(None).count().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn correct_segments_are_equal_and_forged_ones_are_not() {
    let (warehouse, _) = faulty_warehouse();
    let folder = tempfile::tempdir().unwrap();
    let config = BatchConfig { spill: folder.path().to_owned(), ..BatchConfig::default() };
    let origin = &[(0, 0), (1, 0)];
    let catalog = catalog(origin, &[("v", VIEW)]).await;
    let view = view(&catalog, "v");
    let mut archive = Archive::open(&warehouse, &stream(), at(origin)).await.unwrap();
    archive.commit(&measured(origin, &[(0, 10), (1, 4)], true)).await.unwrap();
    run_view(&warehouse, &catalog, &view, RunMode::Full, &config, |_| ()).await.unwrap();
    let above = measured(&[(0, 10), (1, 4)], &[(0, 30), (1, 20)], true);
    archive.commit(&above).await.unwrap();
    let master = archive.latest().await.unwrap();
    let all = measured(origin, &[(0, 30), (1, 20)], true).rows;

    use Provenance::{Live, Rebuilt};
    let mut segments = vec![
        // Still held, although it starts below the cut.
        segment(&view, &all, 0, (4, 10), Live).await,
        segment(&view, &all, 0, (10, 15), Rebuilt).await,
        segment(&view, &all, 0, (15, 22), Live).await,
        segment(&view, &all, 0, (22, 30), Live).await,
        segment(&view, &all, 1, (4, 20), Rebuilt).await,
    ];
    let audit = |segments: &[Arc<Segment>], reached: &[(i32, i64)]| {
        let live = snapshot(&view, Arc::clone(&master), &at(reached), segments.to_vec());
        let (warehouse, catalog, view) = (warehouse.clone(), catalog.clone(), Arc::clone(&view));
        async move { audit_view(&warehouse, &catalog, &view, &live).await }
    };
    let report = audit(&segments, &[(0, 33), (1, 20)]).await.unwrap();
    assert!(report.is_equal(), "{report:?}");
    assert_eq!(report.cut, at(&[(0, 10), (1, 4)]));
    assert_eq!(report.from, at(&[(0, 4), (1, 4)]));
    assert_eq!(report.to, at(&[(0, 30), (1, 20)]));
    let parts: Vec<_> = report.parts.iter().map(|p| (p.provenance, p.segments, p.offsets)).collect();
    assert_eq!(parts, [(Live, 3, 6 + 15), (Rebuilt, 2, 5 + 16)]);
    assert!(report.parts.iter().all(|p| p.groups > 0));

    // A live segment lacks one row: the live part differs, the rebuilt part does not.
    let good = Arc::clone(&segments[2]);
    let mut forged = segment(&view, &all, 0, (15, 21), Live).await.as_ref().clone();
    forged.to = Offset(22);
    segments[2] = Arc::new(forged);
    let report = audit(&segments, &[(0, 30), (1, 20)]).await.unwrap();
    assert!(!report.is_equal());
    assert_eq!(report.parts[0].differences.len(), 2, "{report:?}");
    assert_eq!(report.parts[0].differences[0].group[0], "0");
    assert!(report.parts[1].differences.is_empty());
    segments[2] = good;

    // With a gap the range is not held.
    let gap = segments.remove(1);
    let error = audit(&segments, &[(0, 30), (1, 20)]).await.unwrap_err();
    let not_held = matches!(error, Error::Schemas(thalweg_schemas::Error::NotHeld { .. }));
    assert!(not_held, "{error}");
    segments.insert(1, gap);
    assert!(audit(&segments, &[(0, 30), (1, 20)]).await.unwrap().is_equal());
}

#[tokio::test(flavor = "multi_thread")]
async fn rebuilt_segments_are_compared_with_published_states() {
    let (warehouse, _) = faulty_warehouse();
    let folder = tempfile::tempdir().unwrap();
    let config = BatchConfig { spill: folder.path().to_owned(), ..BatchConfig::default() };
    let origin = &[(0, 0), (1, 0)];
    let catalog = catalog(origin, &[("v", VIEW)]).await;
    let view = view(&catalog, "v");
    let mut archive = Archive::open(&warehouse, &stream(), at(origin)).await.unwrap();
    let ends: [&[(i32, i64)]; 3] = [origin, &[(0, 10), (1, 4)], &[(0, 30), (1, 20)]];
    for range in ends.windows(2) {
        let epoch = measured(range[0], range[1], true);
        archive.commit(&epoch).await.unwrap();
        run_view(&warehouse, &catalog, &view, RunMode::Incremental, &config, |_| ()).await.unwrap();
    }
    let mut table = ViewTable::open(&warehouse, view.plan.id(), view.plan.stored_schema()).await.unwrap();
    let version = table.latest().await.unwrap().unwrap();
    let all = measured(origin, ends[2], true).rows;
    let stream = catalog.streams.values().next().unwrap();
    let audit = |last: i64| {
        let (warehouse, view, all, version) = (&warehouse, &view, &all, &version);
        async move {
            let mut forged = segment(view, all, 1, (0, last), Provenance::Rebuilt).await.as_ref().clone();
            forged.to = Offset(20);
            let segments = vec![
                segment(view, all, 0, (0, 15), Provenance::Rebuilt).await.as_ref().clone(),
                segment(view, all, 0, (15, 30), Provenance::Rebuilt).await.as_ref().clone(),
                forged,
            ];
            audit_published(warehouse, stream, view, version, segments).await
        }
    };
    let report = audit(20).await.unwrap();
    assert!(report.is_equal(), "{report:?}");
    let part = &report.parts[0];
    assert_eq!((part.segments, part.offsets, part.against), (3, 50, Against::Published));
    assert!(part.groups > 0);
    assert!(!audit(19).await.unwrap().is_equal());
}
