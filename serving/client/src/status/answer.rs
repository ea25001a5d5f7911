//! One look at a server: what three paths of its API answer, as JSON and as a sample.
//!
//! Invariant: nothing is added to the server's values.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::Value;
use thalweg_schemas::api::paths;
use thalweg_schemas::api::streams::StreamList;
use thalweg_schemas::api::views::ViewList;

use super::plain;
use super::samples::Sample;
use crate::http::Client;
use crate::terminal;

/// Time after which a server counts as not answering.
const PATIENCE: Duration = Duration::from_secs(5);

/// The server's answers.
pub(super) struct StatusAnswer {
    streams: Value,
    views: Value,
    process: Value,
}

impl StatusAnswer {
    /// Errors: the server does not answer, or not in time.
    pub(super) async fn of(client: &Client) -> Result<Self> {
        let asked = async {
            Ok(Self {
                streams: client.get(paths::STREAMS).await?,
                views: client.get(paths::VIEWS).await?,
                process: client.get(paths::PROCESS).await?,
            })
        };
        let answered = tokio::time::timeout(PATIENCE, asked).await;
        answered.unwrap_or_else(|_| bail!("no answer within {} s", PATIENCE.as_secs()))
    }

    pub(super) fn sample(&self, client: &Client, at: Duration) -> Result<Sample> {
        let StreamList { streams, workers, mut not_understood } = client.shape(self.streams.clone())?;
        let ViewList { views, not_understood: more } = client.shape(self.views.clone())?;
        not_understood.extend(more);
        let workers = workers.unwrap_or_default();
        Ok(Sample { at, streams, workers, views, not_understood, process: client.shape(self.process.clone())? })
    }

    pub(super) fn text(&self, client: &Client, json: bool) -> Result<String> {
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
        Ok(terminal::plain(&plain::text(&self.sample(client, Duration::ZERO)?)))
    }
}

/// Takes one sample; its time counts from `began`.
pub(super) async fn look(client: &Client, began: Instant) -> Result<Sample> {
    let answer = StatusAnswer::of(client).await?;
    answer.sample(client, began.elapsed())
}
