//! `thalweg status`: streams, partitions and views of a running server as tables.
//!
//! Invariant: it shows what the server says, and computes nothing but the layout.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::Deserialize;
use serde_json::Value;

use crate::cli::ServerFlags;
use crate::client::Client;
use crate::terminal;

const EXAMPLES: &str = "\
Examples:
  thalweg status
  thalweg status --url http://10.0.0.7:8642
  thalweg status --json | jq '.streams[].lag'

Exit code 1 if a stream is stopped, or if there are partitions that no speed worker holds.";

/// Show streams, lag, frontiers, rejects, and views with the age of their batch version
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Print everything the server knows, as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerFlags,
}

#[derive(Deserialize)]
struct Streams {
    streams: Vec<Stream>,
    /// If the realtime side is in other processes.
    #[serde(default)]
    workers: Vec<Worker>,
}

#[derive(Deserialize)]
struct Worker {
    address: String,
    up: bool,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Stream {
    name: String,
    topic: String,
    status: String,
    failure: Option<String>,
    #[serde(default)]
    unheld: BTreeMap<i32, String>,
    lag: i64,
    memory_bytes: u64,
    memory_budget: u64,
    paused: bool,
    partitions: BTreeMap<i32, Partition>,
}

#[derive(Deserialize)]
struct Partition {
    frontier: i64,
    archive_frontier: i64,
    lag: i64,
    rows: u64,
    rejects: u64,
    latest_event: Option<String>,
    worker: Option<String>,
}

#[derive(Deserialize)]
struct Views {
    views: Vec<View>,
}

#[derive(Deserialize)]
struct View {
    name: String,
    stream: String,
    status: String,
    building: Option<String>,
    cut: Option<BTreeMap<i32, i64>>,
    age_seconds: Option<f64>,
    batch_rows: Option<u64>,
    segments: Option<u64>,
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let client = Client::new(&arguments.server)?;
    let streams: Value = client.get("/v1/streams").await?;
    let views: Value = client.get("/v1/views").await?;
    let Streams {
        streams: shown,
        workers,
    } = client.shape(streams.clone())?;
    let stopped = shown
        .iter()
        .any(|stream| stream.failure.is_some() || !stream.unheld.is_empty());
    if arguments.json {
        let mut both = serde_json::json!({"streams": streams["streams"], "views": views["views"]});
        if let Some(workers) = streams.get("workers") {
            both["workers"] = workers.clone();
        }
        terminal::out(&serde_json::to_string_pretty(&both)?)?;
    } else {
        let Views { views } = client.shape(views)?;
        print_workers(&workers)?;
        print_streams(&shown)?;
        print_views(&views)?;
    }
    Ok(if stopped {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn print_workers(workers: &[Worker]) -> Result<()> {
    for worker in workers {
        let state = match (&worker.reason, worker.up) {
            (_, true) => "up".to_owned(),
            (Some(reason), false) => format!("down: it {reason}"),
            (None, false) => "down".to_owned(),
        };
        terminal::out(&format!("worker {}: {state}", worker.address))?;
    }
    if !workers.is_empty() {
        terminal::out("")?;
    }
    Ok(())
}

fn print_streams(streams: &[Stream]) -> Result<()> {
    if streams.is_empty() {
        return terminal::out("no streams; `thalweg apply FILE.sql` creates them");
    }
    for stream in streams {
        let memory = format!(
            "{} of {}",
            bytesize::ByteSize(stream.memory_bytes),
            bytesize::ByteSize(stream.memory_budget)
        );
        let paused = if stream.paused { ", paused" } else { "" };
        terminal::out(&format!(
            "stream {} (topic {}): {}{paused}, lag {}, memory {memory}",
            stream.name, stream.topic, stream.status, stream.lag
        ))?;
        if let Some(failure) = &stream.failure {
            terminal::out(&format!("  {failure}"))?;
        }
        for (partition, reason) in &stream.unheld {
            terminal::out(&format!(
                "  partition {partition} is held by nobody: {reason}"
            ))?;
        }
        let rows: Vec<Vec<String>> = stream.partitions.iter().map(partition_row).collect();
        if !rows.is_empty() {
            let apart = stream.partitions.values().any(|p| p.worker.is_some());
            let head = [
                "  partition",
                "frontier",
                "archived",
                "lag",
                "rows",
                "rejects",
                "latest event",
                "worker",
            ];
            let head = &head[..if apart { 8 } else { 7 }];
            let right = [true, true, true, true, true, true, false, false];
            print_table(head, &right[..head.len()], &rows)?;
        }
        terminal::out("")?;
    }
    Ok(())
}

fn partition_row((number, partition): (&i32, &Partition)) -> Vec<String> {
    let mut row = vec![
        number.to_string(),
        partition.frontier.to_string(),
        partition.archive_frontier.to_string(),
        partition.lag.to_string(),
        partition.rows.to_string(),
        partition.rejects.to_string(),
        partition.latest_event.clone().unwrap_or_default(),
    ];
    row.extend(partition.worker.clone());
    row
}

fn print_views(views: &[View]) -> Result<()> {
    if views.is_empty() {
        return Ok(());
    }
    let number = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
    let rows: Vec<Vec<String>> = views
        .iter()
        .map(|view| {
            let replacing = view
                .building
                .as_ref()
                .map_or("", |_| ", replacement building");
            let cut = view.cut.iter().flatten().map(|(p, o)| format!("{p}:{o}"));
            let cut: Vec<String> = cut.collect();
            vec![
                view.name.clone(),
                view.stream.clone(),
                format!("{}{replacing}", view.status),
                view.age_seconds.map(age).unwrap_or_default(),
                number(view.batch_rows),
                number(view.segments),
                cut.join(" "),
            ]
        })
        .collect();
    let head = [
        "view",
        "stream",
        "status",
        "batch age",
        "batch rows",
        "segments",
        "cut",
    ];
    print_table(
        &head,
        &[false, false, false, true, true, true, false],
        &rows,
    )
}

fn print_table(head: &[&str], right: &[bool], rows: &[Vec<String>]) -> Result<()> {
    let head: Vec<String> = head.iter().map(|&text| text.to_owned()).collect();
    terminal::out(&terminal::table(&head, right, rows))
}

/// Whole seconds: "1m 5s".
fn age(seconds: f64) -> String {
    humantime::format_duration(Duration::from_secs(seconds.max(0.0) as u64)).to_string()
}
