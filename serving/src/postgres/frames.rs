//! Messages of clients as frames: a kind, a length and a body, read within limits.
//!
//! Invariant: a length is checked before a byte of its body is kept, and a body is cut out before it is read, so that a
//! malformed message can neither make a buffer grow nor reach into the next message.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, timeout_at};

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

/// Bytes per millisecond that a client sends at least.
const SLOWEST: usize = 64;

/// The least and the most bytes for which a buffer grows at once. A connection that waits has the least.
const PIECE: (usize, usize) = (512, 16 << 10);

/// A connection with or without TLS.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// A message of a client.
pub(super) struct Frame {
    pub(super) kind: u8,
    pub(super) body: Bytes,
    /// Why the body was not kept.
    pub(super) refused: Option<Failure>,
    /// The part of the budget that a long message has, until the message is dropped.
    _held: Option<BudgetShare>,
}

/// The bytes that have arrived.
pub(super) struct Incoming {
    buffer: BytesMut,
    within: Duration,
    longest: usize,
    budget: Budget,
    /// The part of the budget of the message that is arriving: the bytes that are there, not those that are announced.
    held: Option<BudgetShare>,
    /// When the wait for the rest of a message began.
    since: Option<Instant>,
    /// The message that is arriving and for which there is no memory.
    refused: Option<RefusedMessage>,
}

/// A message that is left out.
struct RefusedMessage {
    kind: u8,
    /// Bytes that are still to come.
    left: usize,
    failure: Failure,
}

/// The time in which a message of `length` bytes has to arrive: `within`, and what the slowest client needs.
fn patience(length: usize, within: Duration) -> Duration {
    within + Duration::from_millis((length / SLOWEST) as u64)
}

impl Incoming {
    /// Every message has to arrive `within` a time after its first byte, and a long one not much later.
    pub(super) fn new(within: Duration, budget: Budget) -> Self {
        Self { buffer: BytesMut::new(), within, longest: START_BYTES, budget, held: None, since: None, refused: None }
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
        if self.refused.is_none() && !self.receive(socket, 5).await? {
            return Ok(None);
        }
        if self.refused.is_some() {
            return self.leave_out(socket).await;
        }
        let kind = self.buffer.get_u8();
        let length = self.buffer.get_u32() as usize;
        let body = self.buffer.split_to(length - 4).freeze();
        if self.buffer.is_empty() {
            // The allocation of a long message is not kept by a connection that waits.
            self.buffer = BytesMut::new();
        }
        Ok(Some(Frame { kind, body, refused: None, _held: self.held.take() }))
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
                self.since = None;
                return Ok(true);
            }
            if let Err(failure) = self.count() {
                let (kind, left) = (self.buffer[0], missing);
                (self.buffer, self.held) = (BytesMut::new(), None);
                self.refused = Some(RefusedMessage { kind, left, failure });
                return Ok(true);
            }
            let read = match self.buffer.is_empty() {
                true => self.read(socket, missing).await,
                false => self.read_in_time(socket, self.buffer.len() + missing, missing).await?,
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

    /// Counts what is there of a long message.
    fn count(&mut self) -> Result<(), Failure> {
        let arrived = self.buffer.len();
        if arrived <= FREE_BYTES || self.longest != MESSAGE_BYTES {
            return Ok(());
        }
        match &mut self.held {
            Some(held) => held.resize(arrived),
            None => self.budget.hold(arrived).map(|held| self.held = Some(held)),
        }
    }

    /// Leaves the rest of a refused message out.
    async fn leave_out(&mut self, socket: &mut dyn Socket) -> Result<Option<Frame>, Unanswered> {
        loop {
            let here = self.buffer.len();
            let left = match &mut self.refused {
                None => return Ok(None),
                Some(refused) => {
                    let out = refused.left.min(here);
                    refused.left -= out;
                    self.buffer.advance(out);
                    refused.left
                }
            };
            if left == 0
                && let Some(RefusedMessage { kind, failure, .. }) = self.refused.take()
            {
                self.since = None;
                return Ok(Some(Frame { kind, body: Bytes::new(), refused: Some(failure), _held: None }));
            }
            match self.read_in_time(socket, MESSAGE_BYTES, left).await? {
                Ok(0) => return Err(Unanswered::Lost(None)),
                Ok(_) => {}
                Err(error) => return Err(Unanswered::Lost(Some(error))),
            }
        }
    }

    /// Reads a part of a message of `length` bytes, in the time of the whole message.
    async fn read_in_time(
        &mut self,
        socket: &mut dyn Socket,
        length: usize,
        missing: usize,
    ) -> Result<std::io::Result<usize>, Unanswered> {
        let within = patience(length, self.within);
        let until = *self.since.get_or_insert_with(Instant::now) + within;
        let read = timeout_at(until, self.read(socket, missing)).await;
        read.map_err(|_| Failure::slow(within).fatal())
    }

    async fn read(&mut self, socket: &mut dyn Socket, missing: usize) -> std::io::Result<usize> {
        self.buffer.reserve(missing.clamp(PIECE.0, PIECE.1));
        socket.read_buf(&mut self.buffer).await
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::super::budget::AllBudget;
    use super::*;

    const LONG: usize = 4 << 20;

    fn incoming(budget: &AllBudget) -> Incoming {
        let mut incoming = Incoming::new(Duration::from_secs(5), budget.one());
        incoming.trust();
        incoming
    }

    #[test]
    fn long_messages_have_more_time() {
        let seconds = |length| patience(length, Duration::from_secs(30)).as_secs();
        assert_eq!([0, 10 << 10, 1 << 20, 4 << 20].map(seconds), [30, 30, 46, 95]);
    }

    #[tokio::test]
    async fn a_message_that_trickles_in_ends_its_connection() {
        let budget = AllBudget::new();
        let (mut client, mut server) = tokio::io::duplex(1 << 10);
        client.write_all(b"Q\0\0\x10\0").await.unwrap();
        let mut incoming = Incoming::new(Duration::from_millis(200), budget.one());
        let trickle = async {
            // Each byte is in time, and all of them together are not.
            while client.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let failed = tokio::select! {
            frame = incoming.frame(&mut server) => frame.err(),
            () = trickle => None,
        };
        assert!(matches!(failed, Some(Unanswered::Fatal(failure)) if failure.state == "08P01"));
    }

    #[tokio::test]
    async fn announced_bytes_count_when_they_arrive() {
        let budget = AllBudget::new();
        let mut waiting = Vec::new();
        // All of them announce far more than there is.
        for _ in 0..200 {
            let (mut client, mut server) = tokio::io::duplex(256 << 10);
            client.write_all(b"Q\0\x3f\xff\xff").await.unwrap();
            client.write_all(&[b'x'; 100 << 10]).await.unwrap();
            let mut incoming = incoming(&budget);
            let arriving = tokio::time::timeout(Duration::from_millis(1), incoming.frame(&mut server)).await;
            assert!(arriving.is_err());
            waiting.push((client, server, incoming));
        }
        let (mut client, mut server) = tokio::io::duplex(LONG + 5);
        client.write_all(b"Q\0\x3f\xff\xff").await.unwrap();
        client.write_all(&vec![b'x'; LONG]).await.unwrap();
        let frame = incoming(&budget).frame(&mut server).await;
        assert_eq!(frame.ok().flatten().map(|frame| frame.body.len()), Some((4 << 20) - 5));
    }
    #[tokio::test]
    async fn a_message_without_memory_is_left_out_and_the_next_one_is_read() {
        let budget = AllBudget::new();
        let one = budget.one();
        let _held = one.hold((16 << 20) - (200 << 10)).unwrap();
        let (mut client, mut server) = tokio::io::duplex(LONG);
        client.write_all(b"Q\0\x10\0\0").await.unwrap();
        client.write_all(&vec![b'x'; (1 << 20) - 4]).await.unwrap();
        client.write_all(b"S\0\0\0\x04").await.unwrap();
        let mut incoming = Incoming::new(Duration::from_secs(5), one);
        incoming.trust();
        for (kind, expect) in [(b'Q', Some("53200")), (b'S', None)] {
            let frame = incoming.frame(&mut server).await.ok().flatten().unwrap();
            assert_eq!((frame.kind, frame.refused.map(|failure| failure.state)), (kind, expect));
        }
    }
}
