//! The answer to a query: its head, and its rows in one format, whole or in pieces.
//!
//! Invariant: the head of every answer contains the frontier. An answer that fails after its head was sent ends
//! without its last chunk, so no client can mistake it for a complete one.

use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use futures::stream::{self, BoxStream, Stream, StreamExt, TryStreamExt};
use thalweg_schemas::api::sql::SqlAnswer;

use super::encode::size::{encoded_bytes, row_bytes};
use super::encode::{Encoder, columns};
use super::format::AnswerFormat;
use super::kept::{Kept, KeptAnswers, Turn};
use super::reply::{KnownTags, ReplyHead, WHOLE_BYTES, key_of, unchanged};
use super::sending::Sending;
use crate::answer::{Answer, Batches};
use crate::engine::OpenedRequest;
use crate::limits::slices::bytes;
use crate::widths::Widths;
use crate::{Error, Result};

/// Encoded bytes of a batch that is encoded where the request is served.
const ENCODED_HERE: usize = 64 << 10;

/// Encoded bytes of a batch that is encoded at once, if it has more than one row.
const PIECE: usize = 1 << 20;

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
    /// The answers that the client has.
    pub(super) known: KnownTags,
    /// Time that the client has for the answer beside the query's own.
    pub(super) within: Duration,
}

/// Answers a query: with 304 if the client has the answer, with a kept answer if an equal query had it, and otherwise
/// by running the query.
pub(super) async fn answer(kept: &Arc<KeptAnswers>, asked: AskedQuery) -> Result<Response> {
    let AskedQuery { mut opened, format, client, known, within } = asked;
    let wait_until = opened.deadline();
    loop {
        let Some(key) = opened.identity().map(|identity| key_of(identity, format)) else {
            return Ok(respond(compute(opened, format, client, within).await?, &known));
        };
        if known.name(key) {
            opened.end_as_unchanged();
            return Ok(unchanged(key));
        }
        if let Some(whole) = kept.find(key) {
            opened.end_as_shared();
            return Ok(respond(whole.reply(), &known));
        }
        let turns = kept.turns(key);
        let turn = match turns.take_at_once() {
            Turn::Wait if opened.release() => {
                opened.wait(wait_until, turns.wait()).await?;
                // The frontier may have moved meanwhile; the one that this request had pinned is answered.
                if let Some(whole) = kept.find(key) {
                    opened.end_as_shared();
                    return Ok(respond(whole.reply(), &known));
                }
                opened.begin_again().await?;
                continue;
            }
            Turn::Wait => Turn::Alone,
            turn => turn,
        };
        let computed = compute(opened, format, client, within).await;
        let is_kept = match &computed {
            Ok(Reply { head, body: ReplyBody::Whole(body) }) => {
                head.key.is_some_and(|key| kept.keep(key, Kept { head: head.clone(), body: body.clone() }))
            }
            Ok(Reply { body: ReplyBody::Stream(_), .. }) | Err(_) => false,
        };
        if !is_kept {
            turns.end_sharing();
        }
        turn.end();
        return Ok(respond(computed?, &known));
    }
}

impl Kept {
    fn reply(&self) -> Reply {
        Reply { head: self.head.clone(), body: ReplyBody::Whole(self.body.clone()) }
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

/// The answer, or 304 for a client that asks for none: then it is known that there is one.
fn respond(reply: Reply, known: &KnownTags) -> Response {
    let Reply { head, body } = reply;
    if let Some(key) = head.key.filter(|_| known.any()) {
        return unchanged(key);
    }
    let mut response = match body {
        ReplyBody::Whole(bytes) => Body::from(bytes).into_response(),
        ReplyBody::Stream(body) => body.into_response(),
    };
    head.write(response.headers_mut());
    response
}

/// Runs the query; completes a small answer, and streams a large one for as long as its client has time.
async fn compute(
    opened: OpenedRequest,
    format: AnswerFormat,
    client: ClientAbilities,
    within: Duration,
) -> Result<Reply> {
    let until = opened.deadline() + within;
    let answer = opened.run().await?;
    let Answer { schema, frontier, stale, partial, views: _, certificate, identity, batches, memory } = answer;
    let mut pieces = in_pieces(batches, format);
    let head = SqlAnswer { columns: columns(&schema), frontier, stale, partial, certificate, rows: Vec::new() };
    let reserve = || memory.as_ref().map(|memory| MemoryConsumer::new("an encoded answer").register(memory));
    let mut encoder = Encoder::new(format, schema, reserve())?;
    let mut first = Encoded { bytes: Vec::new(), held: reserve() };
    encoder.begin(&head, &mut first.bytes)?;
    let mut ended = false;
    while first.bytes.len() < WHOLE_BYTES {
        match pieces.next().await {
            Some(piece) => (encoder, first) = encode(encoder, piece?, first).await?,
            None => {
                (encoder, first) = end(encoder, first).await?;
                ended = true;
                break;
            }
        }
    }
    let head = ReplyHead::new(format, identity, &head)?;
    if ended && first.bytes.len() <= WHOLE_BYTES {
        // Whoever keeps the answer keeps its bytes alone.
        first.bytes.shrink_to_fit();
        return Ok(Reply { head, body: ReplyBody::Whole(Bytes::from(first.bytes)) });
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
    let rest = (!ended).then(|| (encoder, pieces, first.next()));
    let slices = Sending::new(parts(first, rest), until).inspect(|slice| {
        if let Err(error) = slice {
            tracing::info!(%error, "an answer broke off");
        }
    });
    let pauses = client.decompresses && format != AnswerFormat::Parquet;
    let body = if pauses { Body::from_stream(with_pauses(slices)) } else { Body::from_stream(slices) };
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
}

impl AsRef<[u8]> for Encoded {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A part of a batch that is encoded at once.
struct EncodablePiece {
    batch: RecordBatch,
    /// The bytes that it becomes, at most; `None` if finding out takes long.
    bytes: Option<usize>,
}

/// The batches of an answer, cut so that a piece of several rows becomes few bytes: rows of a few bits may become
/// objects with long names.
fn in_pieces(batches: Batches, format: AnswerFormat) -> BoxStream<'static, Result<EncodablePiece>> {
    batches.map_ok(move |batch| stream::iter(cut(batch, format).into_iter().map(Ok::<_, Error>))).try_flatten().boxed()
}

fn cut(batch: RecordBatch, format: AnswerFormat) -> Vec<EncodablePiece> {
    if batch.num_rows() <= 1 && bytes(&batch) > ENCODED_HERE {
        return vec![EncodablePiece { batch, bytes: None }];
    }
    // Each row is measured once.
    let rows = row_bytes(&batch, format);
    let piece = |(from, to): (usize, usize)| {
        let batch = batch.slice(from, to - from);
        let bytes = match rows {
            Widths::Ends(_) => rows.between(from, to),
            _ => encoded_bytes(&batch, format),
        };
        EncodablePiece { batch, bytes: Some(bytes) }
    };
    rows.parts(PIECE).into_iter().map(piece).collect()
}

/// Writes a piece behind `out`. A large one is encoded on a thread for blocking work, because the threads that serve
/// requests must not be held for long, and its bytes count in the query's memory.
async fn encode(mut encoder: Encoder, piece: EncodablePiece, mut out: Encoded) -> Result<(Encoder, Encoded)> {
    let EncodablePiece { batch, bytes: more } = piece;
    if more.is_some_and(|more| more <= ENCODED_HERE) && !encoder.holds_back() {
        encoder.batch(&batch, &mut out.bytes)?;
        return Ok((encoder, out));
    }
    elsewhere(move || {
        let more = more.unwrap_or_else(|| encoder.bytes_of(&batch));
        if let Some(held) = &out.held {
            held.try_grow(more.saturating_add(bytes(&batch))).map_err(|source| Error::of_engine(source, false))?;
        }
        if !encoder.holds_back() {
            out.bytes.reserve_exact(more);
        }
        encoder.batch(&batch, &mut out.bytes)?;
        out.bytes.shrink_to_fit();
        if let Some(held) = &out.held {
            held.try_resize(out.bytes.len()).map_err(|source| Error::of_engine(source, false))?;
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
            held.try_resize(out.bytes.len()).map_err(|source| Error::of_engine(source, false))?;
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

/// The encoder, the pieces that were not encoded yet, and the part of the answer that they become.
type Rest = (Encoder, BoxStream<'static, Result<EncodablePiece>>, Encoded);

/// Returns `head` and the parts that the rest becomes. Dropping the stream drops the query.
fn parts(head: Encoded, rest: Option<Rest>) -> impl Stream<Item = Result<Encoded>> + Send + 'static {
    let rest = stream::try_unfold(rest, |running| async move {
        let Some((mut encoder, mut pieces, mut part)) = running else {
            return Ok(None);
        };
        // A writer that holds back has nothing to send after many a piece.
        while let Some(piece) = pieces.next().await {
            (encoder, part) = encode(encoder, piece?, part).await?;
            if !part.bytes.is_empty() {
                let next = part.next();
                return Ok(Some((part, Some((encoder, pieces, next)))));
            }
        }
        (_, part) = end(encoder, part).await?;
        Ok::<_, Error>(Some((part, None)))
    });
    stream::iter([Ok(head)]).chain(rest)
}

/// The same slices with a pause for other requests after each, because compressing takes time where the request is
/// served.
fn with_pauses(
    slices: impl Stream<Item = Result<Bytes>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes>> + Send + 'static {
    slices.then(|slice| async move {
        tokio::task::yield_now().await;
        slice
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, BooleanArray, Int64Array, StringArray, StructArray};
    use arrow::datatypes::{DataType, Field};

    use super::*;

    #[test]
    fn rows_of_a_few_bits_that_become_long_objects_are_cut() {
        let flags: ArrayRef = Arc::new(BooleanArray::from(vec![true; 100]));
        let field = Arc::new(Field::new("x".repeat(300_000), DataType::Boolean, true));
        let objects: ArrayRef = Arc::new(StructArray::from(vec![(field, flags)]));
        let batch = RecordBatch::try_from_iter([("a", objects)]).unwrap();
        let pieces = cut(batch.clone(), AnswerFormat::Json);
        assert_eq!(pieces.iter().map(|piece| piece.batch.num_rows()).sum::<usize>(), 100);
        assert!(pieces.iter().all(|piece| (1..=3).contains(&piece.batch.num_rows())));
        assert!(pieces.iter().all(|piece| piece.bytes.is_some_and(|bytes| (300_000..=PIECE).contains(&bytes))));
        assert!(cut(batch.slice(0, 0), AnswerFormat::Csv).is_empty());
    }

    #[test]
    fn pieces_are_measured_as_the_whole_batch_is() {
        let texts = StringArray::from_iter_values((0..5_000).map(|row| "x\"\n".repeat(row % 977)));
        let numbers = Int64Array::from_iter_values(0..5_000);
        let columns: [(&str, ArrayRef); 2] = [("t", Arc::new(texts)), ("n", Arc::new(numbers))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        for format in [AnswerFormat::Json, AnswerFormat::Csv, AnswerFormat::Ndjson] {
            let pieces = cut(batch.clone(), format);
            let said = pieces.iter().map(|piece| piece.bytes.unwrap());
            assert!(said.clone().all(|bytes| bytes <= PIECE) && pieces.len() > 10);
            assert_eq!(said.sum::<usize>(), encoded_bytes(&batch, format));
            assert!(pieces.iter().all(|piece| piece.bytes.unwrap() == encoded_bytes(&piece.batch, format)));
            let rows: Vec<RecordBatch> = pieces.into_iter().map(|piece| piece.batch).collect();
            assert_eq!(arrow::compute::concat_batches(&batch.schema(), &rows).unwrap(), batch);
        }
    }
}
