//! Views that fail: what ends with a rebuild or a merge, and what does not.

use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use thalweg_kit::definitions;
use thalweg_kit::positions::{at, set};
use thalweg_schemas::failure::FailedStep;
use thalweg_schemas::realtime::segment::Provenance;
use thalweg_schemas::{Error, Offset};

use super::*;

const NOW: Duration = Duration::from_secs(100);

async fn view() -> Arc<CompiledView> {
    let stream = definitions::stream("s", &[("x", DataType::Int64)]);
    let catalog = definitions::catalog(stream, at(&[(0, 0)]), &[("v", "SELECT sum(x) AS n FROM s")]).await;
    definitions::view(&catalog, "v")
}

fn segment(view: &CompiledView, partition: i32, from: i64, to: i64) -> Segment {
    Segment {
        view: view.plan.id().clone(),
        partition: Partition(partition),
        from: Offset(from),
        to: Offset(to),
        provenance: Provenance::Rebuilt,
        states: RecordBatch::new_empty(Arc::clone(view.plan.state_schema())),
        bytes: 1,
        level: 0,
    }
}

fn passing() -> Error {
    Error::WriteCatalog { version: 1 }
}

fn lasting() -> Error {
    Error::refuse("no", "no")
}

fn failure(step: FailedStep, error: &Error) -> ViewFailure {
    ViewFailure::new(step, error, (&at(&[(0, 4)]), &at(&[(0, 5)])), 0)
}

/// Holds the view from offset 0 to 20 of partition 0, in two segments. Returns the number of its rebuild.
fn hold(views: &mut ViewStates, view: &Arc<CompiledView>) -> u64 {
    let (cut, reached) = (at(&[(0, 0)]), at(&[(0, 20)]));
    let id = views.begin_rebuild(view.plan.id(), cut, set(&[0]), &reached);
    let segments = vec![segment(view, 0, 0, 10), segment(view, 0, 10, 20)];
    let rebuilt = Rebuilt { id, view: Arc::clone(view), reached: reached.clone(), segments };
    assert!(views.join(NOW, rebuilt, &reached).unwrap());
    id
}

#[tokio::test]
async fn a_rebuild_that_fails_ends_the_view_unless_it_is_served_and_the_failure_may_pass() {
    let view = view().await;
    let id = view.plan.id();
    // Whether the view is held, its failure; whether it is held afterwards.
    for (held, error, expect) in
        [(true, passing(), true), (true, lasting(), false), (false, passing(), false), (false, lasting(), false)]
    {
        let mut views = ViewStates::default();
        let (cut, frontier) = (at(&[(0, 0), (1, 3)]), at(&[(0, 20), (1, 9)]));
        if held {
            hold(&mut views, &view);
            views.assign(&at(&[(1, 9)]));
        }
        let rebuild = views.begin_rebuild(id, cut.clone(), set(&[1]), &frontier);
        let failed = failure(FailedStep::Rebuild, &error);
        assert!(views.fail_rebuild(NOW, id, rebuild + 1, failed.clone()).is_none(), "another rebuild");
        let outcome = views.fail_rebuild(NOW, id, rebuild, failed).unwrap();
        // Nothing is held back for a rebuild that has failed, whatever is searched afterwards.
        assert!(views.holds().is_empty() && views.rebuilds().is_empty());
        assert_eq!(views.held().count(), usize::from(expect), "{held} {error}");
        match outcome {
            RebuildFailure::Served(again_in) => {
                assert!(expect && views.failures().is_empty());
                assert_eq!(again_in, Duration::from_secs(1));
                let step = |now| views.step(now, id, &cut, &frontier, &frontier);
                assert_eq!(step(NOW), Step::Nothing);
                assert!(views.is_retry_due(NOW + again_in));
                assert_eq!(step(NOW + again_in), Step::Rebuild(set(&[1])));
            }
            RebuildFailure::OfView(recorded) => {
                assert!(!expect && views.failures().contains_key(id));
                assert!(Arc::ptr_eq(views.failure(id).unwrap(), &recorded));
            }
        }
    }
}

#[tokio::test]
async fn a_served_view_that_needs_no_rebuild_any_more_is_not_tried_for_ever() {
    let view = view().await;
    let id = view.plan.id();
    let mut views = ViewStates::default();
    hold(&mut views, &view);
    views.assign(&at(&[(1, 9)]));
    let (cut, frontier) = (at(&[(0, 0), (1, 3)]), at(&[(0, 20), (1, 9)]));
    let rebuild = views.begin_rebuild(id, cut.clone(), set(&[1]), &frontier);
    views.fail_rebuild(NOW, id, rebuild, failure(FailedStep::Rebuild, &passing())).unwrap();
    views.revoke(&set(&[1]));
    assert!(views.is_retry_due(NOW));
    let frontier = at(&[(0, 20)]);
    assert_eq!(views.step(NOW, id, &at(&[(0, 0)]), &frontier, &frontier), Step::Record);
    views.record_cut(NOW, id, at(&[(0, 0)]));
    assert!(!views.is_retry_due(NOW + Duration::from_secs(10_000)));
    assert_eq!(views.step(NOW, id, &at(&[(0, 0)]), &frontier, &frontier), Step::Nothing);
}

#[tokio::test]
async fn a_merge_counts_only_for_the_segments_that_it_was_given() {
    let view = view().await;
    let id = view.plan.id();
    let mut views = ViewStates::default();
    let borders: Borders = [(Partition(0), [Offset(20)].into())].into();
    let first = hold(&mut views, &view);
    let stale = views.begin_merges(&borders).remove(0);
    assert_eq!(stale.incarnation, first);
    // The view fails and is rebuilt while the merge runs.
    views.fail(NOW, id, failure(FailedStep::Update, &lasting())).unwrap();
    let second = hold(&mut views, &view);
    assert_eq!(views.begin_merges(&borders)[0].incarnation, second);
    assert!(views.fail_merge(NOW, id, first, failure(FailedStep::Merge, &lasting())).is_none());
    assert!(!views.end_merge(id, first, vec![segment(&view, 0, 0, 20)]));
    assert_eq!(views.segments()[id].iter().count(), 2);
    assert!(views.begin_merges(&borders).is_empty(), "the other merge still runs");

    assert!(views.end_merge(id, second, vec![segment(&view, 0, 0, 20)]));
    assert_eq!(views.segments()[id].iter().count(), 1);
    assert!(views.fail_merge(NOW, id, second, failure(FailedStep::Merge, &lasting())).is_some());
    assert_eq!(views.held().count(), 0);
}

#[tokio::test]
async fn a_view_that_fails_in_every_merge_is_tried_ever_more_rarely() {
    let view = view().await;
    let id = view.plan.id();
    let borders: Borders = [(Partition(0), [Offset(20)].into())].into();
    let (cut, frontier) = (at(&[(0, 0)]), at(&[(0, 20)]));
    let mut views = ViewStates::default();
    for pause in [600, 1200, 2400] {
        let rebuild = hold(&mut views, &view);
        assert!(views.failures().is_empty(), "it is served");
        assert_eq!(views.begin_merges(&borders).len(), 1);
        views.fail_merge(NOW, id, rebuild, failure(FailedStep::Merge, &lasting())).unwrap();
        let step = |seconds| views.step(NOW + Duration::from_secs(seconds), id, &cut, &frontier, &frontier);
        assert_eq!(step(pause - 1), Step::Nothing, "{pause}");
        assert_eq!(step(pause), Step::Rebuild(set(&[0])), "{pause}");
    }
    let rebuild = hold(&mut views, &view);
    views.begin_merges(&borders);
    assert!(views.end_merge(id, rebuild, vec![segment(&view, 0, 0, 20)]));
    assert!(views.failure(id).is_none());
}
