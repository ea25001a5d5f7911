//! The bytes of requests under way, which share one limit.
//!
//! Invariant: bytes count from their arrival until their request is read; a request that is over the limit fails, not
//! the others.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::Bytes;

use super::refusal::status;
use crate::http::HeldBytes;

/// A request whose bytes are counted.
pub(super) struct CountedRequest {
    inner: Body,
    length: usize,
    held: HeldBytes,
}

impl CountedRequest {
    pub(super) fn body(inner: Body, held: HeldBytes) -> Body {
        Body::new(Self { inner, length: 0, held })
    }
}

impl HttpBody for CountedRequest {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<std::result::Result<Frame<Bytes>, Status>>> {
        let frame = match Pin::new(&mut self.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => frame,
            other => return other,
        };
        self.length += frame.data_ref().map_or(0, Bytes::len);
        let length = self.length;
        Poll::Ready(Some(match self.held.grow_to(length) {
            Ok(()) => Ok(frame),
            Err(error) => Err(status(&error)),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
