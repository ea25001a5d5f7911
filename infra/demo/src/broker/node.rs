//! State that all connections share: topics and their logs, groups, producer ids, and the broker's identity.
//!
//! Invariant: all lasting state is in the folder that the node was opened from.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use kafka_protocol::protocol::StrBytes;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::files;
use super::groups::Groups;
use super::producers::ProducerIds;
use super::topics::BrokerTopics;
use crate::{Error, Result};

/// The id of the only node.
pub(crate) const ID: i32 = 1;

const CLUSTER: &str = "cluster-id";

pub(crate) struct Node {
    pub(crate) cluster_id: String,
    pub(crate) topics: BrokerTopics,
    pub(crate) groups: Arc<Groups>,
    pub(crate) producers: ProducerIds,
    /// Cancelled when the broker stops; ends all waits.
    pub(crate) stop: CancellationToken,
}

impl Node {
    /// Opens the topics, groups and ids in `folder`. Blocks.
    ///
    /// Errors: [`Error::OpenLog`].
    pub(crate) fn open(folder: &Path, stop: CancellationToken) -> Result<Self> {
        let cluster_id = cluster_id(folder)
            .map_err(|e| Error::OpenLog { folder: folder.to_owned(), reason: format!("`{CLUSTER}`: {e}") })?;
        Ok(Self {
            cluster_id,
            topics: BrokerTopics::open(folder)?,
            groups: Arc::new(Groups::open(folder)?),
            producers: ProducerIds::open(folder)?,
            stop,
        })
    }
}

/// The permanent id of this log. The id has only digits and letters, because tools take a leading dash for an option.
fn cluster_id(folder: &Path) -> io::Result<String> {
    let path = folder.join(CLUSTER);
    match std::fs::read_to_string(&path) {
        Ok(id) => Ok(id.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = Uuid::new_v4().simple().to_string();
            files::replace(&path, id.as_bytes())?;
            Ok(id)
        }
        Err(error) => Err(error),
    }
}

/// The client of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// The broker's address as this client reached it; answers name this address.
    pub(crate) reached: SocketAddr,
}

impl Peer {
    pub(crate) fn host(&self) -> StrBytes {
        StrBytes::from_string(self.reached.ip().to_canonical().to_string())
    }

    pub(crate) fn port(&self) -> i32 {
        i32::from(self.reached.port())
    }
}
