//! Fetch: reads batches from the log, and waits until there are enough bytes.
//!
//! The broker declines fetch sessions, so every request names all its partitions. Without transactions all records
//! are committed, so the last stable offset is the end of the log.
//!
//! Invariant: a request is answered as soon as there are enough bytes, a partition has an error, or the time is over.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::broker::files::blocking;
use crate::broker::log::batch::LEADER_EPOCH;
use crate::broker::log::{PartitionLog, ReadError, Slice};
use crate::broker::node::Node;
use crate::broker::topics::BrokerTopic;

/// First version in which topics are named by ids.
const BY_ID: i16 = 13;
/// Largest answer in bytes, whatever the request allows; only a single batch may be larger.
const MOST: usize = 16 << 20;
/// Longest wait.
const LONGEST: Duration = Duration::from_secs(60);

/// A requested partition.
struct WantedSlice {
    found: Result<Arc<PartitionLog>, ResponseError>,
    offset: i64,
    max_bytes: usize,
}

type ReadOutcome = Result<Slice, ResponseError>;

pub(crate) async fn fetch(node: &Node, version: i16, request: FetchRequest) -> FetchResponse {
    if request.session_id != 0 && request.session_epoch > 0 {
        return FetchResponse::default().with_error_code(ResponseError::FetchSessionIdNotFound.code());
    }
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)).min(LONGEST);
    let deadline = Instant::now() + wait;
    let min_bytes = usize::try_from(request.min_bytes).unwrap_or(0);
    let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0).min(MOST);
    let (mut looked, mut changes) = (false, None);
    loop {
        let wanted = wanted(node, version, &request.topics);
        if std::mem::replace(&mut looked, true) && changes.is_none() {
            // Watching starts before the next read, so that no append in between is missed.
            changes = Some(LogChanges::new(&wanted));
        }
        let may_wait = min_bytes > 0 && Instant::now() < deadline && !node.stop.is_cancelled();
        if !may_wait || is_enough(&wanted, min_bytes) {
            let read = blocking(move || read(&wanted, max_bytes)).await;
            if !may_wait || has_enough(&read, min_bytes) {
                return answer(version, request.topics, read);
            }
        }
        let Some(changes) = &mut changes else { continue };
        tokio::select! {
            () = changes.next() => {}
            () = tokio::time::sleep_until(deadline) => {}
            () = node.stop.cancelled() => {}
        }
    }
}

fn wanted(node: &Node, version: i16, topics: &[FetchTopic]) -> Vec<WantedSlice> {
    let of_topic = |asked: &FetchTopic| {
        let topic = match version {
            BY_ID.. => node.topics.with_id(asked.topic_id).ok_or(ResponseError::UnknownTopicId),
            _ => node.topics.named(&asked.topic).ok_or(ResponseError::UnknownTopicOrPartition),
        };
        asked.partitions.iter().map(move |partition| want(topic.as_deref(), partition)).collect::<Vec<_>>()
    };
    topics.iter().flat_map(of_topic).collect()
}

fn want(topic: Result<&BrokerTopic, &ResponseError>, asked: &FetchPartition) -> WantedSlice {
    let found = match topic {
        Err(code) => Err(*code),
        Ok(_) if asked.current_leader_epoch > LEADER_EPOCH => Err(ResponseError::UnknownLeaderEpoch),
        Ok(topic) => topic.partition(asked.partition).cloned().ok_or(ResponseError::UnknownTopicOrPartition),
    };
    let max_bytes = usize::try_from(asked.partition_max_bytes).unwrap_or(0);
    WantedSlice { found, offset: asked.fetch_offset, max_bytes }
}

/// True if a read is worthwhile: there may be enough bytes, or a partition has an error.
fn is_enough(wanted: &[WantedSlice], min_bytes: usize) -> bool {
    let mut sum = 0;
    wanted.iter().any(|wanted| match wanted.found.as_ref().map(|found| found.available(wanted.offset)) {
        Ok(Ok(available)) => {
            sum += available;
            sum >= min_bytes as u64
        }
        _ => true,
    })
}

fn has_enough(read: &[ReadOutcome], min_bytes: usize) -> bool {
    let sum: usize = read.iter().flatten().map(|slice| slice.batches.len()).sum();
    sum >= min_bytes || read.iter().any(Result::is_err)
}

fn read(wanted: &[WantedSlice], max_bytes: usize) -> Vec<ReadOutcome> {
    let mut left = max_bytes;
    let mut nothing_yet = true;
    wanted
        .iter()
        .map(|wanted| {
            let partition = wanted.found.as_ref().map_err(|code| *code)?;
            // The first batch is read in any case, so that a reader makes progress. Further batches must fit into the
            // limit.
            let most = wanted.max_bytes.min(left);
            let read = match partition.read(wanted.offset, most) {
                Ok(slice) if slice.batches.len() > most && !nothing_yet => Slice { batches: Bytes::new(), ..slice },
                Ok(slice) => slice,
                Err(ReadError::OutOfRange) => return Err(ResponseError::OffsetOutOfRange),
                Err(ReadError::Storage(error)) => {
                    tracing::warn!(%error, "the embedded broker cannot read its log");
                    return Err(ResponseError::KafkaStorageError);
                }
            };
            nothing_yet &= read.batches.is_empty();
            left = left.saturating_sub(read.batches.len());
            Ok(read)
        })
        .collect()
}

fn answer(version: i16, topics: Vec<FetchTopic>, read: Vec<ReadOutcome>) -> FetchResponse {
    let mut read = read.into_iter();
    let topics = topics.into_iter().map(|asked| {
        let partitions = asked.partitions.iter().zip(&mut read).map(|(asked, outcome)| {
            let answer = PartitionData::default().with_partition_index(asked.partition).with_aborted_transactions(None);
            match outcome {
                Ok(Slice { batches, start, end }) => answer
                    .with_high_watermark(end)
                    .with_last_stable_offset(end)
                    .with_log_start_offset(start)
                    .with_records(Some(batches)),
                Err(code) => answer.with_error_code(code.code()).with_high_watermark(-1),
            }
        });
        let topic = FetchableTopicResponse::default().with_partitions(partitions.collect());
        match version {
            BY_ID.. => topic.with_topic_id(asked.topic_id),
            _ => topic.with_topic(asked.topic),
        }
    });
    FetchResponse::default().with_responses(topics.collect())
}

/// Changes of the requested partitions.
struct LogChanges(FuturesUnordered<std::pin::Pin<Box<dyn Future<Output = watch::Receiver<i64>> + Send>>>);

impl LogChanges {
    fn new(wanted: &[WantedSlice]) -> Self {
        let found = wanted.iter().flat_map(|wanted| &wanted.found);
        Self(found.map(|partition| change(partition.watch())).collect())
    }

    /// Waits until a partition has changed since the last call. Never ends without partitions.
    async fn next(&mut self) {
        match self.0.next().await {
            Some(changed) => self.0.push(change(changed)),
            None => std::future::pending().await,
        }
    }
}

fn change(mut of: watch::Receiver<i64>) -> std::pin::Pin<Box<dyn Future<Output = watch::Receiver<i64>> + Send>> {
    Box::pin(async move {
        if of.changed().await.is_err() {
            // The partition was deleted with its topic. The next look finds this out.
            std::future::pending::<()>().await;
        }
        of
    })
}

#[cfg(test)]
mod tests;
