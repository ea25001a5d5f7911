//! The answer to a query: its head, and its rows in one format, whole or in pieces.
//!
//! Invariant: the head of every answer contains the frontier. An answer that fails after its head was sent ends
//! without its last chunk, so no client can mistake it for a complete one.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::stream::{self, Stream, StreamExt};
use thalweg_schemas::api::sql::SqlAnswer;

use super::encode::{Encoder, columns};
use super::format::AnswerFormat;
use super::kept::{Kept, KeptAnswers, Turn};
use super::reply::{ReplyHead, WHOLE_BYTES, is_known, key_of, unchanged};
use crate::answer::{Answer, Batches};
use crate::engine::OpenedRequest;
use crate::limits::slices::bytes;
use crate::{Error, Result};

/// Bytes of a batch that is encoded where the request is served.
const ENCODED_HERE: usize = 64 << 10;

/// Bytes that are compressed at a time. Other requests are served in between.
const SLICE_BYTES: usize = 128 << 10;

/// What the connection of a client can do.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClientAbilities {
    /// True if the client takes compressed answers.
    pub(super) decompresses: bool,
    /// True if the client cannot see that a streamed answer has no end, as in HTTP 1.0.
    pub(super) ends_unseen: bool,
}

impl ClientAbilities {
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let decompresses = lines.into_iter().any(|line| line.contains("gzip") || line.contains("zstd"));
        Self { decompresses, ends_unseen: false }
    }
}

/// A query that was opened, and the form of its answer.
pub(super) struct AskedQuery {
    pub(super) opened: OpenedRequest,
    pub(super) format: AnswerFormat,
    pub(super) client: ClientAbilities,
    /// The entity tags of answers that the client has.
    pub(super) known: Vec<String>,
}

/// Answers a query: with 304 if the client has the answer, with a kept answer if an equal query had it, and otherwise
/// by running the query.
pub(super) async fn answer(kept: &Arc<KeptAnswers>, asked: AskedQuery) -> Result<Response> {
    let AskedQuery { mut opened, format, client, known } = asked;
    loop {
        let Some(key) = opened.identity().map(|identity| key_of(identity, format)) else {
            return Ok(respond(compute(opened, format, client).await?));
        };
        if is_known(&known, key) {
            opened.end_as_unchanged();
            return Ok(unchanged(key));
        }
        if let Some(whole) = kept.find(key) {
            opened.end_as_shared();
            return Ok(respond(Reply { head: whole.head.clone(), body: ReplyBody::Whole(whole.body.clone()) }));
        }
        let turns = kept.turns(key);
        let turn = match turns.take_at_once() {
            Turn::Wait => {
                // Whoever waits holds nothing of workers or snapshots.
                opened.release();
                if tokio::time::timeout_at(opened.deadline(), turns.wait()).await.is_err() {
                    return Err(opened.timeout());
                }
                opened.pin_again().await?;
                continue;
            }
            turn => turn,
        };
        let computed = compute(opened, format, client).await;
        let is_kept = match &computed {
            Ok(Reply { head, body: ReplyBody::Whole(body) }) => head
                .key
                .is_some_and(|key| kept.keep(key, Kept { head: head.clone(), body: Bytes::copy_from_slice(body) })),
            Ok(Reply { body: ReplyBody::Stream(_), .. }) | Err(_) => false,
        };
        if !is_kept {
            turns.end_sharing();
        }
        turn.end();
        return Ok(respond(computed?));
    }
}

struct Reply {
    head: ReplyHead,
    body: ReplyBody,
}

enum ReplyBody {
    Whole(Bytes),
    Stream(Body),
}

fn respond(reply: Reply) -> Response {
    let Reply { head, body } = reply;
    let mut response = match body {
        ReplyBody::Whole(bytes) => Body::from(bytes).into_response(),
        ReplyBody::Stream(body) => body.into_response(),
    };
    head.write(response.headers_mut());
    response
}

/// Runs the query; completes a small answer, and streams a large one.
async fn compute(opened: OpenedRequest, format: AnswerFormat, client: ClientAbilities) -> Result<Reply> {
    let answer = opened.run().await?;
    let Answer { schema, frontier, stale, partial, certificate, identity, mut batches, memory } = answer;
    let head = SqlAnswer { columns: columns(&schema), frontier, stale, partial, certificate, rows: Vec::new() };
    let reserve = || memory.as_ref().map(|memory| MemoryConsumer::new("an encoded answer").register(memory));
    let mut encoder = Encoder::new(format, schema, reserve())?;
    let mut first = Encoded { bytes: Vec::new(), held: reserve() };
    encoder.begin(&head, &mut first.bytes)?;
    let mut ended = false;
    while first.bytes.len() < WHOLE_BYTES {
        match batches.next().await {
            Some(batch) => (encoder, first) = encode(encoder, batch?, first).await?,
            None => {
                (encoder, first) = end(encoder, first).await?;
                ended = true;
                break;
            }
        }
    }
    let head = ReplyHead::new(format, identity, &head)?;
    let slices = client.decompresses && format != AnswerFormat::Parquet;
    if ended {
        let body = match slices && first.bytes.len() > WHOLE_BYTES && !client.ends_unseen {
            true => ReplyBody::Stream(Body::from_stream(sliced(stream::iter([Ok(first.into_bytes())])))),
            false => ReplyBody::Whole(first.into_bytes()),
        };
        return Ok(Reply { head, body });
    }
    if client.ends_unseen && format.has_no_end() {
        return Err(Error::RefuseFormat {
            reason: format!(
                "the answer is streamed, and a client of HTTP 1.0 cannot see whether {} has its end; ask with HTTP 1.1 (for \
                 nginx: proxy_http_version 1.1), or in another format",
                format.media_type()
            ),
        });
    }
    let chunks = chunks(first, encoder, batches);
    let body = if slices { Body::from_stream(sliced(chunks)) } else { Body::from_stream(chunks) };
    Ok(Reply { head, body: ReplyBody::Stream(body) })
}

/// A part of an answer, and its part of the query's memory until the client has it.
struct Encoded {
    bytes: Vec<u8>,
    held: Option<MemoryReservation>,
}

impl Encoded {
    /// An empty part that counts in the same memory.
    fn next(&self) -> Self {
        Self { bytes: Vec::new(), held: self.held.as_ref().map(MemoryReservation::new_empty) }
    }

    fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Writes `batch` behind `out`. A large batch is encoded on a thread for blocking work, because the threads that serve
/// requests must not be held for long, and its bytes count in the query's memory.
async fn encode(mut encoder: Encoder, batch: RecordBatch, mut out: Encoded) -> Result<(Encoder, Encoded)> {
    if bytes(&batch) <= ENCODED_HERE && !encoder.holds_back() {
        encoder.batch(&batch, &mut out.bytes)?;
        return Ok((encoder, out));
    }
    elsewhere(move || {
        let more = encoder.bytes_of(&batch);
        if let Some(held) = &out.held {
            held.try_grow(more.saturating_add(bytes(&batch))).map_err(|source| Error::of_engine(source, false))?;
        }
        if !encoder.holds_back() {
            out.bytes.reserve_exact(more);
        }
        encoder.batch(&batch, &mut out.bytes)?;
        out.bytes.shrink_to_fit();
        if let Some(held) = &out.held {
            held.resize(out.bytes.len());
        }
        Ok((encoder, out))
    })
    .await
}

/// Writes the end of the answer behind `out`.
async fn end(mut encoder: Encoder, mut out: Encoded) -> Result<(Encoder, Encoded)> {
    if !encoder.holds_back() {
        encoder.end(&mut out.bytes)?;
        return Ok((encoder, out));
    }
    elsewhere(move || {
        encoder.end(&mut out.bytes)?;
        if let Some(held) = &out.held {
            held.resize(out.bytes.len());
        }
        Ok((encoder, out))
    })
    .await
}

/// Runs `work` on a thread for blocking work.
async fn elsewhere<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panic) => Err(Error::Serve(std::io::Error::other(panic))),
    }
}

/// Returns `head` and one chunk per batch that is written. Dropping the stream drops the query.
fn chunks(head: Encoded, encoder: Encoder, batches: Batches) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    let rest = stream::try_unfold(Some((encoder, batches, head.next())), |running| async move {
        let Some((mut encoder, mut batches, mut chunk)) = running else {
            return Ok(None);
        };
        // A writer that holds back has nothing to send after many a batch.
        while let Some(batch) = batches.next().await {
            (encoder, chunk) = encode(encoder, batch?, chunk).await?;
            if !chunk.bytes.is_empty() {
                let next = chunk.next();
                return Ok(Some((chunk.into_bytes(), Some((encoder, batches, next)))));
            }
        }
        (_, chunk) = end(encoder, chunk).await?;
        Ok::<_, Error>(Some((chunk.into_bytes(), None)))
    });
    let rest = rest.inspect(|chunk| {
        if let Err(error) = chunk {
            tracing::info!(%error, "an answer broke off");
        }
    });
    stream::iter([Ok(head.into_bytes())]).chain(rest)
}

/// The same bytes in small chunks, with a pause for other requests after each, because compressing takes time where the
/// request is served.
fn sliced(chunks: impl Stream<Item = Result<Bytes>> + Send + 'static) -> impl Stream<Item = Result<Bytes>> + Send {
    let slices = chunks.flat_map(|chunk| {
        let mut slices = Vec::new();
        match chunk {
            Ok(mut bytes) => {
                while bytes.len() > SLICE_BYTES {
                    slices.push(Ok(bytes.split_to(SLICE_BYTES)));
                }
                slices.push(Ok(bytes));
            }
            Err(error) => slices.push(Err(error)),
        }
        stream::iter(slices)
    });
    slices.then(|slice| async move {
        tokio::task::yield_now().await;
        slice
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn slices_are_the_same_bytes() {
        let long = Bytes::from((0..1_000_000_u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
        let chunks = vec![Ok(Bytes::from_static(b"head")), Ok(long.clone()), Ok(Bytes::new())];
        let slices: Vec<Bytes> = sliced(stream::iter(chunks)).map(|slice| slice.unwrap()).collect().await;
        assert!(slices.iter().all(|slice| slice.len() <= SLICE_BYTES));
        assert_eq!(slices.concat(), [&b"head"[..], &long].concat());
        let failed = sliced(stream::iter([Err(Error::FindStatement)])).collect::<Vec<_>>().await;
        assert!(failed[0].is_err());
    }
}
