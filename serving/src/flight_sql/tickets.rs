//! Tickets: what DoGet needs to run a query, sealed, so that the server keeps nothing between the two calls.
//!
//! ```text
//!  seal (32 bytes, keyed hash of the rest) │ id, caller, text, options, values
//! ```
//!
//! Invariant: only this process seals, and a ticket is good for the caller that it was given to.

use prost::Message;
use tonic::codegen::Bytes;
use uuid::Uuid;

use super::callers::FlightCaller;
use super::parameters;
use crate::options::Options;
use crate::parameters::Parameter;
use crate::{Error, Result};

/// Bytes of a seal.
const SEAL_BYTES: usize = blake3::OUT_LEN;

/// The content of a ticket.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SealedQuery {
    /// Names the query while it runs.
    #[prost(bytes = "vec", tag = "1")]
    pub(super) id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    caller: Vec<u8>,
    #[prost(string, tag = "3")]
    pub(super) sql: String,
    #[prost(string, tag = "4")]
    min_frontier: String,
    #[prost(bool, tag = "5")]
    partial: bool,
    #[prost(bool, tag = "6")]
    stale: bool,
    /// The bound values, as [`parameters::to_bytes`] writes them; empty if there are none.
    #[prost(bytes = "vec", tag = "7")]
    bound: Vec<u8>,
    #[prost(string, tag = "8")]
    source: String,
    #[prost(bool, tag = "9")]
    certificate: bool,
    #[prost(bool, optional, tag = "10")]
    rollups: Option<bool>,
}

impl SealedQuery {
    /// Errors: [`Error::Serve`], never in practice.
    pub(super) fn new(caller: &FlightCaller, sql: String, options: &Options, bound: Vec<u8>) -> Result<Self> {
        let min_frontier = serde_json::to_string(&options.min_frontier);
        Ok(Self {
            id: Uuid::new_v4().as_bytes().to_vec(),
            caller: caller.name.as_bytes().to_vec(),
            sql,
            min_frontier: min_frontier.map_err(|e| Error::Serve(std::io::Error::other(e)))?,
            partial: options.partial,
            stale: options.stale,
            bound,
            source: options.source.as_str().to_owned(),
            certificate: options.certificate,
            rollups: options.rollups,
        })
    }

    /// The options of the query for its caller.
    ///
    /// Errors: [`Error::SetOption`].
    pub(super) fn options(&self, caller: &FlightCaller) -> Result<Options> {
        let mut options = Options {
            partial: self.partial,
            stale: self.stale,
            certificate: self.certificate,
            rollups: self.rollups,
            definitions: caller.definitions,
            client: caller.options.client.clone(),
            ..Options::default()
        };
        options.set("min_frontier", &self.min_frontier)?;
        options.set("source", &self.source)?;
        Ok(options)
    }

    /// The values of each run of the query.
    ///
    /// Errors: [`Error::ReadRequest`].
    pub(super) fn rows(&self) -> Result<Vec<Vec<Parameter>>> {
        match self.bound.is_empty() {
            true => Ok(vec![Vec::new()]),
            false => parameters::rows(&parameters::from_bytes(&self.bound)?),
        }
    }
}

/// Seals tickets, and opens those that it sealed.
pub(super) struct TicketSeal([u8; SEAL_BYTES]);

impl TicketSeal {
    /// A seal of this process.
    pub(super) fn new() -> Self {
        let random = [*Uuid::new_v4().as_bytes(), *Uuid::new_v4().as_bytes()];
        Self(blake3::derive_key("thalweg 2026 tickets of Flight SQL", random.as_flattened()))
    }

    pub(super) fn seal(&self, query: &SealedQuery) -> Bytes {
        let content = query.encode_to_vec();
        let mut ticket = blake3::keyed_hash(&self.0, &content).as_bytes().to_vec();
        ticket.extend_from_slice(&content);
        ticket.into()
    }

    /// Opens a ticket for its caller.
    ///
    /// Errors: [`Error::OpenTicket`].
    pub(super) fn open(&self, caller: &FlightCaller, ticket: &[u8]) -> Result<SealedQuery> {
        let (seal, content) = ticket.split_at_checked(SEAL_BYTES).ok_or(Error::OpenTicket)?;
        // This comparison takes constant time.
        if blake3::keyed_hash(&self.0, content) != *seal {
            return Err(Error::OpenTicket);
        }
        let query = SealedQuery::decode(content).map_err(|_| Error::OpenTicket)?;
        if query.caller == caller.name.as_bytes() { Ok(query) } else { Err(Error::OpenTicket) }
    }
}

#[cfg(test)]
mod tests {
    use thalweg_schemas::api::sql::Frontiers;

    use super::*;
    use crate::access::Access;
    use crate::activity::RequestClient;
    use crate::flight_sql::callers::caller;
    use crate::options::SourceLayer;

    #[test]
    fn a_ticket_has_every_option_of_its_call() {
        let frontier: Frontiers = serde_json::from_str(r#"{"sensor_data": {"0": 7}}"#).unwrap();
        let all = Options {
            min_frontier: frontier,
            partial: true,
            stale: true,
            source: SourceLayer::Batch,
            certificate: true,
            rollups: Some(false),
            definitions: None,
            client: RequestClient::default(),
        };
        for options in [all, Options { source: SourceLayer::Speed, ..Options::default() }, Options::default()] {
            let caller = caller(&Access::default(), None).unwrap();
            let seal = TicketSeal::new();
            let query = SealedQuery::new(&caller, "SELECT 1".into(), &options, Vec::new()).unwrap();
            let opened = seal.open(&caller, &seal.seal(&query)).unwrap();
            assert_eq!(opened.options(&caller).unwrap(), options);
        }
    }
}
