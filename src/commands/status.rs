//! `thalweg status`: shows streams, partitions and views of a running server, once, repeatedly, or live.
//!
//! Invariant: nothing is decided here; `serving/client` prints what the server answers.

use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use thalweg_client::status::{self, StatusFlags};

use crate::flags::ServerFlags;

const EXAMPLES: &str = "\
Examples:
  thalweg status
  thalweg status --watch                        live: rates, lag, memory, runs; q quits
  thalweg status --watch 10 >> status.log       not to a terminal: the same text every 10 seconds
  thalweg status --url http://10.0.0.7:8642
  thalweg status --json | jq '.streams[].lag'

Exit code 1 if a stream is stopped, if a view has failed, or if there are partitions that no speed worker holds.";

/// Show streams, lag, frontiers, rejects, and views with the age of their batch version
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    #[command(flatten)]
    status: StatusFlags,
    #[command(flatten)]
    server: ServerFlags,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    status::run(arguments.server.client()?, &arguments.server.url, arguments.status).await
}
