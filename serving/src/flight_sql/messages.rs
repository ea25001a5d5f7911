//! Messages of the protocol that `arrow-flight` has not, and how bodies are read.
//!
//! Invariant: a body is read both ways in which clients send it: as it is, or wrapped in `google.protobuf.Any`.

use std::collections::HashMap;

use arrow_flight::sql::Any;
use prost::Message;

use crate::{Error, Result};

/// Packages of the protocol's messages, as an `Any` names them.
const FLIGHT: &str = "arrow.flight.protocol.";

/// Options to set in a session; a value that is empty unsets its option.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SetSessionOptionsRequest {
    #[prost(map = "string, message", tag = "1")]
    pub(super) session_options: HashMap<String, SessionOptionValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionOptionValue {
    #[prost(oneof = "OptionValue", tags = "1, 2, 3, 4, 5")]
    pub(super) option_value: Option<OptionValue>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub(super) enum OptionValue {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(sfixed64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    Texts(StringListValue),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StringListValue {
    #[prost(string, repeated, tag = "1")]
    pub(super) values: Vec<String>,
}

/// The options that were not set, by name.
#[derive(Clone, PartialEq, Message)]
pub(super) struct SetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    pub(super) errors: HashMap<String, SessionOptionError>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SessionOptionError {
    #[prost(enumeration = "SessionOptionFault", tag = "1")]
    pub(super) value: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum SessionOptionFault {
    Unspecified = 0,
    InvalidName = 1,
    InvalidValue = 2,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    pub(super) session_options: HashMap<String, SessionOptionValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CloseSessionResult {
    #[prost(enumeration = "SessionEnd", tag = "1")]
    pub(super) status: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub(super) enum SessionEnd {
    Unspecified = 0,
    Closed = 1,
}

/// Reads the body of an action, `what` for errors.
///
/// Errors: [`Error::ReadRequest`].
pub(super) fn body<M: Message + Default>(what: &str, body: &[u8]) -> Result<M> {
    let wrapped = Any::decode(body).ok().filter(|any| names_message(&any.type_url, FLIGHT));
    let read = match &wrapped {
        Some(any) if names_message(&any.type_url, what) => M::decode(&*any.value),
        Some(any) => return Err(unread(format!("the body of {what} is a {}", any.type_url))),
        None => M::decode(body),
    };
    read.map_err(|error| unread(format!("the body of {what} cannot be read: {error}")))
}

/// Reads a command or a ticket.
///
/// Errors: [`Error::ReadRequest`].
pub(super) fn any(what: &str, bytes: &[u8]) -> Result<Any> {
    match Any::decode(bytes) {
        Ok(any) if names_message(&any.type_url, FLIGHT) => Ok(any),
        _ => Err(unread(format!(
            "{what} is not a message of Flight SQL; use a Flight SQL client (ADBC, JDBC), which asks for these messages"
        ))),
    }
}

/// True if the last part of an `Any`'s URL begins with a package, or ends with the name of a message.
fn names_message(url: &str, name: &str) -> bool {
    let message = url.rsplit('/').next().unwrap_or(url);
    message != url
        && (message.starts_with(name) || message.strip_suffix(name).is_some_and(|before| before.ends_with('.')))
}

fn unread(reason: String) -> Error {
    Error::ReadRequest { reason }
}
