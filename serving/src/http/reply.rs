//! The head of an answer: what it stands at, what it depends on, and how it may be stored.
//!
//! Invariant: the entity tag is a hash of everything that the answer depends on, its frontier included. An answer that
//! depends on more, such as the time, has none.

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use thalweg_schemas::api::headers;
use thalweg_schemas::api::sql::SqlAnswer;

use super::format::AnswerFormat;
use crate::identity::AnswerIdentity;
use crate::{Error, Result};

/// Size in bytes up to which an answer is completed before its head is sent, so that its errors still have a status.
pub(super) const WHOLE_BYTES: usize = 256 << 10;

/// The headers of a request by which the form of an answer is chosen.
const VARIES: &str = "accept, accept-encoding";

/// The head of an answer.
#[derive(Debug, Clone)]
pub(super) struct ReplyHead {
    format: AnswerFormat,
    /// What the answer depends on.
    pub(super) key: Option<AnswerIdentity>,
    frontier: HeaderValue,
    stale: bool,
    partial: Option<HeaderValue>,
    certificate: Option<HeaderValue>,
}

impl ReplyHead {
    /// `identity` is that of the answer in any format, and `head` the answer without its rows.
    pub(super) fn new(format: AnswerFormat, identity: Option<AnswerIdentity>, head: &SqlAnswer) -> Result<Self> {
        Ok(Self {
            format,
            key: identity.map(|identity| key_of(identity, format)),
            frontier: header_of(&head.frontier)?,
            stale: head.stale,
            partial: if head.partial.is_empty() { None } else { Some(header_of(&head.partial)?) },
            certificate: head.certificate.as_ref().map(header_of).transpose()?,
        })
    }

    /// Bytes of the values that the head holds.
    pub(super) fn size(&self) -> usize {
        let values = [Some(&self.frontier), self.partial.as_ref(), self.certificate.as_ref()];
        values.into_iter().flatten().map(HeaderValue::len).sum()
    }

    /// Writes the head into the headers of an answer.
    pub(super) fn write(self, given: &mut HeaderMap) {
        given.insert(headers::FRONTIER, self.frontier);
        if self.stale {
            given.insert(headers::STALE, HeaderValue::from_static(headers::TRUE));
        }
        if let Some(partial) = self.partial {
            given.insert(headers::PARTIAL, partial);
        }
        if let Some(certificate) = self.certificate {
            given.insert(headers::CERTIFICATE, certificate);
        }
        given.insert(header::CONTENT_TYPE, self.format.content_type());
        cached(given, self.key);
    }
}

/// What an answer in one format depends on.
pub(super) fn key_of(identity: AnswerIdentity, format: AnswerFormat) -> AnswerIdentity {
    identity.with(format.name())
}

/// The entity tag. Answers of one tag have the same rows, though perhaps in another order or another coding, so the tag
/// is a weak one.
fn tag(key: AnswerIdentity) -> String {
    format!("W/\"{}\"", key.text())
}

/// The answers that a client has, as `If-None-Match` says.
#[derive(Debug, Default)]
pub(super) struct KnownTags(Vec<String>);

impl KnownTags {
    pub(super) fn of(given: &HeaderMap) -> Self {
        let lines = given.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
        let tags = lines.flat_map(|line| line.split(',')).map(|tag| tag.trim().to_owned());
        Self(tags.filter(|tag| !tag.is_empty()).collect())
    }

    /// True if the client has the answer of this key.
    pub(super) fn name(&self, key: AnswerIdentity) -> bool {
        let tag = tag(key);
        let bare = |tag: &str| tag.trim_start_matches("W/").to_owned();
        self.0.iter().any(|known| bare(known) == bare(&tag))
    }

    /// True if the client asks for no answer that can be identified. Whether there is one is known once it is computed.
    pub(super) fn any(&self) -> bool {
        self.0.iter().any(|known| known == "*")
    }
}

/// The answer to a client that has the answer.
pub(super) fn unchanged(key: AnswerIdentity) -> Response {
    let mut response = StatusCode::NOT_MODIFIED.into_response();
    cached(response.headers_mut(), Some(key));
    response
}

/// Says how an answer may be stored: ask again each time, with the tag.
fn cached(headers: &mut HeaderMap, key: Option<AnswerIdentity>) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::VARY, HeaderValue::from_static(VARIES));
    if let Some(tag) = key.and_then(|key| HeaderValue::from_str(&tag(key)).ok()) {
        headers.insert(header::ETAG, tag);
    }
}

/// Returns JSON as a header value.
fn header_of(value: &impl Serialize) -> Result<HeaderValue> {
    let text = serde_json::to_string(value).map_err(|e| Error::Serve(std::io::Error::other(e)))?;
    HeaderValue::from_str(&text).map_err(|e| Error::Serve(std::io::Error::other(e)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::IdentityParts;

    #[test]
    fn a_tag_is_known_however_it_is_written() {
        let mut parts = IdentityParts::new();
        parts.part(b"x");
        let key = parts.end();
        let hash = key.text();
        let check = |known: &[&str], expect: bool| {
            let mut headers = HeaderMap::new();
            for tags in known {
                headers.append(header::IF_NONE_MATCH, HeaderValue::from_str(tags).unwrap());
            }
            assert_eq!(KnownTags::of(&headers).name(key), expect, "{known:?}");
        };
        check(&[&format!("W/\"{hash}\"")], true);
        check(&[&format!("\"{hash}\"")], true);
        check(&["\"other\"", &format!("W/\"{hash}\"")], true);
        check(&[&format!("\"other\", W/\"{hash}\" , ")], true);
        check(&["*"], false);
        check(&[], false);
        check(&[&hash], false);
        check(&["\"other\"", "W/\"\""], false);
    }
}
