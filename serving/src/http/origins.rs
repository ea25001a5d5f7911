//! Pages of other sites: which may ask, and what a browser is told of that.
//!
//! Invariant: no answer allows credentials. A page sends its token in a header, which it has to know.

use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use thalweg_schemas::api::headers;

use crate::access::{KnownOrigin, Origins};

/// Methods of all routes.
const METHODS: &str = "GET, HEAD, POST, PUT, DELETE";

/// Seconds for which a browser need not ask again.
const MAX_AGE: &str = "600";

/// How the page that asks is known, if it is of another site and may ask.
pub(super) fn known(origins: &Origins, headers: &HeaderMap) -> Option<KnownOrigin> {
    origins.knows(headers.get(header::ORIGIN)?.to_str().ok()?)
}

/// True if a browser asks what a page may do.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// True if a browser fetches for a page of another site, and not because somebody opens a link.
pub(super) fn is_fetched_elsewhere(headers: &HeaderMap) -> bool {
    let is = |name: &str, value: &str| headers.get(name).is_some_and(|given| given.as_bytes() == value.as_bytes());
    is("sec-fetch-site", "cross-site") && !is("sec-fetch-dest", "document")
}

/// The answer to a browser that asks what a page may do; [`allow`] adds the origin.
pub(super) fn preflight() -> Response {
    let mut response = StatusCode::NO_CONTENT.into_response();
    let given = response.headers_mut();
    given.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    given.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    let own = ["accept", "authorization", "content-type", "if-none-match"];
    if let Ok(names) = HeaderValue::from_str(&own.into_iter().chain(headers::ALL).collect::<Vec<_>>().join(", ")) {
        given.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
    }
    response
}

/// Tells a browser that the page of `origin` may see the answer.
pub(super) fn allow(
    known: Option<KnownOrigin>,
    origin: Option<HeaderValue>,
    origins: &Origins,
    answer: &mut HeaderMap,
) {
    if *origins == Origins::default() {
        return;
    }
    answer.append(header::VARY, HeaderValue::from_static("origin"));
    let shown = match known {
        Some(KnownOrigin::Named) => origin,
        Some(KnownOrigin::Any) => Some(HeaderValue::from_static("*")),
        None => None,
    };
    let Some(shown) = shown else { return };
    answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, shown);
    let seen = ["etag", "retry-after"].into_iter().chain(headers::ALL).collect::<Vec<_>>().join(", ");
    if let Ok(seen) = HeaderValue::from_str(&seen) {
        answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, seen);
    }
}
