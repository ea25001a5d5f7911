//! The body of every answer that is not 2xx.
//!
//! Invariant: a code never changes its status or its meaning, so programs may depend on it. A message is for people.

use serde::{Deserialize, Serialize};

use super::words::words;

/// An answer that is not 2xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub error: ErrorBody,
}

/// The reason why a request was not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    pub code: ErrorCode,
    /// A sentence that ends with advice.
    pub message: String,
    /// The place in the SQL, if the error has one. Lines and columns are counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
}

words! {
    /// The kind of an error.
    pub enum ErrorCode {
        /// The body, a header or a parameter cannot be read. The status is 413 if the body is too long, and 408 if it
        /// does not arrive in time.
        BadRequest = "bad_request",
        /// An option of a query has an unknown name or an invalid value.
        BadOption = "bad_option",
        /// A value for a placeholder is missing, superfluous, or not of the type that the query expects.
        BadParameter = "bad_parameter",
        /// The request holds no SQL statement.
        Empty = "empty",
        /// The request mixes definitions with a query, or holds several queries.
        MixedStatements = "mixed_statements",
        /// The query would change something.
        ReadOnly = "read_only",
        /// The SQL cannot be parsed.
        Syntax = "syntax",
        /// The query cannot be planned.
        InvalidQuery = "invalid_query",
        /// The query was planned, and failed because of its data.
        QueryFailed = "query_failed",
        /// The query is refused before it starts, because of its size.
        TooLarge = "too_large",
        /// A definition or a request is understood but not accepted.
        Refused = "refused",
        /// A browser sent the request for a page of another site, or under a name that is not this server's.
        OtherSite = "other_site",
        /// The request has no token, or one that the server does not know.
        Unauthorized = "unauthorized",
        /// The token does not allow the request, or this server does not change definitions.
        Forbidden = "forbidden",
        /// The stream or view does not exist.
        NotFound = "not_found",
        NoSuchPath = "no_such_path",
        NoSuchMethod = "no_such_method",
        /// The client accepts no format that exists.
        NotAcceptable = "not_acceptable",
        /// The name is taken, or views read the stream. The status is 503 if others change the catalog at the moment.
        Conflict = "conflict",
        /// Somebody has cancelled the query.
        Cancelled = "cancelled",
        /// A fault of the server.
        Internal = "internal",
        /// The query can be answered later.
        NotReady = "not_ready",
        /// The layers hold no common frontier at the moment.
        NotHeld = "not_held",
        StreamStopped = "stream_stopped",
        /// The view cannot go on because of a message, or of its definition. The message says which.
        ViewFailed = "view_failed",
        /// The definition needs a newer version of the program.
        NotUnderstood = "not_understood",
        /// A speed worker failed to return its part of the answer.
        WorkerFailed = "worker_failed",
        /// The limit of running queries, or of audits and runs, is reached.
        TooBusy = "too_busy",
        /// The object store or the disk failed.
        Storage = "storage",
        /// Another layer cannot do its part at the moment.
        Unavailable = "unavailable",
        /// The query exceeded its time limit.
        Timeout = "timeout",
        /// The query exceeded its memory limit.
        MemoryLimit = "memory_limit",
    }
}

impl ErrorCode {
    /// The HTTP status; [`ErrorCode::BadRequest`] and [`ErrorCode::Conflict`] have a second one.
    pub fn status(self) -> u16 {
        use ErrorCode as C;
        match self {
            C::BadRequest | C::BadOption | C::BadParameter | C::Empty | C::MixedStatements | C::ReadOnly => 400,
            C::Syntax | C::InvalidQuery | C::QueryFailed | C::TooLarge | C::Refused => 400,
            C::Unauthorized => 401,
            C::OtherSite | C::Forbidden => 403,
            C::NotFound | C::NoSuchPath => 404,
            C::NoSuchMethod => 405,
            C::NotAcceptable => 406,
            C::Conflict | C::Cancelled => 409,
            C::Internal | C::Unknown => 500,
            C::NotReady | C::NotHeld | C::StreamStopped | C::WorkerFailed => 503,
            C::ViewFailed | C::NotUnderstood => 503,
            C::TooBusy | C::Storage | C::Unavailable => 503,
            C::Timeout => 504,
            C::MemoryLimit => 507,
        }
    }
}
