//! Connections of clients: how many there are, how long each may be silent, and how one is cut.
//!
//! Invariant: a connection holds a permit. A client that does not answer pings, or takes its answers byte by byte,
//! loses its connection after a while.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::stream::{self, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use crate::access::HttpLimits;
use crate::activity::{Activity, ListedSession, Protocol};
use crate::http::{self, PacedStream};

/// A connection, which ends by itself when its client is silent for too long.
pub(super) struct FlightConnection {
    stream: Pin<Box<TimeoutStream<PacedStream<TcpStream>>>>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    client: FlightClient,
    _permit: OwnedSemaphorePermit,
}

/// The client of a connection. Calls find it among their extensions.
#[derive(Clone)]
pub(super) struct FlightClient {
    cut: CancellationToken,
    session: Arc<ListedSession>,
}

impl FlightClient {
    /// Ends the connection.
    pub(super) fn cut(&self) {
        self.cut.cancel();
    }

    pub(super) fn session(&self) -> &ListedSession {
        &self.session
    }
}

/// Accepts connections while there are permits.
pub(super) fn incoming(
    listener: TcpListener,
    limits: HttpLimits,
    activity: Arc<Activity>,
) -> impl Stream<Item = io::Result<FlightConnection>> + Send {
    let permits = Arc::new(Semaphore::new(limits.connections));
    stream::unfold((listener, permits, activity), move |(listener, permits, activity)| async move {
        // The semaphore is never closed.
        let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
        let stream = http::accept(&listener).await;
        let address = stream.peer_addr().map(|address| address.to_string()).unwrap_or_default();
        let session = activity.begin_session(Protocol::FlightSql, address, String::new(), String::new());
        let mut stream = TimeoutStream::new(PacedStream::new(stream, limits.client_within));
        stream.set_read_timeout(Some(limits.client_within));
        let cut = CancellationToken::new();
        let connection = FlightConnection {
            stream: Box::pin(stream),
            cut: Box::pin(cut.clone().cancelled_owned()),
            client: FlightClient { cut, session: Arc::new(session) },
            _permit: permit,
        };
        Some((Ok(connection), (listener, permits, activity)))
    })
}

impl Connected for FlightConnection {
    type ConnectInfo = FlightClient;

    fn connect_info(&self) -> FlightClient {
        self.client.clone()
    }
}

impl AsyncRead for FlightConnection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        self.stream.as_mut().poll_read(context, into)
    }
}

impl AsyncWrite for FlightConnection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream.as_mut().poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.as_mut().poll_shutdown(context)
    }
}
