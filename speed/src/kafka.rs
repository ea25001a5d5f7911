//! Kafka for this layer: topics, the consumer thread, the identity of a log, and the secrets of clients.
//!
//! Invariant: no other module creates a Kafka client, except `group`, for membership of a consumer group.

mod secrets;

pub(crate) mod client;

pub(crate) mod identity;

pub(crate) mod client_status;
mod outage;

pub(crate) mod topic;

pub(crate) mod channel;
pub(crate) mod headers;

pub(crate) mod consumer;
