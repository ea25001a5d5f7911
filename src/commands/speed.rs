//! `thalweg speed`: runs one speed worker, which shares the streams with other workers, until a signal.
//!
//! Invariant: the line on stdout appears once both ports accept; exit code 0 means that all rows in memory were
//! archived.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use crate::commands::process;
use crate::config::Settings;
use crate::flags::{self, Usage, WarehouseFlags};
use crate::flags::{KafkaFlags, ProcessFlags, SpeedFlags, WorkerFlags};
use crate::platform::{self, Opened};

const EXAMPLES: &str = "\
Examples:
  thalweg speed --warehouse s3://bucket/thalweg --kafka bootstrap.servers=kafka:9092
  THALWEG_CLUSTER_TOKEN=secret thalweg speed --flight-addr 0.0.0.0:8643 --group-instance $HOSTNAME
  thalweg speed --partitions 0-15 --http-addr 127.0.0.1:8650 --flight-addr 127.0.0.1:8651

Start as many as the streams need: each partition is read by one of them. A worker that comes takes partitions over
from the others, one that goes archives what it holds and leaves its partitions to them; answers stay exact. Its state is
in memory alone: all of it is rebuilt from the warehouse and from Kafka.";

/// The effect of a second signal, for its message.
const LOST: &str = "what was held is read from Kafka again by the next worker of its partitions";

/// Start a speed worker: read its share of Kafka's partitions, archive, keep realtime state for replicas
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    warehouse: WarehouseFlags,
    #[command(flatten)]
    process: ProcessFlags,
    #[command(flatten)]
    worker: WorkerFlags,
    #[command(flatten)]
    kafka: KafkaFlags,
    #[command(flatten)]
    speed: SpeedFlags,
}

impl Arguments {
    fn settings(&self) -> Result<Settings> {
        let groups = [
            flags::table(&self.process),
            flags::table(&self.worker),
            flags::table(&self.kafka),
            flags::table(&self.speed),
        ];
        flags::settings(&self.warehouse, &groups)
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let settings = arguments.settings()?;
    let cluster = settings.cluster().and_then(|cluster| cluster.guards(settings.flight_addr));
    cluster.map_err(|e| Usage(e.to_string()))?;
    let start = async |opened| {
        let (platform, me) = platform::speed(&settings, opened).await?;
        let line = format!("thalweg speed is listening on http://{}, for replicas at {me}", platform.address());
        Ok((platform, line))
    };
    process::run(&settings, LOST, Opened::probed(&settings), start).await
}
