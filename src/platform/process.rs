//! The start of every role: a port, the warehouse, and the catalog with the part that follows it.
//!
//! Invariant: the port is bound before any other action, so a second process with the same settings changes nothing.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::anyhow;
use thalweg_schemas::Shared;
use thalweg_schemas::catalog::{CatalogFollower, CatalogStore};
use thalweg_schemas::engine::threads::Threads;
use thalweg_schemas::warehouse::Warehouse;
use thalweg_schemas::warehouse::versions::Published;
use thalweg_serving::{DoorTls, Doors};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::parts::{Addresses, Part};
use super::stopped::Stopped;
use crate::config::Settings;

/// A process before the start of its parts.
pub(crate) struct Opened {
    pub(super) http: TcpListener,
    postgres: Option<TcpListener>,
    flight_sql: Option<TcpListener>,
    pub(super) addresses: Addresses,
    pub(crate) warehouse: Warehouse,
}

impl Opened {
    /// Binds the ports of a process that answers SQL, and opens the warehouse; a local warehouse is created if missing.
    ///
    /// Errors: a port cannot be bound, or the warehouse cannot be opened.
    pub(crate) async fn serving(settings: &Settings) -> anyhow::Result<Self> {
        let http = listen("http_addr", settings.http_addr).await?;
        let postgres = listen_at("postgres_addr", settings.postgres_addr).await?;
        let flight_sql = listen_at("flight_sql_addr", settings.flight_sql_addr).await?;
        Self::open(settings, http, postgres, flight_sql)
    }

    /// As [`Self::serving`], for a process that answers probes only.
    ///
    /// Errors: those of [`Self::serving`].
    pub(crate) async fn probed(settings: &Settings) -> anyhow::Result<Self> {
        Self::open(settings, listen("http_addr", settings.http_addr).await?, None, None)
    }

    fn open(
        settings: &Settings,
        http: TcpListener,
        postgres: Option<TcpListener>,
        flight_sql: Option<TcpListener>,
    ) -> anyhow::Result<Self> {
        let address = |listener: &Option<TcpListener>| listener.as_ref().map(TcpListener::local_addr).transpose();
        let addresses =
            Addresses { http: http.local_addr()?, postgres: address(&postgres)?, flight_sql: address(&flight_sql)? };
        Ok(Self { http, postgres, flight_sql, addresses, warehouse: settings.open_warehouse()? })
    }

    /// The ports for clients, with the certificate of the settings.
    ///
    /// Errors: the certificate or its key cannot be read.
    pub(super) fn doors(self, settings: &Settings) -> Result<Doors, Stopped> {
        let identity = settings.cluster().and_then(|cluster| cluster.identity());
        let tls = identity.map_err(|e| Stopped::user(format!("{e:#}")))?;
        let tls = tls.map(|(cert_pem, key_pem)| DoorTls { cert_pem, key_pem });
        Ok(Doors { http: self.http, postgres: self.postgres, flight_sql: self.flight_sql, tls })
    }

    /// Returns the catalog with the other state that layers share, and the part that follows the catalog.
    ///
    /// Errors: the catalog cannot be read.
    pub(super) async fn share(&self, published: watch::Receiver<Arc<Published>>) -> Result<(Shared, Part), Stopped> {
        let catalogs = CatalogStore::new(self.warehouse.clone());
        let (follower, catalog) = CatalogFollower::open(catalogs.clone()).await?;
        let following = Part::spawn("the catalog", |end| follower.run(end));
        Ok((Shared { warehouse: self.warehouse.clone(), catalogs, catalog, published }, following))
    }
}

async fn listen_at(name: &str, address: Option<SocketAddr>) -> anyhow::Result<Option<TcpListener>> {
    match address {
        Some(address) => Ok(Some(listen(name, address).await?)),
        None => Ok(None),
    }
}

/// Binds `address`, the value of the setting `name`.
pub(super) async fn listen(name: &str, address: SocketAddr) -> anyhow::Result<TcpListener> {
    let bound = TcpListener::bind(address).await;
    bound.map_err(|error| cannot_listen(name, address, &error))
}

fn cannot_listen(name: &str, address: SocketAddr, error: &std::io::Error) -> anyhow::Error {
    let flag = name.replace('_', "-");
    let other = match name {
        "flight_addr" => "thalweg speed",
        _ => "thalweg up",
    };
    match error.kind() {
        ErrorKind::AddrInUse => anyhow!(
            "{address} is in use, perhaps by another `{other}`; end that one, or take another port with --{flag}"
        ),
        _ => {
            anyhow!("{address} cannot be listened on: {error}; take another address with --{flag}")
        }
    }
}

/// Creates the folder for spilled data.
pub(super) fn spill_folder(settings: &Settings) -> Result<(), Stopped> {
    let folder = settings.spill_dir();
    std::fs::create_dir_all(&folder).map_err(|e| {
        let folder = folder.display();
        Stopped::user(format!("the folder {folder} cannot be created: {e}"))
    })
}

/// Starts the threads for long computations.
pub(super) fn threads(settings: &Settings) -> Result<Arc<Threads>, Stopped> {
    start_threads("batch", settings.batch_threads)
}

/// Starts the threads on which streams are read and their views updated, one for each core.
pub(super) fn stream_threads() -> Result<Arc<Threads>, Stopped> {
    start_threads("speed", std::thread::available_parallelism().map_or(1, usize::from))
}

fn start_threads(layer: &str, count: usize) -> Result<Arc<Threads>, Stopped> {
    let threads = Threads::start(layer, count);
    threads.map(Arc::new).map_err(|e| Stopped::broken(format!("threads for the {layer} layer cannot be started: {e}")))
}
