//! The body of every answer that is not 2xx.
//!
//! Invariant: a code never changes its meaning, so programs may decide by it; a message is for people.

use serde::{Deserialize, Serialize};

use super::words::words;

/// An answer that is not 2xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    pub error: ErrorBody,
}

/// Why a request was not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    pub code: ErrorCode,
    /// A sentence that ends with what to do.
    pub message: String,
    /// The place in the SQL, if the error has one: both are counted from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
}

words! {
    /// What kind of error it is.
    pub enum ErrorCode {
        /// The body, a header or a parameter cannot be read.
        BadRequest = "bad_request",
        /// An option has no such name or value.
        BadOption = "bad_option",
        /// No format of `Accept` can be given.
        NotAcceptable = "not_acceptable",
        NoSuchPath = "no_such_path",
        NoSuchMethod = "no_such_method",
        /// A page of another site made a browser send it.
        OtherSite = "other_site",
        /// There is no statement in it.
        Empty = "empty",
        MixedStatements = "mixed_statements",
        /// A query would change something.
        ReadOnly = "read_only",
        Syntax = "syntax",
        /// The query cannot be planned.
        InvalidQuery = "invalid_query",
        /// The query failed on a value that it met.
        QueryFailed = "query_failed",
        /// A definition, a name or a call that is understood but not accepted.
        Refused = "refused",
        NotFound = "not_found",
        Conflict = "conflict",
        NotReady = "not_ready",
        NotHeld = "not_held",
        StreamStopped = "stream_stopped",
        WorkerFailed = "worker_failed",
        TooBusy = "too_busy",
        Timeout = "timeout",
        MemoryLimit = "memory_limit",
        Storage = "storage",
        /// Another layer cannot do what was called at the moment.
        Unavailable = "unavailable",
        Internal = "internal",
    }
}
