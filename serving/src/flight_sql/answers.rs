//! The way of an answer to its client: a task runs the query, encodes its batches, and waits for the client.
//!
//! Invariant: an answer that ends without an error is complete. A client that is gone, cancels, or takes nothing for a
//! while ends its query. One that leaves the last messages of an answer lies loses its connection, which holds them.

use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use arrow_flight::FlightData;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::Status;
use tonic::codegen::Bytes;

use super::connections::FlightClient;
use super::frames::{self, AnswerHead, FrameEncoder, FramePiece};
use super::refusal::status;
use super::running::ListedFlight;
use super::wire;
use crate::answer::{Answer, Batches};
use crate::engine::Engine;
use crate::limits::slices;
use crate::options::Options;
use crate::parameters::Parameter;
use crate::{Error, Result};

/// Messages that are encoded before the client has taken the last one.
const AHEAD: usize = 2;

/// Bytes of a batch that is encoded where the call is served.
const ENCODED_HERE: usize = 64 << 10;

/// A query, and the values of each of its runs.
pub(super) struct FlightQuery {
    pub(super) sql: String,
    pub(super) options: Options,
    pub(super) rows: Vec<Vec<Parameter>>,
}

/// The client of an answer.
pub(super) struct AnswerClient {
    /// How long it may take nothing.
    pub(super) within: Duration,
    pub(super) connection: Option<FlightClient>,
}

pub(super) type FlightMessages = BoxStream<'static, std::result::Result<FlightData, Status>>;

/// Starts a query, and returns the messages of its answer. Several rows of values give one answer after the other, each
/// with a head of its own.
///
/// Errors: those of [`Engine::run_with`].
pub(super) async fn start(
    engine: Arc<Engine>,
    query: FlightQuery,
    listed: ListedFlight,
    client: AnswerClient,
) -> Result<FlightMessages> {
    let FlightQuery { sql, options, rows } = query;
    let mut rows = rows.into_iter();
    let values = rows.next().unwrap_or_default();
    let running = engine.run_with(&sql, values, options.clone());
    let first = tokio::select! {
        started = running => started?,
        () = listed.cancelled.cancelled() => return Err(Error::Cancelled),
    };
    let (sender, receiver) = mpsc::channel(AHEAD);
    let to = AnswerOutlet { sender, within: client.within };
    tokio::spawn(async move {
        let mut encoder = FrameEncoder::new(&first.schema);
        let sending = async {
            to.send(encoder.first_of(&head(&first))?).await?;
            encoder = send(first, encoder, Bytes::new(), &to).await?;
            for values in rows {
                let answer = engine.run_with(&sql, values, options.clone()).await?;
                let head = head(&answer).to_bytes()?;
                encoder = send(answer, encoder, head, &to).await?;
            }
            to.end().await
        };
        let ended = tokio::select! {
            ended = sending => ended,
            () = listed.cancelled.cancelled() => Err(Unsent::Failed(Error::Cancelled)),
            () = to.sender.closed() => Err(Unsent::Gone),
        };
        drop(listed);
        let cut = || client.connection.as_ref().map(FlightClient::cut);
        let error = match ended {
            Ok(()) | Err(Unsent::Gone) => return,
            Err(Unsent::Left) => {
                cut();
                return;
            }
            Err(Unsent::Failed(error)) => {
                tracing::info!(%error, "an answer broke off");
                status(&error)
            }
        };
        // A client that does not take the error either has no use for its connection.
        if timeout(to.within, to.sender.send(Some(Err(error)))).await.is_err() {
            cut();
        }
    });
    Ok(stream::unfold(receiver, |mut receiver| async move { Some((receiver.recv().await??, receiver)) }).boxed())
}

/// One batch, which is there, as an answer.
///
/// Errors: [`Error::Encode`].
pub(super) fn whole(batch: &RecordBatch) -> Result<FlightMessages> {
    let mut encoder = FrameEncoder::exact(batch.schema());
    let mut messages = vec![encoder.first(Bytes::new())];
    messages.extend(encoder.batch(batch)?);
    Ok(stream::iter(messages.into_iter().map(Ok)).boxed())
}

fn head(answer: &Answer) -> AnswerHead<'_> {
    let Answer { frontier, stale, partial, views, .. } = answer;
    AnswerHead { frontier, stale: *stale, partial, views }
}

/// Why the rest of an answer is not sent.
enum Unsent {
    Failed(Error),
    /// The client has gone.
    Gone,
    /// The client does not take the end of the answer.
    Left,
}

impl From<Error> for Unsent {
    fn from(error: Error) -> Self {
        Unsent::Failed(error)
    }
}

/// Where the messages of an answer go.
struct AnswerOutlet {
    /// Ends with `None`, which is taken once the client has almost all before.
    sender: mpsc::Sender<Option<std::result::Result<FlightData, Status>>>,
    within: Duration,
}

impl AnswerOutlet {
    async fn send(&self, message: FlightData) -> std::result::Result<(), Unsent> {
        self.put(Some(Ok(message))).await
    }

    /// Ends the answer, and waits until the client has taken it.
    async fn end(&self) -> std::result::Result<(), Unsent> {
        self.put(None).await?;
        timeout(self.within, self.sender.closed()).await.map_err(|_| Unsent::Left)
    }

    async fn put(&self, item: Option<std::result::Result<FlightData, Status>>) -> std::result::Result<(), Unsent> {
        match timeout(self.within, self.sender.send(item)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Unsent::Gone),
            Err(_) => Err(Unsent::Failed(Error::TakeAnswer { seconds: self.within.as_secs_f64() })),
        }
    }
}

/// Sends the rows of an answer; `head` is the metadata of its first message, if that is not known already.
async fn send(
    answer: Answer,
    mut encoder: FrameEncoder,
    mut head: Bytes,
    to: &AnswerOutlet,
) -> std::result::Result<FrameEncoder, Unsent> {
    if wire::sent_schema(&answer.schema) != *encoder.schema() {
        let reason = "the values of several rows give columns of several types; bind rows of one type".to_owned();
        return Err(Unsent::Failed(Error::BindParameters { reason }));
    }
    let Answer { mut batches, memory, .. } = answer;
    let memory = memory.map(|memory| MemoryConsumer::new("an encoded answer").register(&memory));
    while let Some(batch) = next(&mut batches).await {
        for piece in frames::cut(&batch?) {
            let (encoded, message) = encode(encoder, piece, memory.as_ref()).await?;
            encoder = encoded;
            to.send(message.with_app_metadata(std::mem::take(&mut head))).await?;
        }
    }
    Ok(encoder)
}

/// The next batch that has rows.
async fn next(batches: &mut Batches) -> Option<Result<RecordBatch>> {
    loop {
        match batches.next().await? {
            Ok(batch) if batch.num_rows() == 0 => {}
            other => return Some(other),
        }
    }
}

/// Encodes a piece. A large one is encoded on a thread for blocking work, because the threads that serve calls must not
/// be held for long, and its bytes count in the query's memory until the client has them.
async fn encode(
    mut encoder: FrameEncoder,
    piece: FramePiece,
    memory: Option<&MemoryReservation>,
) -> Result<(FrameEncoder, FlightData)> {
    let FramePiece { batch, bytes } = piece;
    if bytes.max(slices::bytes(&batch)) <= ENCODED_HERE {
        let message = encoder.piece(&batch)?;
        return Ok((encoder, message));
    }
    let held = memory.map(MemoryReservation::new_empty);
    let work = move || {
        if let Some(held) = &held {
            // The message, and the columns in the types in which they are sent.
            held.try_grow(bytes.saturating_mul(2)).map_err(|source| Error::of_engine(source, false))?;
        }
        let mut message = encoder.piece(&batch)?;
        drop(batch);
        if let Some(held) = held {
            hold(&mut message, held);
        }
        Ok((encoder, message))
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(encoded) => encoded,
        Err(panic) => Err(Error::Serve(std::io::Error::other(panic))),
    }
}

/// The body of a message, and its part of the query's memory until it is sent.
struct HeldBody {
    bytes: Bytes,
    _held: MemoryReservation,
}

impl AsRef<[u8]> for HeldBody {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn hold(message: &mut FlightData, held: MemoryReservation) {
    held.resize(message.data_body.len());
    let bytes = std::mem::take(&mut message.data_body);
    message.data_body = Bytes::from_owner(HeldBody { bytes, _held: held });
}
