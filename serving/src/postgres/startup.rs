//! The start of a connection: encryption, the client's wishes, its password, and what the server tells of itself.
//!
//! Invariant: no message of a client is longer than [`START_BYTES`](super::frames::START_BYTES) before its password is
//! known to be right.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use pgwire::messages::response::{ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::{Authentication, BackendKeyData, ParameterStatus, SecretKey};
use pgwire::tokio::TlsAcceptor;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_io_timeout::TimeoutStream;

use super::budget::Budget;
use super::clients::{Clients, Interrupt};
use super::failure::{Failure, Unanswered};
use super::frames::{Incoming, Socket};
use super::requests::Fields;
use super::settings::SessionSettings;
use super::wire::Wire;
use crate::Error;
use crate::access::{Access, AccessDenied, HttpLimits, Right};

/// Codes in the place of a protocol's version.
const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const KERBEROS: u32 = 80_877_104;

/// The version of the protocol, and the high half that every version 3 has.
const VERSION: u32 = 196_608;
const MAJOR: u32 = 3;

/// The first byte of a client that begins with TLS and does not ask.
const HANDSHAKE: u8 = 0x16;

/// Receives what a client wants of its connection, with TLS if it asks for it and there is a certificate. `None` is a
/// request to cancel, which has no answer.
///
/// Errors: [`Unanswered`] of a connection that does not start; the client has been told.
pub(super) async fn receive(
    stream: TcpStream,
    tls: Option<&TlsAcceptor>,
    limits: &HttpLimits,
    budget: Budget,
    clients: &Clients,
) -> Result<Option<(Wire, BTreeMap<String, String>)>, Unanswered> {
    let begins_with_tls = tls.is_some() && {
        let mut first = [0];
        stream.peek(&mut first).await? == 1 && first[0] == HANDSHAKE
    };
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.client_within));
    let mut socket: Box<dyn Socket> = Box::new(Box::pin(stream));
    let mut is_encrypted = false;
    if let (true, Some(tls)) = (begins_with_tls, tls) {
        socket = Box::new(tls.accept(socket).await?);
        is_encrypted = true;
    }
    let mut incoming = Incoming::new(limits.client_within, budget);
    loop {
        let Some(mut body) = incoming.start(socket.as_mut()).await? else { return Err(Unanswered::Lost(None)) };
        if body.len() < 4 {
            return refuse(socket, incoming, Failure::protocol("the first message is too short")).await;
        }
        match body.get_u32() {
            TLS | KERBEROS if is_encrypted => {
                return refuse(socket, incoming, Failure::protocol("the connection is encrypted already")).await;
            }
            TLS => {
                // What arrives before the answer is not encrypted, and nobody knows who has sent it.
                if !incoming.is_empty() {
                    let failure = Failure::protocol("there is data behind the request for encryption");
                    return refuse(socket, incoming, failure).await;
                }
                socket.write_all(if tls.is_some() { b"S" } else { b"N" }).await?;
                socket.flush().await?;
                if let Some(tls) = tls {
                    socket = Box::new(tls.accept(socket).await?);
                    is_encrypted = true;
                }
            }
            KERBEROS => {
                socket.write_all(b"N").await?;
                socket.flush().await?;
            }
            CANCEL => {
                if body.len() == 8 {
                    clients.cancel(body.get_i32(), body.get_i32());
                }
                return Ok(None);
            }
            version if version >> 16 == MAJOR => {
                let wire = Wire::new(socket, incoming);
                return begin(wire, version, body).await;
            }
            version => {
                let (major, minor) = (version >> 16, version & 0xffff);
                let failure = Failure::new("0A000", format!("the protocol is version 3.0, not {major}.{minor}"));
                return refuse(socket, incoming, failure).await;
            }
        }
    }
}

async fn refuse<T>(socket: Box<dyn Socket>, incoming: Incoming, failure: Failure) -> Result<T, Unanswered> {
    Wire::new(socket, incoming).close(Some(&failure)).await;
    Err(failure.fatal())
}

/// Reads the wishes of a client that speaks `version`.
async fn begin(
    mut wire: Wire,
    version: u32,
    body: Bytes,
) -> Result<Option<(Wire, BTreeMap<String, String>)>, Unanswered> {
    let wishes = match wishes(body) {
        Ok(wishes) => wishes,
        Err(failure) => {
            wire.close(Some(&failure)).await;
            return Err(failure.fatal());
        }
    };
    let unknown: Vec<&String> = wishes.keys().filter(|name| name.starts_with("_pq_.")).collect();
    if version != VERSION || !unknown.is_empty() {
        let names: usize = unknown.iter().map(|name| name.len() + 1).sum();
        wire.out.put_u8(b'v');
        wire.out.put_u32((12 + names) as u32);
        wire.out.put_u32(VERSION);
        wire.out.put_u32(unknown.len() as u32);
        for name in unknown {
            wire.out.put_slice(name.as_bytes());
            wire.out.put_u8(0);
        }
    }
    Ok(Some((wire, wishes)))
}

/// Names and values, ended by an empty name.
fn wishes(body: Bytes) -> Result<BTreeMap<String, String>, Failure> {
    let mut fields = Fields(body);
    let mut wishes = BTreeMap::new();
    loop {
        let name = fields.text()?;
        if name.is_empty() {
            return Ok(wishes);
        }
        wishes.insert(name, fields.text()?);
    }
}

/// Asks for a password if the server has tokens. Returns why the client may not change definitions, if so.
///
/// Errors: a failure for a wrong password.
pub(super) async fn authenticate(wire: &mut Wire, access: &Access) -> Result<Option<AccessDenied>, Unanswered> {
    let mut token = None;
    if access.check(Right::Query, None).is_err() {
        wire.send(&Authentication::CleartextPassword)?;
        wire.flush().await?;
        let frame = wire.next().await?.ok_or(Unanswered::Lost(None))?;
        if frame.kind != b'p' {
            return Err(Failure::protocol("the server waits for a password").fatal());
        }
        let password = Fields(frame.body).text().map_err(Failure::fatal)?;
        let allowed = access.check(Right::Query, Some(&password));
        allowed.map_err(|denied| Failure::of(&Error::Deny(denied), "", 0).fatal())?;
        token = Some(password);
    }
    Ok(access.check_definitions(token.as_deref()).err())
}

/// The settings of a session with these wishes. Wishes of drivers for the display of times are not followed: the client
/// reads in the next messages which display it gets.
///
/// Errors: a failure for a wish in `options` that cannot be met.
pub(super) fn settings(wishes: &BTreeMap<String, String>) -> Result<SessionSettings, Failure> {
    let mut settings = SessionSettings::default();
    if wishes.get("replication").is_some_and(|wish| !matches!(wish.as_str(), "false" | "off" | "no" | "0")) {
        return Err(Failure::unsupported("replication is not supported"));
    }
    for (name, value) in wishes {
        match name.as_str() {
            "user" | "database" | "replication" => {}
            "options" => {
                for (name, value) in command_line(value)? {
                    settings.set(&name, &value)?;
                }
            }
            "client_encoding" => settings.set(name, value.trim_matches('\''))?,
            _ => drop(settings.set(name, value)),
        }
    }
    settings.started();
    Ok(settings)
}

/// Reads `-c name=value --name=value`; a backslash keeps a space in a value.
fn command_line(text: &str) -> Result<Vec<(String, String)>, Failure> {
    let mut words = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        let last = words.len() - 1;
        match character {
            '\\' => words[last].extend(characters.next()),
            space if space.is_whitespace() => words.push(String::new()),
            other => words[last].push(other),
        }
    }
    let mut settings = Vec::new();
    let mut words = words.into_iter().filter(|word| !word.is_empty());
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("-c").or_else(|| word.strip_prefix("--")) {
            Some("") => words.next().unwrap_or_default(),
            Some(rest) => rest.to_owned(),
            None => word,
        };
        match setting.split_once('=') {
            Some((name, value)) => settings.push((name.replace('-', "_"), value.to_owned())),
            None => return Err(Failure::new("42601", format!("options are as in -c name=value, not `{setting}`"))),
        }
    }
    Ok(settings)
}

/// Tells the client that it may ask.
pub(super) fn welcome(
    wire: &mut Wire,
    settings: &SessionSettings,
    interrupt: &Arc<Interrupt>,
) -> Result<(), Unanswered> {
    wire.send(&Authentication::Ok)?;
    for (name, value) in settings.reported() {
        wire.send(&ParameterStatus::new(name.to_owned(), value.to_owned()))?;
    }
    wire.send(&BackendKeyData::new(interrupt.number, SecretKey::I32(interrupt.secret)))?;
    wire.send(&ReadyForQuery::new(TransactionStatus::Idle))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_start_are_settings() {
        let check = |name: &str, value: &str, expect: Result<(&str, &str), &str>| {
            let wishes = BTreeMap::from([("user".to_owned(), "u".to_owned()), (name.to_owned(), value.to_owned())]);
            let got = settings(&wishes).map_err(|failure| failure.state);
            match (got, expect) {
                (Ok(settings), Ok((name, value))) => assert_eq!(settings.show(name).unwrap(), value),
                (got, expect) => assert_eq!(got.map(|_| ("", "")), expect, "{name}={value}"),
            }
        };
        check("application_name", "x", Ok(("application_name", "x")));
        check("TimeZone", "Europe/Berlin", Ok(("TimeZone", "UTC")));
        check("client_encoding", "'utf-8'", Ok(("client_encoding", "UTF8")));
        check("client_encoding", "LATIN1", Err("22023"));
        check("unheard_of", "1", Ok(("TimeZone", "UTC")));
        check("options", "-c statement_timeout=5s", Ok(("statement_timeout", "5s")));
        check("options", "--statement-timeout=5s -cthalweg.partial=allow", Ok(("thalweg.partial", "allow")));
        check("options", "-c application_name=a\\ b", Ok(("application_name", "a b")));
        check("options", "-c unheard_of=1", Err("42704"));
        check("options", "-c", Err("42601"));
        check("replication", "database", Err("0A000"));
    }
}
