//! Pins: snapshots that are kept for readers, limited in time and in number.
//!
//! Invariant: a pin holds one snapshot until it is released or expires; the snapshot never changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use thalweg_schemas::ViewId;
use thalweg_schemas::catalog::CompiledView;
use thalweg_schemas::realtime::snapshot::StreamSnapshot;
use tokio::time::Instant;
use uuid::Uuid;

/// The longest lifetime of a pin. The stream's memory budget does not count the memory of pins.
pub(super) const KEEP: Duration = Duration::from_secs(120);
/// The largest number of pins. Pins of the same moment share nearly all of their memory.
const PINS: usize = 4096;
/// How often expired pins are released, if no request releases them before.
const SWEEP: Duration = Duration::from_secs(1);

/// The content of a pin.
#[derive(Debug)]
pub(super) struct PinEntry {
    pub(super) snapshot: Arc<StreamSnapshot>,
    /// The reason why the stream does not go on from the snapshot.
    pub(super) stopped: Option<String>,
    pub(super) row_schema: SchemaRef,
    /// The requested views that this worker knows.
    pub(super) views: BTreeMap<ViewId, Arc<CompiledView>>,
}

/// All pins of a worker.
#[derive(Debug, Default)]
pub(super) struct PinTable {
    kept: Mutex<HashMap<String, (Instant, Arc<PinEntry>)>>,
}

impl PinTable {
    /// Keeps `kept` for at most `keep`, and no longer than [`KEEP`]. Returns `None` if too many pins exist already.
    pub(super) fn keep(&self, now: Instant, kept: PinEntry, keep: Duration) -> Option<String> {
        let mut all = self.kept.lock();
        if all.len() >= PINS {
            all.retain(|_, (until, _)| *until > now);
            if all.len() >= PINS {
                return None;
            }
        }
        // The id is unique over restarts: a ticket for an earlier process must find nothing.
        let id = Uuid::new_v4().simple().to_string();
        all.insert(id.clone(), (now + keep.min(KEEP), Arc::new(kept)));
        Some(id)
    }

    /// The content of the pin `id`, if it has not expired.
    pub(super) fn get(&self, now: Instant, id: &str) -> Option<Arc<PinEntry>> {
        let all = self.kept.lock();
        let (until, kept) = all.get(id)?;
        (*until > now).then(|| Arc::clone(kept))
    }

    pub(super) fn release(&self, id: &str) {
        self.kept.lock().remove(id);
    }

    /// Releases expired pins regularly, for ever.
    pub(super) async fn sweep(&self) {
        let mut pause = tokio::time::interval(SWEEP);
        loop {
            let now = pause.tick().await;
            self.kept.lock().retain(|_, (until, _)| *until > now);
        }
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.kept.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flight::tests::snapshot;

    fn kept() -> PinEntry {
        PinEntry {
            snapshot: Arc::new(snapshot(&[])),
            stopped: None,
            row_schema: Arc::new(arrow::datatypes::Schema::empty()),
            views: BTreeMap::new(),
        }
    }

    #[test]
    fn a_pin_ends_with_its_time_or_its_release() {
        let (pins, now) = (PinTable::default(), Instant::now());
        let second = Duration::from_secs(1);
        let short = pins.keep(now, kept(), second).unwrap();
        let greedy = pins.keep(now, kept(), KEEP * 10).unwrap();
        assert_ne!(short, greedy);
        assert!(pins.get(now, &short).is_some());
        assert!(pins.get(now + second, &short).is_none());
        assert!(pins.get(now + KEEP - second, &greedy).is_some());
        assert!(pins.get(now + KEEP, &greedy).is_none());
        pins.release(&greedy);
        assert!(pins.get(now, &greedy).is_none());
        assert!(pins.get(now, "unknown").is_none());
    }

    #[test]
    fn their_number_is_bounded_and_old_ones_make_room() {
        let (pins, now) = (PinTable::default(), Instant::now());
        let second = Duration::from_secs(1);
        for _ in 0..PINS {
            assert!(pins.keep(now, kept(), second).is_some());
        }
        assert!(pins.keep(now, kept(), second).is_none());
        assert!(pins.keep(now + second, kept(), second).is_some());
        assert_eq!(pins.count(), 1);
    }
}
