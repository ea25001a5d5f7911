//! The door: every call passes here before its request is read.
//!
//! ```text
//!  token ─▶ session ─▶ options of the headers ─▶ service
//! ```
//!
//! Invariant: no request is read for a client without the right to ask. A handshake, which brings the token, passes.

use std::sync::Arc;
use std::task::{Context, Poll};

use thalweg_schemas::api::headers;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;

use super::callers::{self, FlightCaller};
use super::connections::FlightClient;
use super::refusal::status;
use super::requests::CountedRequest;
use super::sessions::{self, FlightSessions};
use crate::access::Access;
use crate::activity::{ListedSession, Protocol, RequestClient};
use crate::http::Bodies;
use crate::{Error, Result};

/// The path of a handshake.
const HANDSHAKE: &str = "/arrow.flight.protocol.FlightService/Handshake";

/// Headers that set an option, and the names of the options.
const OPTIONS: [(&str, &str); 4] = [
    (headers::STALE, "stale"),
    (headers::MIN_FRONTIER, "min_frontier"),
    (headers::PARTIAL, "partial"),
    (headers::SOURCE, "source"),
];

/// A service behind the door.
#[derive(Clone)]
pub(super) struct FlightDoor<S> {
    service: S,
    access: Arc<Access>,
    sessions: Arc<FlightSessions>,
    requests: Bodies,
}

impl<S> FlightDoor<S> {
    pub(super) fn new(service: S, access: Access, sessions: Arc<FlightSessions>) -> Self {
        Self { service, access: Arc::new(access), sessions, requests: Bodies::default() }
    }

    /// Errors: [`Error::Deny`], [`Error::SetOption`], [`Error::ReadRequest`].
    fn caller(&self, given: &http::HeaderMap, client: Option<&FlightClient>) -> Result<FlightCaller> {
        let token = text(given, "authorization")?.and_then(callers::token);
        let mut caller = callers::caller(&self.access, token.as_deref())?;
        let session = client.map(FlightClient::session);
        if let (Some(session), Some(Ok(agent))) = (session, given.get("user-agent").map(http::HeaderValue::to_str)) {
            session.rename(agent);
        }
        caller.options.client =
            RequestClient { protocol: Protocol::FlightSql, session: session.map(ListedSession::id) };
        for cookies in given.get_all("cookie") {
            let Some(id) = cookies.to_str().ok().and_then(sessions::of_cookies) else { continue };
            if let Some(options) = self.sessions.options(caller.name, id) {
                sessions::apply(&options, &mut caller.options);
                caller.session = Some(id.to_owned());
            }
        }
        for (header, option) in OPTIONS {
            if let Some(value) = text(given, header)? {
                caller.options.set(option, value)?;
            }
        }
        Ok(caller)
    }
}

fn text<'a>(given: &'a http::HeaderMap, header: &str) -> Result<Option<&'a str>> {
    let value = given.get(header).map(|value| value.to_str()).transpose();
    value.map_err(|_| Error::ReadRequest { reason: format!("the header {header} is not ASCII") })
}

impl<S: NamedService> NamedService for FlightDoor<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for FlightDoor<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<S::Response, S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.service.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != HANDSHAKE {
            match self.caller(request.headers(), request.extensions().get::<FlightClient>()) {
                Ok(caller) => drop(request.extensions_mut().insert(caller)),
                Err(error) => return Box::pin(std::future::ready(Ok(status(&error).into_http()))),
            }
        }
        let held = self.requests.held();
        Box::pin(self.service.call(request.map(|body| CountedRequest::body(body, held))))
    }
}
