//! Errors as PostgreSQL's clients see them: a SQLSTATE, a sentence, and the character to which a caret points.

use std::time::Duration;

use pgwire::messages::response::{ErrorResponse, NoticeResponse};
use thalweg_schemas::Fault;
use thalweg_schemas::api::error::ErrorCode;

use crate::Error;
use crate::access::AccessDenied;

/// An error of one message.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Failure {
    /// PostgreSQL's code.
    pub(super) state: &'static str,
    /// The word that other doors have for the error.
    pub(super) code: Option<ErrorCode>,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// The place in the client's text, in characters from 1.
    pub(super) position: Option<usize>,
    /// PostgreSQL's function that says so, for drivers that look at it.
    pub(super) routine: Option<&'static str>,
}

/// Why a message is not answered as usual.
#[derive(Debug)]
pub(super) enum Unanswered {
    /// The client gets the error, and goes on.
    Failed(Box<Failure>),
    /// The client gets the error, and the connection ends.
    Fatal(Box<Failure>),
    /// The client is gone; the error says how, if the system does.
    Lost(Option<std::io::Error>),
}

impl From<Failure> for Unanswered {
    fn from(failure: Failure) -> Self {
        Unanswered::Failed(Box::new(failure))
    }
}

impl From<std::io::Error> for Unanswered {
    fn from(error: std::io::Error) -> Self {
        Unanswered::Lost(Some(error))
    }
}

/// The SQLSTATE of a code.
pub(super) fn state(code: ErrorCode) -> &'static str {
    use ErrorCode as C;
    match code {
        // protocol_violation
        C::BadRequest | C::NoSuchPath | C::NoSuchMethod | C::NotAcceptable => "08P01",
        // invalid_parameter_value
        C::BadOption => "22023",
        // invalid_text_representation
        C::BadParameter => "22P02",
        // syntax_error
        C::Empty | C::MixedStatements | C::Syntax => "42601",
        // read_only_sql_transaction
        C::ReadOnly => "25006",
        // syntax_error_or_access_rule_violation
        C::InvalidQuery => "42000",
        // data_exception
        C::QueryFailed => "22000",
        // statement_too_complex
        C::TooLarge => "54001",
        // feature_not_supported
        C::Refused | C::NotUnderstood => "0A000",
        // insufficient_privilege
        C::OtherSite | C::Forbidden => "42501",
        // invalid_password
        C::Unauthorized => "28P01",
        // undefined_table
        C::NotFound => "42P01",
        // duplicate_table
        C::Conflict => "42P07",
        // internal_error
        C::Internal | C::Unknown => "XX000",
        // cannot_connect_now
        C::NotReady => "57P03",
        // object_not_in_prerequisite_state
        C::NotHeld | C::StreamStopped | C::ViewFailed => "55000",
        // connection_failure
        C::WorkerFailed => "08006",
        // insufficient_resources
        C::TooBusy => "53000",
        // io_error
        C::Storage => "58030",
        // system_error
        C::Unavailable => "58000",
        // query_canceled
        C::Timeout | C::Cancelled => "57014",
        // out_of_memory
        C::MemoryLimit => "53200",
    }
}

/// The SQLSTATE of an error. The engine says in words alone which of a query's names is wrong; the drivers that ask
/// whether a table or a column exists look at the state.
fn state_of(code: ErrorCode, message: &str) -> &'static str {
    let holds = |words: &[&str]| words.iter().any(|word| message.contains(word));
    match code {
        ErrorCode::InvalidQuery if holds(&["table '", "table `"]) && holds(&["not found"]) => "42P01",
        ErrorCode::InvalidQuery if holds(&["column '", "column `", "No field named"]) => "42703",
        ErrorCode::InvalidQuery if holds(&["nvalid function", "no function"]) => "42883",
        ErrorCode::QueryFailed if holds(&["ivision by zero", "ivide by zero"]) => "22012",
        ErrorCode::QueryFailed if holds(&["out of range", "verflow"]) => "22003",
        ErrorCode::QueryFailed if holds(&["Cannot cast"]) => "22P02",
        ErrorCode::InvalidQuery | ErrorCode::QueryFailed if holds(&["invalid input syntax for type"]) => "22P02",
        ErrorCode::InvalidQuery | ErrorCode::QueryFailed if holds(&["must not end with escape character"]) => "22025",
        ErrorCode::InvalidQuery | ErrorCode::QueryFailed if holds(&["invalid escape string"]) => "22019",
        code => state(code),
    }
}

impl Failure {
    pub(super) fn new(state: &'static str, message: impl Into<String>) -> Self {
        Self { state, code: None, message: message.into(), hint: None, position: None, routine: None }
    }

    /// The error of a prepared statement whose columns are not those that the client was told of. Drivers know it, and
    /// prepare the statement anew.
    pub(super) fn other_columns() -> Self {
        let routine = Some("RevalidateCachedQuery");
        Self { routine, ..Self::new("0A000", "cached plan must not change result type") }
    }

    /// The error of a message that cannot be read.
    pub(super) fn protocol(message: impl Into<String>) -> Self {
        Self::new("08P01", message)
    }

    pub(super) fn syntax(message: impl Into<String>) -> Self {
        Self { code: Some(ErrorCode::Syntax), ..Self::new("42601", message) }
    }

    pub(super) fn unsupported(message: impl Into<String>) -> Self {
        Self { code: Some(ErrorCode::Refused), ..Self::new("0A000", message) }
    }

    pub(super) fn length(length: usize, longest: usize) -> Self {
        Self::protocol(format!("a message has {length} bytes; a message has at least 4, and at most {longest}"))
    }

    pub(super) fn slow(within: Duration) -> Self {
        let seconds = within.as_secs_f64();
        Self::protocol(format!(
            "a message did not arrive within {seconds} s; send it faster, or raise the setting http_timeout"
        ))
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(super) fn fatal(self) -> Unanswered {
        Unanswered::Fatal(Box::new(self))
    }

    /// The error of the engine over `sql`, which begins behind `before` characters of the client's text.
    pub(super) fn of(error: &Error, sql: &str, before: usize) -> Self {
        if matches!(error.fault(), Fault::Engine | Fault::Bug) {
            tracing::error!(%error, "a statement failed by a fault of the server");
        }
        let body = error.body();
        let position = match (body.line, body.column) {
            (Some(line), Some(column)) => Some(before + character(sql, line, column)),
            _ => None,
        };
        let message = match error {
            Error::Deny(AccessDenied::NoToken) => "this server asks for a token; give the token as the password".into(),
            Error::Deny(AccessDenied::WrongToken) => {
                "the password is not a token of this server; ask its operator for the http_token".into()
            }
            Error::Deny(AccessDenied::NotAdmin) => {
                "the token may query, and changes nothing; give the http_admin_token as the password".into()
            }
            _ => body.message,
        };
        let state = state_of(body.code, &message);
        Self { state, code: Some(body.code), message, hint: None, position, routine: None }
    }

    /// The message of an error; `severity` is `ERROR` or `FATAL`.
    pub(super) fn response(&self, severity: &str) -> ErrorResponse {
        ErrorResponse::new(self.fields(severity))
    }

    fn fields(&self, severity: &str) -> Vec<(u8, String)> {
        let mut fields = vec![
            (b'S', severity.to_owned()),
            (b'V', severity.to_owned()),
            (b'C', self.state.to_owned()),
            // A zero would end the field.
            (b'M', self.message.replace('\0', "\u{fffd}")),
        ];
        fields.extend(self.hint.iter().map(|hint| (b'H', hint.clone())));
        fields.extend(self.position.map(|position| (b'P', position.to_string())));
        // PostgreSQL has the name of a function of its own here.
        let routine = self.routine.or(self.code.map(|code| code.as_str()));
        fields.extend(routine.map(|routine| (b'R', routine.to_owned())));
        fields
    }
}

/// A notice that does not end a statement.
pub(super) fn warning(message: &str) -> NoticeResponse {
    NoticeResponse::new(Failure::new("01000", message).fields("WARNING"))
}

/// The number of the character at a line and a column of `sql`, all counted from 1.
pub(super) fn character(sql: &str, line: u64, column: u64) -> usize {
    let line = usize::try_from(line).unwrap_or(usize::MAX).saturating_sub(1);
    let column = usize::try_from(column).unwrap_or(usize::MAX);
    let before: usize = sql.split_inclusive('\n').take(line).map(|line| line.chars().count()).sum();
    before.saturating_add(column)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_state_of_five_characters() {
        for code in ErrorCode::ALL {
            let state = state(*code);
            let is_state = state.len() == 5 && state.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
            assert!(is_state, "{code:?} {state}");
            assert_eq!(state.starts_with("XX"), code.status() == 500, "{code:?} {state}");
        }
    }

    #[test]
    fn places_are_counted_in_characters() {
        for (sql, line, column, expect) in
            [("SELECT x", 1, 8, 8), ("SELECT *\nFROM y", 2, 6, 15), ("SELECT 'üü',\n\n ü", 3, 2, 16), ("", 1, 1, 1)]
        {
            assert_eq!(character(sql, line, column), expect, "{sql}");
        }
    }

    #[test]
    fn names_that_are_missing_have_the_states_that_drivers_know() {
        for (code, message, expect) in [
            (ErrorCode::InvalidQuery, "table 'thalweg.public.nowhere' not found", "42P01"),
            (ErrorCode::InvalidQuery, "column 'x' not found in 't'", "42703"),
            (ErrorCode::InvalidQuery, "No field named x", "42703"),
            (ErrorCode::InvalidQuery, "Invalid function 'f'", "42883"),
            (ErrorCode::InvalidQuery, "something else", "42000"),
            (ErrorCode::QueryFailed, "Division by zero in `1 / 0`", "22012"),
            (ErrorCode::QueryFailed, "Cannot cast string 'x'", "22P02"),
            (ErrorCode::QueryFailed, "invalid input syntax for type uuid: \"abc\"", "22P02"),
            (ErrorCode::QueryFailed, "LIKE pattern must not end with escape character", "22025"),
            (ErrorCode::Conflict, "table 'x' not found", "42P07"),
        ] {
            assert_eq!(state_of(code, message), expect, "{message}");
        }
    }
}
