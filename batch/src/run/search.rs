//! The search for the messages over which a view cannot be computed, after a run has reported that it failed.
//!
//! Invariant: a search holds no lease and publishes nothing, so it may run beside the runs of other views. It reads one
//! pinned version.

use std::sync::Arc;
use std::time::Duration;

use datafusion::execution::context::SessionState;
use datafusion::logical_expr::LogicalPlan;
use thalweg_schemas::algebra::{failure_over, find_culprit};
use thalweg_schemas::catalog::{CatalogStream, CompiledView};
use thalweg_schemas::engine::contain::contain;
use thalweg_schemas::engine::session;
use thalweg_schemas::failure::{FailedStep, ViewFailure};
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::MasterVersion;
use thalweg_schemas::{Error as SharedError, Fault, Frontier};
use tokio::time::Instant;

use super::BatchConfig;
use super::pinned_rows::rows;
use crate::{Error, Result};

/// The work, for errors.
const SEARCHING: &str = "looking for a message";

/// A failed computation whose messages are to be searched.
pub(crate) struct Suspect {
    pub(super) warehouse: Warehouse,
    pub(super) config: BatchConfig,
    pub(super) stream: Arc<CatalogStream>,
    pub(super) view: Arc<CompiledView>,
    pub(super) master: Arc<MasterVersion>,
    pub(super) from: Frontier,
    pub(super) to: Frontier,
    pub(super) error: SharedError,
    /// When the run failed, in milliseconds since 1970.
    pub(super) since_ms: i64,
}

impl Suspect {
    /// The failure as the run knows it: somewhere in the range that it read.
    pub(super) fn vague(&self) -> ViewFailure {
        ViewFailure::new(FailedStep::Run, &self.error, (&self.from, &self.to), self.since_ms)
    }

    /// The memory limit of the search.
    pub(crate) fn limit_memory(&mut self, bytes: usize) {
        self.config.memory = bytes;
    }

    /// Finds the messages, as the speed layer does, or the smallest range of which they are a part when `time` is over.
    pub(crate) async fn search(self, time: Duration) -> ViewFailure {
        let vague = self.vague();
        let until = Instant::now() + time;
        let found = contain(SEARCHING, async move {
            let Self { warehouse, config, stream, view, master, from, to, error, since_ms } = self;
            let session = session_of(&warehouse, &config)?;
            let part = |from: &Frontier, to: &Frontier| plan(&stream, &master, from, to);
            let culprit = find_culprit(&view.plan, &session, (from, to), error, until, part).await;
            Ok::<_, SharedError>(ViewFailure::located(FailedStep::Run, culprit, since_ms))
        });
        found.await.unwrap_or_else(|error| {
            tracing::debug!(%error, "a search for a message failed");
            vague
        })
    }
}

/// The failure of an earlier run of a view that started at `run_from`, in a smaller range than the run's.
#[derive(Debug, Clone)]
pub(crate) struct KnownFailure {
    pub(crate) run_from: Frontier,
    pub(crate) failure: ViewFailure,
}

impl KnownFailure {
    /// True if a run over `[from, to)` computes all messages of the failure, as the earlier run did.
    pub(super) fn is_within(&self, from: &Frontier, to: &Frontier) -> bool {
        let failure = &self.failure;
        let begins_above = failure.from.covers(&from.within(failure.from.partitions()));
        self.run_from.stands_at(from) && begins_above && to.covers(&failure.to)
    }

    /// Computes the known messages alone. Returns true if they cannot be computed, as before.
    pub(super) async fn happens_again(
        &self,
        warehouse: &Warehouse,
        config: &BatchConfig,
        stream: &CatalogStream,
        view: &CompiledView,
        master: &MasterVersion,
    ) -> bool {
        let Ok(session) = session_of(warehouse, config) else {
            return false;
        };
        let ViewFailure { from, to, .. } = &self.failure;
        failure_over(&view.plan, &session, plan(stream, master, from, to)).await.is_some()
    }
}

fn session_of(warehouse: &Warehouse, config: &BatchConfig) -> Result<Arc<SessionState>, SharedError> {
    let env = session::runtime(Some(warehouse), Some(config.memory), Some(config.spill.clone()))?;
    Ok(Arc::new(session::state(env, 1)))
}

fn plan(
    stream: &CatalogStream,
    master: &MasterVersion,
    from: &Frontier,
    to: &Frontier,
) -> Result<LogicalPlan, SharedError> {
    match rows(&stream.definition, master, from, to) {
        Ok(rows) => Ok(rows.plan),
        Err(Error::Schemas(error)) => Err(error),
        Err(other) => Err(SharedError::Broken(other.to_string())),
    }
}

/// The error of a computation that belongs to its view.
///
/// Errors: a broken invariant, and an error that is not the engine's.
pub(super) fn of_view(error: Error) -> Result<SharedError> {
    match error.fault() {
        Fault::Bug => Err(error),
        Fault::User | Fault::Transient | Fault::Engine => error.into_shared(),
    }
}

#[cfg(test)]
mod tests {
    use datafusion::error::DataFusionError;
    use thalweg_kit::positions::at;

    use super::*;

    #[test]
    fn a_broken_invariant_is_no_failure_of_a_view() {
        let check = |error: Error, expect: Result<Fault, Fault>| {
            let said = error.to_string();
            let got = of_view(error).map(|error| error.fault()).map_err(|error| error.fault());
            assert_eq!(got, expect, "{said}");
        };
        let broken = || SharedError::Broken("no".into());
        let ran = |source| Error::RunPlan { what: "computing".into(), source };
        check(Error::Broken("no".into()), Err(Fault::Bug));
        check(Error::Schemas(broken()), Err(Fault::Bug));
        check(ran(DataFusionError::External(Box::new(broken()))), Err(Fault::Bug));
        check(ran(DataFusionError::Execution("no".into())), Ok(Fault::User));
        check(ran(DataFusionError::Internal("no".into())), Ok(Fault::Engine));
        check(Error::Schemas(SharedError::Panicked { what: "x", message: "y".into() }), Ok(Fault::Engine));
        check(Error::Lease { path: "p".into(), reason: "r".into() }, Err(Fault::Transient));
    }

    #[test]
    fn a_known_failure_counts_for_runs_that_start_where_the_failed_one_did() {
        let error = SharedError::refuse("no", "no");
        let failure = ViewFailure::new(FailedStep::Run, &error, (&at(&[(1, 6)]), &at(&[(1, 7)])), 0);
        let known = KnownFailure { run_from: at(&[(0, 3), (1, 5)]), failure };
        let check = |from: &[(i32, i64)], to: &[(i32, i64)], expect| {
            assert_eq!(known.is_within(&at(from), &at(to)), expect, "{from:?} {to:?}");
        };
        check(&[(0, 3), (1, 5)], &[(0, 9), (1, 9)], true);
        check(&[(0, 3), (1, 5), (2, 0)], &[(0, 9), (1, 7), (2, 4)], true);
        // Another run has moved the cut.
        check(&[(0, 4), (1, 5)], &[(0, 9), (1, 9)], false);
        check(&[(0, 3), (1, 8)], &[(0, 9), (1, 9)], false);
        // A full run starts at the origin.
        check(&[(0, 0), (1, 0)], &[(0, 9), (1, 9)], false);
        check(&[(0, 3), (1, 5)], &[(0, 9), (1, 6)], false);
    }
}
