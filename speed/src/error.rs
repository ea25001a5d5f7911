//! The crate's error: the action that failed, its topic and partition, and the fault.
//!
//! Invariant: only [`Error::fault`] and the two functions [`classify`] and [`classify_group`] decide between wait,
//! retry and stop.

use datafusion::error::DataFusionError;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use thalweg_schemas::error::{Fault, innermost};
use thalweg_schemas::{Offset, Partition, StreamName};

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The action that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the Kafka client of stream `{stream}` cannot be configured: {reason}; correct {table} in the settings")]
    Configure {
        stream: StreamName,
        /// The table of the settings with the client's connection.
        table: String,
        /// Contains no value of the configuration.
        reason: String,
    },
    #[error(
        "stream `{stream}` names the connection `{connection}`, which the settings of this process lack; define \
         [connection.{connection}] there{}", listed(.known)
    )]
    FindConnection { stream: StreamName, connection: String, known: Vec<String> },
    #[error("stream `{stream}` cannot be read: {reason} CREATE OR REPLACE the stream")]
    RefuseOption { stream: StreamName, reason: String },
    #[error("{property} in {table}, the connection of stream `{stream}`, refers to {reference}, but {reason}")]
    Secret {
        stream: StreamName,
        table: String,
        property: String,
        /// The reference as the user wrote it.
        reference: String,
        reason: String,
    },
    #[error(
        "{table} does not say where the schema registry is; stream `{stream}` needs schema.registry.url there, or the \
         schema of its messages in its OPTIONS ('avro.schema', 'protobuf.schema')"
    )]
    FindRegistry { stream: StreamName, table: String },
    #[error("no schema is known for topic `{topic}`: {reason}")]
    FindSchema {
        topic: String,
        /// Contains no credential.
        reason: String,
    },
    #[error("{property} in {table}, the connection of stream `{stream}`, cannot be used: {reason}")]
    ConfigureRegistry {
        stream: StreamName,
        table: String,
        property: String,
        /// Contains no credential.
        reason: String,
    },
    #[error("{table} does not say where Kafka is; stream `{stream}` needs bootstrap.servers there")]
    FindBrokers { stream: StreamName, table: String },
    #[error("Kafka at {brokers} cannot be asked about topic `{topic}`: {}", silence(.source))]
    Survey {
        topic: String,
        brokers: String,
        #[source]
        source: KafkaError,
    },
    #[error("topic `{topic}` does not exist on {brokers}; create it, or correct LOCATION or bootstrap.servers")]
    FindTopic { topic: String, brokers: String },
    #[error(
        "the consumer group gives partition {partition} of topic `{topic}`, and the broker that was asked knows \
         {count} partitions of the topic so far"
    )]
    AwaitPartition { topic: String, partition: Partition, count: i32 },
    #[error(
        "partition {partition} of topic `{topic}` has gone, but offsets below {archived} are archived: \
         the topic was recreated. Define a new stream for it"
    )]
    PartitionGone { topic: String, partition: Partition, archived: Offset },
    #[error(
        "Kafka has deleted messages that were not read yet: partition {partition} of topic `{topic}` starts at {low}, \
         the stream stands at {next}. The messages between are lost; define a new stream, and give the topic a longer \
         retention"
    )]
    Expired { topic: String, partition: Partition, next: Offset, low: Offset },
    #[error(
        "partition {partition} of topic `{topic}` ends at {high}, but offsets below {next} were read before: the topic \
         was recreated or its log truncated. Restore it, or define a new stream"
    )]
    Truncated { topic: String, partition: Partition, next: Offset, high: Offset },
    #[error(
        "the message at offset {offset} in partition {partition} of topic `{topic}` is not the one that was archived: \
         the topic was recreated. Define a new stream for it"
    )]
    Recreated { topic: String, partition: Partition, offset: Offset },
    #[error(
        "the archive of stream `{stream}` was opened before it was known that partition {partition} starts at {start}; \
         open it again"
    )]
    Origin { stream: StreamName, partition: Partition, start: Offset },
    #[error("reading back the last archived messages of topic `{topic}` took too long (partitions {missing:?})")]
    ReadBack { topic: String, missing: Vec<Partition> },
    #[error(
        "Kafka does not have the next offset of a partition of topic `{topic}` any more (the stream stands at {at}): \
         messages were deleted before they were read, or the topic was recreated. Define a new stream"
    )]
    OffsetGone { topic: String, at: String },
    #[error("reading topic `{topic}`: {source}")]
    Consume {
        topic: String,
        #[source]
        source: KafkaError,
    },
    #[error("joining the consumer group that shares topic `{topic}`: {source}")]
    Join {
        topic: String,
        #[source]
        source: KafkaError,
    },
    #[error(
        "another process is in the consumer group of topic `{topic}` under the same instance id; give every worker an \
         id of its own"
    )]
    Instance { topic: String },
    #[error("asking Kafka who is in the consumer group `{group}`: {source}")]
    Members {
        group: String,
        #[source]
        source: KafkaError,
    },
    #[error("the consumer thread of topic `{topic}` has stopped")]
    ConsumerStopped { topic: String },
    #[error("stream `{stream}` has lost its {what}: it has stopped")]
    Disconnected { stream: StreamName, what: &'static str },
    #[error(
        "the last epoch of stream `{stream}` was not archived in time; its messages are read again from Kafka at the \
         next start"
    )]
    LastEpoch { stream: StreamName },
    #[error("the schema for messages of stream `{stream}` cannot be had: {reason}")]
    FetchSchema { stream: StreamName, reason: String },
    #[error("messages of topic `{topic}` cannot be sent: {source}")]
    Produce {
        topic: String,
        #[source]
        source: KafkaError,
    },
    #[error("the transaction for topic `{topic}` cannot be {what}: {source}{}", transaction_help(.source))]
    Transaction {
        topic: String,
        what: &'static str,
        #[source]
        source: KafkaError,
    },
    #[error("splitting states by partition: {0}")]
    Split(#[from] arrow::error::ArrowError),
    #[error("a task of stream `{stream}` failed: {source}")]
    Task {
        stream: StreamName,
        #[source]
        source: tokio::task::JoinError,
    },
    #[error("starting the threads that serve other processes: {0}")]
    StartThreads(#[source] std::io::Error),
    #[error(
        "the certificate or its key cannot be used: {}; both must be PEM and belong together",
        innermost(.0)
    )]
    ServeTls(#[source] tonic::transport::Error),
    #[error("serving other processes over Arrow Flight: {}", innermost(.0))]
    Serve(#[source] tonic::transport::Error),
    #[error("broken promise: {0}")]
    Broken(String),
    #[error(transparent)]
    Shared(#[from] thalweg_schemas::Error),
}

impl Error {
    /// True if the error means that no broker answers. Such an error passes by itself, and archived rows can be shown
    /// meanwhile.
    pub(crate) fn awaits_kafka(&self) -> bool {
        let of_brokers = matches!(self, Error::Survey { .. } | Error::Consume { .. } | Error::ReadBack { .. });
        of_brokers && self.fault() == Fault::Transient
    }

    /// The error of the algebra or the engine. Another error of a computation breaks an invariant.
    pub(crate) fn into_shared(self) -> thalweg_schemas::Error {
        match self {
            Error::Shared(source) => source,
            Error::Split(source) => {
                let source = DataFusionError::ArrowError(Box::new(source), None);
                thalweg_schemas::Error::RunPlan { what: "splitting states by partition", source }
            }
            other => thalweg_schemas::Error::Broken(other.to_string()),
        }
    }

    /// The fault, which decides between retry, refusal and exit.
    pub fn fault(&self) -> Fault {
        match self {
            Error::Configure { .. }
            | Error::Secret { .. }
            | Error::FindConnection { .. }
            | Error::RefuseOption { .. }
            | Error::FindBrokers { .. }
            | Error::FindRegistry { .. }
            | Error::FindSchema { .. }
            | Error::ConfigureRegistry { .. }
            | Error::FindTopic { .. }
            | Error::PartitionGone { .. }
            | Error::Expired { .. }
            | Error::Truncated { .. }
            | Error::Recreated { .. }
            | Error::OffsetGone { .. }
            | Error::Instance { .. }
            | Error::ServeTls(_) => Fault::User,
            Error::StartThreads(_) | Error::Serve(_) | Error::FetchSchema { .. } => Fault::Transient,
            Error::ReadBack { .. } | Error::LastEpoch { .. } | Error::Origin { .. } => Fault::Transient,
            Error::AwaitPartition { .. } => Fault::Transient,
            Error::ConsumerStopped { .. } | Error::Disconnected { .. } => Fault::Transient,
            Error::Join { source, .. } | Error::Members { source, .. } => {
                match source.rdkafka_error_code().map(classify_group) {
                    Some(KafkaErrorClass::Stop(fault)) => fault,
                    _ => Fault::Transient,
                }
            }
            Error::Survey { source, .. }
            | Error::Consume { source, .. }
            | Error::Produce { source, .. }
            | Error::Transaction { source, .. } => match source.rdkafka_error_code().map(classify) {
                Some(KafkaErrorClass::Stop(fault)) => fault,
                _ => Fault::Transient,
            },
            Error::Split(_) => Fault::Engine,
            // A task that did not panic was cancelled, because its threads end.
            Error::Task { source, .. } if source.is_panic() => Fault::Engine,
            Error::Task { .. } => Fault::Transient,
            Error::Broken(_) => Fault::Bug,
            Error::Shared(source) => source.fault(),
        }
    }
}

fn listed(known: &[String]) -> String {
    match known {
        [] => String::new(),
        known => format!(" (there are: {})", known.join(", ")),
    }
}

/// The message of librdkafka, after advice for a user who has just started if no broker answers.
fn silence(source: &KafkaError) -> String {
    match source.rdkafka_error_code() {
        Some(Code::BrokerTransportFailure | Code::AllBrokersDown | Code::OperationTimedOut | Code::Resolve) => {
            format!("no broker answers there; start it, or correct bootstrap.servers ({source})")
        }
        _ => source.to_string(),
    }
}

/// What to do about a transaction that failed.
fn transaction_help(source: &KafkaError) -> &'static str {
    match source.rdkafka_error_code() {
        Some(Code::InvalidTransactionTimeout) => {
            "; the brokers allow less: set --kafka transaction.timeout.ms to their transaction.max.timeout.ms"
        }
        Some(Code::ProducerFenced | Code::Fenced | Code::InvalidProducerEpoch) => {
            "; another process sends the same rows, or the transaction took longer than transaction.timeout.ms"
        }
        _ => "",
    }
}

/// The class of an error that librdkafka reports: what the consumer does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KafkaErrorClass {
    /// librdkafka is reconnecting or retrying; reading continues by itself.
    Wait,
    /// The position does not exist in the log.
    OffsetGone,
    Stop(Fault),
}

/// Classifies an error code that occurs while consuming.
pub(crate) fn classify(code: Code) -> KafkaErrorClass {
    match code {
        Code::BrokerTransportFailure
        | Code::AllBrokersDown
        | Code::Resolve
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::BrokerNotAvailable
        | Code::ReplicaNotAvailable
        | Code::LeaderNotAvailable
        | Code::NotLeaderForPartition
        | Code::NetworkException
        | Code::NodeUpdate
        | Code::BrokerDestroy
        | Code::DestroyBroker
        // A reading client does not need the coordinator of its group or permissions for the group.
        | Code::WaitingForCoordinator
        | Code::CoordinatorLoadInProgress
        | Code::CoordinatorNotAvailable
        | Code::NotCoordinator
        | Code::GroupAuthorizationFailed => KafkaErrorClass::Wait,
        Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::NoOffset | Code::LogTruncation => {
            KafkaErrorClass::OffsetGone
        }
        Code::UnknownTopicOrPartition
        | Code::UnknownTopic
        | Code::UnknownPartition
        | Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::SSL
        | Code::InvalidTopic => KafkaErrorClass::Stop(Fault::User),
        _ => KafkaErrorClass::Stop(Fault::Transient),
    }
}

/// Classifies an error code of a member of the group. A member needs the coordinator and its permissions. Every error
/// that can pass means waiting, because the client joins the group again by itself.
pub(crate) fn classify_group(code: Code) -> KafkaErrorClass {
    match code {
        // Another member, which assigns, has heard of the partition earlier.
        Code::UnknownPartition => KafkaErrorClass::Wait,
        Code::GroupAuthorizationFailed
        | Code::InconsistentGroupProtocol
        | Code::InvalidSessionTimeout
        | Code::InvalidGroupId => KafkaErrorClass::Stop(Fault::User),
        Code::Fatal | Code::FencedInstanceId => KafkaErrorClass::Stop(Fault::Transient),
        code => match classify(code) {
            KafkaErrorClass::Stop(Fault::User) => KafkaErrorClass::Stop(Fault::User),
            _ => KafkaErrorClass::Wait,
        },
    }
}
