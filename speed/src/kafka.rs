//! Kafka as this layer meets it: topics, the thread that consumes them, what identifies a log, and secrets of clients.
//!
//! Invariant: no other module makes a Kafka client, except for membership of a consumer group.

pub(crate) mod secrets;

pub(crate) mod identity;

mod client_status;

pub(crate) mod topic;

pub(crate) mod channel;
pub(crate) mod consumer;
