//! Errors as gRPC has them: a code, a message, and the details as JSON in the trailer `thalweg-error`.
//!
//! Invariant: a head that a client takes stays below 8 KiB, so a refusal always arrives.

use thalweg_schemas::api::error::ErrorCode;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use crate::Error;

/// The trailer with the details of an error, as JSON.
pub(super) const ERROR: &str = "thalweg-error";

/// Bytes of a message in a trailer. A byte may become three there, and clients take heads of 8 KiB.
const MESSAGE_BYTES: usize = 1200;

/// The gRPC code of an error code.
pub(super) fn grpc_code(code: ErrorCode) -> Code {
    use ErrorCode as E;
    match code {
        E::BadRequest | E::BadOption | E::BadParameter | E::Empty | E::MixedStatements | E::ReadOnly => {
            Code::InvalidArgument
        }
        E::Syntax | E::InvalidQuery | E::QueryFailed | E::TooLarge | E::Refused | E::NotAcceptable => {
            Code::InvalidArgument
        }
        E::Unauthorized => Code::Unauthenticated,
        E::OtherSite | E::Forbidden => Code::PermissionDenied,
        E::NotFound => Code::NotFound,
        E::NoSuchPath | E::NoSuchMethod => Code::Unimplemented,
        E::Conflict => Code::FailedPrecondition,
        E::NotReady | E::NotHeld | E::StreamStopped | E::WorkerFailed | E::ViewFailed | E::NotUnderstood => {
            Code::Unavailable
        }
        E::Storage | E::Unavailable => Code::Unavailable,
        E::TooBusy | E::MemoryLimit => Code::ResourceExhausted,
        E::Timeout => Code::DeadlineExceeded,
        E::Cancelled => Code::Cancelled,
        E::Internal | E::Unknown => Code::Internal,
    }
}

/// The status that a client gets for an error.
pub(super) fn status(error: &Error) -> Status {
    let mut body = error.body();
    body.message = shortened(body.message);
    let message = body.message.clone();
    let mut metadata = MetadataMap::new();
    let details = serde_json::to_string(&body).unwrap_or_default();
    if let Ok(details) = MetadataValue::try_from(ascii(&details)) {
        metadata.insert(ERROR, details);
    }
    Status::with_metadata(grpc_code(body.code), message, metadata)
}

/// The head of a long text.
fn shortened(text: String) -> String {
    if text.len() <= MESSAGE_BYTES {
        return text;
    }
    let end = (0..=MESSAGE_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// JSON whose characters are ASCII.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            ' '..='~' => text.push(character),
            other => {
                let mut units = [0; 2];
                for unit in other.encode_utf16(&mut units) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use thalweg_schemas::api::error::ErrorBody;

    use super::*;
    use crate::access::AccessDenied;

    #[test]
    fn every_code_has_a_grpc_code() {
        let expect = |status| match status {
            400 | 406 => vec![Code::InvalidArgument],
            401 => vec![Code::Unauthenticated],
            403 => vec![Code::PermissionDenied],
            404 => vec![Code::NotFound, Code::Unimplemented],
            405 => vec![Code::Unimplemented],
            409 => vec![Code::FailedPrecondition, Code::Cancelled],
            500 => vec![Code::Internal],
            503 => vec![Code::Unavailable, Code::ResourceExhausted],
            504 => vec![Code::DeadlineExceeded],
            507 => vec![Code::ResourceExhausted],
            other => panic!("no gRPC code is like the status {other}"),
        };
        for code in ErrorCode::ALL {
            assert!(expect(code.status()).contains(&grpc_code(*code)), "{code}");
        }
    }

    #[test]
    fn details_are_json_of_ascii() {
        let check = |error: Error, code: Code| {
            let status = status(&error);
            assert_eq!(status.code(), code);
            let details = status.metadata().get(ERROR).unwrap().to_str().unwrap();
            let body: ErrorBody = serde_json::from_str(details).unwrap();
            assert_eq!((body.code, body.message.as_str()), (error.code(), status.message()));
            assert!(details.len() + 3 * status.message().len() < 8 << 10, "{} bytes", details.len());
            body.message
        };
        check(Error::Deny(AccessDenied::NoToken), Code::Unauthenticated);
        let reason = "größe 🌊 \"x\"\n\u{7f}".to_owned();
        assert_eq!(check(Error::ReadRequest { reason: reason.clone() }, Code::InvalidArgument), reason);
        for character in ['x', 'é', '🌊', '"', '\n'] {
            let reason = String::from(character).repeat(100_000);
            let message = check(Error::ReadRequest { reason }, Code::InvalidArgument);
            assert!(message.ends_with('…'), "{message}");
        }
    }
}
