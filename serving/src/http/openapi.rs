//! `GET /v1/openapi.json`: this interface for programs.
//!
//! Invariant: the document is a file of the tree. A test compares it with the routes, the parameters and the codes, and
//! the end-to-end tests check real answers against its schemas.

use axum::http::header;
use axum::response::{IntoResponse, Response};

/// The document.
pub(super) const DOCUMENT: &str = include_str!("openapi.json");

pub(super) async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")], DOCUMENT).into_response()
}
