//! Workers that serve snapshots of a world over loopback, and serving processes that read from them.
//!
//! Invariant: each worker has its own runtime, so it can end like a killed process.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use serde_json::Value;
use thalweg_kit::snapshots::Shown;
use thalweg_kit::world::World as Warehouse;
use thalweg_schemas::StreamName;
use thalweg_schemas::catalog::Catalog;
use thalweg_schemas::realtime::snapshot::{StreamHandle, StreamSnapshot};
use thalweg_serving::{Doors, Metrics, Realtime, ServingConfig, Sources, Workers, WorkersConfig};
use thalweg_speed::flight::{FlightConfig, ServerTls, serve};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::world::World;

impl World {
    /// Starts a worker that holds `snapshot`.
    pub(crate) async fn worker(&self, snapshot: StreamSnapshot) -> Worker {
        self.worker_with(snapshot, None, None, "127.0.0.1:0").await
    }

    pub(crate) async fn worker_with(
        &self,
        snapshot: StreamSnapshot,
        token: Option<&str>,
        tls: Option<ServerTls>,
        listen: &str,
    ) -> Worker {
        worker(&self.sensors.world, snapshot, token, tls, listen)
    }

    /// Starts a serving process that holds the snapshot in memory.
    pub(crate) async fn here(&self, snapshot: StreamSnapshot) -> Server {
        let handle = Shown::new(Some(snapshot)).handle();
        let streams = Arc::new(HashMap::from([(self.sensors.world.stream.clone(), handle)]));
        let realtime = Realtime::Local(watch::channel(streams).1);
        Server::start(sources(&self.sensors.world, realtime)).await
    }

    /// Starts a serving process that asks workers at `addresses`.
    pub(crate) async fn there(&self, addresses: &[String], config: WorkersConfig) -> Server {
        let addresses = watch::channel(addresses.to_vec()).1;
        let realtime = Realtime::Remote { workers: Workers::new(addresses, config), masters: self.masters.subscribe() };
        Server::start(sources(&self.sensors.world, realtime)).await
    }

    pub(crate) async fn over(&self, workers: &[&Worker]) -> Server {
        let addresses: Vec<String> = workers.iter().map(|w| w.address.clone()).collect();
        self.there(&addresses, patient()).await
    }
}

/// Starts a worker of `world` that holds `snapshot`.
pub(crate) fn worker(
    world: &Warehouse,
    snapshot: StreamSnapshot,
    token: Option<&str>,
    tls: Option<ServerTls>,
    listen: &str,
) -> Worker {
    let listener = std::net::TcpListener::bind(listen).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let shown = Shown::new(Some(snapshot));
    let streams = watch::Sender::new(Arc::new(HashMap::from([(world.stream.clone(), shown.handle())])));
    let config =
        FlightConfig { worker: address.clone(), token: token.map(str::to_owned), tls, threads: 1, spill: None };
    let catalog = watch::Sender::new(world.catalog.borrow().clone());
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (known, handles) = (catalog.subscribe(), streams.subscribe());
    runtime.spawn(async move {
        let listener = TcpListener::from_std(listener).unwrap();
        let cancel = CancellationToken::new();
        serve(listener, config, known, handles, cancel).await.unwrap();
    });
    Worker { address, shown, catalog, _streams: streams, runtime: Some(runtime) }
}

/// The sources of a serving process of `world`.
pub(crate) fn sources(world: &Warehouse, realtime: Realtime) -> Sources {
    let refuse = || thalweg_serving::CallError { fault: thalweg_schemas::Fault::User, message: "not here".into() };
    Sources {
        shared: world.shared(),
        realtime,
        audit: Arc::new(move |_| Box::pin(async move { Err(refuse()) })),
        load: Arc::new(move |_| Box::pin(async move { Err(refuse()) })),
        columns: Arc::new(move |_| Box::pin(async move { Err(refuse()) })),
        batch: Arc::new(move |_| Box::pin(async move { Err(refuse()) })),
        metrics: Arc::new(Metrics::new()),
        settings: Arc::from([]),
    }
}

/// A configuration with long timeouts: the workers of a test are fast, but the machine may be slow.
pub(crate) fn patient() -> WorkersConfig {
    WorkersConfig { ask_within: Duration::from_secs(20), ..WorkersConfig::default() }
}

/// The Flight server of a speed worker.
pub(crate) struct Worker {
    pub(crate) address: String,
    pub(crate) shown: Shown,
    pub(crate) catalog: watch::Sender<Arc<Catalog>>,
    _streams: watch::Sender<Arc<HashMap<StreamName, StreamHandle>>>,
    /// The worker's own runtime, so that the worker can be killed with all of its connections.
    runtime: Option<Runtime>,
}

impl Worker {
    /// Ends the worker as SIGKILL would: connections break.
    pub(crate) async fn kill(mut self) {
        let runtime = self.runtime.take().unwrap();
        let ending = move || runtime.shutdown_timeout(Duration::from_secs(30));
        tokio::task::spawn_blocking(ending).await.unwrap();
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A serving process.
pub(crate) struct Server {
    pub(crate) url: String,
    client: Client,
    cancel: CancellationToken,
}

/// The reply of a server.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) partial: Option<String>,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) fn code(&self) -> (u16, &str) {
        (self.status, self.body["error"]["code"].as_str().unwrap_or(""))
    }

    pub(crate) fn message(&self) -> &str {
        self.body["error"]["message"].as_str().unwrap_or("")
    }

    /// Returns the sorted rows, so that their order does not depend on the plan, and the frontier.
    pub(crate) fn answer(&self) -> (Vec<String>, Value) {
        assert_eq!(self.status, 200, "{}", self.body);
        let rows = self.body["rows"].as_array().unwrap();
        let mut rows: Vec<String> = rows.iter().map(Value::to_string).collect();
        rows.sort();
        (rows, self.body["frontier"].clone())
    }
}

impl Server {
    pub(crate) async fn start(sources: Sources) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let cancel = CancellationToken::new();
        let config = ServingConfig {
            pin_wait: Duration::from_millis(700),
            target_partitions: 2,
            // Each answer comes from the workers.
            kept_answers: 0,
            shutdown_grace: Duration::from_millis(100),
            ..ServingConfig::default()
        };
        let doors = Doors { http: listener, postgres: None, flight_sql: None, tls: None };
        let serving = thalweg_serving::serve(doors, config, sources, cancel.clone());
        tokio::spawn(serving);
        Self { url, client: Client::new(), cancel }
    }

    pub(crate) async fn sql(&self, sql: &str) -> Reply {
        self.ask(sql, &[]).await
    }

    pub(crate) async fn ask(&self, sql: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = self.client.post(format!("{}/v1/sql", self.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let reply = request.body(sql.to_owned()).send().await.unwrap();
        let status = reply.status().as_u16();
        let partial = reply.headers().get("thalweg-partial");
        let partial = partial.map(|value| value.to_str().unwrap().to_owned());
        let text = reply.text().await.unwrap_or_else(|e| format!("\"broke off: {e}\""));
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Reply { status, partial, body }
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let reply = self.client.get(format!("{}{path}", self.url));
        let reply = reply.send().await.unwrap();
        (reply.status().as_u16(), reply.text().await.unwrap())
    }

    /// Returns the value of the first metric whose line begins with `name`.
    pub(crate) async fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.get("/metrics").await;
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Returns the output of EXPLAIN as text.
    pub(crate) async fn explain(&self, sql: &str) -> String {
        let reply = self.sql(&format!("EXPLAIN {sql}")).await;
        reply.answer().0.join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}
