//! Speed workers in other processes: their data is pinned, read over Arrow Flight, and released.
//!
//! `client` holds one worker with its channel; `assign` chooses the worker of each partition; `scan` is the table of
//! a plan.
//!
//! Invariant: a slow or failed worker costs one query at most `ask_within`. After that no query waits for the worker
//! until it has answered again in the background.

pub(crate) mod assign;
mod client;
mod discover;
pub(crate) mod scan;
mod snapshot;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use thalweg_schemas::realtime::protocol::{PinAnswer, PinRequest, WorkerStatus};
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, watch};
use tokio::time::Instant;

pub use discover::{WorkersAt, discover};

pub(crate) use client::{Worker, WorkerPin};

/// How long statuses are reused: probes, scrapes and consoles request them frequently.
const STATUS_AGE: Duration = Duration::from_secs(1);

/// Settings of the connections to workers.
#[derive(Clone)]
pub struct WorkersConfig {
    /// Sent with every request.
    pub token: Option<String>,
    /// PEM of the authority that signed the workers' certificates; `None` means a connection in plain text.
    pub tls_ca: Option<Vec<u8>>,
    /// The name that certificates must be for; `None`: the host of each worker's address. Workers that are found by a
    /// DNS name have addresses of IP numbers, which certificates seldom name.
    pub tls_name: Option<String>,
    /// How long a worker may take to answer a pin.
    pub ask_within: Duration,
}

impl Default for WorkersConfig {
    fn default() -> Self {
        Self { token: None, tls_ca: None, tls_name: None, ask_within: Duration::from_secs(1) }
    }
}

impl fmt::Debug for WorkersConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkersConfig")
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("tls", &self.tls_ca.is_some())
            .field("ask_within", &self.ask_within)
            .finish()
    }
}

/// A worker's address, with its status or the reason why the status is missing.
pub(crate) type Statuses = Arc<Vec<(String, Result<WorkerStatus, String>)>>;

/// The workers of a platform; clones share their connections.
#[derive(Clone)]
pub struct Workers(Arc<Inner>);

struct Inner {
    addresses: watch::Receiver<Vec<String>>,
    config: WorkersConfig,
    /// The runtime of the connections. They stay off the queries' threads, which may compute for long between two
    /// awaits.
    runtime: Handle,
    known: Mutex<BTreeMap<String, Arc<Worker>>>,
    statuses: AsyncMutex<Option<(Instant, Statuses)>>,
    counts: Arc<Counts>,
}

/// Counters of the traffic with workers.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) pin_seconds: Histogram,
    pub(crate) bytes: Counter,
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Workers").field(&*self.0.addresses.borrow()).finish()
    }
}

impl Workers {
    /// Creates the workers of a list of `host:port` addresses, which may change. Must be called on the runtime of the
    /// connections.
    pub fn new(addresses: watch::Receiver<Vec<String>>, config: WorkersConfig) -> Self {
        Self(Arc::new(Inner {
            addresses,
            config,
            runtime: Handle::current(),
            known: Mutex::default(),
            statuses: AsyncMutex::default(),
            counts: Arc::new(Counts {
                pin_seconds: Histogram::new(exponential_buckets(0.000_25, 2.0, 16)),
                bytes: Counter::default(),
            }),
        }))
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.0.counts
    }

    /// A watch that changes when a worker is added or removed.
    pub(crate) fn addresses(&self) -> watch::Receiver<Vec<String>> {
        self.0.addresses.clone()
    }

    /// Returns the workers that are currently listed, and drops the connections of all others.
    fn all(&self) -> Vec<Arc<Worker>> {
        let inner = &self.0;
        let addresses = inner.addresses.borrow().clone();
        let mut known = inner.known.lock();
        known.retain(|address, _| addresses.contains(address));
        for address in addresses {
            known.entry(address).or_insert_with_key(|address| {
                let counts = Arc::clone(&inner.counts);
                Arc::new(Worker::new(address, &inner.config, inner.runtime.clone(), counts))
            });
        }
        known.values().cloned().collect()
    }

    /// Asks every worker at once. Each answers within `ask_within`, or the result holds the reason.
    pub(crate) async fn pin(&self, request: PinRequest) -> Vec<WorkerAnswer> {
        let request = Arc::new(request);
        let asked = self.all().into_iter().map(|worker| {
            let request = Arc::clone(&request);
            async move { WorkerAnswer { name: worker.address().to_owned(), pin: worker.pin(request).await } }
        });
        join_all(asked).await
    }

    /// Returns the status of every worker; at most a second old.
    pub(crate) async fn statuses(&self) -> Statuses {
        let mut shared = self.0.statuses.lock().await;
        if let Some((at, statuses)) = &*shared
            && at.elapsed() < STATUS_AGE
        {
            return Arc::clone(statuses);
        }
        let asked = self.all().into_iter().map(|worker| async move {
            let status = worker.status().await;
            (worker.address().to_owned(), status)
        });
        let statuses = Arc::new(join_all(asked).await);
        *shared = Some((Instant::now(), Arc::clone(&statuses)));
        statuses
    }
}

/// The answer of one worker to a pin.
#[derive(Debug)]
pub(crate) struct WorkerAnswer {
    pub(crate) name: String,
    pub(crate) pin: Result<WorkerPin, String>,
}

impl WorkerAnswer {
    pub(crate) fn answer(&self) -> (&str, Result<&PinAnswer, &str>) {
        let answer = self.pin.as_ref().map(WorkerPin::answer);
        (&self.name, answer.map_err(String::as_str))
    }
}

#[cfg(test)]
mod tests;
