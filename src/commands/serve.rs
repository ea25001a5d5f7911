//! `thalweg serve`: runs one replica that answers SQL, until a signal.
//!
//! Invariant: the line on stdout appears once the port accepts; `/readyz` reports whether the replica can answer.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::commands::process;
use crate::config::Settings;
use crate::flags::{self, Usage, WarehouseFlags};
use crate::flags::{KafkaFlags, ProcessFlags, QueryFlags, ReplicaFlags};
use crate::platform::{self, Opened};

const EXAMPLES: &str = "\
Examples:
  thalweg serve --warehouse s3://bucket/thalweg --workers worker-1:8643,worker-2:8643
  THALWEG_CLUSTER_TOKEN=secret thalweg serve --http-addr 0.0.0.0:8642 --workers dns:speed.thalweg.svc:8643
  thalweg serve --workers group --kafka bootstrap.servers=kafka:9092

A replica holds nothing: start as many as there are queries for, behind any load balancer that asks /readyz. A client that
sends the frontier of its last answer as `thalweg-min-frontier` never reads backwards, whichever replica answers.";

/// The effect of a second signal, for its message.
const LOST: &str = "queries that were running have broken off";

/// Start a replica: answer SQL from the warehouse and from speed workers
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    warehouse: WarehouseFlags,
    #[command(flatten)]
    process: ProcessFlags,
    #[command(flatten)]
    replica: ReplicaFlags,
    #[command(flatten)]
    kafka: KafkaFlags,
    #[command(flatten)]
    query: QueryFlags,
}

impl Arguments {
    fn settings(&self) -> Result<Settings> {
        let groups = [
            flags::table(&self.process),
            flags::table(&self.replica),
            flags::table(&self.kafka),
            flags::table(&self.query),
        ];
        flags::settings(&self.warehouse, &groups)
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let settings = arguments.settings()?;
    let access = process::access(&settings, settings.replica_definitions)?;
    let cluster = settings.cluster().and_then(|cluster| cluster.trusts(&settings.workers));
    cluster.map_err(|e| Usage(e.to_string()))?;
    let start = async |opened| {
        process::tell(&settings);
        let platform = platform::serve(&settings, access.clone(), opened).await?;
        let line = format!("thalweg serve is listening on {}", platform.addresses());
        Ok((platform, line))
    };
    process::run(&settings, LOST, Opened::serving(&settings), start).await
}
