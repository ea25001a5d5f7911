//! Answers that are kept: equal queries at one frontier are computed once.
//!
//! ```text
//!  first  ──▶ takes the turn ──▶ computes ──▶ keeps a small answer ──▶ gives the turn back
//!  second ──▶ waits for the turn ─────────────────────────────────────▶ finds the answer
//! ```
//!
//! Invariant: an answer is kept under its identity, which contains its frontier, so it is never stale: once the
//! frontier moves, nobody asks for that identity again. Only whole and small answers are kept, and their sum has a
//! limit.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::body::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::reply::{ReplyHead, WHOLE_BYTES};
use crate::identity::AnswerIdentity;
use crate::metrics::KeptAnswerCounts;

/// Bytes that an answer takes beside its body, about.
const AROUND_BYTES: usize = 1 << 10;

/// A whole answer.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) head: ReplyHead,
    pub(super) body: Bytes,
}

impl Kept {
    fn size(&self) -> usize {
        self.body.len() + AROUND_BYTES
    }
}

/// The answers that are kept, and the turns of those that are computed.
pub(super) struct KeptAnswers {
    /// Bytes of all of them.
    limit: usize,
    counts: KeptAnswerCounts,
    inner: Mutex<KeptState>,
}

#[derive(Default)]
struct KeptState {
    answers: HashMap<AnswerIdentity, (Arc<Kept>, u64)>,
    bytes: usize,
    /// Counts uses; the answer of the lowest one is dropped first.
    clock: u64,
    turns: HashMap<AnswerIdentity, Arc<TurnState>>,
}

#[derive(Default)]
struct TurnState {
    lock: Arc<AsyncMutex<()>>,
    /// True once the answer turned out to be one that is not kept: whoever waits computes by itself.
    alone: AtomicBool,
}

impl KeptAnswers {
    /// `limit` is in bytes; 0 keeps nothing.
    pub(super) fn new(limit: usize, counts: KeptAnswerCounts) -> Self {
        Self { limit, counts, inner: Mutex::default() }
    }

    pub(super) fn find(&self, key: AnswerIdentity) -> Option<Arc<Kept>> {
        let mut inner = self.inner.lock();
        inner.clock += 1;
        let now = inner.clock;
        let (answer, used) = inner.answers.get_mut(&key)?;
        *used = now;
        Some(Arc::clone(answer))
    }

    /// Keeps a small answer, and drops those that were not used for the longest time. Returns false for a large one.
    pub(super) fn keep(&self, key: AnswerIdentity, answer: Kept) -> bool {
        let size = answer.size();
        if answer.body.len() > WHOLE_BYTES || size > self.limit {
            return false;
        }
        let mut inner = self.inner.lock();
        inner.clock += 1;
        let now = inner.clock;
        if let Some((before, _)) = inner.answers.insert(key, (Arc::new(answer), now)) {
            inner.bytes -= before.size();
        }
        inner.bytes += size;
        while inner.bytes > self.limit {
            let oldest = inner.answers.iter().min_by_key(|(_, (_, used))| *used).map(|(key, _)| *key);
            let Some((dropped, _)) = oldest.and_then(|key| inner.answers.remove(&key)) else { break };
            inner.bytes -= dropped.size();
        }
        self.counts.bytes.set(i64::try_from(inner.bytes).unwrap_or(i64::MAX));
        self.counts.count.set(i64::try_from(inner.answers.len()).unwrap_or(i64::MAX));
        true
    }

    /// The turns of the queries with this key.
    pub(super) fn turns(self: &Arc<Self>, key: AnswerIdentity) -> Turns {
        let state = Arc::clone(self.inner.lock().turns.entry(key).or_default());
        Turns { kept: Arc::clone(self), key, state }
    }
}

/// The turns of the queries with one key.
pub(super) struct Turns {
    kept: Arc<KeptAnswers>,
    key: AnswerIdentity,
    state: Arc<TurnState>,
}

/// Whether a query runs.
pub(super) enum Turn {
    /// It runs, and others wait for its answer.
    Mine(OwnedMutexGuard<()>),
    /// It runs, and nobody waits.
    Alone,
    /// Another one runs.
    Wait,
}

impl Turn {
    /// Gives the turn to whoever waits for it.
    pub(super) fn end(self) {
        if let Turn::Mine(guard) = self {
            drop(guard);
        }
    }
}

impl Turns {
    pub(super) fn take_at_once(&self) -> Turn {
        if self.kept.limit == 0 || self.state.alone.load(Ordering::Acquire) {
            return Turn::Alone;
        }
        match Arc::clone(&self.state.lock).try_lock_owned() {
            Ok(mine) => Turn::Mine(mine),
            Err(_) => Turn::Wait,
        }
    }

    /// Waits until the running query gives its turn back, and gives it on.
    pub(super) async fn wait(&self) {
        drop(self.state.lock.lock().await);
    }

    /// The answer is not one that is kept: nobody waits for it any longer.
    pub(super) fn end_sharing(&self) {
        self.state.alone.store(true, Ordering::Release);
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        let mut inner = self.kept.inner.lock();
        // One is in the map, and one is here.
        if Arc::strong_count(&self.state) <= 2 {
            inner.turns.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use thalweg_schemas::api::sql::SqlAnswer;

    use super::super::format::AnswerFormat;
    use super::*;
    use crate::identity::IdentityParts;

    fn key(text: &str) -> AnswerIdentity {
        let mut parts = IdentityParts::new();
        parts.part(text.as_bytes());
        parts.end()
    }

    fn kept(bytes: usize) -> Kept {
        let answer = SqlAnswer {
            columns: Vec::new(),
            frontier: BTreeMap::new(),
            stale: false,
            partial: BTreeMap::new(),
            certificate: None,
            rows: Vec::new(),
        };
        Kept { head: ReplyHead::new(AnswerFormat::Json, None, &answer).unwrap(), body: Bytes::from(vec![0; bytes]) }
    }

    fn answers(limit: usize) -> Arc<KeptAnswers> {
        Arc::new(KeptAnswers::new(limit, KeptAnswerCounts::default()))
    }

    #[test]
    fn the_sum_is_limited_and_the_oldest_goes_first() {
        let answers = answers(10 * AROUND_BYTES);
        for name in ["a", "b", "c"] {
            assert!(answers.keep(key(name), kept(2 * AROUND_BYTES)));
        }
        assert!(answers.find(key("a")).is_some());
        answers.keep(key("d"), kept(2 * AROUND_BYTES));
        let there = ["a", "b", "c", "d"].map(|name| answers.find(key(name)).is_some());
        assert_eq!(there, [true, false, true, true]);
        assert_eq!(answers.counts.count.get(), 3);
        assert_eq!(answers.counts.bytes.get(), 9 << 10);
        answers.keep(key("a"), kept(0));
        assert_eq!(answers.counts.bytes.get(), 7 << 10);
        answers.keep(key("e"), kept(10 * AROUND_BYTES));
        assert!(answers.find(key("e")).is_none());
    }

    #[test]
    fn large_answers_are_not_kept_and_neither_is_any_without_a_limit() {
        let large = answers(1 << 30);
        assert!(!large.keep(key("a"), kept(WHOLE_BYTES + 1)));
        assert!(large.find(key("a")).is_none());
        let none = answers(0);
        none.keep(key("a"), kept(0));
        assert!(none.find(key("a")).is_none());
        assert!(matches!(none.turns(key("a")).take_at_once(), Turn::Alone));
    }

    #[tokio::test]
    async fn one_computes_and_others_wait_unless_the_answer_is_not_kept() {
        let answers = answers(1 << 20);
        let first = answers.turns(key("a"));
        let mine = first.take_at_once();
        assert!(matches!(mine, Turn::Mine(_)));
        let second = answers.turns(key("a"));
        assert!(matches!(second.take_at_once(), Turn::Wait));
        assert!(matches!(answers.turns(key("b")).take_at_once(), Turn::Mine(_)));
        first.end_sharing();
        drop(mine);
        second.wait().await;
        assert!(matches!(second.take_at_once(), Turn::Alone));
        drop((first, second));
        // All turns are over, so that the next query begins anew.
        assert!(answers.inner.lock().turns.is_empty());
        let first = answers.turns(key("a"));
        assert!(matches!(first.take_at_once(), Turn::Mine(_)));
        assert!(matches!(first.take_at_once(), Turn::Mine(_)), "a turn that was dropped is free");
    }
}
