//! The part of a stream's state that deals with amendments: rows that enter by a commit of the archive and not by
//! Kafka.
//!
//! The process that reads partition 0 of the topic takes the amendments of the stream, so exactly one process of
//! several does.
//!
//! Invariant: in a partition of amendments the archive frontier of the state equals its frontier: everything that is
//! taken is archived, and what a newer version of the archive has above is due.

use std::sync::Arc;

use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::realtime::segment::Segment;
use thalweg_schemas::{Frontier, Offset, Partition, ViewId};

use super::{MARKS, StreamState};
use crate::Result;
use crate::group::change::Assigned;
use crate::state::rebuild::Rebuild;

/// The most offsets that are taken at once, so that readers see a long load advance.
const STEP: i64 = 1 << 20;

/// Amendments that are due: `[from, to)` of their partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DueAmendments {
    pub(crate) from: Frontier,
    pub(crate) to: Frontier,
}

impl StreamState {
    /// The partitions of amendments that this process has to take from now on, from their beginning: the archive has
    /// the first ones.
    pub(crate) fn new_amendments(&self) -> Option<Assigned> {
        let here = self.frontier();
        here.named(Partition(0))?;
        let archived = self.master.frontier.of_amendments();
        let new = archived.partitions().filter(|p| here.named(*p).is_none());
        let at: Frontier = new.map(|p| (p, Offset(0))).collect();
        (!at.is_empty()).then(|| Assigned {
            at,
            origin: self.origin.clone(),
            master: Arc::clone(&self.master),
            high: Frontier::new(),
        })
    }

    /// The next amendments to take. A rebuild that runs would not have them, so none are due until it has ended.
    pub(crate) fn due_amendments(&self) -> Option<DueAmendments> {
        if !self.views.rebuilds().is_empty() {
            return None;
        }
        due(&self.frontier().of_amendments(), &self.master.frontier)
    }

    /// The work for `view` over `due`.
    pub(crate) fn amend_view(&self, view: Arc<CompiledView>, due: &DueAmendments) -> Rebuild {
        Rebuild {
            id: 0,
            view,
            schema: self.definition().row_schema(),
            cut: due.from.clone(),
            master: Arc::clone(&self.master),
            archived: due.to.clone(),
            marks: Vec::new(),
            memory: Vec::new(),
        }
    }

    /// Adds the segments of every held view over amendments up to `to`.
    pub(crate) fn amend(&mut self, to: &Frontier, segments: Vec<(ViewId, Vec<Segment>)>) -> Result<()> {
        self.views.extend(segments)?;
        self.see_amendments();
        self.log.count_amendments(self.epochs.frontier(), to);
        self.epochs.amend(to);
        self.archived = to.or(&self.archived);
        // Every commit of amendments is a mark.
        let ends = to.iter().filter(|(p, at)| self.master.frontier.get(*p) == *at);
        let mark: Frontier = ends.collect();
        if !mark.is_empty() {
            self.marks.push_back(mark);
            if self.marks.len() > MARKS {
                self.marks.pop_front();
            }
        }
        self.marked = self.within(&self.master.mark).of_amendments().or(&self.marked);
        self.see_amendments();
        Ok(())
    }

    /// Compares what was taken with what the archive has.
    pub(super) fn see_amendments(&mut self) {
        let here = self.epochs.frontier();
        let high = self.master.frontier.of_amendments();
        let high = high.iter().filter(|(p, _)| here.named(*p).is_some()).collect();
        self.log.amend(here, &high);
        self.is_shown = false;
    }

    /// True if some view is held and not in `views`: it was held only after the work over amendments began.
    pub(crate) fn holds_others(&self, views: impl Fn(&ViewId) -> bool) -> bool {
        self.views.held().any(|held| !views(held.plan.id()))
    }
}

/// The next step from `taken` towards what is archived, in all partitions that `taken` names.
fn due(taken: &Frontier, archived: &Frontier) -> Option<DueAmendments> {
    let behind = taken.iter().filter(|(p, at)| archived.get(*p) > *at);
    let from: Frontier = behind.collect();
    let to = from.iter().map(|(p, at)| (p, archived.get(p).min(Offset(at.0 + STEP)))).collect();
    (!from.is_empty()).then_some(DueAmendments { from, to })
}

#[cfg(test)]
mod tests {
    use thalweg_kit::positions::at;

    use super::*;

    #[test]
    fn amendments_are_due_step_by_step() {
        type Pairs<'a> = &'a [(i32, i64)];
        let check = |taken: Pairs<'_>, archived: Pairs<'_>, expect: Option<(Pairs<'_>, Pairs<'_>)>| {
            let expect = expect.map(|(from, to)| DueAmendments { from: at(from), to: at(to) });
            assert_eq!(due(&at(taken), &at(archived)), expect, "{taken:?} {archived:?}");
        };
        check(&[], &[(0, 9), (-1, 4)], None);
        check(&[(-1, 4)], &[(0, 9), (-1, 4)], None);
        check(&[(-1, 4)], &[(0, 9)], None);
        check(&[(-1, 0)], &[(0, 9), (-1, 4)], Some((&[(-1, 0)], &[(-1, 4)])));
        check(&[(-2, 3), (-1, 4)], &[(-2, 9), (-1, 4)], Some((&[(-2, 3)], &[(-2, 9)])));
        let far = 5 * STEP;
        check(&[(-2, 3), (-1, 0)], &[(-2, far), (-1, 4)], Some((&[(-2, 3), (-1, 0)], &[(-2, 3 + STEP), (-1, 4)])));
    }
}
