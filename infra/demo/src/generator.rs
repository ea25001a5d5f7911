//! The generator: sends the streams' messages to Kafka at a rate, and knows what of them arrived where.
//!
//! ```text
//!  pace ─▶ message at the next position ─▶ librdkafka ─▶ acknowledged: partition and offset ─▶ tally, record
//! ```
//!
//! Messages in flight are bounded: when Kafka is slow, the generator is. Where it goes on is read from the topics'
//! ends, so there is nothing to keep. Invariant: what the tally and the record hold was acknowledged by Kafka, all of
//! it.

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
use crate::streams::{DemoStream, Faults, Script};
use crate::{Error, Result};

/// Partitions of a topic that is created here.
const PARTITIONS: i32 = 4;
/// After this long without an acknowledgement a message has failed.
const DELIVERY: Duration = Duration::from_secs(300);

/// What is sent, how fast and where to.
#[derive(Debug, Clone)]
pub struct Plan {
    /// librdkafka's properties, `bootstrap.servers` among them.
    pub kafka: BTreeMap<String, String>,
    pub streams: Vec<DemoStream>,
    /// Of all streams together.
    pub rate: Rate,
    pub seed: u64,
    pub faults: Faults,
    /// Messages to each stream; without end if absent.
    pub count: Option<u64>,
    /// Where every acknowledged message is written down, one JSON object a line; appended to.
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

    /// Makes the topics that are missing, so that streams over them can start.
    ///
    /// Errors: [`Error::Configure`], [`Error::Reach`], [`Error::CreateTopic`].
    pub async fn prepare(&self) -> Result<()> {
        let names: Vec<&str> = self.streams.iter().map(|s| s.name()).collect();
        create_topics(&self.client(), &names, PARTITIONS).await
    }

    /// Sends until `count` is reached or `cancel`, then waits for what is in flight. `sent` counts along.
    ///
    /// Errors: see [`Error`]; after a transient one, call it again.
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
                Ok::<_, Error>((*stream, script, rate, first, end, record))
            }
        });
        let feeds = try_join_all(feeds).await?.into_iter();
        // One that fails ends the others, in order: what was sent to them is recorded.
        let stop = cancel.child_token();
        let feeds = feeds.map(|(stream, script, rate, first, end, record)| {
            let feed = Feed::new(stream, script, first, end, producer.clone(), record);
            feed.run(rate, &stop, sent)
        });
        let tallies: Result<Vec<_>> = join_all(feeds).await.into_iter().collect();
        Ok(Summary::new(self.seed, tallies?))
    }
}
