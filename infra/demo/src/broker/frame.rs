//! Frames: reads a request from a connection's bytes, and encodes an answer into bytes.
//!
//! ```text
//!  length 4 │ api key 2 │ version 2 │ correlation 4 │ client id … │ body
//! ```
//!
//! The protocol library allocates memory for as many items as a request claims to have. So a request is first read
//! through a [`Probe`], which refuses any count that is too large for the rest of the frame.
//!
//! Invariant: a frame costs at most a small multiple of its own length in memory, and only produce requests may be
//! large.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::probe::Probe;

/// Api key, version and correlation.
const HEAD: usize = 8;
/// The largest produce request.
const LARGE: usize = 32 << 20;
/// The largest request of another kind.
const SMALL: usize = 2 << 20;
/// Memory for large frames of all connections together, in units of [`UNIT`]. Small frames need none of it.
pub(crate) const ROOM: usize = 128;
const UNIT: usize = 1 << 20;
/// Longest time between the first and the last byte of a frame.
const ARRIVAL: Duration = Duration::from_secs(60);
/// Smallest buffer of one read.
const PIECE: usize = 64 << 10;

/// The reason why a connection is closed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    #[error(transparent)]
    Connection(#[from] io::Error),
    #[error("a frame of {0} bytes")]
    Length(i32),
    #[error("a request {key} in version {version}, which is not offered")]
    NotOffered { key: i16, version: i16 },
    #[error("a frame that does not arrive")]
    Late,
    #[error("a request that is no {key:?} in version {version}: {reason}")]
    Request { key: ApiKey, version: i16, reason: String },
    #[error("an answer that cannot be written: {0}")]
    Answer(String),
    #[error("a produce request failed that wants no answer")]
    Unanswered,
}

/// A request with an undecoded body.
pub(crate) struct RequestFrame {
    pub(crate) key: ApiKey,
    pub(crate) version: i16,
    pub(crate) client_id: String,
    correlation: i32,
    body: Bytes,
    _room: Option<OwnedSemaphorePermit>,
}

/// The result of reading a frame.
pub(crate) enum Arrived {
    Request(RequestFrame),
    /// An ApiVersions request in a version that is not served.
    AskedVersions {
        correlation: i32,
    },
    End,
}

/// Reads the next frame. `offers` returns true for served requests.
pub(crate) async fn next(
    from: &mut (impl AsyncRead + Unpin),
    room: &Arc<Semaphore>,
    offers: impl Fn(ApiKey, i16) -> bool,
) -> Result<Arrived, Broken> {
    next_within(ARRIVAL, from, room, offers).await
}

async fn next_within(
    limit: Duration,
    from: &mut (impl AsyncRead + Unpin),
    room: &Arc<Semaphore>,
    offers: impl Fn(ApiKey, i16) -> bool,
) -> Result<Arrived, Broken> {
    let length = match from.read_i32().await {
        Ok(length) => length,
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Arrived::End),
        Err(error) => return Err(error.into()),
    };
    let size = usize::try_from(length).ok().filter(|size| (HEAD..=LARGE).contains(size));
    let size = size.ok_or(Broken::Length(length))?;
    let arriving = rest(from, room, length, size, offers);
    tokio::time::timeout(limit, arriving).await.unwrap_or(Err(Broken::Late))
}

async fn rest(
    from: &mut (impl AsyncRead + Unpin),
    room: &Arc<Semaphore>,
    length: i32,
    size: usize,
    offers: impl Fn(ApiKey, i16) -> bool,
) -> Result<Arrived, Broken> {
    let mut head = [0; HEAD];
    from.read_exact(&mut head).await?;
    let mut fields = &head[..];
    let (number, version, correlation) = (fields.get_i16(), fields.get_i16(), fields.get_i32());
    let key = ApiKey::try_from(number).ok().filter(|key| *key == ApiKey::ApiVersions || offers(*key, version));
    let key = key.ok_or(Broken::NotOffered { key: number, version })?;
    if key != ApiKey::Produce && size > SMALL {
        return Err(Broken::Length(length));
    }
    // Nobody closes the semaphore, so acquiring cannot fail.
    let units = size.div_ceil(UNIT) as u32;
    let wanted = async { Arc::clone(room).acquire_many_owned(units).await.ok() };
    let room = if size > SMALL { wanted.await } else { None };
    let mut bytes = BytesMut::with_capacity(size.min(PIECE));
    bytes.put_slice(&head);
    while bytes.len() < size {
        // Memory is reserved only as bytes arrive, whatever length the frame claims.
        bytes.reserve(PIECE.min(size - bytes.len()));
        let left = size - bytes.len();
        if from.read_buf(&mut (&mut bytes).limit(left)).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
    if !offers(key, version) {
        return Ok(Arrived::AskedVersions { correlation });
    }
    let mut body = bytes.freeze();
    let header = RequestHeader::decode(&mut body, key.request_header_version(version));
    let header = header.map_err(|error| Broken::Request { key, version, reason: format!("{error:#}") })?;
    let client_id = header.client_id.map(|id| id.to_string()).unwrap_or_default();
    Ok(Arrived::Request(RequestFrame { key, version, client_id, correlation, body, _room: room }))
}

impl RequestFrame {
    /// Decodes the request's body.
    pub(crate) fn read<Q: Decodable>(&self) -> Result<Q, Broken> {
        let Self { key, version, .. } = *self;
        let unreadable = |error| Broken::Request { key, version, reason: format!("{error:#}") };
        Q::decode(&mut Probe::new(self.body.clone()), version).map_err(unreadable)?;
        Q::decode(&mut self.body.clone(), version).map_err(unreadable)
    }

    /// Encodes the answer to this request as a frame.
    pub(crate) fn answer<A: Encodable>(&self, answer: &A) -> Result<BytesMut, Broken> {
        encode(self.key, self.version, self.correlation, answer)
    }
}

/// Encodes the answer to the request with this correlation id as a frame.
pub(crate) fn encode<A: Encodable>(
    key: ApiKey,
    version: i16,
    correlation: i32,
    answer: &A,
) -> Result<BytesMut, Broken> {
    let unwritable = |error| Broken::Answer(format!("{error:#}"));
    let header = ResponseHeader::default().with_correlation_id(correlation);
    let header_version = key.response_header_version(version);
    let size = header.compute_size(header_version).map_err(unwritable)?;
    let size = size + answer.compute_size(version).map_err(unwritable)?;
    let length = i32::try_from(size).map_err(|e| Broken::Answer(e.to_string()))?;
    let mut frame = BytesMut::with_capacity(4 + size);
    frame.put_i32(length);
    header.encode(&mut frame, header_version).map_err(unwritable)?;
    answer.encode(&mut frame, version).map_err(unwritable)?;
    Ok(frame)
}

#[cfg(test)]
mod tests;
