//! `thalweg status`: shows streams, partitions and views of a running server, once, repeatedly, or live.
//!
//! Invariant: all values come from the server; only rates are computed here, from the server's earlier answers.

mod details;
mod frame;
mod plain;
mod samples;
mod screen;
mod watch;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use serde_json::Value;
use thalweg_schemas::api::paths;
use thalweg_schemas::api::streams::StreamList;
use thalweg_schemas::api::views::{ViewList, ViewPhase};

use crate::client::Client;
use crate::flags::ServerFlags;
use crate::terminal;

use self::samples::Sample;

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
    /// Print everything the server knows, as JSON
    #[arg(long)]
    json: bool,
    /// Look again and again, every so many seconds [default: 1]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1", value_parser = parse_seconds)]
    watch: Option<Duration>,
    #[command(flatten)]
    server: ServerFlags,
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().unwrap_or(f64::NAN);
    if (0.1..=86_400.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err("write a number of seconds from 0.1 on".to_owned())
    }
}

pub(crate) async fn run(arguments: Arguments) -> Result<ExitCode> {
    let client = Client::new(&arguments.server)?;
    match arguments.watch {
        Some(every) if !arguments.json && terminal::is_terminal() => {
            watch::live(client, &arguments.server.url, every).await
        }
        Some(every) => watch::plain(client, every, arguments.json).await,
        None => {
            let answer = StatusAnswer::of(&client).await?;
            let Sample { streams, views, .. } = answer.sample(&client, Duration::ZERO)?;
            terminal::out(&answer.text(&client, arguments.json)?)?;
            let stopped = streams.iter().any(|stream| stream.failure.is_some() || !stream.unheld.is_empty());
            let failed = views.iter().any(|view| view.status == ViewPhase::Failed);
            Ok(ExitCode::from(u8::from(stopped || failed)))
        }
    }
}

/// The server's answers.
struct StatusAnswer {
    streams: Value,
    views: Value,
    process: Value,
}

impl StatusAnswer {
    async fn of(client: &Client) -> Result<Self> {
        Ok(Self {
            streams: client.get(paths::STREAMS).await?,
            views: client.get(paths::VIEWS).await?,
            process: client.get(paths::PROCESS).await?,
        })
    }

    fn sample(&self, client: &Client, at: Duration) -> Result<Sample> {
        let StreamList { streams, workers, mut not_understood } = client.shape(self.streams.clone())?;
        let ViewList { views, not_understood: more } = client.shape(self.views.clone())?;
        not_understood.extend(more);
        let workers = workers.unwrap_or_default();
        Ok(Sample { at, streams, workers, views, not_understood, process: client.shape(self.process.clone())? })
    }

    fn text(&self, client: &Client, json: bool) -> Result<String> {
        if json {
            let mut all = serde_json::json!({
                "streams": self.streams["streams"],
                "views": self.views["views"],
                "process": self.process,
            });
            let not_understood = [&self.streams, &self.views].into_iter();
            let not_understood = not_understood.filter_map(|answer| answer.get("not_understood")?.as_array());
            let not_understood: Vec<Value> = not_understood.flatten().cloned().collect();
            if !not_understood.is_empty() {
                all["not_understood"] = not_understood.into();
            }
            if let Some(workers) = self.streams.get("workers") {
                all["workers"] = workers.clone();
            }
            return Ok(serde_json::to_string_pretty(&all)?);
        }
        let sample = self.sample(client, Duration::ZERO)?;
        Ok(plain::text(&sample))
    }
}

/// Takes one sample; its time counts from `began`.
async fn look(client: &Client, began: Instant) -> Result<Sample> {
    let answer = StatusAnswer::of(client).await?;
    answer.sample(client, began.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_positive_and_not_tiny() {
        assert_eq!(parse_seconds("2.5"), Ok(Duration::from_millis(2500)));
        for bad in ["0", "-1", "nan", "inf", "soon", "", "1e9", "0.01"] {
            assert!(parse_seconds(bad).is_err(), "{bad}");
        }
    }
}
