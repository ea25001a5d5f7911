//! The next merge of neighbouring segments, so that readers find few segments: a pure decision over one partition's
//! list.
//!
//! ```text
//!  border          border                                    frontier
//!    |  one segment  |  level 2 | level 1 level 1 | level 0 … |
//! ```
//!
//! Invariant: a run never crosses a border (a mark, at which a later cut may fall), and never mixes provenances.

use std::collections::BTreeSet;
use std::ops::Range;

use thalweg_schemas::Offset;
use thalweg_schemas::realtime::segment::{Provenance, Segment};

/// The number of neighbours of one level that merge into one of the next level. It holds for segments and for chunks
/// of rows.
pub(crate) const FAN_IN: usize = 8;

/// The fields of a segment that the decision needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) from: Offset,
    pub(crate) to: Offset,
    pub(crate) level: u8,
    pub(crate) provenance: Provenance,
}

impl From<&Segment> for Span {
    fn from(segment: &Segment) -> Self {
        Span { from: segment.from, to: segment.to, level: segment.level, provenance: segment.provenance }
    }
}

/// The run of neighbours to merge next, as indexes into `spans`. The newest run comes first, because the newest
/// segments are the smallest.
///
/// `spans` follow each other without gaps. Nothing is added between two borders any more, so all spans of one
/// provenance between them become one segment. Above the last border, [`FAN_IN`] or more neighbours of one level
/// become one segment.
pub(crate) fn next_run(spans: &[Span], borders: &BTreeSet<Offset>) -> Option<Range<usize>> {
    let mut end = spans.len();
    while end > 0 {
        let mut start = end - 1;
        while start > 0
            && spans[start - 1].provenance == spans[end - 1].provenance
            && !borders.contains(&spans[start].from)
        {
            start -= 1;
        }
        let closed = borders.range(spans[end - 1].to..).next().is_some();
        let run = if closed {
            (end - start > 1).then_some(start..end)
        } else {
            level_run(&spans[start..end]).map(|run| start + run.start..start + run.end)
        };
        if run.is_some() {
            return run;
        }
        end = start;
    }
    None
}

/// The newest run of one level that has at least [`FAN_IN`] spans.
fn level_run(spans: &[Span]) -> Option<Range<usize>> {
    let mut end = spans.len();
    while end > 0 {
        let start = end - tail_of_one_level(spans[..end].iter().map(|span| span.level));
        if end - start >= FAN_IN {
            return Some(start..end);
        }
        end = start;
    }
    None
}

/// The number of neighbours at the end that have the same level.
pub(crate) fn tail_of_one_level(levels: impl DoubleEndedIterator<Item = u8>) -> usize {
    let mut newest_first = levels.rev().peekable();
    let level = newest_first.peek().copied();
    newest_first.take_while(|found| Some(*found) == level).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use Provenance::{Live, Rebuilt};

    fn spans(list: &[(i64, u8, Provenance)], end: i64) -> Vec<Span> {
        let ends = list.iter().skip(1).map(|s| s.0).chain([end]);
        list.iter()
            .zip(ends)
            .map(|((from, level, provenance), to)| Span {
                from: Offset(*from),
                to: Offset(to),
                level: *level,
                provenance: *provenance,
            })
            .collect()
    }

    #[track_caller]
    fn check(list: &[(i64, u8, Provenance)], end: i64, borders: &[i64], expect: Option<Range<usize>>) {
        let borders = borders.iter().map(|b| Offset(*b)).collect();
        assert_eq!(next_run(&spans(list, end), &borders), expect);
    }

    fn run(from: i64, count: i64, level: u8) -> Vec<(i64, u8, Provenance)> {
        (0..count).map(|i| (from + i * 10, level, Live)).collect()
    }

    #[test]
    fn eight_of_a_level_merge() {
        check(&[], 0, &[], None);
        check(&run(0, 7, 0), 70, &[], None);
        check(&run(0, 8, 0), 80, &[], Some(0..8));
        check(&run(0, 11, 0), 110, &[], Some(0..11));
        let mut mixed = run(0, 8, 1);
        mixed.extend(run(80, 7, 0));
        check(&mixed, 150, &[], Some(0..8));
        mixed.extend(run(150, 1, 0));
        check(&mixed, 160, &[], Some(8..16));
    }

    #[test]
    fn a_border_is_never_crossed() {
        check(&run(0, 8, 0), 80, &[40], Some(0..4));
        check(&run(0, 8, 0), 80, &[10], None);
        check(&run(0, 9, 0), 90, &[0, 10], Some(1..9));
        check(&run(0, 9, 0), 90, &[80], Some(0..8));
        // The end of the list is a border: nothing is added below it.
        check(&run(0, 2, 0), 20, &[20], Some(0..2));
        check(&run(0, 2, 0), 20, &[10, 20], None);
    }

    #[test]
    fn live_and_rebuilt_stay_apart() {
        let list = [(0, 0, Rebuilt), (10, 0, Rebuilt), (20, 0, Live), (30, 0, Live)];
        check(&list, 40, &[40], Some(2..4));
        check(&list[..3], 30, &[30], Some(0..2));
        check(&[(0, 0, Rebuilt), (20, 0, Live)], 40, &[40], None);
    }
}
