//! The inputs of the serving layer: what the other layers publish, the calls it may make, and its limits.
//!
//! Invariant: sources are only read. Serving changes nothing but the catalog, through the catalog's store.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use thalweg_schemas::api::audits::AuditList;
use thalweg_schemas::api::runs::RunList;
use thalweg_schemas::catalog::{Catalog, CompiledView, FoundColumns};
use thalweg_schemas::definition::statement::{CopiedFiles, OpenStream};
use thalweg_schemas::realtime::snapshot::{StreamHandle, StreamSnapshot};
use thalweg_schemas::warehouse::versions::{Masters, Published};
use thalweg_schemas::{Fault, Shared, StreamName, ViewName};
use tokio::sync::watch;

use crate::Result;
use crate::access::{Access, HttpLimits};
use crate::metrics::Metrics;
use crate::workers::Workers;

/// Limits of the serving layer.
#[derive(Debug, Clone)]
pub struct ServingConfig {
    /// Time from the request to the last byte of the answer.
    pub query_timeout: Duration,
    /// Bytes that the operators of one query may hold; operators that can spill do so beyond the limit.
    pub query_memory: usize,
    /// Bytes that the operators of all queries together may hold.
    pub all_queries_memory: usize,
    /// Gives memory that queries have freed back to the system, if the process's allocator keeps it.
    pub reclaim: fn(),
    /// Heavy queries that run at the same time; others wait for `queue_wait`.
    pub max_queries: usize,
    /// Places that only light queries can take.
    pub max_light_queries: usize,
    /// Queries whose time is over and that do not end, above which heavy queries are refused.
    pub max_lost_queries: usize,
    /// Pairs of rows that a join without an equality may compare.
    pub max_join_pairs: u64,
    pub queue_wait: Duration,
    /// How long a text of usual length may be planned. Planning is one step that nothing ends.
    pub planning_time: Duration,
    /// How long a query waits for state that tiles from its batch version before the answer is `not_held`.
    pub pin_wait: Duration,
    /// Parallelism of one query.
    pub target_partitions: usize,
    /// The folder for spilled data; the system's temporary folder if `None`.
    pub spill: Option<PathBuf>,
    /// How long queries may keep running after the start of a shutdown.
    pub shutdown_grace: Duration,
    /// Who may do what.
    pub access: Access,
    pub http: HttpLimits,
    /// Audits and runs that clients start, at the same time.
    pub max_calls: usize,
    /// Clients that listen to changes at the same time.
    pub max_listeners: usize,
    /// True if states of views answer aggregates of streams, unless a request says otherwise.
    pub rollups: bool,
    /// Bytes of small answers over HTTP that are kept for equal queries.
    pub kept_answers: usize,
}

impl Default for ServingConfig {
    fn default() -> Self {
        Self {
            query_timeout: Duration::from_secs(60),
            query_memory: 256 << 20,
            all_queries_memory: 1 << 30,
            reclaim: || {},
            max_queries: 16,
            max_light_queries: 8,
            max_lost_queries: 4,
            max_join_pairs: 10_000_000_000,
            queue_wait: Duration::from_secs(5),
            planning_time: Duration::from_secs(5),
            pin_wait: Duration::from_secs(5),
            target_partitions: std::thread::available_parallelism().map_or(1, usize::from),
            spill: None,
            shutdown_grace: Duration::from_secs(5),
            access: Access::default(),
            http: HttpLimits::default(),
            max_calls: 2,
            max_listeners: 256,
            rollups: true,
            kept_answers: 16 << 20,
        }
    }
}

/// Why a callback failed; the message is meant for the client.
#[derive(Debug)]
pub struct CallError {
    pub fault: Fault,
    pub message: String,
}

/// An action that another layer runs on request.
pub type Call<Request, Answer> =
    Arc<dyn Fn(Request) -> BoxFuture<'static, std::result::Result<Answer, CallError>> + Send + Sync>;

/// A recomputation that a client asks for.
#[derive(Debug, Clone)]
pub struct BatchRequest {
    /// `None` means all views.
    pub view: Option<ViewName>,
    /// True to compute from the origin instead of from the last cut.
    pub full: bool,
}

/// The place of the streams' realtime side.
#[derive(Debug, Clone)]
pub enum Realtime {
    /// In this process.
    Local(watch::Receiver<Arc<HashMap<StreamName, StreamHandle>>>),
    /// In other processes. Workers bring no master datasets, which a local snapshot contains, so they come from
    /// `masters`.
    Remote { workers: Workers, masters: watch::Receiver<Arc<Masters>> },
}

impl Realtime {
    /// Returns the realtime data of `view`, from this process or from workers; workers' snapshots leave out the rows.
    /// `None` if the stream has not started.
    ///
    /// Errors: as of [`Workers::snapshot`].
    pub async fn snapshot(
        &self,
        catalog: &Catalog,
        published: &Published,
        view: &Arc<CompiledView>,
    ) -> Result<Option<Arc<StreamSnapshot>>> {
        let name = view.plan.stream();
        match self {
            Realtime::Local(streams) => {
                let handle = streams.borrow().get(name).cloned();
                Ok(handle.and_then(|handle| handle.snapshots.borrow().clone()))
            }
            Realtime::Remote { workers, masters } => {
                let master = masters.borrow().get(name).cloned();
                let Some((stream, master)) = catalog.streams.get(name).zip(master) else {
                    return Ok(None);
                };
                let snapshot = workers.snapshot(stream, &[Arc::clone(view)], published, master).await?;
                Ok(Some(Arc::new(snapshot)))
            }
        }
    }
}

/// What the other layers publish, and the calls that they accept.
#[derive(Clone)]
pub struct Sources {
    pub shared: Shared,
    pub realtime: Realtime,
    /// `POST /v1/audit`; `None` means all views.
    pub audit: Call<Option<ViewName>, AuditList>,
    /// `COPY stream FROM 'files'`; the answer says what was loaded, and what is to be known of the files.
    pub load: Call<CopiedFiles, (String, Vec<String>)>,
    /// The columns of a stream that is created without.
    pub columns: Call<OpenStream, FoundColumns>,
    /// `POST /v1/batch/run`.
    pub batch: Call<BatchRequest, RunList>,
    pub metrics: Arc<Metrics>,
    /// The settings of the process, for people.
    pub settings: Arc<[ShownSetting]>,
}

/// A setting as clients may see it: its value is `***` if it may hold a secret.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ShownSetting {
    pub name: String,
    pub value: String,
    /// Where the value comes from, such as `default` or `the environment`.
    pub source: String,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("catalog", &self.shared.catalog.borrow().version).finish_non_exhaustive()
    }
}
