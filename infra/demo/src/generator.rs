//! The generator: sends the streams' messages to Kafka at a given rate, and knows the partition and offset of each.
//!
//! ```text
//!  pace ─▶ message at the next position ─▶ librdkafka ─▶ acknowledged: partition and offset ─▶ tally, record
//! ```
//!
//! The number of messages in flight is limited, so a slow Kafka slows the generator down. A restarted generator reads
//! its position from the ends of the topics and keeps no state of its own.
//!
//! Invariant: the tally and the record hold exactly the messages that Kafka acknowledged.

mod pace;
mod record;
mod tally;
mod topics;

mod feed;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use futures::future::{join_all, try_join_all};
use rdkafka::ClientConfig;
use rdkafka::producer::FutureProducer;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::feed::Feed;
pub use self::pace::Rate;
use self::record::Record;
pub use self::tally::{Summary, Tally};
pub use self::topics::create_topics;
use self::topics::messages_in;
use crate::streams::{DemoStream, EventClock, Faults, Script, TimeSource};
use crate::{Error, Result};

/// Partitions of a topic that the generator creates.
const PARTITIONS: i32 = 4;
/// A message fails after this time without an acknowledgement.
const DELIVERY: Duration = Duration::from_secs(300);

/// The settings of a generator: streams, rate and Kafka.
#[derive(Debug, Clone)]
pub struct Plan {
    /// librdkafka's properties, including `bootstrap.servers`.
    pub kafka: BTreeMap<String, String>,
    pub streams: Vec<DemoStream>,
    /// The rate of all streams together.
    pub rate: Rate,
    pub seed: u64,
    /// What drives the time of events.
    pub time: TimeSource,
    pub faults: Faults,
    /// Messages per stream; unlimited if absent.
    pub count: Option<u64>,
    /// A file to which every acknowledged message is appended, one JSON object per line.
    pub record: Option<PathBuf>,
}

impl Plan {
    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        for (key, value) in
            [("client.id", "thalweg-demo"), ("enable.idempotence", "true"), ("acks", "all"), ("linger.ms", "10")]
        {
            client.set(key, value);
        }
        client.set("message.timeout.ms", DELIVERY.as_millis().to_string());
        for (key, value) in &self.kafka {
            client.set(key, value);
        }
        client
    }

    /// Creates missing topics, so that streams over them can start.
    ///
    /// Errors: [`Error::Configure`], [`Error::Reach`], [`Error::CreateTopic`].
    pub async fn prepare(&self) -> Result<()> {
        let names: Vec<&str> = self.streams.iter().map(|s| s.name()).collect();
        create_topics(&self.client(), &names, PARTITIONS).await
    }

    /// Sends until `count` or `cancel`, then waits for the messages in flight. `sent` counts acknowledged messages.
    ///
    /// Errors: see [`Error`]. After a transient error the caller may call `run` again.
    pub async fn run(&self, cancel: &CancellationToken, sent: &watch::Sender<u64>) -> Result<Summary> {
        self.prepare().await?;
        let client = self.client();
        let producer: FutureProducer = client.create().map_err(|source| Error::Configure { source })?;
        let record = self.record.as_deref().map(Record::open).transpose()?;
        let shares: u32 = self.streams.iter().map(|s| s.share()).sum();
        let feeds = self.streams.iter().map(|stream| {
            let (client, record) = (client.clone(), record.clone());
            async move {
                let first = messages_in(client, stream.name()).await?;
                let script = Script::new(*stream, self.seed, self.faults);
                let rate = self.rate.part(stream.share(), shares);
                let end = self.count.map(|count| first + count);
                let clock = EventClock::new(self.time, *stream, rate.per_second(), first);
                Ok::<_, Error>((*stream, script, clock, rate, first, end, record))
            }
        });
        let feeds = try_join_all(feeds).await?.into_iter();
        // A feed that fails stops the other feeds in an orderly way, so that their messages are recorded.
        let stop = cancel.child_token();
        let feeds = feeds.map(|(stream, script, clock, rate, first, end, record)| {
            let feed = Feed::new(stream, script, clock, first, end, producer.clone(), record);
            feed.run(rate, &stop, sent)
        });
        let tallies: Result<Vec<_>> = join_all(feeds).await.into_iter().collect();
        Ok(Summary::new(self.seed, tallies?))
    }
}
