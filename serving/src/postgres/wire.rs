//! One connection: messages in, messages out, and the client's end while the server works.

use std::future::Future;

use bytes::BytesMut;
use pgwire::messages::Message;
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::failure::{Failure, Unanswered};
use super::frames::{Frame, Incoming, Socket};
use super::rows::PIECE_BYTES;

/// Bytes of an empty buffer that a connection which waits may keep.
const KEPT_BYTES: usize = 1 << 10;

/// A connection of a client.
pub(super) struct Wire {
    socket: Box<dyn Socket>,
    incoming: Incoming,
    /// Messages that are not sent yet.
    pub(super) out: BytesMut,
}

/// What ends the work on a message before it is done.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    pub(super) token: CancellationToken,
    /// The end of the time that the session gives a statement.
    pub(super) until: Option<Instant>,
}

impl Stop {
    /// Errors: a failure if the work is to end.
    fn check(&self) -> Result<(), Failure> {
        if self.token.is_cancelled() {
            return Err(Failure::new("57014", "canceling statement due to user request"));
        }
        match self.until {
            Some(until) if until <= Instant::now() => {
                Err(Failure::new("57014", "canceling statement due to statement timeout"))
            }
            _ => Ok(()),
        }
    }

    async fn wait(&self) {
        match self.until {
            Some(until) => drop(tokio::time::timeout_at(until, self.token.cancelled()).await),
            None => self.token.cancelled().await,
        }
    }
}

impl Wire {
    pub(super) fn new(socket: Box<dyn Socket>, incoming: Incoming) -> Self {
        Self { socket, incoming, out: BytesMut::new() }
    }

    /// Writes a message behind those that are not sent yet.
    pub(super) fn send(&mut self, message: &impl Message) -> Result<(), Unanswered> {
        message.encode(&mut self.out).map_err(|error| Failure::new("XX000", error.to_string()).into())
    }

    pub(super) async fn flush(&mut self) -> Result<(), Unanswered> {
        if !self.out.is_empty() {
            self.socket.write_all(&self.out).await?;
            self.out.clear();
        }
        self.socket.flush().await?;
        Ok(())
    }

    /// Sends the messages if they are a piece.
    pub(super) async fn flush_piece(&mut self) -> Result<(), Unanswered> {
        if self.out.len() >= PIECE_BYTES { self.flush().await } else { Ok(()) }
    }

    /// The next message; `None` at the end of the connection. May be dropped and called again.
    pub(super) async fn next(&mut self) -> Result<Option<Frame>, Unanswered> {
        if self.out.is_empty() && self.out.capacity() > KEPT_BYTES {
            self.out = BytesMut::new();
        }
        self.incoming.frame(self.socket.as_mut()).await
    }

    /// True if a further message has arrived.
    pub(super) fn has_next(&self) -> bool {
        self.incoming.has_frame()
    }

    /// Allows messages of the usual length.
    pub(super) fn trust(&mut self) {
        self.incoming.trust();
    }

    /// Waits for `work`, until the client or the session ends it, or the client is gone. What is ended is dropped.
    pub(super) async fn attend<T>(&mut self, stop: &Stop, work: impl Future<Output = T>) -> Result<T, Unanswered> {
        stop.check()?;
        let Self { socket, incoming, .. } = self;
        tokio::select! {
            biased;
            done = work => Ok(done),
            () = stop.wait() => match stop.check() {
                Err(failure) => Err(failure.into()),
                Ok(()) => Err(Failure::new("57014", "canceling statement due to user request").into()),
            },
            lost = incoming.until_gone(socket.as_mut()) => Err(lost),
        }
    }

    /// Tells the client of the end of the connection as far as it still listens.
    pub(super) async fn close(mut self, failure: Option<&Failure>) {
        if let Some(failure) = failure
            && self.send(&failure.response("FATAL")).is_err()
        {
            return;
        }
        if self.flush().await.is_ok() {
            // An error means that the client has closed the connection first.
            let _ = self.socket.shutdown().await;
        }
    }
}
