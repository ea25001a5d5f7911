//! Flags that several commands share, by the part that each is about, and how flags become settings.
//!
//! Invariant: a flag that is also a setting has its name and carries its text to [`Settings`] unchanged; it is checked
//! here only so that the error names the flag.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::Serialize;
use thalweg_client::Client;
use thalweg_schemas::StreamName;
use thalweg_schemas::catalog::{CatalogStore, CatalogStream};
use thalweg_schemas::files::FileFormat;
use thalweg_schemas::reference::look_up;
use thalweg_schemas::warehouse::Warehouse;
use toml::Table;

use crate::config::{
    Settings, parse_count, parse_duration, parse_optional_address, parse_partitions, parse_size, parse_workers,
};

/// The command was used wrongly: exit code 2.
#[derive(Debug)]
pub(crate) struct Usage(pub(crate) String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// Which warehouse, and the file with the rest of the settings.
#[derive(Debug, Args, Serialize)]
pub(crate) struct WarehouseFlags {
    /// Settings file [default: thalweg.toml in the current folder, if there]
    #[arg(long, value_name = "FILE", env = "THALWEG_CONFIG")]
    #[serde(skip)]
    pub(crate) config: Option<PathBuf>,
    /// Folder of this process; holds the warehouse unless that is elsewhere [default: thalweg-data]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where streams are archived and views kept: file:///path or s3://bucket/prefix
    #[arg(long, value_name = "URL")]
    warehouse: Option<String>,
    /// Force every write to a local disk at once; false is faster, and a power failure may take commits [default: true]
    #[arg(long, value_name = "BOOL", value_parser = ["true", "false"])]
    fsync: Option<String>,
    /// Option of the object store, as aws_endpoint=http://127.0.0.1:9000; repeat for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    #[serde(serialize_with = "as_table")]
    storage: Vec<(String, String)>,
}

/// How a recomputation runs.
#[derive(Debug, Args, Serialize)]
pub(crate) struct RunFlags {
    /// Memory of one recomputation; what does not fit is spilled [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = checked(parse_size))]
    batch_memory: Option<String>,
    /// Folder for what is spilled [default: spill in the data folder]
    #[arg(long, value_name = "DIR")]
    spill_dir: Option<PathBuf>,
    /// Threads of one recomputation, 0 for one per core [default: 0]
    #[arg(long, value_name = "N", value_parser = checked(parse_count))]
    batch_threads: Option<String>,
    /// State files of a view above which a run merges them [default: 8]
    #[arg(long, value_name = "N", value_parser = checked(parse_count))]
    compact_files: Option<String>,
}

/// Where `thalweg up` answers unless told otherwise.
pub(crate) const DEFAULT_URL: &str = "http://127.0.0.1:8642";

/// Which server a command asks.
#[derive(Debug, Args)]
pub(crate) struct ServerFlags {
    /// Address of a running `thalweg up` or `thalweg serve`
    #[arg(
        long,
        value_name = "URL",
        env = "THALWEG_URL",
        default_value = DEFAULT_URL
    )]
    pub(crate) url: String,
    /// Token of the server, if it asks for one; '${file:/path}' keeps it off the command line
    #[arg(long, value_name = "TOKEN", env = "THALWEG_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
}

impl ServerFlags {
    /// Errors: [`Usage`] if the address is not an HTTP URL, or the token cannot be looked up.
    pub(crate) fn client(&self) -> Result<Client> {
        let token = self.token.as_deref().filter(|token| !token.is_empty());
        let token = token.map(look_up).transpose().map_err(|reason| Usage(format!("--token: {reason}")))?;
        Client::new(&self.url, token).map_err(|e| Usage(format!("--url: {e}")).into())
    }
}

/// The settings of a command: `groups` are its flags.
///
/// Errors: [`Usage`], naming the layer and the key.
pub(crate) fn settings(warehouse: &WarehouseFlags, groups: &[Table]) -> Result<Settings> {
    settings_over(Table::new(), warehouse, groups)
}

/// As [`settings`], with other defaults for some.
pub(crate) fn settings_over(defaults: Table, warehouse: &WarehouseFlags, groups: &[Table]) -> Result<Settings> {
    let mut flags = table(warehouse);
    flags.extend(groups.iter().flat_map(|group| group.clone()));
    Settings::load(defaults, warehouse.config.as_deref(), flags).map_err(|e| Usage(format!("{e:#}")).into())
}

/// Flags as settings; those not given are left out.
pub(crate) fn table(flags: &impl Serialize) -> Table {
    Table::try_from(flags).expect("flags are strings and tables of strings")
}

/// A parser that keeps the text which `parse` accepts.
pub(crate) fn checked<T>(
    parse: fn(&str) -> Result<T, String>,
) -> impl Fn(&str) -> Result<String, String> + Clone + Send + Sync + 'static
where
    T: 'static,
{
    move |text| parse(text).map(|_| text.to_owned())
}

/// [`checked`] for durations, which most groups need.
pub(crate) fn checked_duration(text: &str) -> Result<String, String> {
    parse_duration(text).map(|_| text.to_owned())
}

pub(crate) fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

pub(crate) fn as_table<S: serde::Serializer>(pairs: &[(String, String)], to: S) -> Result<S::Ok, S::Error> {
    to.collect_map(pairs.iter().map(|(k, v)| (k, v)))
}

/// Of every process.
#[derive(Debug, Args, Serialize)]
pub(crate) struct ProcessFlags {
    /// Where HTTP is answered; port 0 takes a free one [default: 127.0.0.1:8642]
    #[arg(long, value_name = "ADDRESS:PORT")]
    http_addr: Option<SocketAddr>,
    /// Ask for no token, also on an address that other machines reach [default: false]
    #[arg(long, value_name = "BOOL", value_parser = ["true", "false"])]
    http_open: Option<String>,
    /// Names by which clients reach the server, besides localhost
    #[arg(long, value_name = "HOST,HOST")]
    http_hosts: Option<String>,
    /// Pages of other sites that may ask; * for all, which then only read
    #[arg(long, value_name = "ORIGIN,ORIGIN")]
    http_origins: Option<String>,
    /// Answer /metrics without a token [default: false]
    #[arg(long, value_name = "BOOL", value_parser = ["true", "false"])]
    metrics_open: Option<String>,
    /// error, warn, info, debug, trace, or per module: info,thalweg_speed=debug [default: info]
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// How logs are written to stderr [default: text]
    #[arg(long, value_name = "FORMAT", value_parser = ["text", "json"])]
    log_format: Option<String>,
    /// How long a signal may take to archive what is held [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = checked_duration)]
    shutdown_timeout: Option<String>,
}

/// How Kafka is reached.
#[derive(Debug, Args, Serialize)]
pub(crate) struct KafkaFlags {
    /// Property of librdkafka for every stream, as bootstrap.servers=HOST:PORT; repeat for more
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_pair)]
    #[serde(serialize_with = "as_table")]
    kafka: Vec<(String, String)>,
}

/// From Kafka to realtime state.
#[derive(Debug, Args, Serialize)]
pub(crate) struct SpeedFlags {
    /// Messages after which a micro-batch ends [default: 65536]
    #[arg(long, value_name = "N", value_parser = checked(parse_count))]
    micro_batch_rows: Option<String>,
    /// Time after which a micro-batch ends [default: 20ms]
    #[arg(long, value_name = "DURATION", value_parser = checked_duration)]
    micro_batch_wait: Option<String>,
    /// Size at which an epoch is archived [default: 256MiB]
    #[arg(long, value_name = "SIZE", value_parser = checked(parse_size))]
    epoch_bytes: Option<String>,
    /// Age at which an epoch is archived [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = checked_duration)]
    epoch_interval: Option<String>,
    /// Time between marks, where recomputations may cut [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = checked_duration)]
    mark_interval: Option<String>,
    /// How long archived rows and covered segments stay in memory [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = checked_duration)]
    grace: Option<String>,
    /// Memory of a stream's rows and state, at which reading pauses [default: 1GiB]
    #[arg(long, value_name = "SIZE", value_parser = checked(parse_size))]
    memory_budget: Option<String>,
}

/// When views are recomputed.
#[derive(Debug, Args, Serialize)]
pub(crate) struct BatchFlags {
    /// Time between recomputations of every view [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = checked_duration)]
    batch_interval: Option<String>,
    /// How long replaced files stay in the warehouse [default: 10m]
    #[arg(long, value_name = "DURATION", value_parser = checked_duration)]
    file_grace: Option<String>,
}

/// What a query may take.
#[derive(Debug, Args, Serialize)]
pub(crate) struct QueryFlags {
    /// Where the PostgreSQL protocol is answered; port 0 takes a free one, nothing closes it [default: 127.0.0.1:8644]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = checked(parse_optional_address))]
    postgres_addr: Option<String>,
    /// Where Arrow Flight SQL is answered; port 0 takes a free one, nothing closes it [default: 127.0.0.1:8645]
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = checked(parse_optional_address))]
    flight_sql_addr: Option<String>,
    /// Time that a query may take [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = checked_duration)]
    query_timeout: Option<String>,
    /// Memory that a query may take [default: 512MiB]
    #[arg(long, value_name = "SIZE", value_parser = checked(parse_size))]
    query_memory: Option<String>,
    /// Threads of one query, 0 for one per core [default: 0]
    #[arg(long, value_name = "N", value_parser = checked(parse_count))]
    query_threads: Option<String>,
    /// Memory that all queries together may take [default: 2GiB]
    #[arg(long, value_name = "SIZE", value_parser = checked(parse_size))]
    all_queries_memory: Option<String>,
    /// Memory for small answers that are kept for equal queries [default: 16MiB]
    #[arg(long, value_name = "SIZE", value_parser = checked(parse_size))]
    kept_answers: Option<String>,
    /// Heavy queries that run at the same time [default: 32]
    #[arg(long, value_name = "N", value_parser = checked(parse_count))]
    max_queries: Option<String>,
    /// Places that only light queries take [default: 8]
    #[arg(long, value_name = "N", value_parser = checked(parse_count))]
    max_light_queries: Option<String>,
    /// Queries that do not end although their time is over, above which heavy ones are refused [default: 4]
    #[arg(long, value_name = "N", value_parser = checked(parse_count))]
    max_lost_queries: Option<String>,
    /// Pairs of rows that a join without an equality may compare [default: 10000000000]
    #[arg(long, value_name = "N", value_parser = checked(parse_count))]
    max_join_pairs: Option<String>,
}

/// How a worker is found, and which partitions it reads.
#[derive(Debug, Args, Serialize)]
pub(crate) struct WorkerFlags {
    /// Where replicas are answered, over Arrow Flight; port 0 takes a free one [default: 127.0.0.1:8643]
    #[arg(long, value_name = "ADDRESS:PORT")]
    flight_addr: Option<SocketAddr>,
    /// Where replicas reach this worker, if that is not flight_addr or this machine's name
    #[arg(long, value_name = "HOST:PORT")]
    flight_advertise: Option<String>,
    /// Certificate of this worker (PEM); replicas must trust its authority
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Key of the certificate (PEM)
    #[arg(long, value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// What the names of the consumer groups begin with by which workers share streams [default: thalweg]
    #[arg(long, value_name = "NAME")]
    group_id: Option<String>,
    /// Name of this worker that outlives a restart: its partitions wait for it
    #[arg(long, value_name = "NAME")]
    group_instance: Option<String>,
    /// Partitions that this worker reads, instead of those that the group gives it
    #[arg(long, value_name = "0-15,20", value_parser = checked(parse_partitions))]
    partitions: Option<String>,
}

/// How a replica finds workers.
#[derive(Debug, Args, Serialize)]
pub(crate) struct ReplicaFlags {
    /// Speed workers: HOST:PORT,HOST:PORT, or dns:HOST:PORT, or group [default: 127.0.0.1:8643]
    #[arg(long, value_name = "WHERE", value_parser = checked(parse_workers))]
    workers: Option<String>,
    /// Apply definitions, instead of only reading [default: false]
    #[arg(long, value_name = "BOOL", value_parser = ["true", "false"])]
    replica_definitions: Option<String>,
    /// Authority of the workers' certificates (PEM); with it they are spoken to over TLS
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// For --workers group: what the names of the consumer groups begin with [default: thalweg]
    #[arg(long, value_name = "NAME")]
    group_id: Option<String>,
}

/// Opens the warehouse of the settings, and finds a stream in it.
pub(crate) async fn open_stream(settings: &Settings, name: &str) -> Result<(Warehouse, Arc<CatalogStream>)> {
    let name = StreamName::new(name).map_err(|e| Usage(e.to_string()))?;
    let warehouse = settings.open_warehouse()?;
    let catalog = CatalogStore::new(warehouse.clone()).load().await?;
    let found = catalog.streams.get(&name).map(Arc::clone);
    let stream = found.with_context(|| format!("the warehouse {} has no stream `{name}`", warehouse.url()))?;
    Ok((warehouse, stream))
}

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RowsFormat {
    /// An object container file
    Avro,
    /// The first line names the columns; an empty field is null
    Csv,
    /// As csv, with tabs
    Tsv,
    /// Objects one after the other, or a list of objects
    Json,
    /// One object per line
    Ndjson,
    Parquet,
}

impl RowsFormat {
    pub(crate) fn of_layer(self) -> FileFormat {
        match self {
            Self::Avro => FileFormat::Avro,
            Self::Csv => FileFormat::Csv,
            Self::Tsv => FileFormat::Tsv,
            Self::Json => FileFormat::Json,
            Self::Ndjson => FileFormat::Ndjson,
            Self::Parquet => FileFormat::Parquet,
        }
    }
}
