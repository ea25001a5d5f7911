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
use std::time::{Duration, Instant};

use axum::body::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

use super::reply::{ReplyHead, WHOLE_BYTES};
use crate::identity::AnswerIdentity;
use crate::metrics::KeptAnswerCounts;
use crate::recent::{Recent, RecentLimits};

/// How long an answer is kept after its last use. A frontier that has moved on is not asked for again.
const WITHIN: Duration = Duration::from_secs(60 * 60);

/// A whole answer.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) head: ReplyHead,
    pub(super) body: Bytes,
}

impl Kept {
    /// The bytes that the answer holds.
    fn size(&self) -> usize {
        size_of::<Self>() + self.head.size() + self.body.len()
    }
}

/// The answers that are kept, and the turns of those that are computed.
pub(super) struct KeptAnswers {
    /// Bytes of all of them.
    limit: usize,
    counts: KeptAnswerCounts,
    inner: Mutex<KeptState>,
}

struct KeptState {
    answers: Recent<AnswerIdentity, Arc<Kept>>,
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
        let limits = RecentLimits { count: usize::MAX, bytes: limit, within: WITHIN };
        let state = KeptState { answers: Recent::new(limits), turns: HashMap::new() };
        Self { limit, counts, inner: Mutex::new(state) }
    }

    pub(super) fn find(&self, key: AnswerIdentity) -> Option<Arc<Kept>> {
        let mut inner = self.inner.lock();
        let found = inner.answers.use_now(&key, Instant::now()).map(|answer| Arc::clone(answer));
        self.count(&inner.answers);
        found
    }

    /// Keeps a small answer, and drops those that were not used for the longest time. Returns false for a large one.
    /// The body holds nothing beside its bytes.
    pub(super) fn keep(&self, key: AnswerIdentity, answer: Kept) -> bool {
        if answer.body.len() > WHOLE_BYTES {
            return false;
        }
        let size = answer.size();
        let mut inner = self.inner.lock();
        let kept = inner.answers.keep(key, Arc::new(answer), size, Instant::now()).is_ok();
        self.count(&inner.answers);
        kept
    }

    fn count(&self, answers: &Recent<AnswerIdentity, Arc<Kept>>) {
        self.counts.bytes.set(i64::try_from(answers.bytes()).unwrap_or(i64::MAX));
        self.counts.count.set(i64::try_from(answers.len()).unwrap_or(i64::MAX));
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
    /// Another one runs, and its answer can be waited for.
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
    use thalweg_schemas::{Frontier, Offset, Partition};

    use super::super::format::AnswerFormat;
    use super::*;
    use crate::fixture::stream;
    use crate::identity::IdentityParts;

    fn key(text: &str) -> AnswerIdentity {
        let mut parts = IdentityParts::new();
        parts.part(text.as_bytes());
        parts.end()
    }

    fn answer() -> SqlAnswer {
        SqlAnswer {
            columns: Vec::new(),
            frontier: BTreeMap::new(),
            stale: false,
            partial: BTreeMap::new(),
            certificate: None,
            rows: Vec::new(),
        }
    }

    fn kept(bytes: usize) -> Kept {
        Kept { head: ReplyHead::new(AnswerFormat::Json, None, &answer()).unwrap(), body: Bytes::from(vec![0; bytes]) }
    }

    fn answers(limit: usize) -> Arc<KeptAnswers> {
        Arc::new(KeptAnswers::new(limit, KeptAnswerCounts::default()))
    }

    #[test]
    fn the_sum_is_limited_and_the_oldest_goes_first() {
        let answers = answers(9 << 10);
        for name in ["a", "b", "c"] {
            assert!(answers.keep(key(name), kept(2 << 10)));
        }
        assert!(answers.find(key("a")).is_some());
        answers.keep(key("d"), kept(2 << 10));
        let there = ["a", "b", "c", "d"].map(|name| answers.find(key(name)).is_some());
        assert_eq!(there, [true, false, true, true]);
        assert_eq!(answers.counts.count.get(), 3);
        // The head, the key and what is around them count too.
        let around = answers.counts.bytes.get() - 3 * (2 << 10);
        assert!((3 * 300..3 << 10).contains(&around), "{around}");
        answers.keep(key("a"), kept(0));
        assert_eq!(answers.counts.bytes.get(), around + 2 * (2 << 10));
        assert!(!answers.keep(key("e"), kept(10 << 10)));
        assert!(answers.find(key("e")).is_none());
    }

    #[test]
    fn a_long_head_counts() {
        let answers = answers(1 << 20);
        let size = |partitions: i32| {
            let frontier: Frontier = (0..partitions).map(|partition| (Partition(partition), Offset(1))).collect();
            let mut long = kept(0);
            let answer = SqlAnswer { frontier: BTreeMap::from([(stream(), frontier)]), ..answer() };
            long.head = ReplyHead::new(AnswerFormat::Json, None, &answer).unwrap();
            answers.keep(key("a"), long);
            answers.counts.bytes.get()
        };
        assert!(size(1_000) > size(1) + 7_000);
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
