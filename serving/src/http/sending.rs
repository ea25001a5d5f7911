//! The rest of an answer, for as long as its client has time to take it.
//!
//! A connection ends if its client takes less than a pace, which says nothing of how long a large answer takes: a
//! client at that pace would keep the memory of its query for days.
//!
//! Invariant: after its end, an answer holds nothing of its query, whatever its client does.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use axum::body::Bytes;
use futures::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;

use crate::{Error, Result};

/// Bytes that are handed to a connection at once. The connection holds several of these slices, which are copies.
const SLICE: usize = 64 << 10;

/// The slices of an answer until an instant.
pub(super) struct Sending {
    left: Arc<Mutex<Left>>,
    /// Takes away what is left at the end, because nobody polls while a connection is full.
    _end: AbortOnDropHandle<()>,
}

/// What is left of an answer, and who waits for more of it.
struct Left {
    slices: Option<BoxStream<'static, Result<Bytes>>>,
    waiting: Option<Waker>,
}

impl Sending {
    /// Sends `parts` slice by slice. What is left at `end` is dropped, and the answer breaks off.
    pub(super) fn new<T: AsRef<[u8]> + Send + 'static>(
        parts: impl Stream<Item = Result<T>> + Send + 'static,
        end: Instant,
    ) -> Self {
        let slices = parts.map_ok(slices).try_flatten().boxed();
        let left = Arc::new(Mutex::new(Left { slices: Some(slices), waiting: None }));
        let late = Arc::clone(&left);
        let end = tokio::spawn(async move {
            sleep_until(end).await;
            let (slices, waiting) = {
                let mut left = late.lock();
                (left.slices.take(), left.waiting.take())
            };
            drop(slices);
            if let Some(waiting) = waiting {
                waiting.wake();
            }
        });
        Self { left, _end: AbortOnDropHandle::new(end) }
    }
}

fn slices<T: AsRef<[u8]>>(part: T) -> impl Stream<Item = Result<Bytes>> {
    stream::iter((0..part.as_ref().len()).step_by(SLICE)).map(move |from| {
        let bytes = part.as_ref();
        Ok(Bytes::copy_from_slice(&bytes[from..bytes.len().min(from + SLICE)]))
    })
}

impl Stream for Sending {
    type Item = Result<Bytes>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut left = self.left.lock();
        let next = match &mut left.slices {
            Some(slices) => slices.poll_next_unpin(context),
            None => return Poll::Ready(Some(Err(Error::SendInTime))),
        };
        left.waiting = next.is_pending().then(|| context.waker().clone());
        next
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn parts_are_dropped_at_the_end_although_nobody_polls() {
        let held = Arc::new(vec![7_u8; 3 * SLICE + 1]);
        let part = |held: &Arc<Vec<u8>>| Held(Arc::clone(held));
        let parts = stream::iter([Ok(part(&held)), Ok(part(&held))]);
        let mut sending = Sending::new(parts, Instant::now() + Duration::from_secs(1));
        let mut lengths = Vec::new();
        for _ in 0..6 {
            lengths.push(sending.next().await.unwrap().unwrap().len());
        }
        assert_eq!(lengths, [SLICE, SLICE, SLICE, 1, SLICE, SLICE]);
        assert_eq!(Arc::strong_count(&held), 2);
        while Arc::strong_count(&held) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(matches!(sending.next().await, Some(Err(Error::SendInTime))));
    }

    #[tokio::test]
    async fn who_waits_for_more_is_woken_at_the_end() {
        let parts = stream::pending::<Result<Vec<u8>>>();
        let mut sending = Sending::new(parts, Instant::now() + Duration::from_millis(50));
        assert!(matches!(sending.next().await, Some(Err(Error::SendInTime))));
    }

    struct Held(Arc<Vec<u8>>);

    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }
}
