//! Membership in a Kafka consumer group: who reads what, and nothing else. This client never fetches.
//!
//! ```text
//!  group ──assign──▶ acknowledged, paused ─────────────────────────────▶ Assigned
//!        ──revoke──▶ Revoked ─▶ archived and dropped, or out of time ─▶ acknowledged
//! ```
//!
//! Invariant: while the group still takes this process for the owner, a revoked partition is given back only after it
//! was dropped here, or after [`REVOKE_TIMEOUT`]. Ownership decides who reads, never what is true: the archive's
//! compare-and-set does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc as acknowledged;
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset as KafkaOffset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr as Event;
use thalweg_schemas::definition::stream::StreamDefinition;
use thalweg_schemas::{Frontier, Partition};
use tokio::sync::mpsc;

use crate::config::{SpeedConfig, member_properties};
use crate::error::{KafkaErrorClass, classify_group};
use crate::kafka::secrets::resolve;
use crate::{Error, Result};

/// How long a revoked partition may take to be archived before the group is given it back all the same. It must stay
/// below the time that the group waits for its members, `max.poll.interval.ms`, five minutes.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the thread waits for the group's events before it looks whether it is to end.
const POLL: Duration = Duration::from_millis(100);
/// How long leaving may take.
const LEAVE: Duration = Duration::from_secs(5);

/// An event of the group.
pub(crate) enum GroupEvent {
    Assigned(BTreeSet<Partition>),
    Revoked {
        partitions: BTreeSet<Partition>,
        /// Dropped once nothing of the partitions is held here any more.
        acknowledge: acknowledged::Sender<()>,
    },
    /// The membership has ended by an error.
    Failed(Error),
}

/// A membership that lasts until it is dropped.
pub(crate) struct Membership {
    topic: String,
    consumer: Arc<BaseConsumer<Member>>,
    events: mpsc::UnboundedReceiver<GroupEvent>,
    owned: BTreeSet<Partition>,
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Membership {
    /// Joins the group of `stream`; its partitions come as events.
    ///
    /// Errors: [`Error::Configure`], [`Error::Secret`].
    pub(crate) fn join(config: &SpeedConfig, stream: &StreamDefinition) -> Result<Self> {
        let configure = |source| Error::Configure { stream: stream.name.clone(), source };
        let (sender, events) = mpsc::unbounded_channel();
        let properties = member_properties(&stream.name, config, &stream.kafka);
        let consumer: BaseConsumer<Member> = resolve(&stream.name, properties)?
            .into_iter()
            .collect::<rdkafka::ClientConfig>()
            .create_with_context(Member { events: sender.clone() })
            .map_err(configure)?;
        let topic = stream.topic.clone();
        consumer.subscribe(&[&topic]).map_err(configure)?;
        let (consumer, end) = (Arc::new(consumer), Arc::<AtomicBool>::default());
        let (polled, ended, name) = (Arc::clone(&consumer), Arc::clone(&end), topic.clone());
        let thread = std::thread::Builder::new()
            .name(format!("group-{topic}"))
            .spawn(move || poll(&polled, &ended, &name, &sender))
            .map_err(|_| Error::ConsumerStopped { topic: topic.clone() })?;
        Ok(Self { topic, consumer, events, owned: BTreeSet::new(), end, thread: Some(thread) })
    }

    /// The partitions that the group has assigned to this process, as of the last event.
    pub(crate) fn owned(&self) -> &BTreeSet<Partition> {
        &self.owned
    }

    /// The next event. [`Membership::owned`] follows it at once, so nothing is lost if nobody acts on it.
    pub(crate) async fn next(&mut self) -> GroupEvent {
        let Some(event) = self.events.recv().await else {
            return GroupEvent::Failed(Error::ConsumerStopped { topic: self.topic.clone() });
        };
        match &event {
            GroupEvent::Assigned(assigned) => self.owned.extend(assigned),
            GroupEvent::Revoked { partitions, .. } => self.owned.retain(|p| !partitions.contains(p)),
            GroupEvent::Failed(_) => {}
        }
        event
    }

    /// Tells the group how far our partitions are archived: for Kafka's own tools, nobody reads it here.
    pub(crate) fn commit_offsets(&self, archived: &Frontier) {
        let mut list = TopicPartitionList::new();
        for partition in &self.owned {
            if let Some(offset) = archived.named(*partition) {
                let offset = KafkaOffset::Offset(offset.0);
                // Only a negative offset is refused.
                let _ = list.add_partition_offset(&self.topic, partition.0, offset);
            }
        }
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, CommitMode::Async)
        {
            tracing::debug!(topic = self.topic, %error, "the group was not told");
        }
    }

    /// Leaves the group, so that others have our partitions at once; a static member stays a member.
    pub(crate) async fn leave(mut self) {
        let thread = self.thread.take();
        let topic = self.topic.clone();
        // Waiting callbacks go on, and the thread's consumer is the last.
        drop(self);
        let left = tokio::task::spawn_blocking(move || thread.map(JoinHandle::join));
        if tokio::time::timeout(LEAVE, left).await.is_err() {
            tracing::warn!(topic, "the group was not left in time; it will miss us");
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
    }
}

/// Polls until `end` or a fatal error; dropping the consumer after that leaves the group.
fn poll(consumer: &BaseConsumer<Member>, end: &AtomicBool, topic: &str, events: &mpsc::UnboundedSender<GroupEvent>) {
    while !end.load(Ordering::Relaxed) {
        let Some(Err(source)) = consumer.poll(POLL) else {
            continue;
        };
        match source.rdkafka_error_code().map(classify_group) {
            None | Some(KafkaErrorClass::Wait) => {
                tracing::debug!(topic, error = %source, "waiting for the group");
            }
            Some(_) => {
                let topic = topic.to_owned();
                let fatal = consumer.client().fatal_error().map(|(code, _)| code);
                let _ = events.send(GroupEvent::Failed(match fatal {
                    Some(RDKafkaErrorCode::FencedInstanceId) => Error::Instance { topic },
                    _ => Error::Join { topic, source },
                }));
                return;
            }
        }
    }
}

/// Passes the group's decisions on.
struct Member {
    events: mpsc::UnboundedSender<GroupEvent>,
}

impl ClientContext for Member {
    fn log(&self, level: rdkafka::config::RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(?level, facility, "librdkafka: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "librdkafka: {reason}");
    }
}

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: Event, list: &mut TopicPartitionList) {
        let partitions: BTreeSet<Partition> =
            list.elements().iter().map(|element| Partition(element.partition())).collect();
        let names: Vec<i32> = partitions.iter().map(|p| p.0).collect();
        let followed = match event {
            Event::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => {
                tracing::info!(partitions = ?names, "the group gives partitions");
                // From the end on: until it is paused, there is nothing to fetch there.
                let at_end = list.set_all_offsets(KafkaOffset::End);
                let assigned = at_end.and_then(|()| consumer.incremental_assign(list));
                let followed = assigned.and_then(|()| pause(consumer, list));
                let _ = self.events.send(GroupEvent::Assigned(partitions));
                followed
            }
            _ => {
                let lost = consumer.assignment_lost();
                tracing::info!(partitions = ?names, lost, "the group takes partitions");
                let (acknowledge, done) = acknowledged::channel();
                let sent = self.events.send(GroupEvent::Revoked { partitions, acknowledge });
                // Somebody else may have what is lost already: there is nothing to wait for.
                if sent.is_ok() && !lost {
                    let _ = done.recv_timeout(REVOKE_TIMEOUT);
                }
                consumer.incremental_unassign(list)
            }
        };
        if let Err(error) = followed {
            tracing::warn!(%error, "the group's decision could not be followed");
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, "the group was not told how far the archive is");
        }
    }
}

fn pause(consumer: &BaseConsumer<Member>, list: &TopicPartitionList) -> KafkaResult<()> {
    match list.count() {
        0 => Ok(()),
        _ => consumer.pause(list),
    }
}
