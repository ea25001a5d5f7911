//! Where an answer stands: the frontier of what is read, and the views behind it.
//!
//! Invariant: an answer from batch sides alone is never said to stand above a cut. The batch side of a view ends at the
//! view's cut, whatever the frontier of its stream is.

use std::collections::{BTreeMap, BTreeSet};

use datafusion::common::TableReference;
use thalweg_schemas::api::sql::{Frontiers, Partial};
use thalweg_schemas::catalog::Catalog;
use thalweg_schemas::{Frontier, StreamName, ViewId, ViewName};

use crate::names::{self, Named};
use crate::pin::{Pin, PinnedView, Pins};
use crate::tables::Side;

/// What is known of an answer before its rows.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Standing {
    pub(crate) frontier: Frontiers,
    /// True if the answer may lie below earlier answers.
    pub(crate) stale: bool,
    pub(crate) partial: Partial,
    /// The views that are read.
    pub(crate) views: BTreeMap<ViewName, ViewId>,
}

impl Standing {
    /// Where an answer from these pins stands that reads the tables `read`, and the views `rolled_up` in place of rows.
    pub(super) fn of(read: &[TableReference], catalog: &Catalog, pins: &Pins, rolled_up: &BTreeSet<ViewId>) -> Self {
        let partial = pins.iter().filter(|(_, pin)| !pin.partial.is_empty());
        let views = pins.values().flat_map(|pin| read_views(pin, rolled_up));
        Self {
            frontier: frontiers(read, catalog, pins),
            stale: pins.values().any(|pin| pin.stale),
            partial: partial.map(|(name, pin)| (name.clone(), pin.partial.clone())).collect(),
            views: views.map(|view| (view.view.definition.name.clone(), view.view.plan.id().clone())).collect(),
        }
    }
}

/// The views of a pin without spare ones that were not rolled up.
pub(super) fn read_views<'a>(pin: &'a Pin, rolled_up: &'a BTreeSet<ViewId>) -> impl Iterator<Item = &'a PinnedView> {
    pin.views.iter().filter(|(id, _)| !pin.spare.contains(*id) || rolled_up.contains(*id)).map(|(_, pinned)| pinned)
}

/// The frontier of every stream that is read: the lowest cut if batch sides alone are read of the stream, and else that
/// of its pin.
pub(super) fn frontiers(read: &[TableReference], catalog: &Catalog, pins: &Pins) -> Frontiers {
    let mut cuts: BTreeMap<&StreamName, Option<Frontier>> = BTreeMap::new();
    for named in read.iter().filter_map(|reference| names::find(catalog, reference)) {
        let Some((stream, pin)) = pins.get_key_value(named.stream()) else { continue };
        let cut = match &named {
            Named::View(view, Side::Batch) => pin.views.get(view.plan.id()).map(|pinned| pinned.cut.clone()),
            _ => None,
        };
        let lowest = match (cuts.remove(stream), cut) {
            (None, cut) => cut,
            (Some(Some(before)), Some(cut)) => Some(lower(&before, &cut)),
            (Some(_), _) => None,
        };
        cuts.insert(stream, lowest);
    }
    let of = |stream, pin: &Pin| cuts.get(stream).cloned().flatten().unwrap_or_else(|| pin.frontier.clone());
    pins.iter().map(|(stream, pin)| (stream.clone(), of(stream, pin))).collect()
}

/// The lower of both offsets, for every partition that one of them names.
fn lower(one: &Frontier, other: &Frontier) -> Frontier {
    let partitions = one.partitions().chain(other.partitions());
    partitions.map(|partition| (partition, one.get(partition).min(other.get(partition)))).collect()
}

/// A stream whose frontier does not cover the one that is asked for.
pub(super) fn not_covered(found: &Frontiers, asked: &Frontiers) -> Option<(StreamName, Frontier)> {
    let below =
        |(stream, frontier): &(&StreamName, &Frontier)| asked.get(*stream).is_some_and(|asked| !frontier.covers(asked));
    found.iter().find(below).map(|(stream, frontier)| (stream.clone(), frontier.clone()))
}

#[cfg(test)]
mod tests {
    use thalweg_schemas::{Offset, Partition};

    use super::*;

    #[test]
    fn the_lower_offset_counts_and_an_absent_partition_is_at_its_begin() {
        let of = |offsets: &[(i32, i64)]| -> Frontier {
            offsets.iter().map(|(partition, offset)| (Partition(*partition), Offset(*offset))).collect()
        };
        for (one, other, expect) in [
            (&[(0, 5), (1, 9)][..], &[(0, 7), (1, 2)][..], &[(0, 5), (1, 2)][..]),
            (&[(0, 5)], &[(0, 5)], &[(0, 5)]),
            (&[(0, 5)], &[(0, 3), (1, 2)], &[(0, 3), (1, 0)]),
            (&[], &[], &[]),
        ] {
            assert_eq!(lower(&of(one), &of(other)), of(expect));
        }
    }
}
