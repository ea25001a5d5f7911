//! Membership in a Kafka consumer group. The group only decides which process reads which partition; this client
//! never fetches.
//!
//! ```text
//!  group ──assign──▶ acknowledged, paused ─────────────────────────────▶ Assigned
//!        ──revoke──▶ Revoked ─▶ archived and dropped, or out of time ─▶ acknowledged
//!        ──silence─▶ Lost ─▶ acknowledged at once
//! ```
//!
//! Invariant: while the group regards this process as the owner, this process returns a revoked partition only after
//! dropping it, or after [`REVOKE_TIMEOUT`]. Ownership decides which process reads. It does not decide which rows are
//! archived: the archive's compare-and-set does.

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

use crate::config::SpeedConfig;
use crate::error::{KafkaErrorClass, classify_group};
use crate::kafka::client::ClientProperties;
use crate::{Error, Result};

/// The longest time to archive a revoked partition; after that the partition is returned to the group unarchived. The
/// time must stay below `max.poll.interval.ms`, five minutes, for which the group waits for its members.
const REVOKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the thread waits for events of the group before it checks whether it must end.
const POLL: Duration = Duration::from_millis(100);
/// The longest time that leaving the group may take.
const LEAVE: Duration = Duration::from_secs(5);

/// An event of the group.
pub(crate) enum GroupEvent {
    Assigned(BTreeSet<Partition>),
    Revoked {
        partitions: BTreeSet<Partition>,
        /// Dropped once this process holds nothing of the partitions any more.
        acknowledge: acknowledged::Sender<()>,
    },
    /// The group has not heard of this process, or not answered, for the session's time. Another member may own the
    /// partitions by now, or nobody, if the brokers are away. [`GroupEvent::Assigned`] follows, even if it is empty,
    /// once the group answers again.
    Lost(BTreeSet<Partition>),
    /// An error has ended the membership.
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
    /// Joins the group of `stream`; the assigned partitions arrive as events.
    ///
    /// Errors: those of [`ClientProperties::of_member`], [`Error::Configure`].
    pub(crate) fn join(config: &SpeedConfig, stream: &StreamDefinition) -> Result<Self> {
        let (sender, events) = mpsc::unbounded_channel();
        let client = ClientProperties::of_member(config, stream)?;
        let consumer: BaseConsumer<Member> = client.create(Member { events: sender.clone() })?;
        let topic = stream.topic.clone();
        consumer.subscribe(&[&topic]).map_err(|error| client.refusal(&error))?;
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

    /// The next event. [`Membership::owned`] is updated before the event is returned, so an event that the caller
    /// drops loses nothing.
    pub(crate) async fn next(&mut self) -> GroupEvent {
        let Some(event) = self.events.recv().await else {
            return GroupEvent::Failed(Error::ConsumerStopped { topic: self.topic.clone() });
        };
        match &event {
            GroupEvent::Assigned(assigned) => self.owned.extend(assigned),
            GroupEvent::Revoked { partitions, .. } | GroupEvent::Lost(partitions) => {
                self.owned.retain(|p| !partitions.contains(p));
            }
            GroupEvent::Failed(_) => {}
        }
        event
    }

    /// Commits to the group how far its owned partitions are archived. Only Kafka's own tools read these offsets.
    pub(crate) fn commit_offsets(&self, archived: &Frontier) {
        let mut list = TopicPartitionList::new();
        for partition in &self.owned {
            if let Some(offset) = archived.named(*partition) {
                let offset = KafkaOffset::Offset(offset.0);
                // The call refuses only negative offsets.
                let _ = list.add_partition_offset(&self.topic, partition.0, offset);
            }
        }
        if list.count() > 0
            && let Err(error) = self.consumer.commit(&list, CommitMode::Async)
        {
            tracing::debug!(topic = self.topic, %error, "the group was not told");
        }
    }

    /// Leaves the group, so that other members get the partitions at once. A static member stays a member.
    pub(crate) async fn leave(mut self) {
        let thread = self.thread.take();
        let topic = self.topic.clone();
        // The drop lets waiting callbacks continue and leaves the thread with the last reference to the consumer.
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

/// Polls until `end` or a fatal error. Dropping the consumer after that leaves the group.
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

/// Passes the group's assignments and revocations on as events.
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
                // Assign from the end of the log: there is nothing to fetch there until the partition is paused.
                let at_end = list.set_all_offsets(KafkaOffset::End);
                let assigned = at_end.and_then(|()| consumer.incremental_assign(list));
                let followed = assigned.and_then(|()| pause(consumer, list));
                let _ = self.events.send(GroupEvent::Assigned(partitions));
                followed
            }
            _ if consumer.assignment_lost() => {
                tracing::info!(partitions = ?names, "the session with the group is over; the partitions stay here for now");
                let _ = self.events.send(GroupEvent::Lost(partitions));
                consumer.incremental_unassign(list)
            }
            _ => {
                tracing::info!(partitions = ?names, "the group takes partitions");
                let (acknowledge, done) = acknowledged::channel();
                if self.events.send(GroupEvent::Revoked { partitions, acknowledge }).is_ok() {
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
