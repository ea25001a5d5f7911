//! Finds the first message over which a view cannot be updated, and the expression that fails.
//!
//! ```text
//!  [from, to) fails ─▶ halve: the first half that fails by itself ─▶ … ─▶ one message ─▶ each expression alone
//! ```
//!
//! Invariant: the work is bounded: every halving computes the range at most once more, the number of computations is
//! limited, and so is their time. If no half fails by itself (a text of many messages is too long), the range is the
//! answer; if the time is over, the answer is the smallest range that was found.

use std::sync::Arc;

use datafusion::execution::context::SessionState;
use datafusion::logical_expr::LogicalPlan;
use futures::StreamExt;
use tokio::time::{Instant, timeout_at};

use super::ViewPlan;
use super::plans::stream;
use crate::engine::contain::contain;
use crate::{Error, Fault, Frontier, Offset, Partition, Result};

/// The most computations of one search.
const PROBES: usize = 96;

/// The messages of `[from, to)` that a view cannot take.
#[derive(Debug)]
pub struct Culprit {
    pub from: Frontier,
    pub to: Frontier,
    /// Set if one expression of the view fails by itself.
    pub expression: Option<String>,
    pub error: Error,
}

/// Searches `[from, to)`, over which `view` failed with `error`. `rows` plans the rows of a part of the range. The
/// search ends early if a part fails for a reason that may pass, and at `until`.
pub async fn find_culprit<Rows>(
    view: &ViewPlan,
    session: &Arc<SessionState>,
    (from, to): (Frontier, Frontier),
    error: Error,
    until: Instant,
    rows: Rows,
) -> Culprit
where
    Rows: Fn(&Frontier, &Frontier) -> Result<LogicalPlan>,
{
    let whole = Culprit { from, to, expression: None, error };
    if !is_of_messages(&whole.error) {
        return whole;
    }
    let probe = |from: Frontier, to: Frontier| {
        let plan = rows(&from, &to).and_then(|rows| view.update(rows));
        compute(Arc::clone(session), plan)
    };
    let found = narrow(whole, until, probe).await;
    if halves(&found.from, &found.to).is_some() {
        return found;
    }
    for (text, part) in rows(&found.from, &found.to).and_then(|rows| view.parts(rows)).unwrap_or_default() {
        match timeout_at(until, compute(Arc::clone(session), Ok(part))).await {
            Ok(Err(error)) if is_of_messages(&error) => return Culprit { expression: Some(text), error, ..found },
            Ok(_) => {}
            Err(_) => break,
        }
    }
    found
}

/// The error of `view` over `rows`, if the same rows give the same error again.
pub async fn failure_over(view: &ViewPlan, session: &Arc<SessionState>, rows: Result<LogicalPlan>) -> Option<Error> {
    let plan = rows.and_then(|rows| view.update(rows));
    compute(Arc::clone(session), plan).await.err().filter(is_of_messages)
}

/// True if the same messages give the same error again.
fn is_of_messages(error: &Error) -> bool {
    matches!(error.fault(), Fault::User | Fault::Engine)
}

/// Runs `plan` to its end and keeps nothing of its result.
async fn compute(session: Arc<SessionState>, plan: Result<LogicalPlan>) -> Result<()> {
    const WHAT: &str = "looking for a message";
    contain(WHAT, async {
        let mut batches = stream(&session, WHAT, plan?).await?;
        while let Some(batch) = batches.next().await {
            batch.map_err(|source| Error::RunPlan { what: WHAT, source })?;
        }
        Ok(())
    })
    .await
}

/// Halves the range as long as a half fails by itself, and until a time.
async fn narrow<Probe, Probing>(mut whole: Culprit, until: Instant, probe: Probe) -> Culprit
where
    Probe: Fn(Frontier, Frontier) -> Probing,
    Probing: Future<Output = Result<()>>,
{
    let mut left = PROBES;
    while let Some(halves) = halves(&whole.from, &whole.to) {
        let mut failed = None;
        for (from, to) in halves {
            if left == 0 {
                return whole;
            }
            left -= 1;
            match timeout_at(until, probe(from.clone(), to.clone())).await {
                Err(_) => return whole,
                Ok(Ok(())) => {}
                Ok(Err(error)) if !is_of_messages(&error) => return whole,
                Ok(Err(error)) => {
                    failed = Some(Culprit { from, to, expression: None, error });
                    break;
                }
            }
        }
        match failed {
            Some(half) => whole = half,
            None => return whole,
        }
    }
    whole
}

type Half = (Frontier, Frontier);

/// Two halves of `[from, to)`: half of the partitions each, or half of the offsets of the only one. `None` for one
/// offset or none.
fn halves(from: &Frontier, to: &Frontier) -> Option<[Half; 2]> {
    let ranges: Vec<(Partition, Offset, Offset)> =
        to.advanced_since(from).iter().map(|(p, end)| (p, from.get(p), end)).collect();
    let half = |ranges: &[(Partition, Offset, Offset)]| -> Half {
        (ranges.iter().map(|(p, from, _)| (*p, *from)).collect(), ranges.iter().map(|(p, _, to)| (*p, *to)).collect())
    };
    match ranges.as_slice() {
        [] => None,
        [(_, from, to)] if from.0 + 1 >= to.0 => None,
        [(partition, from, to)] => {
            let middle = Offset(from.0 + (to.0 - from.0) / 2);
            Some([half(&[(*partition, *from, middle)]), half(&[(*partition, middle, *to)])])
        }
        several => {
            let (first, second) = several.split_at(several.len() / 2);
            Some([half(first), half(second)])
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(pairs: &[(i32, i64)]) -> Frontier {
        pairs.iter().map(|(p, o)| (Partition(*p), Offset(*o))).collect()
    }

    fn refused() -> Error {
        Error::refuse("no", "no")
    }

    const LONG: Duration = Duration::from_secs(600);

    type Pairs<'a> = &'a [(i32, i64)];

    /// A range fails if `fails` says so of the messages in it.
    async fn check(
        from: Pairs<'_>,
        to: Pairs<'_>,
        fails: impl Fn(&[(i32, i64)]) -> bool,
        expect: (Pairs<'_>, Pairs<'_>),
    ) {
        let probes = std::cell::Cell::new(0);
        let probe = |from: Frontier, to: Frontier| {
            probes.set(probes.get() + 1);
            let inside: Vec<(i32, i64)> =
                to.iter().flat_map(|(p, end)| (from.get(p).0..end.0).map(move |o| (p.0, o))).collect();
            std::future::ready(if fails(&inside) { Err(refused()) } else { Ok(()) })
        };
        let whole = Culprit { from: at(from), to: at(to), expression: None, error: refused() };
        let found = narrow(whole, Instant::now() + LONG, probe).await;
        let here = |frontier: &Frontier| frontier.within(found.to.advanced_since(&found.from).partitions());
        assert_eq!((here(&found.from), here(&found.to)), (at(expect.0), at(expect.1)));
        assert!(probes.get() <= PROBES);
    }

    #[tokio::test]
    async fn the_first_message_that_fails_is_found() {
        let among = |bad: &'static [(i32, i64)]| move |inside: &[(i32, i64)]| inside.iter().any(|m| bad.contains(m));
        check(&[(0, 0)], &[(0, 1000)], among(&[(0, 617)]), (&[(0, 617)], &[(0, 618)])).await;
        check(&[(0, 0)], &[(0, 1000)], among(&[(0, 999), (0, 3)]), (&[(0, 3)], &[(0, 4)])).await;
        check(&[(0, 5), (1, 7), (2, 7)], &[(0, 9), (1, 9), (2, 9)], among(&[(2, 8)]), (&[(2, 8)], &[(2, 9)])).await;
        check(&[(3, 8)], &[(3, 9)], among(&[(3, 8)]), (&[(3, 8)], &[(3, 9)])).await;
        check(&[(0, 0)], &[(0, 50)], among(&[(0, 0)]), (&[(0, 0)], &[(0, 1)])).await;
    }

    #[tokio::test]
    async fn a_failure_of_several_messages_together_keeps_its_range() {
        let both = |inside: &[(i32, i64)]| inside.contains(&(0, 20)) && inside.contains(&(0, 30));
        check(&[(0, 0)], &[(0, 100)], both, (&[(0, 0)], &[(0, 50)])).await;
        check(&[(0, 0), (1, 0)], &[(0, 4), (1, 4)], |inside| inside.len() > 4, (&[(0, 0), (1, 0)], &[(0, 4), (1, 4)]))
            .await;
    }

    #[tokio::test]
    async fn a_search_whose_time_is_over_has_the_smallest_range_so_far() {
        let whole = Culprit { from: at(&[(0, 0)]), to: at(&[(0, 64)]), expression: None, error: refused() };
        // The third computation takes for ever.
        let probes = std::cell::Cell::new(0);
        let probe = |_, _| {
            probes.set(probes.get() + 1);
            let hangs = probes.get() == 3;
            async move { if hangs { std::future::pending().await } else { Err(refused()) } }
        };
        let found = narrow(whole, Instant::now() + Duration::from_millis(50), probe).await;
        assert_eq!((found.from, found.to, probes.get()), (at(&[(0, 0)]), at(&[(0, 16)]), 3));
    }
}
