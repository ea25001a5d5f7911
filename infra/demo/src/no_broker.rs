//! Stands where the embedded broker is, in builds that leave it out: starting it says how to have it.
//!
//! Invariant: the same functions, so that nobody else need know how this was built.

use std::net::SocketAddr;
use std::path::Path;

use crate::{Error, Result};

/// There is none.
pub enum Broker {}

impl Broker {
    /// Errors: [`Error::NotBuilt`].
    pub async fn start(_folder: &Path, _address: Option<SocketAddr>) -> Result<Self> {
        Err(Error::NotBuilt)
    }

    pub fn address(&self) -> SocketAddr {
        match *self {}
    }

    pub fn log_bytes(&self) -> u64 {
        match *self {}
    }

    pub async fn stop(self) {
        match self {}
    }
}
