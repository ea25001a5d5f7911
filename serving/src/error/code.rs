//! The codes by which clients tell errors apart, each with its HTTP status.
//!
//! Invariant: a code that has been released keeps its word and its status.

/// What a request failed of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorCode {
    /// The request's body or query cannot be read.
    BadRequest,
    /// An option of a query has a name or a value that means nothing.
    BadOption,
    /// The request holds no SQL statement.
    Empty,
    /// The SQL cannot be parsed.
    Syntax,
    /// A request holds either definitions or one query.
    MixedStatements,
    /// Queries change nothing.
    ReadOnly,
    /// A definition or a request is understood but not accepted.
    Refused,
    /// The query cannot be planned.
    InvalidQuery,
    /// The query was planned, and failed because of its data.
    QueryFailed,
    /// The request comes from a page of another site.
    OtherSite,
    /// The stream or view does not exist.
    NotFound,
    NoSuchPath,
    NoSuchMethod,
    /// The client accepts no format that exists.
    NotAcceptable,
    /// The name is taken, the stream is read by views, or another process changed the catalog at the same time.
    Conflict,
    /// The query can be answered in a while.
    NotReady,
    /// The layers hold no common frontier at the moment.
    NotHeld,
    StreamStopped,
    /// A speed worker failed that was asked for a part of the answer.
    WorkerFailed,
    /// As many queries run as may.
    TooBusy,
    /// Another layer cannot do its part at the moment.
    Unavailable,
    /// The object store failed.
    Storage,
    /// The query took longer than it may.
    Timeout,
    /// The query needs more memory than it may have.
    MemoryLimit,
    /// A fault of the server.
    Internal,
}

impl ErrorCode {
    pub const ALL: [ErrorCode; 25] = [
        ErrorCode::BadRequest,
        ErrorCode::BadOption,
        ErrorCode::Empty,
        ErrorCode::Syntax,
        ErrorCode::MixedStatements,
        ErrorCode::ReadOnly,
        ErrorCode::Refused,
        ErrorCode::InvalidQuery,
        ErrorCode::QueryFailed,
        ErrorCode::OtherSite,
        ErrorCode::NotFound,
        ErrorCode::NoSuchPath,
        ErrorCode::NoSuchMethod,
        ErrorCode::NotAcceptable,
        ErrorCode::Conflict,
        ErrorCode::NotReady,
        ErrorCode::NotHeld,
        ErrorCode::StreamStopped,
        ErrorCode::WorkerFailed,
        ErrorCode::TooBusy,
        ErrorCode::Unavailable,
        ErrorCode::Storage,
        ErrorCode::Timeout,
        ErrorCode::MemoryLimit,
        ErrorCode::Internal,
    ];

    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        self.word_and_status().0
    }

    /// The HTTP status, where [`super::Error::status`] knows of no exception.
    pub fn status(self) -> u16 {
        self.word_and_status().1
    }

    fn word_and_status(self) -> (&'static str, u16) {
        match self {
            ErrorCode::BadRequest => ("bad_request", 400),
            ErrorCode::BadOption => ("bad_option", 400),
            ErrorCode::Empty => ("empty", 400),
            ErrorCode::Syntax => ("syntax", 400),
            ErrorCode::MixedStatements => ("mixed_statements", 400),
            ErrorCode::ReadOnly => ("read_only", 400),
            ErrorCode::Refused => ("refused", 400),
            ErrorCode::InvalidQuery => ("invalid_query", 400),
            ErrorCode::QueryFailed => ("query_failed", 400),
            ErrorCode::OtherSite => ("other_site", 403),
            ErrorCode::NotFound => ("not_found", 404),
            ErrorCode::NoSuchPath => ("no_such_path", 404),
            ErrorCode::NoSuchMethod => ("no_such_method", 405),
            ErrorCode::NotAcceptable => ("not_acceptable", 406),
            ErrorCode::Conflict => ("conflict", 409),
            ErrorCode::NotReady => ("not_ready", 503),
            ErrorCode::NotHeld => ("not_held", 503),
            ErrorCode::StreamStopped => ("stream_stopped", 503),
            ErrorCode::WorkerFailed => ("worker_failed", 503),
            ErrorCode::TooBusy => ("too_busy", 503),
            ErrorCode::Unavailable => ("unavailable", 503),
            ErrorCode::Storage => ("storage", 503),
            ErrorCode::Timeout => ("timeout", 504),
            ErrorCode::MemoryLimit => ("memory_limit", 507),
            ErrorCode::Internal => ("internal", 500),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_code_is_listed_once() {
        for (at, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(*code as usize, at, "{code:?}");
        }
        assert_eq!(ErrorCode::Internal as usize + 1, ErrorCode::ALL.len());
        let words: BTreeSet<_> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(words.len(), ErrorCode::ALL.len());
    }
}
