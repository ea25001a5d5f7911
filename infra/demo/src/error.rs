//! The crate's error: the action that failed, and whose fault the failure is.
//!
//! Invariant: every message gives advice to its reader, or names the object of the failure.

use std::io;
use std::path::PathBuf;

use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode as Code;
use thalweg_schemas::Fault;

/// Shorthand for results of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The action that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the Kafka client cannot be configured: {source}")]
    Configure {
        #[source]
        source: KafkaError,
    },
    #[error(
        "no Kafka answers at {brokers} ({source}); start one, or say with --kafka bootstrap.servers=HOST:PORT where it is"
    )]
    Reach {
        brokers: String,
        #[source]
        source: KafkaError,
    },
    #[error("the topic `{topic}` cannot be created: {reason}")]
    CreateTopic { topic: String, reason: String },
    #[error("a message to the topic `{topic}` was not delivered: {source}")]
    Deliver {
        topic: String,
        #[source]
        source: KafkaError,
    },
    #[error("the producer ended before it said what became of a message to the topic `{topic}`")]
    Forgotten { topic: String },
    #[error("{} cannot be written: {source}", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the embedded broker cannot listen on {address} ({source}); --demo-broker names another address")]
    Listen {
        address: std::net::SocketAddr,
        #[source]
        source: io::Error,
    },
    #[error("another process uses the broker's log in {}; stop it, or take another folder with --data-dir", folder.display())]
    InUse { folder: PathBuf },
    #[error("the embedded broker cannot open its log in {}: {reason}", folder.display())]
    OpenLog { folder: PathBuf, reason: String },
}

impl Error {
    /// Decides between retry, refusal and exit.
    pub fn fault(&self) -> Fault {
        match self {
            Error::Configure { .. }
            | Error::CreateTopic { .. }
            | Error::Write { .. }
            | Error::Listen { .. }
            | Error::InUse { .. }
            | Error::OpenLog { .. } => Fault::User,
            Error::Reach { .. } | Error::Forgotten { .. } => Fault::Transient,
            Error::Deliver { source, .. } => match source.rdkafka_error_code() {
                Some(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed | Code::MessageSizeTooLarge) => {
                    Fault::User
                }
                _ => Fault::Transient,
            },
        }
    }
}
