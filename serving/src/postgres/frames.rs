//! Messages of clients as frames: a kind, a length and a body, read within limits.
//!
//! Invariant: a length is checked before a byte of its body is kept, and a body is cut out before it is read, so that a
//! malformed message can neither make a buffer grow nor reach into the next message.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::timeout;

use super::budget::{Budget, BudgetShare};
use super::failure::{Failure, Unanswered};

/// The longest message, in bytes; as long as the longest body of HTTP.
pub(super) const MESSAGE_BYTES: usize = 4 << 20;

/// The longest message before a client is known, in bytes.
pub(super) const START_BYTES: usize = 10_000;

/// Bytes of a message that are not counted, so that long messages keep no short one out.
pub(super) const FREE_BYTES: usize = 64 << 10;

/// Bytes that are read while a query runs: a client may send further messages before it has the answer.
const AHEAD_BYTES: usize = 64 << 10;

/// The least and the most bytes for which a buffer grows at once. A connection that waits has the least.
const PIECE: (usize, usize) = (512, 16 << 10);

/// A connection with or without TLS.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A message of a client.
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) body: Bytes,
    /// The part of the budget that a long message has, until the message is dropped.
    _held: Option<BudgetShare>,
}

/// The bytes that have arrived.
pub(super) struct Incoming {
    buffer: BytesMut,
    within: Duration,
    longest: usize,
    budget: Budget,
    /// The part of the budget of the message that is arriving.
    held: Option<BudgetShare>,
}

impl Incoming {
    /// Every message has to arrive `within` a time after its first byte.
    pub(super) fn new(within: Duration, budget: Budget) -> Self {
        Self { buffer: BytesMut::new(), within, longest: START_BYTES, budget, held: None }
    }

    /// Allows messages of the usual length.
    pub(super) fn trust(&mut self) {
        self.longest = MESSAGE_BYTES;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// True if a whole message has arrived.
    pub(super) fn has_frame(&self) -> bool {
        matches!(self.missing(5), Ok(0))
    }

    /// The next message; `None` if the client has closed the connection between two messages. May be dropped and called
    /// again.
    ///
    /// Errors: [`Unanswered::Lost`] if the connection breaks off, [`Unanswered::Fatal`] for a length out of limits.
    pub(super) async fn frame(&mut self, socket: &mut dyn Socket) -> Result<Option<Frame>, Unanswered> {
        if !self.receive(socket, 5).await? {
            return Ok(None);
        }
        let kind = self.buffer.get_u8();
        let length = self.buffer.get_u32() as usize;
        let body = self.buffer.split_to(length - 4).freeze();
        if self.buffer.is_empty() {
            // The allocation of a long message is not kept by a connection that waits.
            self.buffer = BytesMut::new();
        }
        Ok(Some(Frame { kind, body, _held: self.held.take() }))
    }

    /// The first message of a connection, which has no kind.
    ///
    /// Errors: those of [`Self::frame`].
    pub(super) async fn start(&mut self, socket: &mut dyn Socket) -> Result<Option<Bytes>, Unanswered> {
        if !self.receive(socket, 4).await? {
            return Ok(None);
        }
        let length = self.buffer.get_u32() as usize;
        Ok(Some(self.buffer.split_to(length - 4).freeze()))
    }

    /// Returns when the client is gone; reads further messages until then.
    pub(super) async fn until_gone(&mut self, socket: &mut dyn Socket) -> Unanswered {
        loop {
            if self.buffer.len() >= AHEAD_BYTES {
                return std::future::pending().await;
            }
            match self.read(socket, PIECE.0).await {
                Ok(0) => return Unanswered::Lost(None),
                Ok(_) => {}
                Err(error) => return Unanswered::Lost(Some(error)),
            }
        }
    }

    /// Reads until a whole message with a head of `head` bytes is there; false at the end of the connection.
    async fn receive(&mut self, socket: &mut dyn Socket, head: usize) -> Result<bool, Unanswered> {
        loop {
            let missing = self.missing(head)?;
            if missing == 0 {
                return Ok(true);
            }
            self.count()?;
            let read = if self.buffer.is_empty() {
                self.read(socket, missing).await
            } else {
                let within = self.within;
                match timeout(within, self.read(socket, missing)).await {
                    Ok(read) => read,
                    Err(_) => return Err(Failure::slow(within).fatal()),
                }
            };
            match read {
                Ok(0) if self.buffer.is_empty() => return Ok(false),
                Ok(0) => return Err(Unanswered::Lost(None)),
                Ok(_) => {}
                Err(error) => return Err(Unanswered::Lost(Some(error))),
            }
        }
    }

    /// Bytes that are missing in the message that is arriving.
    fn missing(&self, head: usize) -> Result<usize, Unanswered> {
        let Some(mut length) = self.buffer.get(head - 4..head) else {
            return Ok(head - self.buffer.len());
        };
        let length = length.get_u32() as usize;
        if length < 4 || length > self.longest {
            return Err(Failure::length(length, self.longest).fatal());
        }
        Ok((head - 4 + length).saturating_sub(self.buffer.len()))
    }

    /// Counts the message that is arriving if it is long.
    fn count(&mut self) -> Result<(), Unanswered> {
        let Some(mut length) = self.buffer.get(1..5) else { return Ok(()) };
        let length = length.get_u32() as usize;
        if length > FREE_BYTES && self.longest == MESSAGE_BYTES && self.held.is_none() {
            self.held = Some(self.budget.hold(length).map_err(Failure::fatal)?);
        }
        Ok(())
    }

    async fn read(&mut self, socket: &mut dyn Socket, missing: usize) -> std::io::Result<usize> {
        self.buffer.reserve(missing.clamp(PIECE.0, PIECE.1));
        socket.read_buf(&mut self.buffer).await
    }
}
