//! The searches for the messages behind failures of views: which one runs, and which ones wait.
//!
//! Invariant: one search runs at a time, and a search that waits holds no rows.

use std::collections::VecDeque;
use std::sync::Arc;

use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::failure::ViewFailure;
use thalweg_schemas::{Error as SharedError, Frontier, ViewId};
use tokio_util::sync::CancellationToken;

/// A view that failed with `error` over the messages of `[from, to)`.
pub(super) struct FailedRange {
    pub(super) view: Arc<CompiledView>,
    /// The failure as it was recorded.
    pub(super) recorded: Arc<ViewFailure>,
    pub(super) from: Frontier,
    pub(super) to: Frontier,
    pub(super) error: SharedError,
}

/// The search that runs.
struct RunningSearch {
    view: ViewId,
    recorded: Arc<ViewFailure>,
    /// Bytes of the rows that the search holds.
    bytes: usize,
    end: CancellationToken,
}

/// The search that runs, and the failures that wait for one.
#[derive(Default)]
pub(super) struct SearchQueue {
    running: Option<RunningSearch>,
    waiting: VecDeque<FailedRange>,
}

impl SearchQueue {
    /// Adds a search, unless it would find nothing. A view has one search at most: the one of its newest failure.
    pub(super) fn add(&mut self, failed: FailedRange) {
        if failed.recorded.may_pass() {
            return;
        }
        self.waiting.retain(|waiting| waiting.view.plan.id() != failed.view.plan.id());
        self.waiting.push_back(failed);
    }

    /// Ends the searches for failures that are not the newest of their views any more.
    pub(super) fn retain(&mut self, is_newest: impl Fn(&ViewId, &Arc<ViewFailure>) -> bool) {
        self.waiting.retain(|waiting| is_newest(waiting.view.plan.id(), &waiting.recorded));
        if let Some(running) = self.running.as_ref().filter(|running| !is_newest(&running.view, &running.recorded)) {
            running.end.cancel();
        }
    }

    /// Begins the first search for which `start` returns its rows and their bytes, if no search runs. The search ends
    /// early when the returned token is cancelled.
    pub(super) fn begin<Rows>(
        &mut self,
        start: impl Fn(&FailedRange) -> Option<(Rows, usize)>,
    ) -> Option<(FailedRange, Rows, CancellationToken)> {
        if self.running.is_some() {
            return None;
        }
        let found = self.waiting.iter().enumerate().find_map(|(at, failed)| Some((at, start(failed)?)));
        let (at, (rows, bytes)) = found?;
        let failed = self.waiting.remove(at)?;
        let (view, recorded) = (failed.view.plan.id().clone(), Arc::clone(&failed.recorded));
        let end = CancellationToken::new();
        self.running = Some(RunningSearch { view, recorded, bytes, end: end.clone() });
        Some((failed, rows, end))
    }

    /// Records that the running search has ended.
    pub(super) fn end(&mut self) {
        self.running = None;
    }

    /// Bytes of rows that are held for searches.
    pub(super) fn bytes(&self) -> usize {
        self.running.as_ref().map_or(0, |running| running.bytes)
    }
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::DataType;
    use thalweg_kit::definitions;
    use thalweg_kit::positions::at;
    use thalweg_schemas::catalog::Catalog;
    use thalweg_schemas::failure::FailedStep;

    use super::*;

    async fn catalog() -> Catalog {
        let stream = definitions::stream("s", &[("x", DataType::Int64)]);
        let views = [("a", "SELECT sum(x) AS n FROM s"), ("b", "SELECT min(x) AS n FROM s")];
        definitions::catalog(stream, at(&[(0, 0)]), &views).await
    }

    fn failed(catalog: &Catalog, view: &str, to: i64, error: SharedError) -> FailedRange {
        let (from, to) = (at(&[(0, 3)]), at(&[(0, to)]));
        let recorded = Arc::new(ViewFailure::new(FailedStep::Update, &error, (&from, &to), 0));
        FailedRange { view: definitions::view(catalog, view), recorded, from, to, error }
    }

    #[tokio::test]
    async fn one_search_runs_at_a_time() {
        let catalog = catalog().await;
        let lasting = || SharedError::refuse("no", "no");
        let mut queue = SearchQueue::default();
        queue.add(failed(&catalog, "a", 9, SharedError::WriteCatalog { version: 1 }));
        assert!(queue.begin(|_| Some(((), 1))).is_none(), "what may pass is not searched");
        queue.add(failed(&catalog, "a", 8, lasting()));
        queue.add(failed(&catalog, "a", 9, lasting()));
        queue.add(failed(&catalog, "b", 7, lasting()));
        // The rows of the first one are too many at the moment, and a newer failure of a view replaces an older one.
        let (first, (), _) = queue.begin(|failed| (failed.to == at(&[(0, 7)])).then_some(((), 40))).unwrap();
        assert_eq!((first.to, queue.bytes()), (at(&[(0, 7)]), 40));
        assert!(queue.begin(|_| Some(((), 1))).is_none(), "one runs");
        queue.end();
        assert_eq!(queue.bytes(), 0);
        let (second, (), _) = queue.begin(|_| Some(((), 50))).unwrap();
        assert_eq!((second.to, queue.bytes()), (at(&[(0, 9)]), 50));
        queue.end();
        assert!(queue.begin(|_| Some(((), 1))).is_none());
    }

    #[tokio::test]
    async fn a_search_for_an_older_failure_ends() {
        let catalog = catalog().await;
        let mut queue = SearchQueue::default();
        queue.add(failed(&catalog, "a", 9, SharedError::refuse("no", "no")));
        queue.add(failed(&catalog, "b", 7, SharedError::refuse("no", "no")));
        let (_, (), end) = queue.begin(|_| Some(((), 40))).unwrap();
        queue.retain(|_, _| true);
        assert!(!end.is_cancelled());
        queue.retain(|_, _| false);
        assert!(end.is_cancelled());
        assert_eq!(queue.bytes(), 40, "its rows are held until it has ended");
        queue.end();
        assert!(queue.begin(|_| Some(((), 1))).is_none());
    }
}
