//! A connection whose client keeps a pace while it takes an answer.
//!
//! A time limit that starts again with every byte keeps a client that takes an answer byte by byte for days, with all
//! that the answer holds.
//!
//! Invariant: a client that has something to take takes [`PACE`] bytes in each limit, or takes everything that there
//! is. A large answer may take as long as it likes at that pace.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// Bytes that a client takes in each limit.
const PACE: usize = 64 << 10;

/// A stream that ends with an error if its other side is slower than the pace.
pub(crate) struct PacedStream<S> {
    stream: S,
    within: Duration,
    /// Bytes that were taken since the limit began.
    taken: usize,
    /// How long bytes have waited since then, without the wait that goes on.
    waited: Duration,
    waits: Option<Wait>,
}

/// Bytes wait to be taken.
struct Wait {
    since: Instant,
    end: Pin<Box<Sleep>>,
}

impl<S> PacedStream<S> {
    pub(crate) fn new(stream: S, within: Duration) -> Self {
        Self { stream, within, taken: 0, waited: Duration::ZERO, waits: None }
    }

    /// Counts a write and the time that it waited. The time between two answers does not count.
    fn count(&mut self, context: &mut Context<'_>, written: Poll<Result<usize>>) -> Poll<Result<usize>> {
        let Poll::Ready(written) = written else { return self.wait(context) };
        if let Some(wait) = self.waits.take() {
            self.waited += wait.since.elapsed();
        }
        self.taken += *written.as_ref().unwrap_or(&0);
        if self.taken >= PACE {
            (self.taken, self.waited) = (0, Duration::ZERO);
        }
        Poll::Ready(written)
    }

    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<Result<T>> {
        let left = self.within.saturating_sub(self.waited);
        let wait = self.waits.get_or_insert_with(|| {
            let since = Instant::now();
            Wait { since, end: Box::pin(sleep_until(since + left)) }
        });
        match wait.end.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(Error::from(ErrorKind::TimedOut))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for PacedStream<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for PacedStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.count(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.count(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match Pin::new(&mut self.stream).poll_flush(context) {
            Poll::Pending => self.wait(context),
            done => done,
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match Pin::new(&mut self.stream).poll_shutdown(context) {
            Poll::Pending => self.wait(context),
            done => done,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const WITHIN: Duration = Duration::from_millis(200);

    /// Writes `bytes` to a client that takes `step` of them after each `pause`. Returns the error of the write.
    async fn write(bytes: usize, step: usize, pause: Duration) -> Option<ErrorKind> {
        let (server, mut client) = duplex(step);
        let taking = tokio::spawn(async move {
            let mut buffer = vec![0; step];
            loop {
                tokio::time::sleep(pause).await;
                match client.read(&mut buffer).await {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                }
            }
        });
        let mut paced = PacedStream::new(server, WITHIN);
        let written = paced.write_all(&vec![7; bytes]).await;
        taking.abort();
        written.err().map(|error| error.kind())
    }

    #[tokio::test]
    async fn a_client_takes_the_pace_or_everything() {
        let check = async |bytes, step, pause, expect| {
            assert_eq!(write(bytes, step, Duration::from_millis(pause)).await, expect, "{bytes} {step} {pause}");
        };
        check(10, 1, 5, None).await;
        check(1 << 20, 1, 20, Some(ErrorKind::TimedOut)).await;
        check(1 << 20, 100, 10, Some(ErrorKind::TimedOut)).await;
        check(100, 1, 1_000, Some(ErrorKind::TimedOut)).await;
        // Slower than the limit as a whole, and steady.
        check(10 * PACE, PACE, 60, None).await;
        check(10 * PACE, PACE / 8, 5, None).await;
    }

    #[tokio::test]
    async fn the_time_between_two_answers_does_not_count() {
        let (server, mut client) = duplex(8);
        let mut paced = PacedStream::new(server, WITHIN);
        for _ in 0..3 {
            let (written, taken) = tokio::join!(paced.write_all(&[7; 16]), async {
                tokio::time::sleep(WITHIN / 10).await;
                client.read_exact(&mut [0; 16]).await
            });
            written.unwrap();
            taken.unwrap();
            tokio::time::sleep(WITHIN).await;
        }
    }
}
