//! The flags of commands that run until a signal, by the part that each is about.
//!
//! Invariant: a flag's name is its setting's, and its text reaches the settings unchanged.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::cli::{self, checked, checked_duration};
use crate::config::{parse_count, parse_partitions, parse_size, parse_workers};

/// Of every process.
#[derive(Debug, Args, Serialize)]
pub(crate) struct ProcessFlags {
    /// Where HTTP is answered; port 0 takes a free one [default: 127.0.0.1:8642]
    #[arg(long, value_name = "ADDRESS:PORT")]
    http_addr: Option<SocketAddr>,
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
    #[arg(long, value_name = "KEY=VALUE", value_parser = cli::parse_pair)]
    #[serde(serialize_with = "cli::as_table")]
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
    /// Time that a query may take [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = checked_duration)]
    query_timeout: Option<String>,
    /// Memory that a query may take [default: 512MiB]
    #[arg(long, value_name = "SIZE", value_parser = checked(parse_size))]
    query_memory: Option<String>,
    /// Threads of one query, 0 for one per core [default: 0]
    #[arg(long, value_name = "N", value_parser = checked(parse_count))]
    query_threads: Option<String>,
    /// Queries that run at the same time [default: 32]
    #[arg(long, value_name = "N", value_parser = checked(parse_count))]
    max_queries: Option<String>,
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
    /// Authority of the workers' certificates (PEM); with it they are spoken to over TLS
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// For --workers group: what the names of the consumer groups begin with [default: thalweg]
    #[arg(long, value_name = "NAME")]
    group_id: Option<String>,
}
